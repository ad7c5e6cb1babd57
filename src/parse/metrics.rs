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
        // A collector that drops carriage returns glues frames: each bar ends with its bracket.
        let mut rest = frame;
        let mut at = byte;
        while let Some(end) = glued(rest) {
            self.one(&rest[..end], at, out);
            at += end as u64;
            rest = &rest[end..];
        }
        self.one(rest, at, out);
    }

    fn one(&mut self, frame: &[u8], byte: u64, out: &mut Vec<Record>) {
        let at = At { line: self.lines + 1, byte };
        let place = Place { line: at.line, byte };
        let mut plain = std::mem::take(&mut self.plain);
        let coloured = memchr::memchr2(0x1b, 0x08, frame).is_some();
        if coloured {
            without_colours(frame, &mut plain);
        }
        let text = if coloured { &plain[..] } else { frame };
        let understood = self.others.takes(text, place, out)
            || self.console.frame(text, at, out)
            || self.others.line(&String::from_utf8_lossy(text), place, out);
        if !understood {
            self.unparsed_bytes += frame.len() as u64;
        }
        self.plain = plain;
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

/// The end of the first of several bars with metrics in one frame.
fn glued(frame: &[u8]) -> Option<usize> {
    let mut bars = memchr::memmem::find_iter(frame, b"%|");
    let (first, second) = (bars.next()?, bars.next()?);
    let end = first + memchr::memchr(b']', frame.get(first..second)?)? + 1;
    // Bars without a postfix, and the blanks between them, are read together: they tell the step of a line between.
    memchr::memchr(b'=', frame.get(first..end)?).map(|_| end).or_else(|| {
        let name = frame.get(..first)?;
        memchr::memmem::find(name, b"|Loss: ").map(|_| end)
    })
}

/// Drops escape sequences: `ESC [ … letter`, and `ESC` with one character; and the backspaces with which Keras redraws.
fn without_colours(frame: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut bytes = frame.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == 0x08 {
            continue;
        }
        if byte != 0x1b {
            out.push(byte);
        } else if bytes.next() == Some(b'[') {
            bytes.by_ref().find(|b| (0x40..=0x7e).contains(b));
        }
    }
}
