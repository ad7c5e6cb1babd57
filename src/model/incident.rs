//! Incidents: what the parsers found in a text, before anybody judges why.

use std::collections::BTreeMap;

use super::{
    Clean,
    curve::Curve,
    failure::{Evidence, Memory, Numbers, OtherProcess, Phase, Place},
};

/// One frame of a traceback, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// 1-based line in the log.
    pub line: u64,
    pub file: Clean,
    pub function: Clean,
    /// The source line that the traceback quotes.
    pub code: Clean,
}

/// One distinct failure (or look-alike) as read from a text: ranks folded, echoes attached, nothing judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Incident {
    pub is_oom: bool,
    pub memory: Memory,
    /// Id of the message family, such as `torch.cuda.v2_capacity`.
    pub kind: Clean,
    /// For a look-alike: why it is not out of memory.
    pub refusal: Option<Clean>,
    pub rank: Option<u32>,
    /// Every rank that printed it.
    pub ranks: Vec<u32>,
    pub device: Option<u32>,
    pub place: Place,
    /// The line at which the same was told last, where that was more than once: another rank's, another attempt's.
    pub again: Option<u64>,
    pub numbers: Numbers,
    /// Processes on the card that are not the job.
    pub other_processes: Vec<OtherProcess>,
    /// The message as read, unwrapped, cleaned.
    pub message: Clean,
    pub phase: Phase,
    /// Frames of the traceback that belongs to the message, outermost first.
    pub frames: Vec<Frame>,
    /// Lines around the message that a judge may need, oldest first, without the traceback.
    pub context: Vec<Evidence>,
    pub echoes: Vec<Evidence>,
    /// How the memory that ran out had filled, where it was watched.
    pub curve: Option<Curve>,
    /// What was seen beside the text: counters, the kernel's log.
    pub seen: Vec<Evidence>,
    /// Figures that are no sizes: `tokens_needed`, `tokens_available`, `exit_code`, `signal`, `shape_elements`, …
    pub details: BTreeMap<&'static str, f64>,
}

impl Incident {
    /// Moves every place by so many lines and bytes: for a text whose beginning was read later.
    pub fn shift(&mut self, lines: u64, bytes: u64) {
        self.place.line += lines;
        self.place.byte += bytes;
        self.again = self.again.map(|line| line + lines);
        for frame in &mut self.frames {
            frame.line += lines;
        }
        for line in self.phase.evidence.iter_mut().chain(&mut self.context).chain(&mut self.echoes) {
            if let Some(number) = &mut line.line {
                *number += lines;
            }
        }
    }
}
