//! Reads what trainers log: points, progress, totals.

use crate::model::metric::{Point, Progress};

/// What a stretch of a log gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Point(Point),
    Progress(Progress),
}

/// Reads one log, from its first byte or from any line start, in any chunking.
#[derive(Debug, Default)]
pub struct Reader {
    total_steps: Option<u64>,
    progress: Option<Progress>,
    segments: u32,
    unparsed_bytes: u64,
    dialects: Vec<&'static str>,
}

impl Reader {
    /// Reads the next bytes and puts what they complete into `out`.
    pub fn feed(&mut self, _bytes: &[u8], _out: &mut Vec<Record>) {}

    /// The text ends here: an unfinished last line is read as it stands.
    pub fn finish(&mut self, _out: &mut Vec<Record>) {}

    /// Steps of the whole run, where something says so.
    pub fn total_steps(&self) -> Option<u64> {
        self.total_steps
    }

    /// Last state of the training's progress bar.
    pub fn progress(&self) -> Option<Progress> {
        self.progress
    }

    /// Runs and restarts in this log.
    pub fn segments(&self) -> u32 {
        self.segments.max(1)
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
