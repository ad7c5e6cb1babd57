//! The rules: one table. A rule is a figure that it sees, and the limits between which it keeps quiet.

use crate::{
    model::{Timestamp, knobs::Knob},
    session::{
        RunState, Session,
        gpus::Gpu,
        series::{Sample, Series},
        trends, xid,
    },
};

use super::{Limits, Severity, Sight};

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Name in the config file.
    pub id: &'static str,
    /// What it looks for, and the unit of its limits: for the config file and the help.
    pub about: &'static str,
    pub severity: Severity,
    pub limits: Limits,
    /// The sentence goes on with the figure while the alert stands.
    pub follows: bool,
    pub see: fn(&Session) -> Vec<Sight>,
}

const fn limits(raise: f64, clear: f64, hold: f64) -> Limits {
    Limits { on: true, raise, clear, hold }
}

/// Every rule, in the order of the config file.
pub const RULES: &[Rule] = &[
    Rule {
        id: "not_finite",
        about: "loss, gradient norm or reward is NaN or infinite; values in a row",
        severity: Severity::Critical,
        limits: limits(1.0, 1.0, 0.0),
        follows: false,
        see: not_finite,
    },
    Rule {
        id: "loss_spike",
        about: "the loss stands out of its last 100 values; times their usual scatter",
        severity: Severity::Warning,
        limits: limits(10.0, 4.0, 0.0),
        follows: false,
        see: loss_spike,
    },
    Rule {
        id: "plateau",
        about: "reward (or, without one, loss) only wanders; steps",
        severity: Severity::Info,
        limits: limits(300.0, 100.0, 30.0),
        follows: true,
        see: plateau,
    },
    Rule {
        id: "kl_high",
        about: "KL against the reference; median of the last 10 values",
        severity: Severity::Warning,
        limits: limits(0.5, 0.4, 0.0),
        follows: true,
        see: kl_high,
    },
    Rule {
        id: "length_at_cap",
        about: "completions that are cut at the largest length; share, median of the last 10",
        severity: Severity::Warning,
        limits: limits(0.9, 0.7, 0.0),
        follows: true,
        see: length_at_cap,
    },
    Rule {
        id: "length_collapse",
        about: "completions got shorter; times, medians of 10 values, earliest kept against now",
        severity: Severity::Warning,
        limits: limits(5.0, 3.0, 0.0),
        follows: true,
        see: length_collapse,
    },
    Rule {
        id: "slower",
        about: "a step takes longer than before; share, medians of the last 10 and the 50 before",
        severity: Severity::Warning,
        limits: limits(0.4, 0.2, 30.0),
        follows: true,
        see: slower,
    },
    Rule {
        id: "straggler",
        about: "a rank is slower than the others; share, medians of its last 10 steps and of theirs",
        severity: Severity::Warning,
        limits: limits(0.2, 0.1, 30.0),
        follows: true,
        see: straggler,
    },
    Rule {
        id: "stall",
        about: "no step is finished; times a step's usual duration, a minute at least",
        severity: Severity::Warning,
        limits: limits(10.0, 3.0, 0.0),
        follows: true,
        see: stall,
    },
    Rule {
        id: "silence",
        about: "no output while a run whose pace is not known goes on; seconds",
        severity: Severity::Warning,
        limits: limits(900.0, 60.0, 0.0),
        follows: true,
        see: silence,
    },
    Rule {
        id: "end",
        about: "the run is over and well",
        severity: Severity::Info,
        limits: limits(1.0, 1.0, 0.0),
        follows: false,
        see: end,
    },
    Rule {
        id: "crash",
        about: "the run died: out of memory, an exit code, a signal",
        severity: Severity::Critical,
        limits: limits(1.0, 1.0, 0.0),
        follows: false,
        see: crash,
    },
    Rule {
        id: "headroom",
        about: "a GPU's memory is nearly full; share in use",
        severity: Severity::Warning,
        limits: limits(0.97, 0.93, 30.0),
        follows: true,
        see: headroom,
    },
    Rule {
        id: "memory_grows",
        about: "a GPU's memory fills up; hours to full are 1 / this",
        severity: Severity::Warning,
        limits: limits(1.0, 0.5, 30.0),
        follows: true,
        see: memory_grows,
    },
    Rule {
        id: "hot",
        about: "a GPU's temperature; °C",
        severity: Severity::Warning,
        limits: limits(87.0, 82.0, 30.0),
        follows: true,
        see: hot,
    },
    Rule {
        id: "throttled",
        about: "heat or failing power slows a GPU down",
        severity: Severity::Warning,
        limits: limits(1.0, 1.0, 10.0),
        follows: true,
        see: throttled,
    },
    Rule {
        id: "ecc",
        about: "memory errors that could not be corrected; count since the driver was loaded",
        severity: Severity::Critical,
        limits: limits(1.0, 1.0, 0.0),
        follows: true,
        see: ecc,
    },
    Rule {
        id: "xid",
        about: "the driver reported an error of a GPU (Xid) in the kernel's log; count",
        severity: Severity::Critical,
        limits: limits(1.0, 1.0, 0.0),
        follows: true,
        see: xid,
    },
    Rule {
        id: "gpu_lost",
        about: "the driver does not answer for a GPU any more",
        severity: Severity::Critical,
        limits: limits(1.0, 1.0, 0.0),
        follows: false,
        see: gpu_lost,
    },
    Rule {
        id: "recording",
        about: "the run is not written down at present; 1 is so",
        severity: Severity::Warning,
        limits: limits(1.0, 1.0, 0.0),
        follows: true,
        see: recording,
    },
    Rule {
        id: "recording_gaps",
        about: "the recording lacks something; events and points",
        severity: Severity::Info,
        limits: limits(1.0, 1.0, 0.0),
        follows: true,
        see: recording_gaps,
    },
];

fn run(figure: f64, text: String) -> Vec<Sight> {
    vec![Sight { subject: String::new(), figure, text, line: None }]
}

fn going(session: &Session) -> bool {
    matches!(session.state(), RunState::Training | RunState::Silent)
}

fn seconds_since(then: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(then).as_secs_f64()
}

fn not_finite(session: &Session) -> Vec<Sight> {
    let line = session.last_point().map(|p| p.line).filter(|l| *l > 0);
    let see = |key: &'static str, words: &str| {
        let series = session.metrics.series(key)?;
        let bad: Vec<Sample> = series.samples().rev().take_while(|s| !s.value.is_finite()).collect();
        let since = bad.last().and_then(|s| s.step).map(|s| format!(" since step {s}")).unwrap_or_default();
        let text = format!("{words} is not a number{since}");
        Some(Sight { subject: key.to_string(), figure: bad.len() as f64, text, line })
    };
    [("loss", "the loss"), ("grad_norm", "the gradient norm"), ("reward", "the reward")]
        .into_iter()
        .filter_map(|(key, words)| see(key, words))
        .collect()
}

fn loss_spike(session: &Session) -> Vec<Sight> {
    let Some(series) = session.metrics.series("loss") else { return Vec::new() };
    let mut recent: Vec<Sample> = series.samples().rev().take(104).filter(|s| s.value.is_finite()).collect();
    if recent.len() < 30 {
        return Vec::new();
    }
    let base: Vec<f64> = recent.split_off(4).iter().map(|s| s.value).collect();
    let Some((middle, scatter)) = trends::middle_and_scatter(&base) else { return Vec::new() };
    let worst = recent.iter().max_by(|a, b| a.value.total_cmp(&b.value));
    worst.map_or_else(Vec::new, |s| {
        let figure = (s.value - middle) / scatter.max(middle.abs() * 1e-3).max(1e-9);
        let at = s.step.map(|n| format!(" at step {n}")).unwrap_or_default();
        run(figure, format!("the loss jumped to {:.4}{at}, from about {middle:.4}", s.value))
    })
}

fn plateau(session: &Session) -> Vec<Sight> {
    let key = if session.metrics.series("reward").is_some() { "reward" } else { "loss" };
    let Some(series) = session.metrics.series(key).filter(|_| going(session)) else { return Vec::new() };
    let steps = trends::flat_for(series).unwrap_or(0);
    run(steps as f64, format!("{key} flat for {steps} steps"))
}

fn last_ten(series: Option<&Series>) -> Option<f64> {
    let series = series.filter(|s| s.len() >= 10)?;
    trends::median(series.samples().rev().take(10).map(|s| s.value))
}

fn kl_high(session: &Session) -> Vec<Sight> {
    let kl = last_ten(session.metrics.series("kl"));
    kl.map_or_else(Vec::new, |kl| run(kl, format!("KL is {kl:.3}: the policy has gone far from its reference")))
}

fn length_at_cap(session: &Session) -> Vec<Sight> {
    let series = session.metrics.series("completions/clipped_ratio");
    let cap = session.knobs().u64(Knob::MaxCompletionLength).map(|n| format!(" of {n} tokens")).unwrap_or_default();
    last_ten(series).map_or_else(Vec::new, |share| {
        run(share, format!("{:.0} % of the completions are cut at their largest length{cap}", share * 100.0))
    })
}

fn length_collapse(session: &Session) -> Vec<Sight> {
    let metrics = &session.metrics;
    let Some(series) = metrics.series("completion_length").or_else(|| metrics.series("completions/mean_length")) else {
        return Vec::new();
    };
    if series.len() < 40 {
        return Vec::new();
    }
    let early = trends::median(series.samples().take(10).map(|s| s.value));
    let (Some(early), Some(now)) = (early, last_ten(Some(series))) else { return Vec::new() };
    run(early / now.max(1.0), format!("completions shrank from {early:.0} to {now:.0} tokens"))
}

fn slower(session: &Session) -> Vec<Sight> {
    let Some(series) = session.metrics.series("step_time_seconds").filter(|s| s.len() >= 60) else {
        return Vec::new();
    };
    let part = |skip: usize, n: usize| trends::median(series.samples().rev().skip(skip).take(n).map(|s| s.value));
    match (part(0, 10), part(10, 50)) {
        (Some(now), Some(then)) if then > 0.0 => {
            let more = now / then - 1.0;
            run(more, format!("a step takes {now:.1} s, {:.0} % more than before", more * 100.0))
        }
        _ => Vec::new(),
    }
}

fn straggler(session: &Session) -> Vec<Sight> {
    session.metrics.ranks.slowest().filter(|_| going(session)).map_or_else(Vec::new, |(rank, share)| {
        run(share, format!("rank {rank} is {:.0} % slower than the others", share * 100.0))
    })
}

fn stall(session: &Session) -> Vec<Sight> {
    let (Some(now), true) = (session.now, going(session)) else { return Vec::new() };
    let Some(pace) = session.seconds_per_step() else { return Vec::new() };
    let newest = session.metrics.train().iter().filter_map(|(_, s)| s.last()).map(|s| s.at).max();
    let output = session.sources.values().filter_map(|s| s.last_output).max();
    let Some(newest) = newest.max(output) else { return Vec::new() };
    let quiet = seconds_since(newest, now);
    // A fast loop may well stop for a minute: an evaluation, a checkpoint.
    let usual = pace.max(6.0);
    run(quiet / usual, format!("nothing finished for {quiet:.0} s; a step takes {pace:.1} s"))
}

fn silence(session: &Session) -> Vec<Sight> {
    let (Some(now), true) = (session.now, going(session) && session.seconds_per_step().is_none()) else {
        return Vec::new();
    };
    let last = session.sources.values().filter_map(|s| s.last_output).max();
    last.map_or_else(Vec::new, |last| {
        let quiet = seconds_since(last, now);
        run(quiet, format!("no output for {:.0} min", quiet / 60.0))
    })
}

fn end(session: &Session) -> Vec<Sight> {
    let over = session.state() == RunState::Finished;
    let step = session.step().map(|s| format!(" after step {s}")).unwrap_or_default();
    run(f64::from(u8::from(over)), format!("the run is finished{step}"))
}

fn crash(session: &Session) -> Vec<Sight> {
    if session.state() != RunState::Failed {
        return run(0.0, String::new());
    }
    if let Some(failure) = session.open_failure() {
        let line = Some(failure.place.line).filter(|l| *l > 0);
        return vec![Sight { subject: String::new(), figure: 1.0, text: failure.summary.to_string(), line }];
    }
    let crash = session.crash();
    let text = match (session.child.signal, session.child.code) {
        (Some(signal), _) => format!("the trainer was killed by signal {signal}"),
        (None, Some(code)) => format!("the trainer failed with exit code {code}"),
        (None, None) => "the run died of an error".to_string(),
    };
    let why = crash.map(|c| format!(": {}", c.text)).unwrap_or_default();
    let line = crash.map(|c| c.line);
    vec![Sight { subject: String::new(), figure: 1.0, text: text + &why, line }]
}

fn each_gpu(session: &Session, see: impl Fn(&Gpu) -> Option<(f64, String)>) -> Vec<Sight> {
    let sight = |gpu: &Gpu| {
        let (figure, text) = see(gpu)?;
        Some(Sight { subject: format!("GPU {}", gpu.latest.index), figure, text, line: None })
    };
    session.gpus.iter().filter(|g| !g.latest.lost).filter_map(sight).collect()
}

fn headroom(session: &Session) -> Vec<Sight> {
    each_gpu(session, |gpu| {
        let (used, total) = (gpu.latest.memory_used?, gpu.latest.memory_total?);
        let left = gpu.free()?;
        Some((used.as_f64() / total.as_f64().max(1.0), format!("GPU {} has {left} left", gpu.latest.index)))
    })
}

fn memory_grows(session: &Session) -> Vec<Sight> {
    each_gpu(session, |gpu| {
        let minutes = trends::time_to_full(gpu).map(|s| s / 60.0);
        let text = format!("memory of GPU {} grows: full in {:.0} min", gpu.latest.index, minutes.unwrap_or(0.0));
        Some((minutes.map_or(0.0, |m| 60.0 / m.max(0.1)), text))
    })
}

fn hot(session: &Session) -> Vec<Sight> {
    each_gpu(session, |gpu| {
        let celsius = gpu.latest.temperature_c?;
        Some((f64::from(celsius), format!("GPU {} is at {celsius} °C", gpu.latest.index)))
    })
}

fn throttled(session: &Session) -> Vec<Sight> {
    each_gpu(session, |gpu| {
        let reasons: Vec<&str> = gpu.latest.slowed_by().collect();
        let text = format!("GPU {} is slowed down by {}", gpu.latest.index, reasons.join(" and "));
        gpu.latest.throttle.map(|_| (f64::from(u8::from(!reasons.is_empty())), text))
    })
}

fn ecc(session: &Session) -> Vec<Sight> {
    each_gpu(session, |gpu| {
        let errors = gpu.latest.ecc_uncorrected?;
        Some((errors as f64, format!("GPU {} has {errors} memory errors that ECC could not correct", gpu.latest.index)))
    })
}

/// Errors of the GPUs, as the driver or the kernel's log tells them; of a card that is not known, as the line has it.
fn xid(session: &Session) -> Vec<Sight> {
    let of_gpu = |gpu: &Gpu| {
        let (_, number) = gpu.xids.back()?;
        let meaning = xid::meaning(*number).map(|meaning| format!(": {meaning}")).unwrap_or_default();
        let index = gpu.latest.index;
        Some(Sight {
            subject: format!("GPU {index}"),
            figure: gpu.xids.len() as f64,
            text: format!("GPU {index} reports Xid {number}{meaning}"),
            line: None,
        })
    };
    let mut sights: Vec<Sight> = session.gpus.iter().filter_map(of_gpu).collect();
    let is_known = |line: &str| {
        let at = xid::of_kernel_line(line).map(|(address, _)| address);
        at.is_some_and(|at| session.gpus.iter().any(|gpu| xid::is_at(&at, gpu.latest.pci_bus_id.as_str())))
    };
    let lines = session.kernel.iter().map(|(_, line)| line.as_str());
    let lines: Vec<&str> = lines.filter(|line| line.contains("Xid") && !is_known(line)).collect();
    if let Some(last) = lines.last() {
        let what = last.split("Xid").nth(1).unwrap_or(last).trim_start_matches([' ', '(']);
        let short: String = what.chars().take(90).collect();
        sights.extend(run(lines.len() as f64, format!("the driver reports Xid {short}")));
    }
    sights
}

fn gpu_lost(session: &Session) -> Vec<Sight> {
    let sight = |gpu: &Gpu| Sight {
        subject: format!("GPU {}", gpu.latest.index),
        figure: f64::from(u8::from(gpu.lost_since.is_some())),
        text: format!("GPU {} no longer answers", gpu.latest.index),
        line: None,
    };
    session.gpus.iter().map(sight).collect()
}

fn recording(session: &Session) -> Vec<Sight> {
    let why = session.record.trouble.as_ref().map(|why| format!("nothing is recorded at present: {why}"));
    run(f64::from(u8::from(why.is_some())), why.unwrap_or_default())
}

fn recording_gaps(session: &Session) -> Vec<Sight> {
    let (events, _) = session.record.lost();
    session.record.sentence().map_or_else(Vec::new, |text| run(events as f64, text))
}
