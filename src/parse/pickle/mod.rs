//! Pickles as data: a reader that knows the opcodes of plain values and refuses every other one by its name.
//!
//! A pickle is a program for a small machine. The opcodes that build numbers, texts, lists, tuples and dicts are run
//! here; whatever would look up, call or build anything else ends the reading, and is named. Nothing recurses, nothing
//! is allocated on the word of a length, and what is kept may not outgrow what was read.
//! <https://github.com/python/cpython/blob/main/Lib/pickletools.py>

mod opcodes;
mod tree;

pub use tree::{Node, Tree, Val};

use std::io::{BufRead, ErrorKind, Read};

use crate::model::Clean;

/// The newest protocol there is.
const MAX_PROTOCOL: u8 = 5;
/// Marks that may be open at once: how deep lists and dicts stand in one another.
const MAX_DEPTH: usize = 128;
/// The longest text that is kept.
const MAX_TEXT: u64 = 16 << 20;
/// The longest line of the text opcodes: a number or a place in the memo.
const MAX_LINE: u64 = 1 << 20;
/// The most digits, in bytes, of a whole number that is read.
const MAX_LONG: u64 = 1 << 10;
/// What may be kept besides three times of what was read.
const HEADROOM: u64 = 32 << 20;
/// How far a place in the memo may lie beyond those in use.
const MEMO_GAP: u64 = 1 << 10;

/// Why a pickle was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum PickleError {
    #[error("refused: {what} at byte {at}; nothing was run. A memory snapshot holds numbers and texts alone")]
    Refused { what: Clean, at: u64 },
    #[error("{what} at byte {at}")]
    Malformed { what: Clean, at: u64 },
    #[error("it ends in the middle, after {0} bytes: cut, or still being written")]
    Cut(u64),
    #[error("after {read} bytes it asks for more memory than its size explains: refused")]
    TooMuch { read: u64 },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Reads one pickle up to its STOP.
///
/// # Errors
/// When it holds anything but plain values, is cut or damaged, or wants more memory than it may have.
pub fn read(input: impl BufRead) -> Result<Tree, PickleError> {
    Machine { input, at: 0, op_at: 0, tree: Tree::default(), stack: Vec::new(), marks: Vec::new(), memo: Vec::new() }
        .run()
}

struct Machine<R> {
    input: R,
    /// Bytes read, and where the opcode at hand began.
    at: u64,
    op_at: u64,
    tree: Tree,
    stack: Vec<Val>,
    marks: Vec<usize>,
    memo: Vec<Val>,
}

type Step<T = ()> = Result<T, PickleError>;

impl<R: BufRead> Machine<R> {
    fn run(mut self) -> Result<Tree, PickleError> {
        loop {
            self.op_at = self.at;
            let [op] = self.take()?;
            if op == b'.' {
                self.tree.root = self.pop()?;
                return Ok(self.tree);
            }
            self.step(op)?;
            let kept = self.tree.kept() + 8 * (self.stack.len() + self.marks.len() + self.memo.len()) as u64;
            if kept > 3 * self.at + HEADROOM {
                return Err(PickleError::TooMuch { read: self.at });
            }
        }
    }

    fn step(&mut self, op: u8) -> Step {
        match op {
            0x80 => {
                let [version] = self.take()?;
                if version > MAX_PROTOCOL {
                    return self.malformed(&format!("protocol {version}, which is not known here,"));
                }
            }
            // FRAME: a hint for buffers.
            0x95 => drop(self.take::<8>()?),
            b'(' => {
                if self.marks.len() >= MAX_DEPTH {
                    return self.refused(&format!("MARK, nested more than {MAX_DEPTH} deep,"));
                }
                self.marks.push(self.stack.len());
            }
            b'N' => self.stack.push(Val::NONE),
            0x88 => self.stack.push(Val::TRUE),
            0x89 => self.stack.push(Val::FALSE),
            b'K' => {
                let [n] = self.take()?;
                self.int(i64::from(n));
            }
            b'M' => {
                let n = u16::from_le_bytes(self.take()?);
                self.int(i64::from(n));
            }
            b'J' => {
                let n = i32::from_le_bytes(self.take()?);
                self.int(i64::from(n));
            }
            0x8a => {
                let [length] = self.take()?;
                self.long(u64::from(length), "LONG1")?;
            }
            0x8b => {
                let length = self.length4("LONG4")?;
                self.long(length, "LONG4")?;
            }
            b'G' => {
                let number = f64::from_be_bytes(self.take()?);
                let val = self.tree.float(number);
                self.stack.push(val);
            }
            b'I' => self.int_line()?,
            b'L' => {
                let line = self.line()?;
                let digits = line.strip_suffix('L').unwrap_or(&line);
                self.decimal(digits, "LONG")?;
            }
            b'F' => {
                let line = self.line()?;
                let Ok(number) = line.parse::<f64>() else { return self.malformed("FLOAT without a number") };
                let val = self.tree.float(number);
                self.stack.push(val);
            }
            b'V' => {
                let line = self.line()?;
                self.text(&opcodes::unescape(&line));
            }
            b'S' => {
                let line = self.line()?;
                let quoted = line.trim();
                let inner = ['\'', '"'].iter().find_map(|q| quoted.strip_prefix(*q)?.strip_suffix(*q));
                let Some(inner) = inner else { return self.malformed("STRING without quotes") };
                self.text(&opcodes::unescape(inner));
            }
            0x8c => {
                let [length] = self.take()?;
                self.text_of(u64::from(length), "SHORT_BINUNICODE")?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.take()?);
                self.text_of(u64::from(length), "BINUNICODE")?;
            }
            0x8d => {
                let length = u64::from_le_bytes(self.take()?);
                self.text_of(length, "BINUNICODE8")?;
            }
            b'U' => {
                let [length] = self.take()?;
                self.text_of(u64::from(length), "SHORT_BINSTRING")?;
            }
            b'T' => {
                let length = self.length4("BINSTRING")?;
                self.text_of(length, "BINSTRING")?;
            }
            b'C' => {
                let [length] = self.take()?;
                self.pass_over(u64::from(length))?;
            }
            b'B' => {
                let length = u32::from_le_bytes(self.take()?);
                self.pass_over(u64::from(length))?;
            }
            0x8e | 0x96 => {
                let length = u64::from_le_bytes(self.take()?);
                self.pass_over(length)?;
            }
            b']' => self.sequence(0, false),
            b')' => self.sequence(0, true),
            b'l' | b't' => {
                let count = self.above_mark()?;
                self.sequence(count, op == b't');
            }
            0x85..=0x87 => {
                let count = usize::from(op - 0x84);
                if self.free() < count {
                    return self.malformed("a tuple of more than there is");
                }
                self.sequence(count, true);
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let count = self.above_mark()?;
                let items = self.top(count);
                self.append(&items)?;
            }
            b'}' => {
                let val = self.tree.dict();
                self.stack.push(val);
            }
            b'd' => {
                let count = self.above_mark()?;
                let items = self.top(count);
                let val = self.tree.dict();
                self.stack.push(val);
                self.set(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let count = self.above_mark()?;
                let items = self.top(count);
                self.set(&items)?;
            }
            b'g' => {
                let at = self.place()?;
                self.recall(at)?;
            }
            b'h' => {
                let [at] = self.take()?;
                self.recall(u64::from(at))?;
            }
            b'j' => {
                let at = u32::from_le_bytes(self.take()?);
                self.recall(u64::from(at))?;
            }
            b'p' => {
                let at = self.place()?;
                self.remember(at)?;
            }
            b'q' => {
                let [at] = self.take()?;
                self.remember(u64::from(at))?;
            }
            b'r' => {
                let at = u32::from_le_bytes(self.take()?);
                self.remember(u64::from(at))?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            other => return self.refuse_opcode(other),
        }
        Ok(())
    }

    /// An opcode that builds no plain value: its name, and what it would have looked up.
    fn refuse_opcode(&mut self, op: u8) -> Step {
        let Some(name) = opcodes::name(op) else {
            return self.malformed(&format!("no opcode is 0x{op:02x}"));
        };
        let mut words: Vec<String> = Vec::new();
        match op {
            // GLOBAL and INST bring module and name, PERSID its id, each on a line.
            b'c' | b'i' => words.extend([self.line()?, self.line()?]),
            b'P' => words.push(self.line()?),
            // STACK_GLOBAL finds them on the stack.
            0x93 => {
                let from = self.stack.len().saturating_sub(2);
                let texts = self.stack[from..].iter().filter_map(|v| Some(self.tree.text(*v)?.into_owned()));
                words.extend(texts);
            }
            0x82 => words.push(self.take::<1>()?[0].to_string()),
            0x83 => words.push(u16::from_le_bytes(self.take()?).to_string()),
            0x84 => words.push(u32::from_le_bytes(self.take()?).to_string()),
            _ => {}
        }
        let cut = |word: &String| word.chars().take(80).collect::<String>();
        let words: Vec<String> = words.iter().map(cut).collect();
        let named = if words.is_empty() { String::new() } else { format!(" '{}'", words.join(".")) };
        self.refused(&format!("{name}{named}"))
    }

    fn int(&mut self, number: i64) {
        let val = self.tree.int(number);
        self.stack.push(val);
    }

    fn int_line(&mut self) -> Step {
        let line = self.line()?;
        match line.as_str() {
            "01" => self.stack.push(Val::TRUE),
            "00" => self.stack.push(Val::FALSE),
            digits => self.decimal(digits, "INT")?,
        }
        Ok(())
    }

    /// A whole number in digits; one beyond 64 bits is a value that is not known.
    fn decimal(&mut self, digits: &str, name: &str) -> Step {
        let plain = digits.trim().trim_start_matches(['-', '+']);
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) || plain.len() as u64 > MAX_LONG {
            return self.malformed(&format!("{name} without a number"));
        }
        match digits.trim().parse() {
            Ok(number) => self.int(number),
            Err(_) => self.stack.push(Val::OPAQUE),
        }
        Ok(())
    }

    /// A whole number of `length` bytes, lowest first, in two's complement.
    fn long(&mut self, length: u64, name: &str) -> Step {
        if length > MAX_LONG {
            return self.refused(&format!("{name} of {length} bytes"));
        }
        let mut bytes = [0; MAX_LONG as usize];
        let bytes = &mut bytes[..length as usize];
        self.fill(bytes)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut whole = if negative { [0xff; 8] } else { [0; 8] };
        if bytes.len() > 8 {
            // An unsigned 64-bit number has a ninth byte of nothing.
            let wide = bytes[8..].iter().any(|b| *b != whole[0]) || (bytes[7] & 0x80 != 0) != negative;
            if wide {
                self.stack.push(Val::OPAQUE);
                return Ok(());
            }
        }
        let kept = bytes.len().min(8);
        whole[..kept].copy_from_slice(&bytes[..kept]);
        self.int(i64::from_le_bytes(whole));
        Ok(())
    }

    fn text(&mut self, text: &str) {
        let val = self.tree.put_text(text.as_bytes());
        self.stack.push(val);
    }

    fn text_of(&mut self, length: u64, name: &str) -> Step {
        if length > MAX_TEXT {
            return self.refused(&format!("{name} of {length} bytes"));
        }
        let from = self.tree.texts.len();
        let got = (&mut self.input).take(length).read_to_end(&mut self.tree.texts)? as u64;
        self.at += got;
        if got < length {
            return Err(PickleError::Cut(self.at));
        }
        let val = self.tree.seal_text(from);
        self.stack.push(val);
        Ok(())
    }

    /// Bytes, which no snapshot needs: they are passed over and never kept.
    fn pass_over(&mut self, length: u64) -> Step {
        let got = std::io::copy(&mut (&mut self.input).take(length), &mut std::io::sink())?;
        self.at += got;
        if got < length {
            return Err(PickleError::Cut(self.at));
        }
        self.stack.push(Val::OPAQUE);
        Ok(())
    }

    fn sequence(&mut self, count: usize, tuple: bool) {
        let items = self.top(count);
        let val = self.tree.sequence(items, tuple);
        self.stack.push(val);
    }

    fn append(&mut self, items: &[Val]) -> Step {
        match self.stack.last().copied().filter(|_| self.free() > 0) {
            Some(list) if self.tree.append(list, items) => Ok(()),
            _ => self.malformed("items for a list that is none"),
        }
    }

    fn set(&mut self, items: &[Val]) -> Step {
        if !items.len().is_multiple_of(2) {
            return self.malformed("a key without a value");
        }
        match self.stack.last().copied().filter(|_| self.free() > 0) {
            Some(dict) if self.tree.set(dict, items) => Ok(()),
            _ => self.malformed("keys for a dict that is none"),
        }
    }

    fn recall(&mut self, at: u64) -> Step {
        match usize::try_from(at).ok().and_then(|at| self.memo.get(at)).copied() {
            Some(val) if val != Val::UNSET => {
                self.stack.push(val);
                Ok(())
            }
            _ => self.malformed(&format!("place {at} of the memo, where nothing was put,")),
        }
    }

    fn remember(&mut self, at: u64) -> Step {
        let Some(val) = self.stack.last().copied().filter(|_| self.free() > 0) else {
            return self.malformed("nothing to remember");
        };
        if at > self.memo.len() as u64 + MEMO_GAP {
            return self.refused(&format!("place {at} of the memo while {} are in use", self.memo.len()));
        }
        let at = at as usize;
        if at >= self.memo.len() {
            self.memo.resize(at + 1, Val::UNSET);
        }
        self.memo[at] = val;
        Ok(())
    }

    /// Takes the topmost values off the stack.
    fn top(&mut self, count: usize) -> Vec<Val> {
        let from = self.stack.len() - count;
        let items = self.stack[from..].to_vec();
        self.stack.truncate(from);
        items
    }

    /// Values above the last mark.
    fn free(&self) -> usize {
        self.stack.len() - self.marks.last().copied().unwrap_or(0)
    }

    fn above_mark(&mut self) -> Step<usize> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.len() - mark),
            None => self.malformed("the end of something that was not begun"),
        }
    }

    fn pop(&mut self) -> Step<Val> {
        match self.stack.pop().filter(|_| self.stack.len() >= self.marks.last().copied().unwrap_or(0)) {
            Some(val) => Ok(val),
            None => self.malformed("a value that is not there"),
        }
    }

    fn place(&mut self) -> Step<u64> {
        let line = self.line()?;
        match line.trim().parse() {
            Ok(at) => Ok(at),
            Err(_) => self.malformed("a place in the memo that is no number"),
        }
    }

    /// A length of four signed bytes.
    fn length4(&mut self, name: &str) -> Step<u64> {
        let length = i32::from_le_bytes(self.take()?);
        match u64::try_from(length) {
            Ok(length) => Ok(length),
            Err(_) => self.refused(&format!("{name} of {length} bytes")),
        }
    }

    fn line(&mut self) -> Step<String> {
        let mut line = Vec::new();
        let got = (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
        self.at += got;
        if line.pop() != Some(b'\n') {
            return if got == MAX_LINE {
                self.malformed("a line without an end")
            } else {
                Err(PickleError::Cut(self.at))
            };
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn take<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Step {
        // Nearly always the buffer holds them.
        let ready = self.input.fill_buf()?;
        if let Some(front) = ready.get(..bytes.len()) {
            bytes.copy_from_slice(front);
            self.input.consume(bytes.len());
        } else {
            self.input.read_exact(bytes).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => PickleError::Cut(self.at),
                _ => error.into(),
            })?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn malformed<T>(&self, what: &str) -> Step<T> {
        // Text of any kind begins with what could be an opcode.
        let what = if self.op_at == 0 { format!("not a pickle: {what}") } else { what.to_string() };
        Err(PickleError::Malformed { what: Clean::new(&what), at: self.op_at })
    }

    fn refused<T>(&self, what: &str) -> Step<T> {
        Err(PickleError::Refused { what: Clean::new(what), at: self.op_at })
    }
}

#[cfg(test)]
mod tests;
