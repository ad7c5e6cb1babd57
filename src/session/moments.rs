//! What happened to a run, and where that stands beside its curves: restarts, evaluations, checkpoints, errors, and what
//! befell its GPUs. Each leads to its line in the log, where it has one.

use std::borrow::Cow;

use crate::{
    model::{Clean, SourceId, Timestamp, metric::Point},
    parse::landmarks,
};

use super::{
    Session, Source,
    alerts::Alerts,
    pyramid::Place,
    series::{Precision, XAxis},
};

/// Moments kept; past that, every second evaluation and checkpoint is let go.
const KEEP: usize = 2048;
/// Places of lines kept; past that, every second one is let go.
const KEEP_PLACES: usize = 8192;

/// What kind of thing happened, the loudest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Evaluation,
    Checkpoint,
    Throttle,
    Restart,
    /// An Xid, or a GPU that no longer answers.
    Gpu,
    Error,
    OutOfMemory,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    pub kind: Kind,
    pub place: Place,
    /// One sentence, or the line itself.
    pub text: Clean,
    pub source: Option<SourceId>,
    pub line: Option<u64>,
}

impl Moment {
    /// Where it stands on an axis.
    pub fn x(&self, axis: XAxis) -> Option<f64> {
        match axis {
            XAxis::Step => self.place.step.map(|step| step as f64),
            XAxis::Time => Some(self.place.time as f64 / 1e3),
            XAxis::Epoch => self.place.epoch,
            XAxis::Tokens => self.place.tokens,
            XAxis::Points => (self.place.order > 0).then_some(self.place.order.into()),
        }
    }
}

/// An error at which the run may have ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Crash {
    pub source: SourceId,
    pub line: u64,
    /// The last line of the traceback.
    pub text: Clean,
    /// The innermost frame in the user's own code.
    pub frame: Option<Clean>,
    rank: Option<u32>,
    echo: bool,
    /// How far the bar had come when it was read.
    done: Option<u64>,
}

/// What a log's lines and points told.
#[derive(Debug, Default)]
pub struct Moments {
    all: Vec<Moment>,
    /// Where the run stood at lines of its logs, in the order of reading.
    places: Vec<(SourceId, u64, Place)>,
    crash: Option<Crash>,
    /// The line of a summary that ends a run.
    summed_up: Option<(SourceId, u64)>,
}

impl Moments {
    /// Takes the place of a training point, and whether it is the first after a restart.
    pub(super) fn trained(&mut self, source: SourceId, line: u64, place: Place) {
        let before = self.places.iter().rev().find(|(known, ..)| *known == source);
        let restarted = before.is_some_and(|(.., last)| last.segment < place.segment);
        if restarted {
            let from = place.step.map(|s| format!(" from step {s}")).unwrap_or_default();
            let text = Clean::new(&format!("the run began again{from}"));
            self.put(Moment { kind: Kind::Restart, place, text, source: Some(source), line: line_of(line) });
        }
        self.places.push((source, line, place));
        if self.places.len() > KEEP_PLACES {
            let mut odd = false;
            self.places.retain(|_| {
                odd = !odd;
                odd
            });
        }
    }

    /// Takes the place of an evaluation.
    pub(super) fn evaluated(
        &mut self,
        source: SourceId,
        precision: Precision,
        line: u64,
        mut canonical: impl Iterator<Item = (&'static str, f64)>,
        mut place: Place,
    ) {
        let at_line = self.at_line(source, line);
        place.step = place.step.or(at_line.and_then(|p| p.step));
        place.epoch = place.epoch.or(at_line.and_then(|p| p.epoch));
        place.tokens = place.tokens.or(at_line.and_then(|p| p.tokens));
        let figure = canonical.find(|(key, _)| *key != "step" && *key != "epoch");
        let text = figure.map_or_else(
            || "evaluation".to_string(),
            |(key, value)| format!("evaluation: {} {value:.4}", if key == "loss" { "eval_loss" } else { key }),
        );
        // A file for machines has no line that could be shown.
        let line = line_of(line).filter(|_| precision == Precision::Console);
        self.put(Moment { kind: Kind::Evaluation, place, text: Clean::new(&text), source: Some(source), line });
    }

    /// Takes the place of a summary.
    pub(super) fn ended(&mut self, source: SourceId, point: &Point) {
        self.summed_up = Some((source, point.line));
    }

    /// Takes a marked line of a log.
    pub(super) fn marked(&mut self, at: Timestamp, source: SourceId, mark: landmarks::Landmark, done: Option<u64>) {
        let place = self.at_line(source, mark.line);
        match mark.kind {
            landmarks::Kind::Checkpoint { step } => {
                let mut place = place.unwrap_or(Place { time: at.as_millisecond(), ..Place::default() });
                place.step = step.or(place.step);
                let moment = Moment {
                    kind: Kind::Checkpoint,
                    place,
                    text: mark.text,
                    source: Some(source),
                    line: Some(mark.line),
                };
                // Every rank tells of it, when it begins and when it is done.
                let told = self.all.iter().rev().filter(|m| m.kind == Kind::Checkpoint).take(8);
                if !told.into_iter().any(|m| m.place.step == place.step && m.place.segment == place.segment) {
                    self.put(moment);
                }
            }
            landmarks::Kind::Error(raised) => {
                let crash = Crash {
                    source,
                    line: mark.line,
                    text: mark.text,
                    frame: raised.frame,
                    rank: mark.rank,
                    echo: raised.echo,
                    done,
                };
                let first = self.crash.as_ref().filter(|first| !self.went_past(first));
                // The first rank's error is the cause of the others'; of one process the last one ended it.
                let keeps = first.is_some_and(|first| {
                    crash.echo && !first.echo || first.rank != crash.rank && !raised.follows && !first.echo
                });
                if !keeps {
                    self.crash = Some(crash);
                }
            }
        }
    }

    /// Whether the run went on after a line of a log. Another rank may still have finished its step.
    pub(super) fn went_on(&self, source: SourceId, line: u64) -> bool {
        let own = || self.places.iter().rev().filter(|(known, ..)| *known == source);
        let restarted = || {
            let (now, then) = (own().next().map(|p| p.2.segment), self.at_line(source, line).map(|p| p.segment));
            now > then
        };
        own().take_while(|(_, known, _)| *known > line).count() > 2
            || restarted()
            || self.summed_up.is_some_and(|(known, end)| known == source && end > line)
    }

    fn went_past(&self, crash: &Crash) -> bool {
        self.went_on(crash.source, crash.line)
    }

    /// The error after which nothing was logged any more.
    pub(super) fn crash(&self, done: Option<u64>) -> Option<&Crash> {
        self.crash.as_ref().filter(|crash| !self.went_past(crash) && done <= crash.done.or(done))
    }

    fn put(&mut self, moment: Moment) {
        // Console and side file tell of one evaluation; the one that can be shown in the log stays.
        let same = |m: &Moment| {
            m.kind == moment.kind
                && m.place.segment == moment.place.segment
                && m.place.step == moment.place.step
                && m.place.step.is_some()
        };
        if let Some(known) = self.all.iter_mut().rev().take(64).find(|m| same(m)) {
            if known.line.is_none() && moment.line.is_some() {
                *known = moment;
            }
            return;
        }
        self.all.push(moment);
        if self.all.len() > KEEP {
            let mut odd = false;
            self.all.retain(|m| {
                odd = !odd;
                odd || m.kind > Kind::Checkpoint
            });
        }
    }

    /// Where the run stood at a line of a log.
    pub fn at_line(&self, source: SourceId, line: u64) -> Option<Place> {
        let own = || self.places.iter().rev().filter(|(known, ..)| *known == source);
        own().find(|(_, known, _)| *known <= line).or_else(|| own().next_back()).map(|(.., place)| *place)
    }

    /// Where the run stood at a time.
    fn at_time(&self, milliseconds: i64) -> Option<Place> {
        let before = self.places.iter().rev().find(|(.., place)| place.time <= milliseconds);
        let place = before.or(self.places.first()).map(|(.., place)| *place)?;
        Some(Place { time: milliseconds, ..place })
    }

    /// The line of the point that stands nearest to `x`, and its source.
    pub fn line_near(&self, axis: XAxis, x: f64) -> Option<(SourceId, u64)> {
        let at = |place: &Place| match axis {
            XAxis::Step => place.step.map(|s| s as f64),
            XAxis::Time => Some(place.time as f64 / 1e3),
            XAxis::Epoch => place.epoch,
            XAxis::Tokens => place.tokens,
            XAxis::Points => (place.order > 0).then_some(place.order.into()),
        };
        let all = self.places.iter().filter(|(_, line, _)| *line > 0);
        let far = all.filter_map(|(source, line, place)| Some(((at(place)? - x).abs(), *source, *line)));
        far.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, source, line)| (source, line))
    }

    /// Drops what a source told: it will be read again from its start.
    pub(super) fn forget(&mut self, source: SourceId) {
        self.all.retain(|m| m.source != Some(source));
        self.places.retain(|(known, ..)| *known != source);
        self.summed_up.take_if(|(known, _)| *known == source);
        self.crash.take_if(|crash| crash.source == source);
    }

    /// Takes in another reading of sources, from their start to their end.
    pub(super) fn absorb(&mut self, whole: Self) {
        if let Some((source, ..)) = whole.places.first() {
            self.forget(*source);
        }
        self.all.extend(whole.all);
        self.places.extend(whole.places);
        self.summed_up = whole.summed_up.or(self.summed_up);
        self.crash = whole.crash.or(self.crash.take());
    }
}

fn line_of(line: u64) -> Option<u64> {
    Some(line).filter(|line| *line > 0)
}

/// When a moment was: its line's time, where that was read as it was written.
pub fn time(session: &Session, moment: &Moment) -> Option<Timestamp> {
    match (moment.source.and_then(|id| session.sources.get(&id)), moment.line) {
        (Some(source), Some(line)) => time_of_line(source, line),
        _ => Timestamp::from_millisecond(moment.place.time).ok(),
    }
}

/// When a line was written: unknown of what stood in the file before it was watched.
pub fn time_of_line(source: &Source, number: u64) -> Option<Timestamp> {
    let since = source.live_since();
    let lines = source.log.lines();
    // Notes of oomph's own, which have no number, can only move it further down.
    let first = lines.iter().find_map(|line| line.number)?;
    let after = usize::try_from(number.checked_sub(first)?).ok()?;
    let line = lines.iter().skip(after).find(|line| line.number == Some(number))?;
    (line.at > since?).then_some(line.at)
}

/// Everything that happened, in the order of the run.
pub fn all<'a>(session: &'a Session, alerts: &Alerts) -> Vec<Cow<'a, Moment>> {
    let moments = &session.metrics.moments;
    let mut all: Vec<Cow<Moment>> = moments.all.iter().map(Cow::Borrowed).collect();
    for failure in session.diagnosis().into_iter().flat_map(|d| &d.failures).filter(|f| f.is_oom) {
        let source = session.sources.values().find(|s| s.name == failure.place.source);
        let line = Some(failure.place.line).filter(|line| *line > 0);
        let place = source.and_then(|s| moments.at_line(s.id, failure.place.line));
        if let Some(place) = place {
            let (text, source) = (failure.summary.clone(), source.map(|s| s.id));
            all.push(Cow::Owned(Moment { kind: Kind::OutOfMemory, place, text, source, line }));
        }
    }
    if let Some(crash) = session.crash().filter(|_| session.open_failure().is_none())
        && let Some(place) = moments.at_line(crash.source, crash.line)
    {
        let (text, source, line) = (crash.text.clone(), Some(crash.source), Some(crash.line));
        all.push(Cow::Owned(Moment { kind: Kind::Error, place, text, source, line }));
    }
    for alert in alerts.history() {
        let kind = match alert.rule {
            "xid" | "gpu_lost" => Kind::Gpu,
            "throttled" => Kind::Throttle,
            _ => continue,
        };
        if let Some(place) = moments.at_time(alert.since.as_millisecond()) {
            // Its place in the log is what was written then.
            let source = session.sources.values().max_by_key(|s| s.last_output);
            let line = source.and_then(|s| {
                let end = s.log.lines().partition_point(|line| line.at <= alert.since);
                s.log.lines().range(..end).rev().find_map(|line| line.number)
            });
            let (text, source) = (alert.text.clone(), source.map(|s| s.id));
            all.push(Cow::Owned(Moment { kind, place, text, source, line }));
        }
    }
    all.sort_by(|a, b| {
        let key = |m: &Moment| (m.place.segment, m.place.step, m.place.time, m.kind);
        key(a).cmp(&key(b))
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Event, EventKind, knobs::Knobs},
        session::RunState,
    };

    const LOG: SourceId = SourceId(0);

    /// A session that has read `text` of a log, and waited.
    fn read(text: &str, seconds: i64) -> Session {
        let mut session = Session::new(Knobs::default());
        let at = Timestamp::UNIX_EPOCH;
        let mut event = |kind| session.apply(Event { at, kind });
        event(EventKind::Opened { source: LOG, name: "train.log".into(), path: None, size: None });
        event(EventKind::Output { source: LOG, offset: 0, data: text.into() });
        event(EventKind::CaughtUp { source: LOG });
        session.tick(at + jiff::SignedDuration::from_secs(seconds));
        session
    }

    fn steps(from: u64, to: u64) -> String {
        let lines: Vec<String> =
            (from..=to).map(|step| format!("step: {step}  loss: 0.5  grad_norm: 0.25\n")).collect();
        lines.concat()
    }

    const ERROR: &str = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nKeyError: 'x'\n";
    const OOM: &str = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 16.00 GiB of which 1.00 GiB is free. Including non-PyTorch memory, this process has 15.00 GiB memory in use. Of the allocated memory 14.00 GiB is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated.\n";

    #[test]
    fn an_error_counts_once_it_is_quiet_and_only_at_the_end() {
        let ends = format!("{}{ERROR}", steps(1, 9));
        assert_eq!(read(&ends, 1).state(), RunState::Training);
        let session = read(&ends, 10);
        assert_eq!(session.state(), RunState::Failed);
        assert_eq!(session.crash().map(|c| (c.line, c.text.as_str())), Some((13, "KeyError: 'x'")));
        assert_eq!(read(&format!("{ends}{}", steps(10, 14)), 30).state(), RunState::Training);
        // What the launcher says of it afterwards is not it.
        let launcher = "Traceback (most recent call last):\n  File \"t.py\", line 1, in f\ntorch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n";
        let session = read(&format!("{ends}{launcher}"), 10);
        assert_eq!(session.crash().map(|c| c.text.as_str()), Some("KeyError: 'x'"));
        // Before the first step nobody knows the pace.
        assert_eq!(read(ERROR, 10).state(), RunState::Waiting);
        assert_eq!(read(ERROR, 30).state(), RunState::Failed);
    }

    #[test]
    fn a_run_that_went_on_after_it_ran_out_of_memory_trains() {
        let died = format!("{}{OOM}", steps(1, 9));
        assert!(read(&died, 5).open_failure().is_some());
        assert_eq!(read(&died, 5).state(), RunState::Failed);
        // One more point is another rank's.
        assert!(read(&format!("{died}{}", steps(10, 10)), 5).open_failure().is_some());
        let resumed = format!("{died}{}", steps(5, 20));
        assert_eq!(read(&resumed, 5).state(), RunState::Training);
        assert_eq!(read(&format!("{resumed}{OOM}"), 5).state(), RunState::Failed);
        let kinds: Vec<Kind> = all(&read(&resumed, 5), &Alerts::default()).iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [Kind::OutOfMemory, Kind::Restart]);
    }

    #[test]
    fn moments_stand_at_their_steps_and_lead_to_their_lines() {
        let saved = |step| format!("Saving model checkpoint to out/checkpoint-{step}\n");
        let text = format!("{}{}{}{}", steps(1, 10), saved(10), steps(11, 20), saved(20).repeat(4));
        let session = read(&text, 2);
        let seen: Vec<_> = all(&session, &Alerts::default()).iter().map(|m| (m.kind, m.place.step, m.line)).collect();
        assert_eq!(seen, [(Kind::Checkpoint, Some(10), Some(11)), (Kind::Checkpoint, Some(20), Some(22))]);
        assert_eq!(session.metrics.moments.line_near(XAxis::Step, 11.4), Some((LOG, 12)));
    }

    #[test]
    fn the_beginning_of_a_large_file_comes_after_its_end() {
        let saved = |step| format!("Saving model checkpoint to out/checkpoint-{step}\n");
        let head = format!("{}{}", steps(1, 10), saved(10));
        let tail = format!("{}{}{}{ERROR}", steps(11, 20), saved(20), steps(21, 22));
        let (first, offset) = (head.len(), head.len() as u64);
        let mut session = Session::new(Knobs::default());
        let at = Timestamp::UNIX_EPOCH;
        let mut event = |kind| session.apply(Event { at, kind });
        event(EventKind::Opened { source: LOG, name: "train.log".into(), path: None, size: None });
        event(EventKind::Output { source: LOG, offset, data: tail.clone().into() });
        event(EventKind::CaughtUp { source: LOG });
        for start in (0..first).step_by(40) {
            let data = head.as_bytes()[start..first.min(start + 40)].to_vec();
            event(EventKind::Output { source: LOG, offset: start as u64, data });
        }
        event(EventKind::Filled { source: LOG });
        let more = steps(23, 24);
        let offset = offset + tail.len() as u64;
        event(EventKind::Output { source: LOG, offset, data: more.into() });
        session.tick(at + jiff::SignedDuration::from_secs(30));
        let seen: Vec<_> = all(&session, &Alerts::default()).iter().map(|m| (m.kind, m.place.step, m.line)).collect();
        let error = (Kind::Error, Some(22), Some(28));
        assert_eq!(seen, [(Kind::Checkpoint, Some(10), Some(11)), (Kind::Checkpoint, Some(20), Some(22)), error]);
        assert_eq!(session.metrics.moments.line_near(XAxis::Step, 24.0), Some((LOG, 30)));
        assert_eq!(session.last_point().map(|p| (p.step, p.line)), Some((Some(24), 30)));
    }

    #[test]
    fn what_stood_in_the_file_is_as_old_as_the_file() {
        let now = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(10);
        let mut session = Session::new(Knobs::default());
        let mut event = |at, kind| session.apply(Event { at, kind });
        event(now, EventKind::Opened { source: LOG, name: "train.log".into(), path: None, size: None });
        let before = now - jiff::SignedDuration::from_hours(3);
        event(now, EventKind::Written { source: LOG, at: before });
        let old = steps(1, 9);
        event(now, EventKind::Output { source: LOG, offset: 0, data: old.clone().into() });
        event(now, EventKind::CaughtUp { source: LOG });
        assert_eq!((session.state(), session.sources[&LOG].last_output), (RunState::Silent, Some(before)));
        assert_eq!(time_of_line(&session.sources[&LOG], 9), None);
        let later = now + jiff::SignedDuration::from_secs(5);
        let data = steps(10, 11).into();
        session.apply(Event { at: later, kind: EventKind::Output { source: LOG, offset: old.len() as u64, data } });
        assert_eq!(session.state(), RunState::Training);
        assert_eq!(time_of_line(&session.sources[&LOG], 10), Some(later));
    }

    #[test]
    fn many_checkpoints_stay_few() {
        let mut moments = Moments::default();
        for step in 0..100_000u64 {
            let place = Place { step: Some(step), segment: u32::from(step == 50_000), ..Place::default() };
            moments.trained(LOG, step * 2 + 1, place);
            let kind = landmarks::Kind::Checkpoint { step: None };
            let mark = landmarks::Landmark { line: step * 2 + 2, rank: None, text: "saved".into(), kind };
            moments.marked(Timestamp::UNIX_EPOCH, LOG, mark, None);
        }
        assert!(moments.all.len() <= KEEP && moments.places.len() <= KEEP_PLACES);
        assert!(moments.all.iter().any(|m| m.kind == Kind::Restart));
    }
}
