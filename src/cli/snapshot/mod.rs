//! `oomph snapshot FILE`: what held the memory, out of a PyTorch memory snapshot.

mod text;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::{
    diagnose::allocations::{self, Report},
    model::{Clean, failure::Diagnosis, knobs::Knobs, snapshot::Snapshot},
    parse::snapshot,
    ui::theme::Glyphs,
};

use super::{gzip, knobs::KnobArgs, report::Paint};

/// The read-ahead of a file.
const BUFFER: usize = 1 << 20;

/// Read a PyTorch memory snapshot: what holds the memory, where it was asked for, and why a request was refused.
///
/// A snapshot is what `torch.cuda.memory._dump_snapshot("oom.pickle")` writes after
/// `torch.cuda.memory._record_memory_history()`. It is a pickle, and is read as data: nothing in it is run, and a
/// pickle that wants anything run is refused by name. Files compressed by gzip are read as well.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph snapshot oom.pickle
  oomph snapshot --json oom.pickle.gz | jq '.devices[0].end.categories'
  oomph snapshot --config grpo.yaml --method grpo oom.pickle     with the settings, fixes have figures

To get one, before training:
  torch.cuda.memory._record_memory_history(max_entries=100000)
and in `except torch.OutOfMemoryError:`
  torch.cuda.memory._dump_snapshot('oom.pickle')

Exit status: 0 read, 2 could not be read.")]
pub struct SnapshotArgs {
    /// The snapshot; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// JSON (schema oomph.snapshot/1)
    #[arg(long)]
    json: bool,
    /// Places of the code to list for each moment
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    top: usize,
    #[command(flatten)]
    job: KnobArgs,
}

/// A snapshot with what is said of it.
pub struct Opened {
    pub report: Report,
    pub diagnosis: Diagnosis,
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// As `oomph diagnose --json` gives it; `null` where no request was refused.
    diagnosis: Option<&'a Diagnosis>,
}

/// # Errors
/// When the file cannot be read or is no snapshot.
pub fn run(args: &SnapshotArgs) -> Result<ExitCode> {
    let knobs = args.job.read()?;
    let capacity = args.job.capacity()?.map(|gpu| gpu.capacity_bytes);
    let read = open(&args.file, &knobs, capacity)?;
    if args.json {
        let diagnosis = Some(&read.diagnosis).filter(|d| !d.failures.is_empty());
        let json = Json { report: &read.report, diagnosis };
        return super::print(&(serde_json::to_string_pretty(&json)? + "\n"));
    }
    let terminal = io::stdout().is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || crate::ui::is_dumb();
    let columns = terminal.then(ratatui::crossterm::terminal::size).and_then(Result::ok).map_or(100, |(w, _)| w);
    let style = text::Style {
        width: usize::from(columns).clamp(40, 120),
        paint: Paint(terminal && !plain),
        glyphs: Glyphs::detect(&|name| std::env::var(name).ok()),
        top: args.top,
    };
    super::print(&text::text(&read.report, &read.diagnosis, &knobs, style))
}

/// Reads a snapshot and judges it.
///
/// # Errors
/// When the file cannot be read or is no snapshot; the message names the file.
fn open(path: &Path, knobs: &Knobs, capacity: Option<u64>) -> Result<Opened> {
    let name = Clean::new(&path.to_string_lossy());
    if path.as_os_str() == "-" {
        return judge(name, BufReader::with_capacity(BUFFER, io::stdin().lock()), knobs, capacity);
    }
    if path.is_dir() {
        bail!("{name} is a folder: name the snapshot in it");
    }
    let file = File::open(path).with_context(|| name.to_string())?;
    judge(name, BufReader::with_capacity(BUFFER, file), knobs, capacity)
}

/// Reads a snapshot out of any input and judges it.
///
/// # Errors
/// When it cannot be read or is no snapshot; the message names the source.
pub fn judge(name: Clean, input: impl BufRead, knobs: &Knobs, capacity: Option<u64>) -> Result<Opened> {
    let snapshot = read(input).with_context(|| name.to_string())?;
    let report = allocations::report(name, &snapshot, &|stack| snapshot::phase(&snapshot, stack));
    let diagnosis = allocations::diagnose(&report, knobs, capacity, &|stack| snapshot::python_frames(&snapshot, stack));
    Ok(Opened { report, diagnosis })
}

fn read(input: impl BufRead) -> Result<Snapshot> {
    let mut input = gzip::reader(input)?;
    let start = input.fill_buf()?;
    if start.is_empty() {
        bail!("the file is empty");
    }
    if let Some(other) = other_kind(start) {
        bail!("{other}");
    }
    Ok(snapshot::read(input)?)
}

/// What a file is that people take for a snapshot, and what to do instead.
fn other_kind(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"PK\x03\x04") {
        return Some("a zip file, such as torch.save writes: a checkpoint, not a memory snapshot");
    }
    let text = start.trim_ascii_start();
    if text.starts_with(b"<") {
        return Some("a web page: give the pickle it was made from (torch.cuda.memory._dump_snapshot writes it)");
    }
    if text.starts_with(b"{\"") || text.starts_with(b"{\n") {
        return Some("JSON, such as the profiler writes: give a pickle of torch.cuda.memory._dump_snapshot");
    }
    None
}
