//! What of a log can be read frame by frame, without knowing what stood before: the bulk of long ones.
//!
//! Three kinds of frames mean the same to every reader that could be asked, whatever its state: blanks, a bar that is
//! nothing but a bar, and a dictionary of a trainer's numbers. Everything else is left as it stands. So several threads can
//! look through pieces of one log, and what they find is put together in order.

use std::{ops::Range, sync::Arc};

use super::{
    bar::count,
    dict_line::{DictLines, Line},
};

/// What a frame is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// To be read by those who know what stood before.
    Other,
    Blank,
    /// Bars of one line that count to one total: the first one and the last one. Those between are gone before anybody looks.
    Bars {
        first: Drawn,
        last: Drawn,
        total: u64,
    },
    /// A dictionary of this kind; its values begin at this place.
    Row {
        line: usize,
        values: usize,
    },
}

/// How far a bar had come, and where its times stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    pub done: u64,
    pub times: Range<usize>,
}

/// A frame, or bars of one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub range: Range<usize>,
    /// Line breaks before it.
    pub lines: u64,
    pub kind: Kind,
}

/// What stands in some bytes.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    pub all: Vec<Token>,
    pub values: Vec<f64>,
    pub lines: Vec<Arc<Line>>,
    /// Line breaks.
    pub breaks: u64,
    /// Where the first whole frame begins, and the end of the last one, with its break.
    pub begin: usize,
    pub end: usize,
}

/// Finds tokens, expecting each line to be like one before.
#[derive(Debug, Default)]
pub struct Lexer {
    dicts: DictLines,
}

/// Where the first frame begins that does not go on from bytes before.
pub fn begin(bytes: &[u8]) -> usize {
    memchr::memchr2(b'\n', b'\r', bytes).map_or(bytes.len(), |at| at + 1)
}

impl Lexer {
    /// Finds the tokens from `begin` on, where a frame begins, to the last break.
    pub fn read(&mut self, bytes: &[u8], begin: usize, out: &mut Tokens) {
        out.all.clear();
        out.values.clear();
        out.lines.clear();
        (out.breaks, out.begin, out.end) = (0, begin, begin);
        let rest = bytes.get(begin..).unwrap_or_default();
        for at in memchr::memchr2_iter(b'\n', b'\r', rest) {
            let at = begin + at;
            let range = out.end..at;
            out.end = at + 1;
            if !range.is_empty() {
                self.frame(bytes, range, out);
            }
            out.breaks += u64::from(bytes.get(at) == Some(&b'\n'));
        }
    }

    fn frame(&mut self, bytes: &[u8], range: Range<usize>, out: &mut Tokens) {
        let frame = bytes.get(range.clone()).unwrap_or_default();
        let lines = out.breaks;
        let kind = match frame {
            [b'{', b'\'', ..] => self.row(frame, out),
            [b' ' | b'0'..=b'9', ..] => bar(frame).map(|(done, total, times)| {
                let drawn = Drawn { done, times: range.end - 1 - times..range.end - 1 };
                Kind::Bars { first: drawn.clone(), last: drawn, total }
            }),
            _ => None,
        };
        let kind = kind.unwrap_or_else(|| if frame.iter().all(|b| *b == b' ') { Kind::Blank } else { Kind::Other });
        if let Kind::Bars { last: new, total, .. } = &kind
            && let Some(Token { range: known, lines: on, kind: Kind::Bars { last, total: same, .. } }) =
                out.all.last_mut()
            && (*on, &*same) == (lines, total)
        {
            *last = new.clone();
            known.end = range.end;
            return;
        }
        out.all.push(Token { range, lines, kind });
    }

    fn row(&mut self, frame: &[u8], out: &mut Tokens) -> Option<Kind> {
        let values = out.values.len();
        let read = self.dicts.read(frame, &mut out.values);
        let line = read.filter(|(length, line)| *length == frame.len() && line.plain && line.of_trainer);
        let Some((_, line)) = line.filter(|_| out.values.len() > values) else {
            out.values.truncate(values);
            return None;
        };
        if !out.lines.last().is_some_and(|last| Arc::ptr_eq(last, line)) {
            out.lines.push(Arc::clone(line));
        }
        Some(Kind::Row { line: out.lines.len() - 1, values })
    }
}

/// A frame that is a bar without a name and without metrics, as tqdm draws it, and nothing else: its counts, and how many
/// bytes its times are before the bracket at its end. Says what [`super::bar::Bar::find`] says, in one pass.
fn bar(frame: &[u8]) -> Option<(u64, u64, usize)> {
    let text = frame.trim_ascii_start();
    let digits = text.iter().take(4).take_while(|b| b.is_ascii_digit()).count();
    let drawn = text.get(digits..)?.strip_prefix(b"%|").filter(|_| (1..=3).contains(&digits))?;
    let of_bar = |b: &u8| matches!(b, 0x80..|b' '| b'#' | b'0'..=b'9');
    let counts = drawn.get(drawn.iter().take_while(|b| of_bar(b)).count()..)?.strip_prefix(b"|")?;
    let (done, at) = count(counts, 0)?;
    let (total, at) = count(counts, at + 1).filter(|_| counts.get(at) == Some(&b'/'))?;
    let times = counts.get(at..)?.strip_prefix(b" [")?.strip_suffix(b"]")?;
    let of_times = |b: &u8| matches!(b, b'0'..=b':' | b' ' | b'<' | b',' | b'.' | b'?' | b'i' | b't' | b's' | b'/');
    times.iter().all(of_times).then_some((done, total, times.len()))
}
