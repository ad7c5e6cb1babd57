//! `oomph history`: the runs recorded on this machine, their failures, and what was changed between attempts.

use std::{fmt::Write, path::Path, process::ExitCode};

use anyhow::Result;
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use crate::{
    model::{Bytes, Clean, redact},
    session::Session,
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
    facts.extend(run.peak_memory_bytes.map(|b| format!("GPU peak {}", Bytes(b))));
    facts.extend(run.peak_host_bytes.map(|b| format!("host peak {}", Bytes(b))));
    facts.extend(run.signal.map(|s| format!("killed by signal {s}")));
    facts.extend(run.exit_code.filter(|c| *c != 0).map(|c| format!("exit code {c}")));
    if !facts.is_empty() {
        let _ = writeln!(out, "  {}", facts.join(", "));
    }
    if let Some(failure) = &run.failure {
        let _ = writeln!(out, "  {}", failure.summary);
    }
    for gap in &run.gaps {
        let _ = writeln!(out, "  not recorded: {}", gap.sentence());
    }
    if run.attempt > 1 {
        let _ = writeln!(out, "  changed since the attempt before: {}: {}", changes(run), came_of(run, before));
    }
    out.push('\n');
}

/// What the earlier attempts of this run's command changed and what came of it, the newest first: "on Tuesday,
/// per_device_train_batch_size 8 -> 4: the peak fell by 2.1 GiB, then it died in the optimizer step".
pub fn tried_before(place: &Path, session: &Session) -> Vec<String> {
    const MOST: usize = 3;
    let folder = std::env::current_dir().map(|f| Clean::new(&f.to_string_lossy())).unwrap_or_default();
    let words = redact::words(&session.child.command);
    let words: Vec<&str> = words.iter().map(Clean::as_str).collect();
    let command = Clean::new(&words.join("\n"));
    let Ok(runs) = runs::attempts(&command, &folder, place, 12) else { return Vec::new() };
    let now = session.now.unwrap_or_else(Timestamp::now);
    let pairs = runs.windows(2).rev().filter(|pair| !pair[1].changed.is_empty());
    pairs.take(MOST).map(|pair| sentence(&pair[1], &pair[0], now, TimeZone::system())).collect()
}

fn sentence(run: &Run, before: &Run, now: Timestamp, zone: TimeZone) -> String {
    let day = runs::started(run).map_or_else(|| "earlier".to_string(), |at| day(at, now, zone));
    format!("{day} you tried {}: {}", changes(run), came_of(run, Some(before)))
}

/// `today at 14:02`, `yesterday`, `on Tuesday`, `on 24 Nov 2026`.
fn day(at: Timestamp, now: Timestamp, zone: TimeZone) -> String {
    let (at, now) = (at.to_zoned_datetime(zone.clone()), now.to_zoned_datetime(zone));
    let days = at.date().until((jiff::Unit::Day, now.date())).map_or(i32::MAX, |span| span.get_days());
    match days {
        ..=0 => format!("today at {}", at.strftime("%H:%M")),
        1 => "yesterday".to_string(),
        2..=6 => format!("on {}", at.strftime("%A")),
        _ => format!("on {}", at.strftime("%d %b %Y")),
    }
}

/// `batch 8 -> 4, --gc added`.
fn changes(run: &Run) -> String {
    const MOST: usize = 6;
    let mut all: Vec<String> = run
        .changed
        .iter()
        .map(|(name, old, new)| match (old, new) {
            (Some(old), Some(new)) => format!("{name} {old} -> {new}"),
            (None, Some(new)) => format!("with {name} {new}"),
            (Some(old), None) => format!("without {name} {old}"),
            (None, None) => name.to_string(),
        })
        .collect();
    let more = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    if all.is_empty() { "nothing that is recorded".to_string() } else { all.join(", ") }
}

/// What the changes did to the peak, and what became of the attempt.
fn came_of(run: &Run, before: Option<&Run>) -> String {
    let peak = |run: &Run| run.peak_memory_bytes.or(run.peak_host_bytes);
    // Only what was measured of the same memory can be compared.
    let same = before.is_some_and(|b| b.peak_memory_bytes.is_some() == run.peak_memory_bytes.is_some());
    let peaks = peak(run).zip(before.and_then(peak)).filter(|_| same);
    let of = if run.peak_memory_bytes.is_some() { "the peak" } else { "the host's peak" };
    let what = match peaks {
        // Less than a hundredth is no effect of anything.
        Some((now, was)) if now.abs_diff(was) <= was / 100 => format!("{of} stayed"),
        Some((now, was)) if now < was => format!("{of} fell by {}", Bytes(was - now)),
        Some((now, was)) => format!("{of} rose by {}", Bytes(now - was)),
        None => "no peak to compare".to_string(),
    };
    let phase = run.failure.as_ref().and_then(|failure| phase_words(failure.phase.as_str()));
    let end = match (run.state, phase) {
        (State::Finished, _) => ", and it finished".to_string(),
        (State::Running, _) => ", and it goes on".to_string(),
        (State::Failed, Some(phase)) => format!(", then it died {phase}"),
        (State::Failed, None) => ", then it died".to_string(),
        (State::Open, _) => String::new(),
    };
    what + &end
}

/// Where a run died, in words.
fn phase_words(phase: &str) -> Option<&'static str> {
    Some(match phase {
        "model_load" => "while loading the model",
        "forward" => "in the forward pass",
        "logits_loss" => "in the loss",
        "generation" => "while generating",
        "scoring" => "while scoring log-probabilities",
        "backward" => "in the backward pass",
        "optimizer_step" => "in the optimizer step",
        "ddp_fsdp_comm" => "while ranks exchanged tensors",
        "eval" => "in evaluation",
        "checkpoint_save" => "while saving a checkpoint",
        "kv_cache_init" => "while setting up the KV cache",
        "weight_sync" => "while syncing weights to the engine",
        "dataloader" => "in the data loader",
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::runs::Failed;

    #[test]
    fn an_attempt_is_told_in_one_sentence() {
        let gib = |gib: f64| Some((gib * f64::from(1 << 30)) as u64);
        let before = Run { peak_memory_bytes: gib(15.6), ..Run::default() };
        let failure = Failed { kind: "torch".into(), phase: "optimizer_step".into(), cause: None, summary: "s".into() };
        let run = Run {
            started_at: Some("2026-11-24T09:00:00Z".into()),
            peak_memory_bytes: gib(13.5),
            state: State::Failed,
            failure: Some(failure),
            changed: vec![("per_device_train_batch_size".into(), Some("8".into()), Some("4".into()))],
            ..Run::default()
        };
        let now = "2026-11-27T09:00:00Z".parse().unwrap();
        assert_eq!(
            sentence(&run, &before, now, TimeZone::UTC),
            "on Tuesday you tried per_device_train_batch_size 8 -> 4: the peak fell by 2.10 GiB, then it died in the optimizer step"
        );
        let at = |text: &str| day(text.parse().unwrap(), now, TimeZone::UTC);
        assert_eq!(at("2026-11-27T07:05:00Z"), "today at 07:05");
        assert_eq!(at("2026-11-26T23:59:00Z"), "yesterday");
        assert_eq!(at("2026-10-01T00:00:00Z"), "on 01 Oct 2026");
        // A peak of the host says nothing about one of a GPU.
        let host = Run { peak_host_bytes: gib(1.0), ..Run::default() };
        assert!(came_of(&run, Some(&host)).starts_with("no peak to compare"));
    }
}
