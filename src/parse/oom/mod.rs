//! Finds out-of-memory messages, and what only looks like one, in any text.
//!
//! A cheap search for literals runs over all bytes. Only where one is met is the text around it made readable
//! ([`super::text`]), matched against the families and, for PyTorch, read field by field.

mod around;
mod family;
mod fold;
mod judge;
mod sieve;
mod size;
mod torch;

use std::sync::Arc;

use crate::model::{Clean, incident::Incident};

pub use family::{About, Families, Family, add, known, read};
pub use fold::fold;
pub use sieve::{Found, Sieve};

/// Text kept before a hit: a traceback stands before its message.
const BEFORE: usize = 96 << 10;
/// Text wanted after a hit: tracebacks that follow, other ranks, the launcher's report.
const AFTER: usize = 48 << 10;
/// The longest region that is read as one; a log full of hits is cut into such.
const REGION: usize = 2 << 20;

/// Incidents of closed regions that are kept apart; more are folded, so that a run that skips a batch at each step for
/// days keeps no more than their kinds.
const MANY: usize = 200;

/// Scans one text, in order, in any chunking.
#[derive(Debug)]
pub struct Scanner {
    families: Arc<Families>,
    source: Clean,
    /// The last bytes before `region`, or all that is kept while no region is open.
    kept: Vec<u8>,
    /// Offset of the first byte of `kept` and the line breaks before it.
    start: u64,
    lines: u64,
    /// A region is open: `kept` holds it, and this many more bytes belong to it.
    wanted: Option<usize>,
    /// Bytes of `kept` that the literals have been looked for in.
    looked: usize,
    done: Vec<Incident>,
    open: Vec<Incident>,
    shown: Vec<Incident>,
    revision: u64,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new(Clean::default())
    }
}

impl Scanner {
    /// `source` is the name that the places will carry.
    pub fn new(source: Clean) -> Self {
        Self::with(family::known(), source)
    }

    /// Reads by other families than the process's own.
    pub fn with(families: Arc<Families>, source: Clean) -> Self {
        Self {
            families,
            source,
            kept: Vec::new(),
            start: 0,
            lines: 0,
            wanted: None,
            looked: 0,
            done: Vec::new(),
            open: Vec::new(),
            shown: Vec::new(),
            revision: 0,
        }
    }

    /// Takes the next bytes. What they complete shows up in [`Self::incidents`] at once.
    pub fn feed(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(AFTER) {
            self.take(part);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        // A literal may lie across two chunks.
        let from = self.looked.saturating_sub(64);
        let hit = self.families.search.find(&self.kept[from..]).is_some();
        self.looked = self.kept.len();
        match (hit, self.wanted) {
            (true, _) => self.wanted = Some(AFTER),
            (false, Some(left)) => self.wanted = Some(left.saturating_sub(bytes.len())),
            (false, None) => {}
        }
        if self.wanted.is_some() {
            if bytes.contains(&b'\n') || bytes.contains(&b'\r') {
                self.read_region(false);
            }
            if self.wanted == Some(0) || self.kept.len() >= REGION {
                self.close_region();
            }
        } else if self.kept.len() > 4 * BEFORE {
            self.forget(BEFORE);
        }
    }

    /// Takes the next bytes, in which a [`Sieve`] saw nothing and which have so many line breaks, without looking into them
    /// where nothing is open.
    pub fn pass_over(&mut self, bytes: &[u8], breaks_in_all: u64) {
        let mut rest = bytes;
        while self.wanted.is_some() && !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(AFTER));
            self.take(part);
            rest = after;
        }
        let tail = rest.len().saturating_sub(BEFORE);
        let (over, tail) = rest.split_at(tail);
        if !over.is_empty() {
            let read = breaks(&bytes[..bytes.len() - rest.len()]);
            self.lines += breaks(&self.kept) + breaks_in_all - read - breaks(tail);
            self.start += (self.kept.len() + over.len()) as u64;
            self.kept.clear();
        }
        self.kept.extend_from_slice(tail);
        self.looked = self.kept.len();
        self.forget(BEFORE);
    }

    /// The text ends here: judges what was still waiting for more lines.
    pub fn finish(&mut self) {
        if self.wanted.is_some() {
            self.read_region(true);
            self.close_region();
        }
    }

    fn read_region(&mut self, whole: bool) {
        let end = if whole { self.kept.len() } else { memchr::memrchr2(b'\n', b'\r', &self.kept).map_or(0, |e| e + 1) };
        let lines = super::text::lines(&self.kept[..end], self.lines + 1, self.start);
        let open = judge::incidents(&self.families, &self.source, &lines);
        if open != self.open {
            self.open = open;
            self.settle();
        }
    }

    fn close_region(&mut self) {
        self.done.append(&mut self.open);
        if self.done.len() > MANY {
            self.done = fold(std::mem::take(&mut self.done));
        }
        self.wanted = None;
        self.settle();
        // What has been read is not read again: only a last stretch without hits would be.
        let keep = 0;
        self.forget(keep);
    }

    /// Keeps the last `keep` bytes, from a line's start.
    fn forget(&mut self, keep: usize) {
        let cut = self.kept.len().saturating_sub(keep);
        let cut = memchr::memchr(b'\n', &self.kept[cut.min(self.kept.len())..]).map_or(cut, |end| cut + end + 1);
        self.lines += breaks(&self.kept[..cut]);
        self.start += cut as u64;
        self.kept.drain(..cut);
        self.looked = self.kept.len();
    }

    fn settle(&mut self) {
        let all: Vec<Incident> = self.done.iter().chain(&self.open).cloned().collect();
        let folded = fold(all);
        if folded != self.shown {
            self.shown = folded;
            self.revision += 1;
        }
    }

    /// Distinct incidents so far, the root cause first.
    pub fn incidents(&self) -> &[Incident] {
        &self.shown
    }

    /// Rises whenever [`Self::incidents`] changes, so that a live session knows when to judge again.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn source(&self) -> &Clean {
        &self.source
    }
}

fn breaks(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Tries the samples of a family: each must be found, as this kind, with its figures.
///
/// # Errors
/// Which sample is not, and what it gave.
pub fn check(family: Family) -> Result<(), String> {
    if family.samples.is_empty() {
        return Err("[[sample]]: at least one text of such a message is wanted".into());
    }
    let families = Arc::new(Families::new(vec![family]));
    let Some(family) = families.own().first() else { return Ok(()) };
    for (nth, sample) in family.samples.iter().enumerate() {
        let mut scanner = Scanner::with(families.clone(), Clean::default());
        scanner.feed(sample.text.as_bytes());
        scanner.feed(b"\n");
        scanner.finish();
        let wrong = |what: String| Err(format!("[[sample]] {}: {what}", nth + 1));
        let Some(found) = scanner.incidents().first() else { return wrong("nothing is found in it".into()) };
        if found.kind.as_str() != family.id() {
            return wrong(format!("it is read as {}", found.kind));
        }
        let numbers = serde_json::to_value(&found.numbers).unwrap_or_default();
        for (name, want) in &sample.gives {
            let got = numbers.get(name).and_then(serde_json::Value::as_u64);
            if got != Some(*want) {
                let got = got.map_or("nothing".to_string(), |bytes| bytes.to_string());
                return wrong(format!("{name} is {got}, not {want}"));
            }
        }
    }
    Ok(())
}
