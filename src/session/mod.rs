//! What is known about a run: the one fold over events. No IO, no clock: time is in the events.

pub mod gpus;
pub mod log;
pub mod series;

use std::collections::BTreeMap;

use crate::{
    diagnose,
    model::{
        Clean, Event, EventKind, SourceId, Timestamp,
        event::HostSample,
        failure::Diagnosis,
        knobs::Knobs,
        metric::{Point, Progress},
    },
    parse::{
        facts::Facts,
        metrics::{Reader, Record},
        oom::Scanner,
    },
};

use gpus::Gpus;
use log::Log;
use series::Metrics;

/// One file, pipe or child whose output is read.
#[derive(Debug)]
pub struct Source {
    pub id: SourceId,
    pub name: Clean,
    pub path: Option<std::path::PathBuf>,
    /// Size when it was opened; how much of it has been read.
    pub size: Option<u64>,
    pub bytes_read: u64,
    pub log: Log,
    /// Why it cannot be read at present.
    pub trouble: Option<Clean>,
    /// Bytes lost or skipped, with the reasons, oldest first.
    pub losses: Vec<(Timestamp, u64, Clean)>,
    pub caught_up: bool,
    pub ended: bool,
    pub last_output: Option<Timestamp>,
    reader: Reader,
    scanner: Scanner,
    facts: Facts,
}

impl Source {
    /// Names of the dialects that its lines speak.
    pub fn dialects(&self) -> &[&'static str] {
        self.reader.dialects()
    }

    pub fn unparsed_bytes(&self) -> u64 {
        self.reader.unparsed_bytes()
    }
}

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunState {
    /// Nothing that tells of training has been read yet.
    #[default]
    Waiting,
    Training,
    /// No output for far longer than usual.
    Silent,
    Finished,
    Failed,
}

/// Everything known about the watched run.
#[derive(Debug, Default)]
pub struct Session {
    /// Time of the newest event or tick.
    pub now: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub sources: BTreeMap<SourceId, Source>,
    pub metrics: Metrics,
    pub gpus: Gpus,
    pub host: Option<HostSample>,
    pub child: Child,
    pub kernel: Vec<(Timestamp, Clean)>,
    /// Settings given from outside (`--config`, `--set`, …); the logs' own facts are added to them.
    given: Knobs,
    knobs: Knobs,
    diagnosis: Option<Diagnosis>,
    scratch: Vec<Record>,
}

/// The trainer, where oomph started it.
#[derive(Debug, Default)]
pub struct Child {
    pub command: Vec<Clean>,
    pub pid: Option<u32>,
    pub started: Option<Timestamp>,
    pub exited: Option<Timestamp>,
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

impl Session {
    pub fn new(given: Knobs) -> Self {
        Self { knobs: given.clone(), given, ..Self::default() }
    }

    /// Takes one event in. The only way in which a session changes.
    pub fn apply(&mut self, event: Event) {
        let at = event.at;
        self.now = Some(self.now.map_or(at, |now| now.max(at)));
        self.started.get_or_insert(at);
        match event.kind {
            EventKind::Opened { source, name, path, size } => {
                let entry = self.sources.entry(source).or_insert_with(|| Source {
                    id: source,
                    name: name.clone(),
                    path: None,
                    size: None,
                    bytes_read: 0,
                    log: Log::default(),
                    trouble: None,
                    losses: Vec::new(),
                    caught_up: false,
                    ended: false,
                    last_output: None,
                    reader: Reader::default(),
                    scanner: Scanner::new(name.clone()),
                    facts: Facts::default(),
                });
                entry.path = path;
                entry.size = size;
                entry.trouble = None;
            }
            EventKind::Output { source, offset, data } => self.output(at, source, offset, &data),
            EventKind::Truncated { source, unread } => self.lost(at, source, unread, "truncated"),
            EventKind::Rotated { source } => {
                if let Some(s) = self.sources.get_mut(&source) {
                    s.log.note(at, "rotated: another file stands under this name now");
                }
            }
            EventKind::Skipped { source, bytes, reason, .. } => self.lost(at, source, bytes, reason.as_str()),
            EventKind::Trouble { source, what } => {
                if let Some(s) = self.sources.get_mut(&source) {
                    s.trouble = what;
                }
            }
            EventKind::CaughtUp { source } => {
                if let Some(s) = self.sources.get_mut(&source) {
                    s.caught_up = true;
                }
            }
            EventKind::Ended { source } => self.ended(at, source),
            EventKind::Started { command, pid } => {
                self.child = Child { command, pid: Some(pid), started: Some(at), ..Child::default() };
            }
            EventKind::Exited { code, signal } => {
                self.child.exited = Some(at);
                self.child.code = code;
                self.child.signal = signal;
            }
            EventKind::Gpu(reading) => self.gpus.apply(at, reading),
            EventKind::Host(sample) => self.host = Some(sample),
            EventKind::Kernel { text } => self.kernel.push((at, text)),
        }
    }

    /// The clock goes on without an event.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = Some(self.now.map_or(now, |old| old.max(now)));
    }

    fn output(&mut self, at: Timestamp, id: SourceId, offset: u64, data: &[u8]) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        source.bytes_read += data.len() as u64;
        source.last_output = Some(at);
        source.log.feed(at, offset, data);
        source.reader.feed(data, &mut self.scratch);
        for record in self.scratch.drain(..) {
            if let Record::Point(point) = record {
                self.metrics.push(at, id, point);
            }
        }
        source.facts.feed(data);
        let before = source.scanner.incidents().len();
        source.scanner.feed(data);
        if source.scanner.incidents().len() != before {
            self.judge();
        }
    }

    fn ended(&mut self, at: Timestamp, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        source.ended = true;
        source.reader.finish(&mut self.scratch);
        for record in self.scratch.drain(..) {
            if let Record::Point(point) = record {
                self.metrics.push(at, id, point);
            }
        }
        source.scanner.finish();
        self.judge();
    }

    fn lost(&mut self, at: Timestamp, id: SourceId, bytes: u64, reason: &str) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.losses.push((at, bytes, Clean::new(reason)));
            source.log.note(at, &format!("{bytes} bytes not read: {reason}"));
        }
    }

    /// Judges everything found so far anew.
    fn judge(&mut self) {
        self.knobs = self.given.clone();
        for source in self.sources.values() {
            self.knobs.merge(source.facts.knobs());
        }
        let incidents: Vec<_> = self.sources.values().flat_map(|s| s.scanner.incidents().iter().cloned()).collect();
        self.diagnosis = (!incidents.is_empty()).then(|| diagnose::diagnose(&incidents, &self.knobs));
    }

    /// The judgement of every failure read so far.
    pub fn diagnosis(&self) -> Option<&Diagnosis> {
        self.diagnosis.as_ref()
    }

    /// Settings of the job from every origin.
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// Steps of the whole run, where a source says so.
    pub fn total_steps(&self) -> Option<u64> {
        self.sources.values().filter_map(|s| s.reader.total_steps()).max()
    }

    /// The furthest progress bar.
    pub fn progress(&self) -> Option<Progress> {
        self.sources.values().filter_map(|s| s.reader.progress()).max_by_key(|p| p.total)
    }

    /// The last training point.
    pub fn last_point(&self) -> Option<&Point> {
        self.metrics.last_train()
    }
}
