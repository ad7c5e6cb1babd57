//! Reads what trainers log: points, progress, totals.

use crate::model::metric::{Point, Progress};

use super::{
    dialects::lines::{At as Place, OtherLines},
    trainer_console::{At, TrainerConsole},
};

/// What a stretch of a log gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Point(Point),
    Progress(Progress),
}

/// Bytes kept of one frame; of a longer one the end is not looked at.
const MAX_FRAME: usize = 64 << 10;

/// Reads one log, from its first byte or from any line start, in any chunking.
#[derive(Debug, Default)]
pub struct Reader {
    /// The unfinished frame.
    partial: Vec<u8>,
    partial_at: u64,
    offset: u64,
    /// Line breaks so far.
    lines: u64,
    console: TrainerConsole,
    others: OtherLines,
    plain: Vec<u8>,
    told: Option<Progress>,
    unparsed_bytes: u64,
    dialects: Vec<&'static str>,
}

impl Reader {
    /// Reads the next bytes and puts what they complete into `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Record>) {
        let mut start = 0;
        for end in memchr::memchr2_iter(b'\n', b'\r', bytes) {
            if self.partial.is_empty() {
                self.frame(&bytes[start..end], self.offset + start as u64, out);
            } else {
                self.keep(&bytes[start..end]);
                let frame = std::mem::take(&mut self.partial);
                self.frame(&frame, self.partial_at, out);
                self.partial = frame;
                self.partial.clear();
            }
            self.lines += u64::from(bytes[end] == b'\n');
            start = end + 1;
        }
        if self.partial.is_empty() {
            self.partial_at = self.offset + start as u64;
        }
        self.keep(&bytes[start..]);
        self.offset += bytes.len() as u64;
        // Only the last frame of a bar is of interest.
        let progress = self.console.progress();
        if progress != self.told {
            self.told = progress;
            out.extend(progress.map(Record::Progress));
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_FRAME.saturating_sub(self.partial.len());
        self.unparsed_bytes += bytes.len().saturating_sub(room) as u64;
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn frame(&mut self, frame: &[u8], byte: u64, out: &mut Vec<Record>) {
        let at = At { line: self.lines + 1, byte };
        if self.others.takes(frame, Place { line: at.line, byte }, out) {
            return;
        }
        let understood = if memchr::memchr(0x1b, frame).is_some() {
            let mut plain = std::mem::take(&mut self.plain);
            without_colours(frame, &mut plain);
            let understood = self.console.frame(&plain, at, out);
            self.plain = plain;
            understood
        } else {
            self.console.frame(frame, at, out)
        };
        if !understood {
            let text = if self.plain.is_empty() {
                String::from_utf8_lossy(frame)
            } else {
                String::from_utf8_lossy(&self.plain)
            };
            let place = Place { line: at.line, byte: at.byte };
            if !self.others.line(&text, place, out) {
                self.unparsed_bytes += frame.len() as u64;
            }
        }
        self.plain.clear();
        if self.dialects.is_empty() {
            self.dialects.extend(self.console.dialect().or(self.others.dialect()));
        }
    }

    /// The text ends here: an unfinished last line is read as it stands.
    pub fn finish(&mut self, out: &mut Vec<Record>) {
        let frame = std::mem::take(&mut self.partial);
        self.frame(&frame, self.partial_at, out);
        self.console.settle(out);
        self.others.finish(out);
    }

    /// Steps of the whole run, where something says so.
    pub fn total_steps(&self) -> Option<u64> {
        self.others.total_steps().or(self.console.total_steps())
    }

    /// Last state of the training's progress bar.
    pub fn progress(&self) -> Option<Progress> {
        self.console.progress()
    }

    /// Runs and restarts in this log.
    pub fn segments(&self) -> u32 {
        self.console.segments().max(self.others.segments())
    }

    /// Bytes that no dialect understood.
    pub fn unparsed_bytes(&self) -> u64 {
        self.unparsed_bytes
    }

    /// Names of the dialects met, most frequent first.
    pub fn dialects(&self) -> &[&'static str] {
        &self.dialects
    }
}

/// Drops escape sequences: `ESC [ … letter`, and `ESC` with one character.
fn without_colours(frame: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut bytes = frame.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != 0x1b {
            out.push(byte);
        } else if bytes.next() == Some(b'[') {
            bytes.by_ref().find(|b| (0x40..=0x7e).contains(b));
        }
    }
}
