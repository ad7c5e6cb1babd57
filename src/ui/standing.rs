//! How the run stands, in one line, and how fast it goes: pure readings of a session.

use std::fmt::Write as _;

use crate::{
    model::{Clean, Timestamp, failure::Failure, knobs::Knob},
    session::{
        RunState, Session,
        alerts::{Alerts, Severity},
        series::Series,
        trends::{flat_for, median, time_to_full},
    },
};

use super::{
    Screen,
    format::{count, duration, gib, seconds_between, short},
    theme::Tone,
};

/// The verdict of one line, and where its evidence is.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub tone: Tone,
    pub text: Clean,
    /// The screen that says more.
    pub more: Option<Screen>,
    /// A line of the log that proves it.
    pub line: Option<u64>,
}

impl Standing {
    fn new(tone: Tone, text: &str) -> Self {
        Self { tone, text: Clean::new(text), more: None, line: None }
    }

    /// On the log, at a line where one is known.
    fn at(mut self, line: Option<u64>) -> Self {
        (self.more, self.line) = (Some(Screen::Log), line);
        self
    }

    fn on(mut self, screen: Screen) -> Self {
        self.more = Some(screen);
        self
    }
}

/// How fast the run goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tempo {
    pub step: Option<u64>,
    pub total: Option<u64>,
    pub seconds_per_step: Option<f64>,
    /// Change of the time per step against earlier, as a share; positive is slower.
    pub trend: Option<f64>,
    pub tokens_per_second: Option<f64>,
    pub remaining_seconds: Option<f64>,
}

impl Tempo {
    /// The part done, 0 to 1.
    pub fn share(&self) -> Option<f64> {
        match (self.step, self.total) {
            (Some(step), Some(total)) if total > 0 => Some((step as f64 / total as f64).min(1.0)),
            _ => None,
        }
    }
}

/// Reads step, total, pace and rest from a session.
pub fn tempo(session: &Session) -> Tempo {
    let step = session.step();
    let total = session
        .total_steps()
        .or_else(|| session.progress().and_then(|p| p.total))
        .or_else(|| session.knobs().u64(Knob::MaxSteps).filter(|n| *n > 0));
    let times = session.metrics.series("step_time_seconds");
    let recent = times.and_then(|s| median_of_last(s, 0, 10));
    let earlier = times.filter(|s| s.len() >= 30).and_then(|s| median_of_last(s, 10, 50));
    let seconds_per_step = recent.or_else(|| session.seconds_per_step()).or_else(|| pace_by_clock(session));
    let trend = match (recent, earlier) {
        (Some(now), Some(then)) if then > 0.0 => Some(now / then - 1.0),
        _ => None,
    };
    let remaining_seconds = session.remaining_seconds().or_else(|| {
        let running = matches!(session.state(), RunState::Training | RunState::Silent);
        let left = total?.checked_sub(step?)?;
        running.then_some(left as f64 * seconds_per_step?)
    });
    Tempo { step, total, seconds_per_step, trend, tokens_per_second: token_rate(session, times), remaining_seconds }
}

/// Seconds a step by the arrival of points, where nothing printed says it: only while the log is live.
fn pace_by_clock(session: &Session) -> Option<f64> {
    let mut recent = session.metrics.series("loss")?.samples().rev().take(20);
    let last = recent.next()?;
    let first = recent.last()?;
    let steps = last.step?.checked_sub(first.step?).filter(|n| *n > 0)?;
    let seconds = seconds_between(first.at, last.at);
    // Points of a file's past all arrive at once and say nothing of the pace.
    (seconds > 0.5 && first.segment == last.segment).then(|| seconds / steps as f64)
}

fn token_rate(session: &Session, times: Option<&Series>) -> Option<f64> {
    if let Some(rate) = session.metrics.series("tokens_per_second").and_then(Series::last) {
        return Some(rate.value);
    }
    let mut tokens = session.metrics.series("num_tokens")?.samples().rev();
    let (last, before) = (tokens.next()?, tokens.next()?);
    let steps = last.step?.checked_sub(before.step?).filter(|n| *n > 0)?;
    let seconds = times?.last()?.value * steps as f64;
    (seconds > 0.0 && last.value >= before.value).then(|| (last.value - before.value) / seconds)
}

fn median_of_last(series: &Series, skip: usize, n: usize) -> Option<f64> {
    median(series.samples().rev().skip(skip).take(n).map(|s| s.value))
}

/// The failure that ended the run.
pub fn open_failure(session: &Session) -> Option<&Failure> {
    session.open_failure()
}

/// Seconds since the last output of any source.
pub fn silence(session: &Session) -> Option<f64> {
    let last = session.sources.values().filter_map(|s| s.last_output).max()?;
    Some(seconds_between(last, session.now?))
}

/// The one line of verdict: the worst thing known, or that all is well.
pub fn standing(session: &Session, alerts: &Alerts) -> Standing {
    let tempo = tempo(session);
    if let Some(failure) = open_failure(session) {
        return died(failure);
    }
    let crash = session.crash();
    if let Some((code, signal)) = session.child.exited.map(|_| (session.child.code, session.child.signal))
        && code != Some(0)
    {
        let how = match (code, signal) {
            (_, Some(signal)) => format!("the trainer was killed by signal {signal}"),
            (Some(code), _) => format!("the trainer failed with exit code {code}"),
            _ => "the trainer ended".to_string(),
        };
        let why = crash.map(|c| format!(": {}", c.text)).unwrap_or_default();
        return Standing::new(Tone::Critical, &format!("{how}{why}")).at(crash.map(|c| c.line));
    }
    if let Some(crash) = crash {
        return Standing::new(Tone::Critical, &format!("died of an error: {}", crash.text)).at(Some(crash.line));
    }
    if let Some(gpu) = session.gpus.iter().find(|g| g.lost_since.is_some()) {
        let text = format!("GPU {} no longer answers: the driver lost it", gpu.latest.index);
        return Standing::new(Tone::Critical, &text).on(Screen::Gpus);
    }
    if let Some(step) = nan_since(session) {
        return Standing::new(Tone::Critical, &format!("loss is not a number since step {step}")).on(Screen::Charts);
    }
    if let Some(source) = session.sources.values().find(|s| s.trouble.is_some()) {
        let what = source.trouble.as_ref().map(Clean::as_str).unwrap_or_default();
        return Standing::new(Tone::Warning, &format!("{} cannot be read: {what}", source.name)).on(Screen::Log);
    }
    if let Some(why) = &session.record.trouble {
        return Standing::new(Tone::Warning, &format!("nothing is recorded at present: {why}"));
    }
    match session.state() {
        RunState::Waiting => return waiting(session),
        RunState::Finished => return finished(session),
        RunState::Silent => {
            let quiet = duration(silence(session).unwrap_or(0.0));
            let text = match tempo.seconds_per_step {
                Some(pace) => format!("silent for {quiet}; a step takes {}", duration(pace)),
                None => format!("silent for {quiet}"),
            };
            return Standing::new(Tone::Warning, &text).on(Screen::Log);
        }
        RunState::Training | RunState::Failed => {}
    }
    if let Some((index, left)) = fills_up(session) {
        let text = format!("memory of GPU {index} grows: full in {} at this slope", duration(left));
        return Standing::new(Tone::Warning, &text).on(Screen::Memory);
    }
    if let Some(alert) = alerts.standing().into_iter().find(|a| a.severity > Severity::Info) {
        let mut standing = Standing::new(super::update::tone_of(alert.severity), alert.text.as_str());
        standing.line = alert.line;
        return standing;
    }
    if let Some(steps) = session.metrics.series("reward").and_then(flat_for) {
        return Standing::new(Tone::Warning, &format!("reward flat for {steps} steps")).on(Screen::Charts);
    }
    if let Some(trend) = tempo.trend.filter(|t| *t > 0.25) {
        return Standing::new(Tone::Warning, &format!("steps take {:.0} % longer than before", trend * 100.0))
            .on(Screen::Charts);
    }
    if let Some(gpu) = session.gpus.iter().find(|g| share_used(g).is_some_and(|s| s > 0.97)) {
        let text = format!("GPU {} is nearly full: {}", gpu.latest.index, headroom(gpu).unwrap_or_default());
        return Standing::new(Tone::Warning, &text).on(Screen::Memory);
    }
    Standing::new(Tone::Good, "healthy")
}

/// What a run that is over came to.
fn finished(session: &Session) -> Standing {
    let mut text = "finished".to_string();
    if let Some(step) = session.step() {
        let _ = write!(text, " after {} steps", count(step));
    }
    let last = |series: Option<&Series>| median(series?.samples().rev().take(5).map(|s| s.value));
    for (key, name) in [("reward", "reward"), ("loss", "loss")] {
        if let Some(value) = last(session.metrics.series(key)) {
            let _ = write!(text, ", {name} {}", short(value));
            break;
        }
    }
    if let Some(eval) = session.metrics.eval().get("eval_loss")
        && let (Some(now), Some((best, _))) = (eval.last(), eval.min_max())
    {
        let _ = write!(text, ", eval loss {} (best {})", short(now.value), short(best));
    }
    Standing::new(Tone::Good, &text).on(Screen::Charts)
}

fn waiting(session: &Session) -> Standing {
    let text = match session.sources.values().next() {
        None => "no log is watched: give a file, or pipe the trainer's output in".to_string(),
        Some(source) if source.bytes_read == 0 => format!("waiting for the first line of {}", source.name),
        Some(source) if source.log.is_binary() => {
            format!("{} looks like a binary file, not a log: nothing that a trainer logs has been read", source.name)
        }
        Some(_) => "waiting for the first step: nothing that a trainer logs has been read yet".to_string(),
    };
    Standing::new(Tone::Quiet, &text)
}

/// What to say of a run that died of memory.
fn died(failure: &Failure) -> Standing {
    use crate::model::{
        Bytes,
        failure::{Memory, PhaseId},
    };
    let numbers = &failure.numbers;
    let place = match (failure.memory, failure.device) {
        (Memory::Gpu, Some(device)) => format!("GPU {device}"),
        (Memory::Gpu, None) => "a GPU".to_string(),
        (Memory::Host, _) => "the host".to_string(),
        (Memory::Shm, _) => "/dev/shm".to_string(),
        (Memory::None, _) => "memory".to_string(),
    };
    let rank = failure.rank.map(|r| format!("rank {r}, ")).unwrap_or_default();
    let phase = match failure.phase.id {
        PhaseId::Unknown => String::new(),
        phase => format!(" {}", super::report::phase_words(phase)),
    };
    let asked = match (numbers.requested_bytes, numbers.free_bytes) {
        (Some(asked), Some(free)) => {
            format!(": {} GiB asked, {} GiB free", gib(Bytes(asked)), gib(Bytes(free)))
        }
        (Some(asked), None) => format!(": {} GiB asked", gib(Bytes(asked))),
        _ => String::new(),
    };
    let mut standing = Standing::new(Tone::Critical, &format!("died of memory: {rank}{place} was full{phase}{asked}"))
        .on(Screen::Diagnosis);
    standing.line = Some(failure.place.line).filter(|l| *l > 0);
    standing
}

/// First step of the run of NaN or infinite losses that lasts to the end.
fn nan_since(session: &Session) -> Option<u64> {
    let samples = session.metrics.series("loss")?.samples();
    let bad = samples.rev().take_while(|s| !s.value.is_finite()).last()?;
    bad.step
}

/// Share of a GPU's memory in use.
pub fn share_used(gpu: &crate::session::gpus::Gpu) -> Option<f64> {
    let (used, total) = (gpu.latest.memory_used?, gpu.latest.memory_total?);
    (total.0 > 0).then(|| used.as_f64() / total.as_f64())
}

/// `1.28 GiB free`.
pub fn headroom(gpu: &crate::session::gpus::Gpu) -> Option<String> {
    let (used, total) = (gpu.latest.memory_used?, gpu.latest.memory_total?);
    Some(format!("{} GiB free", gib(total.saturating_sub(used))))
}

/// The GPU that fills first at the slope of its last ten minutes, and in how many seconds, if within two hours.
fn fills_up(session: &Session) -> Option<(u32, f64)> {
    session
        .gpus
        .iter()
        .filter_map(|gpu| {
            let left = time_to_full(gpu)?;
            (left < 7200.0).then_some((gpu.latest.index, left))
        })
        .min_by(|a, b| a.1.total_cmp(&b.1))
}

/// Whether the time of [`elapsed`] is the run's own: of a log that was found nobody knows when its run began.
pub fn began(session: &Session) -> bool {
    session.child.started.is_some() || session.progress().is_some_and(|p| p.elapsed_seconds.is_some())
}

/// Since when the run is known, for the clock in the header.
pub fn elapsed(session: &Session) -> Option<f64> {
    let since: Timestamp = session.child.started.or(session.started)?;
    let over = matches!(session.state(), RunState::Finished | RunState::Failed);
    let last_word = session.sources.values().filter_map(|s| s.last_output).max().filter(|_| over);
    let until = session.child.exited.or(last_word).or(session.now)?;
    let by_clock = seconds_between(since, until);
    let by_bar = session.progress().and_then(|p| p.elapsed_seconds).unwrap_or(0.0);
    Some(by_clock.max(by_bar))
}

/// `+3 %`, of a trend that is worth a word.
pub fn trend_words(trend: f64) -> Option<String> {
    (trend.abs() >= 0.02)
        .then(|| format!("{}{} %", if trend > 0.0 { "+" } else { "-" }, short((trend.abs() * 100.0).round())))
}
