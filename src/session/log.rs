//! The last stretch of a source's text, as lines that can be shown.

use std::collections::{BTreeSet, VecDeque};

use crate::model::{Clean, Timestamp};

use super::{
    ink::{self, Ink},
    level,
};

/// Memory for the lines that can be scrolled back to: of one source at most and at least, and of all together.
const KEEP: usize = 8 << 20;
const KEEP_LEAST: usize = 128 << 10;
const KEEP_TOGETHER: usize = 24 << 20;
/// Of a longer line its first and its last bytes are kept.
const HEAD: usize = 48 << 10;
const FOOT: usize = 16 << 10;

/// A line of the log, ready to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    pub at: Timestamp,
    /// 1-based; `None` for a note of oomph's own.
    pub number: Option<u64>,
    /// Offset of the line's first byte in its source.
    pub byte: u64,
    /// The line; of a progress bar its last frame.
    pub text: Clean,
    /// From which byte of the text each colour holds. Empty for a line without colours.
    pub inks: Box<[(u32, Ink)]>,
    /// Times that the line was redrawn by a progress bar.
    pub redraws: u32,
    /// The rank that the line names.
    pub rank: Option<u32>,
}

/// Recent lines of one source.
#[derive(Debug)]
pub struct Log {
    lines: VecDeque<LogLine>,
    /// What the lines take, and may take.
    bytes: usize,
    room: usize,
    frame: Frame,
    /// The newest frame of the unfinished line that showed something.
    shown: Vec<u8>,
    redraws: u32,
    line_at: u64,
    /// Something of the line has come, be it a carriage return.
    begun: bool,
    line_begun: Option<Timestamp>,
    next_number: u64,
    /// The ranks that lines named, at most [`RANKS`] of them.
    ranks: BTreeSet<u32>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            room: KEEP,
            frame: Frame::default(),
            shown: Vec::new(),
            redraws: 0,
            line_at: 0,
            begun: false,
            line_begun: None,
            next_number: 0,
            ranks: BTreeSet::new(),
        }
    }
}

/// Different ranks that are remembered.
const RANKS: usize = 4096;

/// What has come since the last line break or carriage return, cut in its middle when it is too long.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
    cut: u64,
    /// NUL bytes that have come in a row.
    nuls: u64,
    /// Times that such rows have come.
    rows_of_nuls: u64,
}

/// So many rows of NUL bytes stand in no text; one or two do, where a file was cut under its writer.
const BINARY: u64 = 16;
/// A longer run of NUL bytes, such as a file has whose head was cut off under its writer, is told by its length.
const NULS: u64 = 8;

impl Frame {
    fn push(&mut self, mut data: &[u8]) {
        while self.nuls > 0 || memchr::memchr(0, data).is_some() {
            let run = data.iter().take_while(|b| **b == 0).count();
            self.nuls += run as u64;
            data = &data[run..];
            if data.is_empty() {
                return;
            }
            self.tell_nuls();
            let text = memchr::memchr(0, data).unwrap_or(data.len());
            self.push_text(&data[..text]);
            data = &data[text..];
        }
        self.push_text(data);
    }

    fn tell_nuls(&mut self) {
        self.rows_of_nuls += u64::from(self.nuls > 0);
        match std::mem::take(&mut self.nuls) {
            0 => {}
            few @ 1..=NULS => self.push_text(&vec![0; few as usize]),
            many => self.push_text(format!("[{many} NUL bytes]").as_bytes()),
        }
    }

    fn push_text(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let room = (HEAD + 2 * FOOT).saturating_sub(self.bytes.len());
            let take = data.len().min(room);
            self.bytes.extend_from_slice(&data[..take]);
            data = &data[take..];
            if self.bytes.len() >= HEAD + 2 * FOOT {
                self.bytes.drain(HEAD..HEAD + FOOT);
                self.cut += FOOT as u64;
            }
        }
    }

    /// The frame's bytes, with a mark where some were cut out; it is empty afterwards.
    fn take(&mut self) -> Vec<u8> {
        self.tell_nuls();
        let mut bytes = std::mem::take(&mut self.bytes);
        if self.cut > 0 {
            let mark = format!(" [{} bytes cut] ", self.cut);
            bytes.splice(HEAD..HEAD, mark.into_bytes());
            self.cut = 0;
        }
        bytes
    }
}

impl Log {
    /// Whether it is no text: NUL bytes stand all over it.
    pub fn is_binary(&self) -> bool {
        self.frame.rows_of_nuls >= BINARY
    }

    /// Takes the next bytes. `\r` and cursor-up redraw the line: of a progress bar its last frame stays.
    pub fn feed(&mut self, at: Timestamp, offset: u64, data: &[u8]) {
        if !self.begun {
            self.line_at = offset;
        }
        let mut rest = data;
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            self.frame.push(&rest[..end]);
            let breaks = rest[end] == b'\n';
            rest = &rest[end + 1..];
            if breaks {
                self.finish_line(at);
                self.line_at = offset + (data.len() - rest.len()) as u64;
            } else {
                self.redraw();
            }
        }
        self.frame.push(rest);
        self.begun = offset + data.len() as u64 > self.line_at;
        if !rest.is_empty() {
            self.line_begun = Some(at);
        }
    }

    fn redraw(&mut self) {
        let frame = self.frame.take();
        if !frame.trim_ascii().is_empty() {
            self.redraws += u32::from(!self.shown.is_empty());
            self.shown = frame;
        }
    }

    fn finish_line(&mut self, at: Timestamp) {
        self.next_number += 1;
        self.redraw();
        let line = self.line(at, Some(self.next_number));
        if self.ranks.len() < RANKS {
            self.ranks.extend(line.rank);
        }
        self.shown.clear();
        self.redraws = 0;
        self.line_begun = None;
        self.push(line);
    }

    fn line(&self, at: Timestamp, number: Option<u64>) -> LogLine {
        let read = ink::read(&self.shown);
        let text = Clean::from_bytes(&read.text);
        // Cleaning may lengthen the text: colours are kept only where their places still hold.
        let inks = if text.as_str().len() == read.text.len() { read.inks } else { Vec::new() };
        let rank = level::rank(text.as_str());
        LogLine { at, number, byte: self.line_at, text, inks: inks.into(), redraws: self.redraws, rank }
    }

    /// The unfinished last line as it stands.
    pub fn partial(&self) -> Option<LogLine> {
        let at = self.line_begun?;
        let newest: &[u8] = if self.frame.bytes.trim_ascii().is_empty() { &self.shown } else { &self.frame.bytes };
        if newest.trim_ascii().is_empty() {
            return None;
        }
        let read = ink::read(newest);
        let number = Some(self.next_number + 1);
        let text = Clean::from_bytes(&read.text);
        let rank = level::rank(text.as_str());
        Some(LogLine { at, number, byte: self.line_at, text, inks: Box::default(), redraws: self.redraws, rank })
    }

    /// The unfinished last line is complete.
    pub fn finish(&mut self, at: Timestamp) {
        if self.partial().is_some() {
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
        let text = Clean::new(text);
        let (byte, inks) = (self.line_at, Box::default());
        self.push(LogLine { at, number: None, byte, text, inks, redraws: 0, rank: None });
    }

    fn push(&mut self, line: LogLine) {
        self.bytes += weight(&line);
        if self.lines.len() == self.lines.capacity() {
            // By a quarter, not by the double: it stays as large as it gets.
            self.lines.reserve_exact(self.lines.len() / 4 + 16);
        }
        self.lines.push_back(line);
        self.fit();
    }

    /// One of `sources` logs that share the memory there is.
    pub fn share(&mut self, sources: usize) {
        self.room = (KEEP_TOGETHER / sources.max(1)).clamp(KEEP_LEAST, KEEP);
        self.fit();
        self.lines.shrink_to(self.lines.len() * 3 / 2);
    }

    fn fit(&mut self) {
        while self.bytes > self.room
            && let Some(old) = self.lines.pop_front()
        {
            self.bytes -= weight(&old);
        }
    }

    /// Number of the last complete line.
    pub fn last_number(&self) -> u64 {
        self.next_number
    }

    /// The ranks that lines named.
    pub fn ranks(&self) -> &BTreeSet<u32> {
        &self.ranks
    }

    /// Complete lines, oldest first.
    pub fn lines(&self) -> &VecDeque<LogLine> {
        &self.lines
    }
}

/// What a line takes in memory, about: itself, and what the allocator adds to its text and its colours.
fn weight(line: &LogLine) -> usize {
    let inks = line.inks.len() * size_of::<(u32, Ink)>();
    size_of::<LogLine>() + 32 + line.text.as_str().len() + inks + if inks > 0 { 16 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(chunks: &[&[u8]]) -> Vec<String> {
        let mut log = Log::default();
        let mut offset = 0;
        for chunk in chunks {
            log.feed(Timestamp::UNIX_EPOCH, offset, chunk);
            offset += chunk.len() as u64;
        }
        log.finish(Timestamp::UNIX_EPOCH);
        log.lines().iter().map(|l| format!("{}:{}:{}", l.number.unwrap_or(0), l.byte, l.text)).collect()
    }

    #[test]
    fn bars_fold_to_their_last_frame() {
        assert_eq!(shown(&[b"a\r\n\r 0%|\r 5%|#\r      \r{'loss': 1}\nb"]), ["1:0:a", "2:3:{'loss': 1}", "3:34:b"]);
        assert_eq!(shown(&[b"  0%|\r 50%|#\r100%|##\nend\n"]), ["1:0:100%|##", "2:21:end"]);
    }

    #[test]
    fn any_chunking_gives_the_same_lines() {
        let text = "one\r\ntwo \x1b[31mred\x1b[0m языки\n 1%|\r 2%|\nlast".as_bytes();
        let whole = shown(&[text]);
        for cut in 0..text.len() {
            assert_eq!(shown(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(shown(&bytes), whole);
    }

    #[test]
    fn a_huge_line_keeps_its_ends_and_says_what_was_cut() {
        let mut log = Log::default();
        let mut offset = 0;
        let mut feed = |log: &mut Log, data: &[u8]| {
            log.feed(Timestamp::UNIX_EPOCH, offset, data);
            offset += data.len() as u64;
        };
        feed(&mut log, b"begin ");
        for _ in 0..64 {
            feed(&mut log, &vec![b'x'; 1 << 20]);
            assert!(log.frame.bytes.capacity() < 1 << 20);
        }
        feed(&mut log, b" end\nnext\n");
        let first = log.lines()[0].text.as_str();
        assert!(
            first.starts_with("begin ") && first.ends_with(" end") && first.contains("bytes cut"),
            "{}",
            &first[..80]
        );
        assert!(first.len() < HEAD + 2 * FOOT + 64);
        assert_eq!(log.lines()[1].text.as_str(), "next");
    }

    #[test]
    fn many_logs_share_the_memory() {
        let feed = |log: &mut Log, from: u64| {
            for n in from..from + 60_000 {
                log.feed(Timestamp::UNIX_EPOCH, n * 256, format!("{n:255}\n").as_bytes());
            }
        };
        let mut log = Log::default();
        feed(&mut log, 0);
        let alone = log.lines().len();
        assert!(log.bytes <= KEEP && alone * 500 > KEEP, "{alone}");
        log.share(12);
        assert!(log.bytes <= KEEP_TOGETHER / 12 && log.lines.capacity() < alone / 2);
        feed(&mut log, 60_000);
        assert!(log.bytes <= KEEP_TOGETHER / 12);
        assert_eq!(log.lines().back().and_then(|l| l.number), Some(120_000));
        // However many they are, a line of any length is shown.
        log.share(100_000);
        log.feed(Timestamp::UNIX_EPOCH, 0, &[vec![b'x'; 1 << 20], b"\n".to_vec()].concat());
        assert!(log.lines().back().is_some_and(|l| l.text.as_str().starts_with("xxx")));
    }

    #[test]
    fn a_million_redraws_stay_small() {
        let mut log = Log::default();
        for n in 0..1_000_000u64 {
            log.feed(Timestamp::UNIX_EPOCH, n * 8, b"\r12%|##|");
        }
        assert!(log.lines().is_empty() && log.frame.bytes.capacity() < 4096 && log.shown.capacity() < 4096);
        assert_eq!(log.partial().unwrap().text.as_str(), "12%|##|");
    }
}
