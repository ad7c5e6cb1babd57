//! Lines that are one Python dictionary of numbers, as transformers and TRL print each point: the bulk of long logs.
//!
//! The keys of a line are nearly always those of the line before, in the same order. So each key is compared with what
//! is expected there, and only its number is read; the key's text is shared by all points.

use crate::model::Clean;

use super::number::number;

/// Keys that are expected at most.
const MAX_KEYS: usize = 1024;

/// Reads dictionary lines, expecting each to be like the one before.
#[derive(Clone, Debug, Default)]
pub struct DictLines {
    expected: Vec<Expected>,
}

#[derive(Clone, Debug)]
struct Expected {
    /// What stands before the number: `{'loss': '` or `, 'grad_norm': `.
    lead: Box<[u8]>,
    key: Clean,
}

/// What stands after a key.
enum Found {
    Number(f64),
    /// `None`, a text or a list: not a number, but well-formed.
    Other,
}

impl DictLines {
    /// Reads a whole dictionary at the start of `line` into `pairs`, `None` and texts left out; gives its length, or
    /// `None` if there is none. Nested values are passed over.
    pub fn read(&mut self, line: &[u8], pairs: &mut Vec<(Clean, f64)>) -> Option<usize> {
        let before = pairs.len();
        let end = self.pairs(line, pairs);
        if end.is_none() {
            pairs.truncate(before);
        }
        end
    }

    fn pairs(&mut self, line: &[u8], pairs: &mut Vec<(Clean, f64)>) -> Option<usize> {
        if line.first() != Some(&b'{') {
            return None;
        }
        let mut at = 0;
        for nth in 0.. {
            let rest = line.get(at..)?;
            if let Some(expected) = self.expected.get(nth)
                && rest.starts_with(&expected.lead)
                && let Some((value, used)) = number(rest.get(expected.lead.len()..)?)
                && let Some(closed) = closed(rest, &expected.lead, expected.lead.len() + used)
            {
                pairs.push((expected.key.clone(), value));
                at += closed;
            } else if matches!(rest, [b'{', b'}', ..]) {
                return Some(at + 2);
            } else {
                let (key, lead, used, found) = entry(rest)?;
                let key = Clean::from_bytes(key);
                if let Found::Number(value) = found {
                    pairs.push((key.clone(), value));
                }
                if nth < MAX_KEYS {
                    let expected = Expected { lead: rest.get(..lead)?.into(), key };
                    match self.expected.get_mut(nth) {
                        Some(old) => *old = expected,
                        None => self.expected.push(expected),
                    }
                }
                at += used;
            }
            if line.get(at) == Some(&b'}') {
                return Some(at + 1);
            }
        }
        None
    }
}

/// The end of a value whose number ends at `at`, its closing quote included; what follows must be `,` or `}`.
fn closed(rest: &[u8], lead: &[u8], at: usize) -> Option<usize> {
    let end = match lead.last() {
        Some(quote @ (b'\'' | b'"')) if rest.get(at) == Some(quote) => at + 1,
        Some(b'\'' | b'"') => return None,
        _ => at,
    };
    matches!(rest.get(end), Some(b',' | b'}')).then_some(end)
}

/// One entry, from its `{` or `,`: key, length of what stands before the value, length in all, value.
fn entry(rest: &[u8]) -> Option<(&[u8], usize, usize, Found)> {
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
    let start = blank(colon + 1);
    let lead = start + usize::from(matches!(rest.get(start), Some(b'\'' | b'"')));
    if let Some((value, used)) = number(rest.get(lead..)?)
        && let Some(end) = closed(rest, rest.get(..lead)?, lead + used)
    {
        return Some((key, lead, end, Found::Number(value)));
    }
    // np.float64(0.1), tensor(0.1, device='cuda:0'): the number inside.
    if let Some((value, end)) = wrapped(rest, start) {
        return Some((key, start, end, Found::Number(value)));
    }
    Some((key, lead, other(rest, start)?, Found::Other))
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
        let mut pairs = Vec::new();
        let end = lines.read(line.as_bytes(), &mut pairs);
        let got: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
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
                let ends = (used.read(text.as_bytes(), &mut got), DictLines::default().read(text.as_bytes(), &mut want));
                prop_assert_eq!(ends.0, ends.1);
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
