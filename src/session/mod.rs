//! What is known about a run: the one fold over events. No IO, no clock: time is in the events.

pub mod alerts;
mod autopsy;
pub mod fleet;
pub mod gpus;
pub mod headroom;
pub mod holders;
pub mod host;
pub mod ink;
pub mod level;
pub mod log;
pub mod moments;
pub mod pyramid;
pub mod ranks;
pub mod record;
pub mod series;
mod stretch;
mod thinned;
pub mod trends;
pub mod xid;

use std::collections::BTreeMap;

use crate::{
    diagnose,
    model::{
        Clean, Event, EventKind, SourceId, Timestamp,
        event::HostSample,
        failure::{Diagnosis, Failure},
        gpu::GpuReading,
        knobs::Knobs,
        metric::{Point, Progress},
    },
    parse::{files::AnyReader, landmarks::Landmark, oom},
};

use gpus::Gpus;
use holders::Owner;
use log::Log;
use moments::Crash;
use series::{Metrics, Precision};
use stretch::Stretch;

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
    /// When what it held at first was written.
    written: Option<Timestamp>,
    /// When that had been read.
    caught_up_at: Option<Timestamp>,
    /// From where reading began, onwards.
    live: Stretch,
    /// A large file's part before that, while it is being read.
    earlier: Option<Earlier>,
}

/// A log that has said nothing for so long has said all of its last step.
const QUIET: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// Lines of the kernel's log and losses of a source that are kept one by one; a recording has them all.
const KEEP_KERNEL: usize = 1000;
const KEEP_LOSSES: usize = 200;

/// The part of a large file before the place where reading began, and what it gave so far.
#[derive(Debug)]
struct Earlier {
    stretch: Stretch,
    metrics: Metrics,
    /// Points and marked lines read at the end meanwhile: they follow on those of this part.
    later: Vec<(Timestamp, Precision, Point)>,
    marked: Vec<(Timestamp, Landmark)>,
}

impl Source {
    fn new(id: SourceId, name: Clean) -> Self {
        Self {
            id,
            path: None,
            size: None,
            bytes_read: 0,
            log: Log::default(),
            trouble: None,
            losses: Vec::new(),
            caught_up: false,
            ended: false,
            last_output: None,
            written: None,
            caught_up_at: None,
            live: Stretch::new(name.clone(), None),
            earlier: None,
            name,
        }
    }

    /// Names of the dialects that its lines speak.
    pub fn dialects(&self) -> &[&'static str] {
        self.live.reader.dialects()
    }

    pub fn unparsed_bytes(&self) -> u64 {
        self.live.reader.unparsed_bytes()
    }

    /// Lines that came after this came as they were written; `None` while what was there before is being read.
    pub fn live_since(&self) -> Option<Timestamp> {
        // What is no file (a pipe, a child) holds nothing from before.
        if self.written.is_none() { Some(Timestamp::MIN) } else { self.caught_up_at }
    }

    /// Part of a large file's beginning that has been read, from 0 to 1; `None` when nothing is left to read.
    pub fn filling(&self) -> Option<f64> {
        let earlier = self.earlier.as_ref()?;
        let end = self.live.start.max(1);
        Some(earlier.stretch.next.unwrap_or(0) as f64 / end as f64)
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

impl RunState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Training => "training",
            Self::Silent => "silent",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
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
    /// Host memory over time.
    pub host_past: host::Past,
    pub kernel: Vec<(Timestamp, Clean)>,
    /// Why the kernel's log cannot be read, where somebody tried.
    pub kernel_unread: Option<Clean>,
    /// How the recording stands.
    pub record: record::Record,
    /// What was seen beside the text at each failure, when it was first read: later samples do not change it.
    autopsies: autopsy::Autopsies,
    /// Settings given from outside (`--config`, `--set`, …); the logs' own facts are added to them.
    given: Knobs,
    knobs: Knobs,
    diagnosis: Option<Diagnosis>,
    observer: Observer,
}

/// Something that a session learnt, told to its observer as it happens.
#[derive(Debug)]
pub enum Learnt<'a> {
    Point(&'a Point),
    /// The failures read so far were judged (anew).
    Diagnosis(&'a Diagnosis),
}

/// Told of everything that is learnt; the recorder listens through it.
#[derive(Default)]
struct Observer(Option<Listen>);

/// Hears what a session learns, and when.
pub type Listen = Box<dyn FnMut(Timestamp, Learnt<'_>) + Send>;

impl Observer {
    fn tell(&mut self, at: Timestamp, what: Learnt<'_>) {
        if let Some(observer) = &mut self.0 {
            observer(at, what);
        }
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Observer" } else { "nobody" })
    }
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

    /// Has `observer` told of every point and every diagnosis from now on.
    pub fn observe(&mut self, observer: Listen) {
        self.observer = Observer(Some(observer));
    }

    /// Takes one event in. The only way in which a session changes.
    pub fn apply(&mut self, event: Event) {
        let at = event.at;
        self.now = Some(self.now.map_or(at, |now| now.max(at)));
        self.started.get_or_insert(at);
        match event.kind {
            EventKind::Opened { source, name, path, size } => {
                let entry = self.sources.entry(source).or_insert_with(|| Source::new(source, name));
                if let Some(path) = path.as_ref().filter(|_| entry.bytes_read == 0) {
                    entry.live.reader = AnyReader::for_path(&path.to_string_lossy());
                }
                entry.path = path;
                entry.size = size;
                entry.trouble = None;
                let sources = self.sources.len();
                self.sources.values_mut().for_each(|source| source.log.share(sources));
            }
            EventKind::Written { source, at: written } => {
                if let Some(source) = self.sources.get_mut(&source) {
                    source.written = Some(written);
                }
            }
            EventKind::Output { source, offset, data } => self.output(at, source, offset, &data),
            EventKind::Truncated { source, unread } => {
                self.begin_anew(at, source, "the file was truncated: reading from its start");
                if unread > 0 {
                    self.lost(at, source, unread, "truncated before it could be read");
                }
            }
            EventKind::Rotated { source } => {
                self.begin_anew(at, source, "rotated: another file stands under this name now");
            }
            EventKind::Filled { source } => self.filled(source),
            EventKind::Skipped { source, offset, bytes, reason } => {
                self.lost(at, source, bytes, reason.as_str());
                if let Some(s) = self.sources.get_mut(&source).filter(|s| s.bytes_read == 0) {
                    // A file that begins with a hole: nothing before its first byte will follow.
                    s.live.next = Some(offset + bytes);
                }
            }
            EventKind::Trouble { source, what } => {
                if let Some(s) = self.sources.get_mut(&source) {
                    s.trouble = what;
                }
            }
            EventKind::CaughtUp { source } => {
                if let Some(s) = self.sources.get_mut(&source) {
                    s.caught_up = true;
                    s.caught_up_at.get_or_insert(at);
                    let (metrics, observer) = (&mut self.metrics, &mut self.observer);
                    s.live.settle(&mut |precision, point| {
                        observer.tell(at, Learnt::Point(&point));
                        metrics.push_from(at, source, precision, point);
                    });
                }
                self.learn_knobs();
            }
            EventKind::Ended { source } => self.ended(at, source),
            EventKind::Started { command, pid } => {
                self.child = Child { command, pid: Some(pid), started: Some(at), ..Child::default() };
            }
            EventKind::Exited { code, signal } => {
                self.child.exited = Some(at);
                self.child.code = code;
                self.child.signal = signal;
                self.judge();
            }
            EventKind::Gpu { reading } => {
                let is_whole = matches!(reading, GpuReading::Samples(_));
                self.gpus.apply(at, reading);
                if is_whole {
                    let owner = Owner::of(self);
                    self.gpus.note_others(at, &owner);
                }
            }
            EventKind::Host { sample } => {
                self.host_past.apply(at, &sample);
                self.host = Some(sample);
            }
            EventKind::KernelLog { trouble } => self.kernel_unread = trouble,
            EventKind::Unrecorded { number, events, bytes, reason } => {
                self.record.lacks(at, number, events, bytes, reason);
            }
            EventKind::Recording { trouble } => self.record.trouble = trouble,
            EventKind::Kernel { text } => {
                self.gpus.note_kernel(at, text.as_str());
                self.kernel.push((at, text));
                let old = self.kernel.len().saturating_sub(KEEP_KERNEL);
                self.kernel.drain(..old);
            }
        }
    }

    /// The clock goes on without an event.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = Some(self.now.map_or(now, |old| old.max(now)));
        let (metrics, observer) = (&mut self.metrics, &mut self.observer);
        for source in self.sources.values_mut().filter(|s| s.caught_up && !s.ended && s.earlier.is_none()) {
            if let Some(at) = source.last_output.filter(|at| now.duration_since(*at) >= QUIET) {
                source.live.quiet(&mut |precision, point| {
                    observer.tell(at, Learnt::Point(&point));
                    metrics.push_from(at, source.id, precision, point);
                });
            }
        }
        self.learn_knobs();
    }

    fn output(&mut self, at: Timestamp, id: SourceId, offset: u64, data: &[u8]) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        source.bytes_read += data.len() as u64;
        if source.live.next.is_none() && source.bytes_read == data.len() as u64 && offset > 0 {
            // Reading began near the end of a large file: its earlier part will follow.
            source.live.start = offset;
            source.earlier = Some(Earlier {
                stretch: Stretch::new(source.name.clone(), Some(0)),
                metrics: Metrics::default(),
                later: Vec::new(),
                marked: Vec::new(),
            });
        }
        if let Some(earlier) = &mut source.earlier
            && earlier.stretch.next == Some(offset)
            && source.live.next != Some(offset)
        {
            let Earlier { stretch, metrics, .. } = earlier;
            let done = stretch.reader.progress().map(|p| p.done);
            let observer = &mut self.observer;
            stretch.feed(offset, data, &mut |precision, point| {
                observer.tell(at, Learnt::Point(&point));
                metrics.push_from(at, id, precision, point);
            });
            for mark in stretch.landmarks() {
                metrics.moments.marked(at, id, mark, done);
            }
            return;
        }
        source.last_output = Some(source.written.filter(|_| !source.caught_up).map_or(at, |written| written.min(at)));
        let Source { live, earlier, log, caught_up, .. } = source;
        let (metrics, observer) = (&mut self.metrics, &mut self.observer);
        let mut put = |precision, point: Point| {
            observer.tell(at, Learnt::Point(&point));
            if let Some(earlier) = earlier {
                earlier.later.push((at, precision, point.clone()));
            }
            metrics.push_from(at, id, precision, point);
        };
        let found = live.feed(offset, data, &mut put);
        if *caught_up {
            live.settle(&mut put);
        }
        log.feed(at, offset, if live.is_text() { data } else { live.console() });
        let done = live.reader.progress().map(|p| p.done);
        for mark in live.landmarks() {
            if let Some(earlier) = &mut source.earlier {
                earlier.marked.push((at, mark.clone()));
            }
            self.metrics.moments.marked(at, id, mark, done);
        }
        if found {
            self.judge();
        }
    }

    /// The earlier part of a large file is complete: what it gave comes before what was read at the end.
    fn filled(&mut self, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        let Some(Earlier { stretch, mut metrics, later, marked }) = source.earlier.take() else { return };
        let runs_before = stretch.reader.segments() - 1;
        for (at, precision, mut point) in later {
            point.segment += runs_before;
            point.line += if point.line > 0 { stretch.lines } else { 0 };
            metrics.push_from(at, id, precision, point);
        }
        for (at, mut mark) in marked {
            mark.line += stretch.lines;
            metrics.moments.marked(at, id, mark, source.live.reader.progress().map(|p| p.done));
        }
        if self.sources.len() == 1 {
            self.metrics = metrics;
        } else {
            self.metrics.absorb(metrics);
        }
        if let Some(source) = self.sources.get_mut(&id) {
            source.log.count_from(stretch.lines);
            source.live.follow(stretch);
        }
        self.judge();
    }

    /// The next bytes belong to another text, or to the same one from its start.
    fn begin_anew(&mut self, at: Timestamp, id: SourceId, note: &str) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.log.note(at, note);
            source.earlier = None;
            source.live.next = None;
            if source.live.is_rewritten() {
                self.metrics.forget(id);
                source.live.reader.restart();
            } else if !source.live.is_text() {
                source.live.reader.restart();
            }
        }
    }

    fn ended(&mut self, at: Timestamp, id: SourceId) {
        let Some(source) = self.sources.get_mut(&id) else { return };
        source.ended = true;
        source.log.finish(at);
        let (metrics, observer) = (&mut self.metrics, &mut self.observer);
        source.live.finish(&mut |precision, point| {
            observer.tell(at, Learnt::Point(&point));
            metrics.push_from(at, id, precision, point);
        });
        let done = source.live.reader.progress().map(|p| p.done);
        for mark in source.live.landmarks() {
            self.metrics.moments.marked(at, id, mark, done);
        }
        self.judge();
    }

    fn lost(&mut self, at: Timestamp, id: SourceId, bytes: u64, reason: &str) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.losses.push((at, bytes, Clean::new(reason)));
            if source.losses.len() > KEEP_LOSSES {
                // The two oldest become one: their sum stays true.
                let (_, more, _) = source.losses.remove(1);
                source.losses[0].1 = source.losses[0].1.saturating_add(more);
            }
            source.log.note(at, &format!("{bytes} bytes not read: {reason}"));
        }
    }

    /// Gathers what the logs say of the job.
    fn learn_knobs(&mut self) {
        self.knobs = self.given.clone();
        for source in self.sources.values() {
            source.live.facts_into(&mut self.knobs);
        }
    }

    /// Judges everything found so far anew.
    fn judge(&mut self) {
        self.learn_knobs();
        let incidents: Vec<_> = self.sources.values().flat_map(|source| source.live.incidents()).collect();
        // Standard output and standard error may both tell of one failure.
        let mut incidents = if self.sources.len() > 1 { oom::fold(incidents) } else { incidents };
        let mut autopsies = std::mem::take(&mut self.autopsies);
        autopsies.perform(self, &mut incidents);
        self.autopsies = autopsies;
        self.diagnosis = (!incidents.is_empty()).then(|| diagnose::diagnose(&incidents, &self.knobs));
        if let (Some(diagnosis), Some(now)) = (&self.diagnosis, self.now) {
            self.observer.tell(now, Learnt::Diagnosis(diagnosis));
        }
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
        self.sources.values().filter_map(|s| s.live.reader.total_steps()).max()
    }

    /// The furthest progress bar.
    pub fn progress(&self) -> Option<Progress> {
        self.sources.values().filter_map(|s| s.live.reader.progress()).max_by_key(|p| p.total)
    }

    /// The newest step: of the last point or of the bar, whichever is further.
    pub fn step(&self) -> Option<u64> {
        let point = self.metrics.last_train().and_then(|p| p.step);
        point.max(self.progress().map(|p| p.done))
    }

    /// Seconds that a step takes: between the last points where their times tell, else as the bar says.
    pub fn seconds_per_step(&self) -> Option<f64> {
        let printed = self.metrics.series("step_time_seconds").and_then(series::Series::last).map(|s| s.value);
        let bar = self.progress().and_then(|p| p.seconds_per_step);
        bar.or(printed).filter(|s| s.is_finite() && *s > 0.0)
    }

    /// Seconds to the end of the run, where its length is known.
    pub fn remaining_seconds(&self) -> Option<f64> {
        if self.state() == RunState::Finished {
            return None;
        }
        let bar = self.progress().and_then(|p| p.remaining_seconds);
        let left = self.total_steps()?.checked_sub(self.step()?)?;
        bar.or_else(|| Some(left as f64 * self.seconds_per_step()?))
    }

    /// How the run stands, by what has been read and how long ago.
    pub fn state(&self) -> RunState {
        if self.open_failure().is_some() || self.child.code.is_some_and(|code| code != 0) || self.child.signal.is_some()
        {
            return RunState::Failed;
        }
        if self.child.code == Some(0) {
            return RunState::Finished;
        }
        if self.crash().is_some() {
            return RunState::Failed;
        }
        if self.metrics.is_final() {
            return RunState::Finished;
        }
        if self.metrics.points() == 0 && self.progress().is_none() {
            return RunState::Waiting;
        }
        let newest = self.sources.values().filter_map(|s| s.last_output).max();
        if let (Some(now), Some(newest)) = (self.now, newest) {
            let quiet = now.duration_since(newest).as_secs_f64();
            if quiet > self.silence_limit() {
                return RunState::Silent;
            }
        }
        RunState::Training
    }

    /// The failure of memory that ended the run: nothing was logged after it.
    pub fn open_failure(&self) -> Option<&Failure> {
        let went_on = |failure: &&Failure| {
            let source = self.sources.values().find(|s| s.name == failure.place.source);
            let last = failure.again.unwrap_or(0).max(failure.place.line);
            source.is_some_and(|s| self.metrics.moments.went_on(s.id, last))
        };
        self.diagnosis.as_ref()?.failures.iter().find(|f| f.is_oom && !went_on(f))
    }

    /// The error, none of memory, at which the log ends: nothing was logged after it, and it has been quiet since.
    pub fn crash(&self) -> Option<&Crash> {
        let crash = self.metrics.moments.crash(self.progress().map(|p| p.done))?;
        let source = self.sources.get(&crash.source)?;
        let over = source.ended || self.child.exited.is_some();
        let quiet = source.last_output.zip(self.now).map_or(0.0, |(last, now)| now.duration_since(last).as_secs_f64());
        // Before its first step a run may well print an error, and load for a while.
        let patience = if self.metrics.points() == 0 && self.progress().is_none() {
            20.0
        } else {
            self.seconds_per_step().map_or(5.0, |pace| (pace * 2.0).clamp(5.0, 600.0))
        };
        (over || quiet >= patience).then_some(crash)
    }

    /// Seconds without output after which a run counts as silent: ten steps, but at least a minute.
    pub fn silence_limit(&self) -> f64 {
        self.seconds_per_step().map_or(300.0, |s| (s * 10.0).clamp(60.0, 3600.0))
    }

    /// Everything that the sources hold has been read: what comes now is news.
    pub fn is_complete(&self) -> bool {
        self.sources.values().all(|s| s.caught_up && s.filling().is_none())
    }

    /// The last training point.
    pub fn last_point(&self) -> Option<&Point> {
        self.metrics.last_train()
    }
}
