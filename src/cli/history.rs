//! `oomph history`: the runs recorded on this machine, their failures, and what was changed between attempts.

use std::{fmt::Write, process::ExitCode};

use anyhow::Result;
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use crate::{
    model::{Bytes, Clean},
    store::runs::{self, Run, State},
};

use super::attach;

/// List recorded runs, their failures, and what was changed between attempts.
///
/// Attempts are runs of the same script in the same folder. For each the changed options are shown, with what they did
/// to the peak.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph history                the newest 20 runs
  oomph history --all --json   everything, for a script
  oomph replay last            look at the newest run again")]
pub struct HistoryArgs {
    /// All runs instead of the newest 20
    #[arg(long)]
    all: bool,
    /// JSON (schema oomph.history/1)
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When there is no state folder.
pub fn run(args: &HistoryArgs) -> Result<ExitCode> {
    let (mut runs, bad) = runs::list()?;
    for run in runs.iter_mut().filter(|run| run.state == State::Open) {
        if run.path.parent().is_some_and(attach::goes_on) {
            run.state = State::Running;
        }
    }
    let hidden = if args.all { 0 } else { runs.len().saturating_sub(20) };
    let shown = runs.split_off(hidden);
    for error in &bad {
        super::say(&format!("oomph: not readable: {error}"));
    }
    if args.json {
        let mut text = serde_json::to_string_pretty(&json!({ "schema": "oomph.history/1", "runs": shown }))?;
        text.push('\n');
        return super::print(&text);
    }
    if shown.is_empty() {
        return super::print(
            "no run has been recorded yet: `oomph run -- CMD` and `oomph FILE` record what they watch\n",
        );
    }
    let mut text = String::new();
    for group in grouped(&shown) {
        let mut before: Option<&Run> = None;
        for run in group {
            describe(&mut text, run, before.filter(|b| b.attempt + 1 == run.attempt));
            before = Some(run);
        }
    }
    if hidden > 0 {
        let _ = writeln!(text, "\n{hidden} older runs are not shown: --all shows them");
    }
    super::print(&text)
}

/// The runs with the attempts of one program together; the group with the newest run comes last.
fn grouped(runs: &[Run]) -> Vec<Vec<&Run>> {
    let mut groups: Vec<Vec<&Run>> = Vec::new();
    for run in runs {
        let known = groups.iter().position(|group| group.iter().any(|other| other.program == run.program));
        let mut group = known.map(|place| groups.remove(place)).unwrap_or_default();
        group.push(run);
        groups.push(group);
    }
    groups
}

/// A run in a few lines.
fn describe(out: &mut String, run: &Run, before: Option<&Run>) {
    let state = match run.state {
        State::Finished => "finished",
        State::Failed => "failed",
        State::Running => "running",
        State::Open => "open",
    };
    let attempt = if run.attempt > 1 { format!("  attempt {}", run.attempt) } else { String::new() };
    let _ = writeln!(out, "{:<24} {:<9} {}{attempt}", run.id.as_str(), state, when(run));
    let command = run.command.as_ref().map_or("", Clean::as_str).replace("\\n", " ");
    let _ = writeln!(out, "  {command}");
    let mut facts = Vec::new();
    facts.extend(run.seconds.map(|s| format!("ran {}", duration(s))));
    facts.extend(run.last_step.map(|s| format!("step {s}")));
    facts.extend(run.last_loss.map(|l| format!("loss {l:.4}")));
    facts.extend(run.peak_memory_bytes.map(|b| format!("peak {}", Bytes(b))));
    facts.extend(run.signal.map(|s| format!("killed by signal {s}")));
    facts.extend(run.exit_code.filter(|c| *c != 0).map(|c| format!("exit code {c}")));
    if !facts.is_empty() {
        let _ = writeln!(out, "  {}", facts.join(", "));
    }
    if let Some(failure) = &run.failure {
        let _ = writeln!(out, "  {}", failure.summary);
    }
    if run.attempt > 1 {
        let changes: Vec<String> = run
            .changed
            .iter()
            .map(|(name, old, new)| match (old, new) {
                (Some(old), Some(new)) => format!("{name} {old} -> {new}"),
                (None, Some(new)) => format!("{name} {new} added"),
                (Some(old), None) => format!("{name} {old} taken away"),
                (None, None) => name.to_string(),
            })
            .collect();
        let what = if changes.is_empty() { "nothing that is recorded".to_string() } else { changes.join(", ") };
        let _ = writeln!(out, "  changed since the attempt before: {what}{}{}", effect(run, before), outcome(run));
    }
    out.push('\n');
}

/// What the changes did to the peak.
fn effect(run: &Run, before: Option<&Run>) -> String {
    let (Some(now), Some(was)) = (run.peak_memory_bytes, before.and_then(|b| b.peak_memory_bytes)) else {
        return String::new();
    };
    match now.cmp(&was) {
        std::cmp::Ordering::Less => format!("; the peak fell by {}", Bytes(was - now)),
        std::cmp::Ordering::Greater => format!("; the peak rose by {}", Bytes(now - was)),
        std::cmp::Ordering::Equal => "; the peak stayed".to_string(),
    }
}

/// What became of the attempt.
fn outcome(run: &Run) -> String {
    let phase = run.failure.as_ref().map(|failure| failure.phase.as_str().replace('_', " "));
    match (run.state, phase) {
        (State::Finished, _) => ", and it finished".to_string(),
        (State::Running, _) => ", and it goes on".to_string(),
        (State::Failed, Some(phase)) if phase != "unknown" => format!(", then it died in: {phase}"),
        (State::Failed, _) => ", then it died".to_string(),
        (State::Open, _) => String::new(),
    }
}

fn when(run: &Run) -> String {
    let Some(at) = runs::started(run) else { return String::new() };
    let local = |at: Timestamp| at.to_zoned_datetime(TimeZone::system());
    local(at).strftime("%a %d %b %Y %H:%M").to_string()
}

/// `3 h 12 min`, `4 min 5 s`, `12 s`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
