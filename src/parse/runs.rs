//! Which points are of one run: restarts begin a new segment, and what several ranks print of one step is one point.

use std::collections::VecDeque;

use crate::model::{
    Clean,
    metric::{Head, Point, PointKind, Rows},
};

use super::metrics::Record;

/// Points back that another rank's print of the same point is looked for.
const LAG: usize = 64;
/// Different sets of keys that are followed.
const SETS: usize = 32;
/// What differs between ranks, and between two prints of one point.
const PACE: &[&str] = &[
    "tokens_per_second",
    "samples_per_second",
    "steps_per_second",
    "step_time_seconds",
    "mfu",
    "tflops",
    "gpu_memory_bytes",
];

/// Follows the points of one log.
#[derive(Debug, Default)]
pub struct Runs {
    segment: u32,
    /// Where each set of keys of each rank has come to.
    last: Vec<Last>,
    recent: VecDeque<Seen>,
    names: Vec<Names>,
    trained: bool,
    finished: bool,
}

/// The newest point of one rank with one set of keys.
#[derive(Clone, Copy, Debug)]
struct Last {
    rank: Option<u32>,
    keys: u64,
    kind: PointKind,
    step: Option<u64>,
    epoch: Option<f64>,
}

/// A point that was given, and who printed it.
#[derive(Debug)]
struct Seen {
    kind: PointKind,
    step: Option<u64>,
    epoch: Option<f64>,
    segment: u32,
    print: Print,
    /// It stood without a rank; the ranks that it stood with.
    unranked: bool,
    ranks: Vec<u32>,
}

impl Seen {
    fn is_of(&self, rank: Option<u32>) -> bool {
        rank.map_or(self.unranked, |rank| self.ranks.contains(&rank))
    }
}

/// What a point says, as numbers that are quickly compared: its names, its values, and those that do not tell of the pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Print {
    keys: u64,
    values: u64,
    steady: u64,
}

/// What the names of a point tell: a number for them, and which of the values tell of the pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Names {
    keys: u64,
    pace: u128,
}

impl Names {
    fn print(self, values: impl Iterator<Item = f64>) -> Print {
        let mut print = Print { keys: self.keys, values: self.keys, steady: self.keys };
        for (nth, value) in values.enumerate() {
            let bits = value.to_bits();
            print.values = mix(print.values, bits);
            if nth >= 128 || self.pace >> nth & 1 == 0 {
                print.steady = mix(print.steady, bits);
            }
        }
        print
    }
}

/// What a point is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belongs {
    New,
    /// Another rank's print of one that was given.
    Rank,
    Nowhere,
}

impl Runs {
    /// Gives a point its segment, and passes it on.
    pub fn take(&mut self, mut point: Point, out: &mut Vec<Record>) {
        let (kind, mut head) = (point.kind, point.head());
        let names = self.names(point.raw.iter().map(|(name, _)| name));
        let values = point.raw.iter().map(|(_, value)| *value);
        let belongs = self.place(kind, &mut head, names, values);
        point.segment = head.segment;
        match belongs {
            Belongs::New => out.push(Record::Point(point)),
            Belongs::Rank => out.push(Record::Rank(point)),
            Belongs::Nowhere => {}
        }
    }

    /// Gives rows their segments, and passes them on.
    pub fn take_rows(&mut self, mut rows: Rows, out: &mut Vec<Record>) {
        let names = self.names(rows.shape.names.iter());
        let (kind, width) = (rows.shape.kind, rows.shape.names.len());
        let (mut at, mut from) = (0, 0);
        while let Some(head) = rows.heads.get_mut(at) {
            let values = rows.values.get(at * width..(at + 1) * width).unwrap_or_default();
            let belongs = self.place(kind, head, names, values.iter().copied());
            at += 1;
            if belongs == Belongs::New {
                continue;
            }
            let before = from..at - 1;
            from = at;
            out.extend(rows.part(before).map(Record::Rows));
            if belongs == Belongs::Rank {
                out.extend(rows.iter().nth(at - 1).map(|(head, values)| Record::Rank(rows.shape.point(head, values))));
            }
        }
        if from == 0 {
            out.push(Record::Rows(rows));
        } else {
            out.extend(rows.part(from..at).map(Record::Rows));
        }
    }

    /// Gives a point its segment. Another print of a point that was given is no point of its own: a rank's goes on as
    /// such, so that the spread is known; a second handler's goes nowhere.
    fn place(
        &mut self,
        kind: PointKind,
        head: &mut Head,
        names: Names,
        values: impl Iterator<Item = f64> + Clone,
    ) -> Belongs {
        let print = names.print(values.clone());
        let keys = print.keys;
        if let Some(at) = self.copied(kind, head, print, values) {
            let Some(seen) = self.recent.get_mut(at) else { return Belongs::Nowhere };
            head.segment = seen.segment;
            if seen.is_of(head.rank) {
                return Belongs::Nowhere;
            }
            seen.unranked |= head.rank.is_none();
            seen.ranks.extend(head.rank);
            self.note(kind, head, keys);
            return Belongs::Rank;
        }
        if self.goes_back(kind, head, keys) {
            self.segment += 1;
            self.last.clear();
        }
        self.note(kind, head, keys);
        match kind {
            PointKind::Train => (self.trained, self.finished) = (true, false),
            PointKind::Final => self.finished = true,
            PointKind::Eval => {}
        }
        head.segment = self.segment;
        if self.recent.len() == LAG {
            self.recent.pop_front();
        }
        self.recent.push_back(Seen {
            kind,
            step: head.step,
            epoch: head.epoch,
            segment: head.segment,
            print,
            unranked: head.rank.is_none(),
            ranks: head.rank.into_iter().collect(),
        });
        Belongs::New
    }

    /// The point of which this one is another print.
    fn copied(&self, kind: PointKind, point: &Head, print: Print, values: impl Iterator<Item = f64>) -> Option<usize> {
        let same_place =
            |s: &Seen| s.kind == kind && s.step == point.step && s.epoch == point.epoch && s.print.keys == print.keys;
        // Two handlers print one after the other.
        if let Some((at, seen)) = self.recent.iter().enumerate().next_back()
            && (point.step.is_some() || is_precise(values))
            && seen.is_of(point.rank)
            && same_place(seen)
        {
            let exact = point.step_guessed || point.rank.is_some();
            let same = if exact { seen.print == print } else { seen.print.steady == print.steady };
            return same.then_some(at);
        }
        if point.rank.is_none() && self.recent.back().is_none_or(|s| s.ranks.is_empty()) {
            return None;
        }
        let others = || {
            // A launcher may name all ranks but the first.
            let is_another = |s: &Seen| {
                !s.is_of(point.rank) && (s.ranks.is_empty() == point.rank.is_none() || s.print.steady == print.steady)
            };
            self.recent.iter().enumerate().filter(move |(_, s)| same_place(s) && is_another(s))
        };
        let identical = others().find(|(_, s)| s.print.values == print.values);
        identical.or_else(|| others().find(|_| point.step.is_some() || point.epoch.is_some())).map(|(at, _)| at)
    }

    /// Whether a point begins another run: its step, or without one its epoch, lies before the last one's.
    fn goes_back(&self, kind: PointKind, point: &Head, keys: u64) -> bool {
        let counts = match kind {
            PointKind::Train => true,
            // A log of validations alone.
            PointKind::Eval => !self.trained,
            PointKind::Final => false,
        };
        let before = |last: &&Last| match (last.step, point.step) {
            // After the end of a run even the same step is another run's.
            (Some(last), Some(new)) => new < last + u64::from(self.finished),
            _ => last.epoch.zip(point.epoch).is_some_and(|(last, new)| new < last),
        };
        let mut same_kind = self.last.iter().filter(|l| l.kind == kind);
        let of_set = same_kind.clone().find(|l| l.rank == point.rank && l.keys == keys);
        let back = match of_set {
            // The same step once more, after others went on.
            Some(last) if last.step.is_some() && last.step == point.step && !point.step_guessed => {
                same_kind.any(|l| l.rank == point.rank && l.step > point.step)
            }
            Some(last) => before(&last),
            // Other keys than ever: an epoch's mean stands before its last steps, but not in an earlier epoch.
            None => same_kind.any(|l| {
                before(&l) && l.rank == point.rank && l.epoch.zip(point.epoch).is_none_or(|(last, new)| new < last)
            }),
        };
        counts && back
    }

    /// What the names of a point tell, looked up where they were met before.
    fn names<'a>(&mut self, names: impl ExactSizeIterator<Item = &'a Clean> + Clone) -> Names {
        let keys = keys_of(names.clone());
        if let Some(known) = self.names.iter().find(|known| known.keys == keys) {
            return *known;
        }
        let names = Names { keys, pace: pace_of(names) };
        if self.names.len() == SETS {
            self.names.remove(0);
        }
        self.names.push(names);
        names
    }

    fn note(&mut self, kind: PointKind, point: &Head, keys: u64) {
        let last = Last { rank: point.rank, keys, kind, step: point.step, epoch: point.epoch };
        let known = self.last.iter_mut().find(|l| l.rank == last.rank && l.keys == keys && l.kind == last.kind);
        if let Some(known) = known {
            *known = last;
            return;
        }
        if self.last.len() == SETS {
            self.last.remove(0);
        }
        self.last.push(last);
    }

    /// Runs and restarts so far.
    pub fn segments(&self) -> u32 {
        self.segment + 1
    }
}

/// Whether a value has so many digits that two points hardly share it by chance.
fn is_precise(mut values: impl Iterator<Item = f64>) -> bool {
    // Seven decimals of what is below a thousand.
    values.any(|v| v.abs() < 1e3 && (v * 1e6).fract().abs() > 1e-6 && v != 0.0 && v.abs() > 1e-3)
}

/// One step of a hash; cheap, for it is made for every value.
fn mix(sum: u64, part: u64) -> u64 {
    (sum ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

/// A number for the names of a point's keys.
fn keys_of<'a>(names: impl ExactSizeIterator<Item = &'a Clean>) -> u64 {
    let count = names.len() as u64;
    names.fold(count, |sum, name| {
        let name = name.as_str().as_bytes();
        let ends = u64::from(*name.last().unwrap_or(&0)) << 8 | u64::from(*name.first().unwrap_or(&0));
        mix(sum, (name.len() as u64) << 16 | ends)
    })
}

/// Which raw values tell of the pace and not of the training.
fn pace_of<'a>(names: impl Iterator<Item = &'a Clean>) -> u128 {
    const WORDS: &[&str] = &["time", "tps", "tok", "mem", "mfu", "flop", "sec", "/s", "gib"];
    let is_pace = |name: &str| {
        let lower = name.to_ascii_lowercase();
        super::files::keys::canonical_name(name).is_some_and(|(to, _)| PACE.contains(&to))
            || WORDS.iter().any(|word| lower.contains(word))
    };
    let marked = names.take(128).enumerate().filter(|(_, name)| is_pace(name.as_str()));
    marked.fold(0, |bits, (nth, _)| bits | 1 << nth)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points as rank (-1 for none), step, epoch (in hundredths), loss; segments that come out, `r` for another rank's print.
    fn check(points: &[(i64, i64, i64, f64)], want: &str) {
        let mut runs = Runs::default();
        let mut out = Vec::new();
        for (rank, step, epoch, loss) in points {
            let point = Point {
                rank: u32::try_from(*rank).ok(),
                step: u64::try_from(*step).ok(),
                epoch: (*epoch >= 0).then(|| *epoch as f64 / 100.0),
                raw: vec![(Clean::new("loss"), *loss)],
                ..Point::default()
            };
            runs.take(point, &mut out);
        }
        let told: Vec<String> = out
            .iter()
            .map(|record| match record {
                Record::Point(p) => p.segment.to_string(),
                Record::Rank(_) => "r".into(),
                Record::Rows(_) | Record::Progress(_) => String::new(),
            })
            .collect();
        assert_eq!(told.join(" "), want, "{points:?}");
    }

    #[test]
    fn steps_that_go_back_are_another_run() {
        check(&[(-1, 1, -1, 1.0), (-1, 2, -1, 2.0), (-1, 1, -1, 3.0)], "0 0 1");
        check(&[(-1, -1, 10, 1.0), (-1, -1, 10, 2.0), (-1, -1, 5, 3.0)], "0 0 1");
        check(&[(-1, -1, -1, 1.0), (-1, -1, -1, 1.0)], "0 0");
    }

    #[test]
    fn ranks_print_one_point() {
        // In any order, one lagging behind, each with its own loss.
        check(&[(0, 1, -1, 1.0), (1, 1, -1, 1.0), (0, 2, -1, 2.0), (1, 2, -1, 2.5)], "0 r 0 r");
        check(&[(1, 1, -1, 1.0), (0, 1, -1, 1.0), (0, 2, -1, 2.0), (0, 3, -1, 2.0), (1, 2, -1, 2.0)], "0 r 0 0 r");
        check(&[(0, -1, 1, 1.0), (0, -1, 1, 2.0), (1, -1, 1, 1.0), (1, -1, 1, 2.0)], "0 0 r r");
        // A restart of both.
        check(&[(0, 5, -1, 1.0), (1, 5, -1, 1.0), (1, 2, -1, 2.0), (0, 2, -1, 2.0)], "0 r 1 r");
        // The first rank has no prefix.
        check(&[(-1, 5, -1, 1.0), (1, 5, -1, 1.0), (-1, 6, -1, 2.0)], "0 r 0");
    }

    #[test]
    fn two_handlers_print_one_point() {
        check(&[(-1, 5, -1, 1.0), (-1, 5, -1, 1.0), (-1, 5, -1, 2.0)], "0 0");
        check(&[(-1, -1, 5, 0.0), (-1, -1, 5, 0.0)], "0 0");
    }
}
