//! Lines that are one Python dictionary of numbers, as transformers and TRL print each point: the bulk of long logs.
//!
//! The keys of a line are nearly always those of a line before, in the same order. So a line is compared with what
//! stands between the numbers of such a line, and only its numbers are read; what the keys mean is found out once.

use std::sync::Arc;

use crate::model::{
    Clean,
    metric::{PointKind, Shape},
};

use super::{
    files::keys::{self, Keys},
    number::number,
};

/// Kinds of lines that are known at once, and entries that a known one has at most.
const KNOWN: usize = 8;
const MAX_KEYS: usize = 1024;

/// Reads dictionary lines, expecting each to be like one before.
#[derive(Clone, Debug, Default)]
pub struct DictLines {
    /// The one that was met last first.
    known: Vec<Arc<Line>>,
    keys: Keys,
}

/// Dictionary lines with the same keys, which differ in their numbers alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    entries: Vec<Entry>,
    pub shape: Arc<Shape>,
    /// It has a key without which a dictionary is just one that somebody printed.
    pub of_trainer: bool,
    /// A value tells the step and the total: `'global_step/max_steps': '2/4389'`, as ms-swift writes it.
    pub says_total: bool,
    /// Nothing in it but its braces and quotes could mean anything to another reader.
    pub plain: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// What stands before the value: `{'loss': ` or `, 'grad_norm': `; with the quote before a plain number.
    lead: Box<[u8]>,
    value: Expected,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Number,
    /// `np.float64(0.1)`.
    Wrapped,
    Other,
}

/// What stands after a key.
enum Found {
    Number(f64),
    /// A number within a call.
    Wrapped(f64),
    /// `None`, a text or a list: not a number, but well-formed.
    Other,
}

/// Words that others look for in a line.
const WORDS: [&str; 4] = ["lobal step ", "eval_metrics: {", "completed (loss:", "GPU_mem"];

impl DictLines {
    /// Reads a whole dictionary at the start of `text`: its numbers go into `values`, `None` and texts are left out. Gives
    /// its length and what its keys are, or `None` if there is none. Nested values are passed over.
    pub fn read(&mut self, text: &[u8], values: &mut Vec<f64>) -> Option<(usize, &Arc<Line>)> {
        if text.first() != Some(&b'{') {
            return None;
        }
        let before = values.len();
        for nth in 0..self.known.len() {
            if let Some(length) = self.known[nth].again(text, values) {
                self.known[..=nth].rotate_right(1);
                return Some((length, &self.known[0]));
            }
            values.truncate(before);
        }
        let Some((length, line)) = self.first(text, values) else {
            values.truncate(before);
            return None;
        };
        self.known.truncate(KNOWN - 1);
        self.known.insert(0, Arc::new(line));
        Some((length, &self.known[0]))
    }

    /// Reads a line that is like none before.
    fn first(&mut self, text: &[u8], values: &mut Vec<f64>) -> Option<(usize, Line)> {
        let (mut at, mut entries, mut names) = (0, Vec::new(), Vec::new());
        let length = loop {
            let rest = text.get(at..)?;
            if matches!(rest, [b'{', b'}', ..]) {
                break at + 2;
            }
            let (key, start) = key(rest)?;
            let (found, end) = value(rest, start)?;
            let quoted = matches!(rest.get(start), Some(b'\'' | b'"'));
            let (lead, value) = match found {
                Found::Number(_) => (start + usize::from(quoted), Expected::Number),
                Found::Wrapped(_) => (start, Expected::Wrapped),
                Found::Other => (start, Expected::Other),
            };
            if let Found::Number(value) | Found::Wrapped(value) = found {
                names.push(Clean::from_bytes(key));
                values.push(value);
            }
            if entries.len() <= MAX_KEYS {
                entries.push(Entry { lead: rest.get(..lead)?.into(), value });
            }
            at += end;
            if text.get(at) == Some(&b'}') {
                break at + 1;
            }
        };
        if entries.len() > MAX_KEYS {
            // It will not be known again.
            entries.clear();
        }
        let same = self.known.iter().find(|line| line.shape.names == names).map(|line| Arc::clone(&line.shape));
        let shape = same.unwrap_or_else(|| Arc::new(keys::shape(&mut self.keys, names)));
        Some((length, Line::new(entries, shape)))
    }
}

impl Line {
    fn new(entries: Vec<Entry>, shape: Arc<Shape>) -> Self {
        let lead_has = |word: &str| entries.iter().any(|e| memchr::memmem::find(&e.lead, word.as_bytes()).is_some());
        let harmless = |e: &Entry| {
            e.value == Expected::Number && !e.lead.iter().any(|b| matches!(b, 0..=31 | b'[' | b'%' | b'|' | b'"'))
        };
        Self {
            of_trainer: shape.epoch.is_some()
                || shape.kind == PointKind::Final
                || shape.names.iter().any(|name| is_of_trainer(name.as_str())),
            says_total: lead_has("global_step/max_steps"),
            plain: entries.iter().all(harmless) && !WORDS.into_iter().any(lead_has),
            shape,
            entries,
        }
    }

    /// Reads a line that has the same entries; gives its length.
    fn again(&self, text: &[u8], values: &mut Vec<f64>) -> Option<usize> {
        let mut at = 0;
        for entry in &self.entries {
            let rest = text.get(at..)?.strip_prefix(&entry.lead[..])?;
            at += entry.lead.len();
            if entry.value == Expected::Number {
                let (value, used) = number(rest)?;
                at += closed(rest, entry.lead.last().copied(), used)?;
                values.push(value);
            } else {
                let (found, end) = value(rest, 0)?;
                match (entry.value, found) {
                    (Expected::Wrapped, Found::Wrapped(value)) => values.push(value),
                    (Expected::Other, Found::Other) => {}
                    _ => return None,
                }
                at += end;
            }
        }
        (!self.entries.is_empty() && text.get(at) == Some(&b'}')).then_some(at + 1)
    }
}

/// Keys without which a dictionary is just one that somebody printed.
fn is_of_trainer(key: &str) -> bool {
    matches!(key, "loss" | "train_runtime" | "reward") || key.starts_with("eval_") || key.starts_with("objective/")
}

/// The end of a value whose number ends at `at`, its closing quote included, if `before` it stands one; what follows must
/// be `,` or `}`.
fn closed(rest: &[u8], before: Option<u8>, at: usize) -> Option<usize> {
    let end = match before {
        Some(quote @ (b'\'' | b'"')) if rest.get(at) == Some(&quote) => at + 1,
        Some(b'\'' | b'"') => return None,
        _ => at,
    };
    matches!(rest.get(end), Some(b',' | b'}')).then_some(end)
}

/// The key of an entry, which begins with its `{` or `,`, and where its value begins.
fn key(rest: &[u8]) -> Option<(&[u8], usize)> {
    let blank = |mut at: usize| {
        while rest.get(at) == Some(&b' ') {
            at += 1;
        }
        at
    };
    let quote_at = blank(1);
    let quote = *rest.get(quote_at).filter(|b| matches!(b, b'\'' | b'"'))?;
    let key = rest.get(quote_at + 1..)?;
    let key = key.get(..memchr::memchr(quote, key)?)?;
    let colon = quote_at + key.len() + 2;
    if rest.get(colon) != Some(&b':') || key.len() > 256 {
        return None;
    }
    Some((key, blank(colon + 1)))
}

/// The value that begins at `start`, and its end.
fn value(rest: &[u8], start: usize) -> Option<(Found, usize)> {
    let quote = rest.get(start).copied().filter(|b| matches!(b, b'\'' | b'"'));
    let lead = start + usize::from(quote.is_some());
    if let Some((value, used)) = number(rest.get(lead..)?)
        && let Some(end) = closed(rest, quote, lead + used)
    {
        return Some((Found::Number(value), end));
    }
    // np.float64(0.1), tensor(0.1, device='cuda:0'): the number inside.
    if let Some((value, end)) = wrapped(rest, start) {
        return Some((Found::Wrapped(value), end));
    }
    Some((Found::Other, other(rest, start)?))
}

fn wrapped(rest: &[u8], start: usize) -> Option<(f64, usize)> {
    let name = rest.get(start..)?.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_')).count();
    if name == 0 || rest.get(start + name) != Some(&b'(') {
        return None;
    }
    let (value, _) = number(rest.get(start + name + 1..)?)?;
    let end = other(rest, start)?;
    Some((value, end))
}

/// The end of a value of any other kind: the next `,` or `}` outside of quotes and brackets.
fn other(rest: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut at) = (0u32, start);
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\'' | b'"' => {
                at += 1;
                while rest.get(at)? != byte {
                    at += 1 + usize::from(rest.get(at) == Some(&b'\\'));
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b',' | b'}' if depth == 0 => return (at > start).then_some(at),
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(lines: &mut DictLines, line: &str, want: &str, rest: &str) {
        let mut values = Vec::new();
        let read = lines.read(line.as_bytes(), &mut values);
        let names = read.map_or(&[][..], |(_, line)| &line.shape.names);
        let got: Vec<String> = names.iter().zip(&values).map(|(key, value)| format!("{key}={value}")).collect();
        let end = read.map(|(length, _)| length);
        assert_eq!(names.len(), values.len(), "{line}");
        assert_eq!(got.join(" "), want, "{line}");
        assert_eq!(end.map(|end| &line[end..]), Some(rest).filter(|_| end.is_some() || rest != "none"), "{line}");
    }

    #[test]
    fn lines_of_all_versions() {
        let lines = &mut DictLines::default();
        check(lines, "{'loss': 1.5, 'epoch': 0.1}", "loss=1.5 epoch=0.1", "");
        check(lines, "{'loss': -2e-05, 'epoch': 0.2}  5%|", "loss=-0.00002 epoch=0.2", "  5%|");
        check(lines, "{'loss': '1.5', 'epoch': '0.1'}", "loss=1.5 epoch=0.1", "");
        check(lines, "{'loss': '2.5', 'grad_norm': 'nan', 'epoch': 3}", "loss=2.5 grad_norm=NaN epoch=3", "");
        check(lines, "{'loss': np.float64(0.25), 'x': tensor(2., device='cuda:0')}", "loss=0.25 x=2", "");
        check(lines, "{'a': None, 'b': [1, 2], 'c': {'d': 1}, 'e': 'text, }', 'f': True, 'g': 7}", "g=7", "");
        check(lines, "{\"loss\": 1, \"b\":2}", "loss=1 b=2", "");
        check(lines, "{}", "", "");
    }

    #[test]
    fn what_is_no_dictionary_gives_nothing() {
        let lines = &mut DictLines::default();
        for line in [
            "",
            "{",
            "{'loss'",
            "{'loss': 1.",
            "{'loss': '1.5",
            "{loss: 1}",
            "{'a': 1, 'b'",
            "step 1",
            "{1, 2}",
            "{'a': }",
        ] {
            check(lines, line, "", "none");
        }
    }

    proptest! {
        #![proptest_config(crate::properties::config(256))]

        #[test]
        fn expectation_changes_nothing(texts in prop::collection::vec("\\{'[ab]{1,2}': '?[0-9n.]{1,3}'?(, '[ab]': [0-9a]{1,2})?\\}", 1..6)) {
            let mut used = DictLines::default();
            for text in &texts {
                let (mut got, mut want) = (Vec::new(), Vec::new());
                let mut fresh = DictLines::default();
                let ends = (used.read(text.as_bytes(), &mut got), fresh.read(text.as_bytes(), &mut want));
                prop_assert_eq!(ends.0.map(|(end, line)| (end, &line.shape)), ends.1.map(|(end, line)| (end, &line.shape)));
                prop_assert_eq!(format!("{got:?}"), format!("{want:?}"));
            }
        }

        #[test]
        fn no_bytes_panic(lines in prop::collection::vec("[{}'\",: a1.\\[(\\\\-]{0,20}", 1..5)) {
            let mut reader = DictLines::default();
            for line in lines {
                reader.read(line.as_bytes(), &mut Vec::new());
            }
        }
    }
}
