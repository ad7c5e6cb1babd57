//! Reads what trainers log: points, progress, totals.

use crate::model::metric::{Point, Progress};

use super::{
    dialects::lines::{OtherLines, Taken},
    prefix,
    runs::Runs,
    trainer_console::TrainerConsole,
};

/// What a stretch of a log gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Point(Point),
    /// Another rank's print of a point that was given: it only widens the spread.
    Rank(Point),
    Progress(Progress),
}

/// Bytes kept of one frame; of a longer one the end is not looked at.
const MAX_FRAME: usize = 64 << 10;

/// Where a frame stands in its source, and what its prefix said.
#[derive(Clone, Copy, Debug, Default)]
pub struct At {
    /// 1-based.
    pub line: u64,
    pub byte: u64,
    pub rank: Option<u32>,
    /// Unix seconds.
    pub time: Option<f64>,
}

impl At {
    /// An empty point at this place.
    pub fn point(self) -> Point {
        Point { line: self.line, byte: self.byte, rank: self.rank, time: self.time, ..Point::default() }
    }
}

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
    runs: Runs,
    /// What the last frame gave, before it is known which run it is of.
    given: Vec<Record>,
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
        let progress = self.progress();
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
        let mut plain = std::mem::take(&mut self.plain);
        let marked = memchr::memchr3(0x1b, 0x08, 0, frame).is_some();
        if marked {
            without_marks(frame, &mut plain);
        }
        let mut text = if marked { &plain[..] } else { frame };
        if byte == 0 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        let found = prefix::find(text);
        let raw = text;
        text = text.get(found.end..).unwrap_or_default();
        if found.end > 0 {
            text = text.trim_ascii_start();
        }
        if text.last() == Some(&b']') {
            text = not_repeated(text);
        }
        let at = At { line: self.lines + 1, byte, rank: found.rank, time: found.time };
        // What stands in a box is somebody's text.
        let boxed = BOXES.iter().any(|edge| text.trim_ascii_start().starts_with(edge.as_bytes()));
        let mut given = std::mem::take(&mut self.given);
        let understood = !boxed
            && match self.others.takes(text, at, &mut given) {
                Taken::Yes => true,
                Taken::ButItsBar => {
                    self.console.bars(text, &mut given);
                    true
                }
                Taken::No => self.console.frame(text, at, &mut given) || self.others.line(raw, text, at, &mut given),
            };
        if !understood {
            self.unparsed_bytes += frame.len() as u64;
        }
        self.sort(&mut given, out);
        self.given = given;
        self.plain = plain;
        self.plain.clear();
        if self.dialects.is_empty() {
            self.dialects.extend(self.console.dialect().or(self.others.dialect()));
        }
    }

    /// Finds out which run and which rank the points are of.
    fn sort(&mut self, given: &mut Vec<Record>, out: &mut Vec<Record>) {
        for record in given.drain(..) {
            match record {
                Record::Point(point) | Record::Rank(point) => self.runs.take(point, out),
                progress @ Record::Progress(_) => out.push(progress),
            }
        }
    }

    /// The text ends here: an unfinished last line is read as it stands.
    pub fn finish(&mut self, out: &mut Vec<Record>) {
        let frame = std::mem::take(&mut self.partial);
        self.frame(&frame, self.partial_at, out);
        let mut given = std::mem::take(&mut self.given);
        self.console.settle(&mut given);
        self.others.finish(&mut given);
        self.sort(&mut given, out);
        self.given = given;
    }

    /// Steps of the whole run, where something says so.
    pub fn total_steps(&self) -> Option<u64> {
        self.others.total_steps().or(self.console.total_steps())
    }

    /// Last state of the training's progress bar, or how many of its steps are done.
    pub fn progress(&self) -> Option<Progress> {
        self.console.progress().or_else(|| self.others.progress())
    }

    /// Runs and restarts in this log.
    pub fn segments(&self) -> u32 {
        self.runs.segments()
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

/// Edges of the tables that rich draws.
const BOXES: [&str; 6] = ["│", "┃", "║", "╭", "╰", "├"];

/// Drops escape sequences, the backspaces with which Keras redraws, and the NULs that network file systems leave.
fn without_marks(frame: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut bytes = frame.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            0x08 | 0 => {}
            0x1b => match bytes.next() {
                // CSI: parameters, then a letter.
                Some(b'[') => drop(bytes.by_ref().find(|b| (0x40..=0x7e).contains(b))),
                // OSC: a title or a link, up to BEL or `ESC \`.
                Some(b']') => {
                    let end = bytes.by_ref().find(|b| matches!(b, 0x07 | 0x1b));
                    if end == Some(0x1b) {
                        bytes.next();
                    }
                }
                _ => {}
            },
            _ => out.push(byte),
        }
    }
}

/// Drops what Ray says of a line that others printed too: ` [repeated 7x across cluster]`.
fn not_repeated(text: &[u8]) -> &[u8] {
    let end = memchr::memmem::rfind(text, b"[repeated ").filter(|_| text.ends_with(b"x across cluster]"));
    end.map_or(text, |end| text[..end].trim_ascii_end())
}
