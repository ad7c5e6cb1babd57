//! One frame of a tqdm progress bar. <https://github.com/tqdm/tqdm/blob/master/tqdm/std.py>

use crate::model::metric::Progress;

use super::number::number;

/// Bars of these names are not the training's.
const OTHER: &[&[u8]] = &[
    b"load",
    b"map",
    b"token",
    b"fetch",
    b"generat",
    b"preproc",
    b"evaluat",
    b"valid",
    b"sanity",
    b"calculat",
    b"skip",
    b"download",
    b"sav",
    b"extract",
    b"filter",
    b"pack",
    b"writ",
    b"add",
    b"truncat",
    b"convert",
    b"apply",
    b"test",
    b"predict",
    b"shard",
    b"process",
    b"collat",
    b"captur",
    b"render",
    b"unpack",
    b"upload",
    b"creat",
    b"comput",
    b"compil",
    b"quantiz",
    b"resolv",
    b"group",
    b"runn",
    b"cast",
    b"warm",
];
/// Words of which one stands in the name of a training's bar, if it has a name.
const TRAINING: &[&[u8]] = &[
    b"train",
    b"epoch",
    b"step",
    b"iter",
    b"batch",
    b"episode",
    b"update",
    b"fit",
    b"loss",
    b"progress",
    b"optim",
    b"it",
];

/// A frame that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar<'a> {
    /// What stands before the percentage, without its colon.
    pub name: &'a [u8],
    pub done: u64,
    pub total: u64,
    /// What stands in the brackets, read when it is asked for: most frames are gone before anybody looks.
    pub times: &'a [u8],
    /// The frame's length, with its closing bracket.
    pub length: usize,
}

impl<'a> Bar<'a> {
    /// The first bar in a frame: `name: 10%|# | 2/20 [00:01<00:09, 2.00it/s, loss=1]`.
    pub fn find(frame: &'a [u8]) -> Option<Self> {
        let percent = percent(frame)?;
        let digits = frame[..percent].iter().rev().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=3).contains(&digits) {
            return None;
        }
        let name = frame[..percent - digits].trim_ascii();
        // A carriage return that was made visible.
        let name = name.strip_prefix(b"^M").unwrap_or(name).trim_ascii_start();
        let name = name.strip_suffix(b":").unwrap_or(name);
        let drawn = percent + 2;
        let counts = drawn + memchr::memchr(b'|', frame.get(drawn..)?)? + 1;
        let (done, at) = count(frame, counts)?;
        if frame.get(at) != Some(&b'/') {
            return None;
        }
        let (total, at) = count(frame, at + 1)?;
        let rest = frame.get(at..)?.strip_prefix(b" [")?;
        let end = memchr::memchr(b']', rest)?;
        Some(Self { name, done, total, times: &rest[..end], length: at + 2 + end + 1 })
    }

    /// Whether its name could be a training's: none, a word for it, or metrics after the rate.
    pub fn can_be_training(&self) -> bool {
        if self.name.is_empty() {
            return true;
        }
        let mut words = self.name.split(|b| !b.is_ascii_alphabetic()).filter(|word| !word.is_empty());
        let of_training = |word: &[u8]| TRAINING.iter().any(|with| begins(word, with));
        !is_other_work(self.name)
            && (words.clone().next().is_none() || words.any(of_training) || memchr::memchr(b'=', self.times).is_some())
    }
}

fn begins(word: &[u8], with: &[u8]) -> bool {
    word.get(..with.len()).is_some_and(|w| w.eq_ignore_ascii_case(with))
}

/// Whether a bar's name tells of loading, validating, saving: anything but training.
pub fn is_other_work(name: &[u8]) -> bool {
    let first = name.rsplit(|b| *b == b']').next().unwrap_or_default().trim_ascii_start();
    // `Epoch 3 Validation`.
    let mut words = name.split(|b| !b.is_ascii_alphabetic());
    OTHER.iter().any(|other| begins(first, other))
        || words.any(|word| [&b"valid"[..], b"eval", b"test", b"sanity"].iter().any(|other| begins(word, other)))
}

/// The state that a bar's counts and times tell.
pub fn progress(done: u64, total: u64, times: &[u8]) -> Progress {
    let mut halves = times.splitn(2, |b| *b == b'<');
    let elapsed_seconds = halves.next().and_then(clock);
    let mut after = halves.next().unwrap_or_default().splitn(3, |b| *b == b',');
    let remaining_seconds = after.next().and_then(clock);
    let seconds_per_step = after.next().and_then(seconds_per_step);
    Progress { done, total: Some(total), elapsed_seconds, remaining_seconds, seconds_per_step }
}

/// The place of `%|`.
fn percent(frame: &[u8]) -> Option<usize> {
    // Nearly always a bar without a name.
    let at_start = frame.iter().take(5).position(|b| *b == b'%');
    at_start.into_iter().chain(memchr::memchr_iter(b'%', frame)).find(|at| frame.get(at + 1) == Some(&b'|'))
}

/// The number that begins here, behind blanks, and its end.
pub(super) fn count(frame: &[u8], mut at: usize) -> Option<(u64, usize)> {
    while frame.get(at) == Some(&b' ') {
        at += 1;
    }
    let start = at;
    let mut value = 0u64;
    while let Some(digit @ b'0'..=b'9') = frame.get(at) {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        at += 1;
    }
    (at > start).then_some((value, at))
}

/// `01:02`, `1:02:03`, or nothing for `?`.
fn clock(text: &[u8]) -> Option<f64> {
    let mut seconds = 0.0;
    for part in text.trim_ascii().split(|b| *b == b':') {
        let (value, used) = number(part)?;
        if used != part.len() || value < 0.0 {
            return None;
        }
        seconds = seconds * 60.0 + value;
    }
    Some(seconds)
}

/// `2.00it/s` and `1.65s/it` are rates of one kind.
fn seconds_per_step(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii();
    let (value, used) = number(text)?;
    let unit = text.get(used..)?;
    if unit.starts_with(b"s/") {
        Some(value)
    } else {
        let slash = memchr::memchr(b'/', unit)?;
        (unit.get(slash + 1) == Some(&b's') && value > 0.0).then(|| 1.0 / value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let check = |frame: &str, want| {
            let bar = Bar::find(frame.as_bytes());
            let got = bar.map(|b| {
                let name = std::str::from_utf8(b.name).unwrap();
                {
                    let p = progress(b.done, b.total, b.times);
                    (name, b.done, b.total, p.remaining_seconds, p.seconds_per_step)
                }
            });
            assert_eq!(got, want, "{frame}");
        };
        check("  0%|          | 0/3880 [00:00<?, ?it/s]", Some(("", 0, 3880, None, None)));
        check(" 10%|█         | 2/20 [00:00<00:04, 4.00it/s]", Some(("", 2, 20, Some(4.0), Some(0.25))));
        check(
            "Epoch 1:  50%|#####     | 5/10 [1:00:00<2:00:01,  1.65s/it, loss=2]",
            Some(("Epoch 1", 5, 10, Some(7201.0), Some(1.65))),
        );
        check("100%|  1526/1526  [", None);
        check("50% of the data | 1/2 [", None);
        check("%|", None);
        check("99999999999999999999%|a| 1/2 [1<2, ]", None);
        check("  0%|a| 99999999999999999999/2 [1<2, ]", None);
    }

    #[test]
    fn bars_of_other_work() {
        let check = |name: &str, want| {
            let frame = format!("{name}:  0%|  | 0/5 [00:00<?, ?it/s]");
            assert_eq!(Bar::find(frame.as_bytes()).unwrap().can_be_training(), want, "{name}");
        };
        check("Loading checkpoint shards", false);
        check("Map (num_proc=4)", false);
        check("[rank0] Tokenizing", false);
        check("Training", true);
        check("Epoch 3", true);
        check("Steps", true);
    }

    proptest::proptest! {
        #![proptest_config(crate::properties::config(256))]

        #[test]
        fn no_bytes_panic(frame in "[0-9%| :/\\[<?,its\\]a]{0,60}") {
            if let Some(bar) = Bar::find(frame.as_bytes()) {
                progress(bar.done, bar.total, bar.times);
            }
        }
    }
}
