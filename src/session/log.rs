//! The last stretch of a source's text, as lines that can be shown.

use std::collections::VecDeque;

use crate::model::{Clean, Timestamp};

/// Bytes of text kept for scrolling.
const KEEP: usize = 16 << 20;

/// A line of the log, ready to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    pub at: Timestamp,
    /// 1-based; `None` for a note of oomph's own.
    pub number: Option<u64>,
    pub byte: u64,
    pub text: Clean,
}

/// Recent lines of one source.
#[derive(Debug, Default)]
pub struct Log {
    lines: VecDeque<LogLine>,
    bytes: usize,
    partial: Vec<u8>,
    partial_at: u64,
    next_number: u64,
}

impl Log {
    /// Takes the next bytes; `\r` starts a line over, ANSI sequences are dropped.
    pub fn feed(&mut self, at: Timestamp, offset: u64, data: &[u8]) {
        if self.partial.is_empty() {
            self.partial_at = offset;
        }
        let mut rest = data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            self.finish_line(at);
            self.partial_at = offset + (data.len() - rest.len()) as u64;
        }
        self.partial.extend_from_slice(rest);
    }

    /// The unfinished last line is complete.
    pub fn finish(&mut self, at: Timestamp) {
        if !self.partial.is_empty() {
            self.finish_line(at);
        }
    }

    /// So many lines stand before the first one that was read here.
    pub fn count_from(&mut self, before: u64) {
        self.next_number += before;
        for line in &mut self.lines {
            if let Some(number) = &mut line.number {
                *number += before;
            }
        }
    }

    /// A line of oomph's own between the source's lines.
    pub fn note(&mut self, at: Timestamp, text: &str) {
        self.push(LogLine { at, number: None, byte: self.partial_at, text: Clean::new(text) });
    }

    fn finish_line(&mut self, at: Timestamp) {
        self.next_number += 1;
        let raw = std::mem::take(&mut self.partial);
        let trimmed = raw.strip_suffix(b"\r").unwrap_or(&raw);
        let shown = trimmed.rsplit(|b| *b == b'\r').find(|part| !part.trim_ascii().is_empty()).unwrap_or(b"");
        let line =
            LogLine { at, number: Some(self.next_number), byte: self.partial_at, text: Clean::from_bytes(shown) };
        self.push(line);
    }

    fn push(&mut self, line: LogLine) {
        self.bytes += line.text.as_str().len() + 64;
        self.lines.push_back(line);
        while self.bytes > KEEP
            && let Some(old) = self.lines.pop_front()
        {
            self.bytes -= old.text.as_str().len() + 64;
        }
    }

    /// Number of the last complete line.
    pub fn last_number(&self) -> u64 {
        self.next_number
    }

    pub fn lines(&self) -> &VecDeque<LogLine> {
        &self.lines
    }
}
