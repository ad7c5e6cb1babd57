//! `oomph export RUN`: a recording as JSON lines, CSV or Markdown, secrets and home folders taken out.

use std::{
    collections::BTreeSet,
    fmt::Write,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    model::{
        Bytes, Clean, Event, EventKind,
        gpu::GpuReading,
        metric::{Point, PointKind, number_to_json},
        redact,
    },
    session::{Learnt, Session},
    store::runs::{self, Run},
};

use super::{history, replay, report};

/// Write a recorded run as JSON lines, CSV or Markdown.
///
/// The run is read anew by this oomph's parsers, so an old recording gains from a newer oomph. Secrets and the names of
/// home folders are taken out. There is no Parquet: its crate needs twenty more, and a release may have 150 in all;
/// `duckdb -c "COPY (FROM 'points.csv') TO 'points.parquet'"` makes it of the CSV.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph export last --format csv > points.csv
  oomph export last --format jsonl --output run.jsonl
  oomph export 20261124-113150-1472 --format markdown")]
pub struct ExportArgs {
    /// Name of a run, `last`, or a recording's path
    #[arg(value_name = "RUN")]
    recording: PathBuf,
    #[arg(long, value_enum)]
    format: Format,
    /// Write into a new file instead of standard output; nothing is ever overwritten
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Everything, one object a line (schema oomph.export/1)
    Jsonl,
    /// The points, one a row, a column for each key
    Csv,
    /// What a person wants to know of the run
    Markdown,
}

/// # Errors
/// When there is no such recording or the file cannot be written.
pub fn run(args: &ExportArgs) -> Result<ExitCode> {
    let name = args.recording.to_string_lossy();
    let Some(path) = runs::find(&name)? else {
        bail!("there is no recording '{}'; `oomph history` lists the recorded runs", Clean::new(&name));
    };
    let run = runs::read(&path)?;
    let (events, given) = replay::read(&path)?;
    let told = Told::of(&events, Session::new(given));
    let text = match args.format {
        Format::Jsonl => jsonl(&run, &events, &told)?,
        Format::Csv => csv(&told.points),
        Format::Markdown => markdown(&run, &told),
    };
    match &args.output {
        None => super::print(&text),
        Some(path) => {
            let path = super::save(path, &text)
                .map_err(|error| anyhow::anyhow!("{}: {error}", Clean::new(&path.to_string_lossy())))?;
            super::say(&format!("oomph: written to {}", Clean::new(&path.to_string_lossy())));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What a session learnt from the events of a run, and when.
struct Told {
    points: Vec<(Timestamp, Point)>,
    session: Session,
}

impl Told {
    fn of(events: &[Event], mut session: Session) -> Self {
        let points = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&points);
        session.observe(Box::new(move |at, what| {
            if let Learnt::Point(point) = what {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push((at, point.clone()));
            }
        }));
        for event in events {
            session.apply(event.clone());
        }
        let points = std::mem::take(&mut *points.lock().unwrap_or_else(PoisonError::into_inner));
        Self { points, session }
    }
}

fn kind(point: &Point) -> &'static str {
    match point.kind {
        PointKind::Train => "train",
        PointKind::Eval => "eval",
        PointKind::Final => "final",
    }
}

/// Canonical values, then the others as they were printed.
fn values(point: &Point) -> impl Iterator<Item = (&str, f64)> {
    let canonical = point.canonical.iter().map(|(key, value)| (*key, *value));
    let is_new = |key: &str| !point.canonical.iter().any(|(name, _)| *name == key);
    canonical.chain(point.raw.iter().map(|(key, value)| (key.as_str(), *value)).filter(move |(key, _)| is_new(key)))
}

fn jsonl(run: &Run, events: &[Event], told: &Told) -> Result<String> {
    let mut lines: Vec<(Option<Timestamp>, Value)> = Vec::new();
    let mut about = serde_json::to_value(run)?;
    if let Value::Object(object) = &mut about {
        object.insert("type".into(), "run".into());
        object.insert("schema".into(), "oomph.export/1".into());
    }
    lines.push((None, about));
    for (at, point) in &told.points {
        let all: Map<String, Value> =
            values(point).map(|(key, value)| (key.to_string(), number_to_json(value))).collect();
        let line = json!({
            "type": "point", "at": at.to_string(), "kind": kind(point), "step": point.step, "epoch": point.epoch,
            "segment": point.segment, "rank": point.rank, "values": all,
        });
        lines.push((Some(*at), line));
    }
    for event in events {
        let at = event.at.to_string();
        let line = match &event.kind {
            EventKind::Gpu { reading: GpuReading::Samples(samples) } => {
                for gpu in samples {
                    let line = json!({
                        "type": "gpu", "at": at, "uuid": Clean::new(&gpu.uuid), "index": gpu.index, "lost": gpu.lost,
                        "memory_total_bytes": gpu.memory_total.map(|b| b.0),
                        "memory_used_bytes": gpu.memory_used.map(|b| b.0),
                        "utilization_percent": gpu.utilization, "temperature_c": gpu.temperature_c, "power_w": gpu.power_w,
                    });
                    lines.push((Some(event.at), line));
                }
                continue;
            }
            EventKind::Host { sample } => {
                let mut line = serde_json::to_value(sample)?;
                if let Value::Object(object) = &mut line {
                    object.insert("type".into(), "host".into());
                    object.insert("at".into(), at.into());
                }
                line
            }
            EventKind::Kernel { text } => json!({ "type": "kernel", "at": at, "text": text }),
            EventKind::Exited { code, signal } => json!({ "type": "exit", "at": at, "code": code, "signal": signal }),
            EventKind::Unrecorded { events, bytes, reason, .. } => {
                json!({ "type": "gap", "at": at, "events": events, "bytes": bytes, "reason": reason })
            }
            EventKind::Skipped { bytes, reason, .. } => {
                json!({ "type": "lost", "at": at, "bytes": bytes, "reason": reason })
            }
            _ => continue,
        };
        lines.push((Some(event.at), line));
    }
    for failure in told.session.diagnosis().iter().flat_map(|d| &d.failures) {
        let mut line = serde_json::to_value(failure)?;
        if let Value::Object(object) = &mut line {
            object.insert("type".into(), "failure".into());
        }
        lines.push((told.session.now, line));
    }
    lines.sort_by_key(|(at, _)| *at);
    let mut text = String::new();
    for (_, mut line) in lines {
        redact(&mut line);
        writeln!(text, "{line}")?;
    }
    Ok(text)
}

/// Takes secrets and home folders out of every text of a value.
fn redact(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact::text(text),
        Value::Array(all) => all.iter_mut().for_each(redact),
        Value::Object(all) => all.values_mut().for_each(redact),
        _ => {}
    }
}

fn csv(points: &[(Timestamp, Point)]) -> String {
    // In the order in which they were first printed.
    let mut seen = BTreeSet::new();
    let mut keys: Vec<String> = Vec::new();
    for (key, _) in points.iter().flat_map(|(_, point)| values(point)) {
        if !["step", "epoch"].contains(&key) && seen.insert(key) {
            keys.push(key.to_string());
        }
    }
    let mut text = String::from("at,kind,step,epoch,segment,rank");
    for key in &keys {
        let _ = write!(text, ",{}", cell(key));
    }
    text.push('\n');
    for (at, point) in points {
        let or_nothing = |value: Option<String>| value.unwrap_or_default();
        let _ = write!(
            text,
            "{at},{},{},{},{},{}",
            kind(point),
            or_nothing(point.step.map(|s| s.to_string())),
            or_nothing(point.epoch.map(|e| e.to_string())),
            point.segment,
            or_nothing(point.rank.map(|r| r.to_string())),
        );
        for key in &keys {
            let value = values(point).find(|(name, _)| name == key).map(|(_, value)| value);
            let _ = write!(text, ",{}", or_nothing(value.map(|v| v.to_string())));
        }
        text.push('\n');
    }
    text
}

/// A text cell: what a spreadsheet would take for a formula is quoted with an apostrophe.
fn cell(text: &str) -> String {
    let text = redact::text(text);
    let text = if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text };
    if text.contains([',', '"', ' ']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn markdown(run: &Run, told: &Told) -> String {
    let code = |text: &str| format!("`{}`", redact::text(text).replace('`', "'"));
    let mut text = format!("# Run {}\n\n", run.id);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "- {name}: {value}");
        }
    };
    fact("command", run.command.as_ref().map(|c| code(&c.as_str().replace("\\n", " "))));
    fact("folder", run.folder.as_ref().map(|f| code(f.as_str())));
    fact("started", run.started_at.as_ref().map(ToString::to_string));
    fact("ran", run.seconds.map(history::duration));
    fact("last step", told.session.step().map(|s| s.to_string()));
    fact("peak memory of a GPU", run.peak_memory_bytes.map(|b| Bytes(b).to_string()));
    fact("exit code", run.exit_code.map(|c| c.to_string()));
    fact("killed by signal", run.signal.map(|s| s.to_string()));
    for gap in &run.gaps {
        fact("not recorded", Some(gap.sentence()));
    }
    let families = [("Training", told.session.metrics.train()), ("Evaluation", told.session.metrics.eval())];
    for (title, family) in families {
        if family.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "\n## {title}\n\n| key | points | first | last | least | most |\n|---|---:|---:|---:|---:|---:|\n"
        );
        for (name, series) in family.iter() {
            let value = |x: Option<f64>| {
                x.map_or(String::new(), |x| format!("{x:.6}").trim_end_matches('0').trim_end_matches('.').to_string())
            };
            let first = series.samples().next().map(|s| s.value);
            let (least, most) = series.min_max().unzip();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} |",
                code(name.as_str()).replace('|', "\\|"),
                series.len(),
                value(first),
                value(series.last().map(|s| s.value)),
                value(least),
                value(most)
            );
        }
    }
    if let Some(diagnosis) = told.session.diagnosis() {
        text.push('\n');
        text.push_str(&report::markdown(diagnosis, told.session.knobs()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_keys_stay_text_in_a_spreadsheet() {
        assert_eq!(cell("=HYPERLINK(1)"), "'=HYPERLINK(1)");
        assert_eq!(cell("@a,b"), "\"'@a,b\"");
        assert_eq!(cell("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(cell("rewards/acc"), "rewards/acc");
    }
}
