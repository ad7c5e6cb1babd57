//! `oomph metrics FILE…`: the points of any log or file of metrics, for people and for scripts.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{self, SyncSender},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::json;

use crate::{
    model::{
        Clean, SourceId, Timestamp,
        metric::{Head, Point, PointKind, Progress, Rows},
    },
    parse::{
        files::{AnyReader, Format, trackio},
        metrics::Record,
        tokens::{self, Lexer, Tokens},
    },
    session::series::{Family, Metrics, Precision},
    source::{
        database,
        run_folder::{self, Sort},
    },
};

use super::pieces;

/// Bytes read in one go.
const CHUNK: usize = 256 << 10;
/// What a thread takes of a long log at once.
const PIECE: usize = 512 << 10;
/// Chunks that may be read before their points are taken in.
const AHEAD: usize = 4;

/// Print the metric points of any supported log or metrics file.
///
/// Reads the console logs of trainers, TensorBoard event files, offline W&B runs, trainer_state.json, trackio databases,
/// CSV and JSON lines. Of a folder it reads what belongs to the newest run in it, and gives each step once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph metrics train.log
  oomph metrics --json train.log | jq 'select(.kind == \"eval\")'
  oomph metrics output/
  ssh node cat train.log | oomph metrics -")]
pub struct MetricsArgs {
    /// Logs, metrics files or run folders; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One JSON object a line: the points, then a summary
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When a file cannot be read.
pub fn run(args: &MetricsArgs) -> Result<ExitCode> {
    let stdout = io::stdout().lock();
    let mut report = Report {
        out: BufWriter::with_capacity(1 << 16, stdout),
        json: args.json,
        metrics: Metrics::without_curves(),
        seen: HashSet::new(),
        seen_kinds: Vec::new(),
        sum: Summary::default(),
        line: Vec::new(),
    };
    match report.all(&args.files).and_then(|()| report.end()) {
        // Who reads the output has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

/// What all files together gave.
#[derive(Debug, Default)]
struct Summary {
    dialects: Vec<&'static str>,
    total_steps: Option<u64>,
    progress: Option<Progress>,
    points: u64,
    segments: u32,
    unparsed: u64,
    files: Vec<Clean>,
}

/// In a folder: what a file itself gave.
type Own = Option<Vec<(PointKind, Option<u64>)>>;

/// Why an input could not be read to its end.
#[derive(Debug)]
enum Failed {
    Input(io::Error),
    Output(anyhow::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Input(error)
    }
}

/// A piece of a long log, and what a lexer found in it.
#[derive(Default)]
struct Found {
    bytes: Vec<u8>,
    tokens: Tokens,
    lexer: Lexer,
}

struct Report<W: Write> {
    out: W,
    json: bool,
    metrics: Metrics,
    /// In a folder: steps that an earlier file gave, for others only fill in what is missing.
    seen: HashSet<(PointKind, u64)>,
    seen_kinds: Vec<PointKind>,
    sum: Summary,
    line: Vec<u8>,
}

impl<W: Write> Report<W> {
    fn all(&mut self, paths: &[PathBuf]) -> Result<()> {
        for path in paths {
            if path.is_dir() { self.folder(path)? } else { self.file(path, false)? }
        }
        Ok(())
    }

    fn folder(&mut self, folder: &Path) -> Result<()> {
        let mut found = run_folder::find(folder).files;
        if found.is_empty() {
            bail!(
                "{}: no log, event file or other file of metrics in this folder",
                Clean::new(&folder.to_string_lossy())
            );
        }
        // Full precision first.
        found.sort_by_key(|(sort, _)| match sort {
            Sort::State | Sort::Wandb | Sort::Database | Sort::Table => 0,
            Sort::Events => 1,
            Sort::Log => 2,
        });
        for (_, path) in found {
            self.file(&path, true)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, fills_in: bool) -> Result<()> {
        let shown = Clean::new(&path.to_string_lossy());
        let cannot = || format!("cannot read {shown}");
        let mut own = fills_in.then(Vec::new);
        let reader = AnyReader::for_path(&path.to_string_lossy());
        let reader = if path.as_os_str() == "-" {
            self.stream(io::stdin(), reader, &shown, &mut own)
        } else {
            let file = File::open(path).with_context(cannot)?;
            if let Some(other) = super::watch::no_log(path) {
                bail!("{other}");
            }
            if pieces::is_long(&file) {
                self.long(file, reader, &shown, &mut own)
            } else {
                self.stream(file, reader, &shown, &mut own)
            }
        };
        // Only what is read can fail: who reads the output may have seen enough.
        let reader = reader.map_err(|error| match error {
            Failed::Input(error) => anyhow!(error).context(cannot()),
            Failed::Output(error) => error,
        })?;
        let mut records = Vec::new();
        if reader.format() == Some(Format::Sqlite) {
            let mut rows = trackio::Rows::default();
            database::read_metrics(path, trackio::QUERY, &mut |row| {
                rows.put(row.run, row.step, row.time, row.metrics, &mut records);
            })
            .with_context(|| format!("{shown} is a database, but not one of trackio"))?;
            self.add("trackio");
            self.add_segments(rows.segments(), fills_in);
            self.sum.unparsed += rows.unparsed_bytes();
        } else {
            reader.dialects().iter().for_each(|name| self.add(name));
            self.add_segments(reader.segments(), fills_in);
            self.sum.unparsed += reader.unparsed_bytes();
        }
        self.take(&mut records, &shown, &mut own)?;
        let own = own.unwrap_or_default();
        self.seen.extend(own.iter().filter_map(|(kind, step)| Some((*kind, (*step)?))));
        self.seen_kinds.extend(own.iter().map(|(kind, _)| *kind));
        self.seen_kinds.sort_unstable_by_key(|kind| *kind as u8);
        self.seen_kinds.dedup();
        self.sum.total_steps = reader.total_steps().or(self.sum.total_steps);
        self.sum.progress = reader.progress().or(self.sum.progress);
        self.sum.files.push(shown);
        Ok(())
    }

    /// Reads an input from here to its end.
    fn stream(
        &mut self,
        input: impl Read + Send,
        reader: AnyReader,
        shown: &Clean,
        own: &mut Own,
    ) -> Result<AnyReader, Failed> {
        // Reading and taking in each have a thread.
        thread::scope(|scope| {
            let (send, receive) = mpsc::sync_channel(AHEAD);
            let reading = scope.spawn(move || read(input, reader, &send));
            for mut records in receive {
                self.take(&mut records, shown, own).map_err(Failed::Output)?;
            }
            let read = reading.join().map_err(|_| Failed::Output(anyhow!("the reader of {shown} failed")))?;
            read.map_err(Failed::Input)
        })
    }

    /// Reads a long file: what can be read of a log without knowing what stood before, several threads find.
    fn long(
        &mut self,
        mut file: File,
        mut reader: AnyReader,
        shown: &Clean,
        own: &mut Own,
    ) -> Result<AnyReader, Failed> {
        let mut records = Vec::new();
        let mut start = vec![0; CHUNK];
        let got = file.read(&mut start)?;
        reader.feed(start.get(..got).unwrap_or_default(), &mut records);
        self.take(&mut records, shown, own).map_err(Failed::Output)?;
        if !reader.is_plain_text() {
            return self.stream(file, reader, shown, own);
        }
        let rest = file.metadata()?.len().saturating_sub(got as u64);
        let make = |piece: u64, mut found: Found| {
            let begin = got as u64 + piece * PIECE as u64;
            found.bytes.resize(PIECE, 0);
            let got = read_at(&file, &mut found.bytes, begin)?;
            found.bytes.truncate(got);
            found.lexer.read(&found.bytes, tokens::begin(&found.bytes), &mut found.tokens);
            Ok(found)
        };
        pieces::in_order(rest.div_ceil(PIECE as u64), make, |_, found| {
            reader.take(&found.bytes, &found.tokens, &mut records);
            self.take(&mut records, shown, own).map_err(Failed::Output)?;
            Ok::<_, Failed>(found)
        })?;
        reader.finish(&mut records);
        self.take(&mut records, shown, own).map_err(Failed::Output)?;
        Ok(reader)
    }

    /// The files of a folder tell of the same restarts.
    fn add_segments(&mut self, segments: u32, fills_in: bool) {
        let known = self.sum.segments;
        self.sum.segments = if fills_in { known.max(segments) } else { known + segments };
    }

    fn add(&mut self, dialect: &'static str) {
        if !self.sum.dialects.contains(&dialect) {
            self.sum.dialects.push(dialect);
        }
    }

    fn take(&mut self, records: &mut Vec<Record>, file: &Clean, own: &mut Own) -> Result<()> {
        for record in records.drain(..) {
            match record {
                Record::Point(point) => self.point(point, file, own)?,
                Record::Rows(rows) if own.is_some() => {
                    rows.points().try_for_each(|point| self.point(point, file, own))?;
                }
                Record::Rows(rows) => self.rows(&rows, file)?,
                Record::Rank(_) | Record::Progress(_) => {}
            }
        }
        Ok(())
    }

    fn point(&mut self, point: Point, file: &Clean, own: &mut Own) -> Result<()> {
        if let Some(own) = own {
            let known = point
                .step
                .map_or_else(|| self.seen_kinds.contains(&point.kind), |step| self.seen.contains(&(point.kind, step)));
            if known {
                return Ok(());
            }
            own.push((point.kind, point.step));
        }
        self.sum.points += 1;
        if !self.json {
            self.metrics.push(Timestamp::UNIX_EPOCH, SourceId(0), point);
            return Ok(());
        }
        self.line.clear();
        let raw = point.raw.iter().map(|(key, value)| (key, *value));
        write_point(&mut self.line, point.kind, &point.head(), raw, point.canonical.iter().copied(), file)?;
        Ok(self.out.write_all(&self.line)?)
    }

    fn rows(&mut self, rows: &Rows, file: &Clean) -> Result<()> {
        self.sum.points += rows.heads.len() as u64;
        if !self.json {
            self.metrics.push_rows(Timestamp::UNIX_EPOCH, SourceId(0), Precision::Console, rows);
            return Ok(());
        }
        for (head, values) in rows.iter() {
            self.line.clear();
            let raw = rows.shape.names.iter().zip(values.iter().copied());
            write_point(&mut self.line, rows.shape.kind, head, raw, rows.shape.canonical(values), file)?;
            self.out.write_all(&self.line)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let sum = &self.sum;
        if self.json {
            let line = json!({
                "type": "summary",
                "schema": "oomph.metrics/1",
                "dialects": sum.dialects,
                "total_steps": sum.total_steps,
                "progress": sum.progress,
                "points": sum.points,
                "segments": sum.segments.max(1),
                "unparsed_bytes": sum.unparsed,
                "files": sum.files,
            });
            writeln!(self.out, "{line}")?;
        } else {
            let dialects = if sum.dialects.is_empty() { "unknown".to_string() } else { sum.dialects.join(", ") };
            writeln!(self.out, "format: {dialects}\npoints: {}", sum.points)?;
            if let Some(total) = sum.total_steps {
                writeln!(self.out, "steps of the run: {total}")?;
            }
            if sum.segments > 1 {
                writeln!(self.out, "restarts: {}", sum.segments - 1)?;
            }
            if sum.unparsed > 0 {
                writeln!(self.out, "bytes not understood: {}", sum.unparsed)?;
            }
            table(&mut self.out, "training", self.metrics.train())?;
            table(&mut self.out, "validation", self.metrics.eval())?;
        }
        self.out.flush()?;
        Ok(())
    }
}

/// Fills the room from this offset on, as far as there is something.
fn read_at(file: &File, room: &mut [u8], begin: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, begin + filled as u64) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads a whole input; what it gives goes into the channel.
fn read(mut input: impl Read, mut reader: AnyReader, send: &SyncSender<Vec<Record>>) -> io::Result<AnyReader> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match input.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let mut records = Vec::new();
        if count > 0 {
            reader.feed(chunk.get(..count).unwrap_or_default(), &mut records);
            reader.take_console();
        } else {
            reader.finish(&mut records);
        }
        let is_wanted = records.is_empty() || send.send(records).is_ok();
        if count == 0 || !is_wanted || reader.format() == Some(Format::Sqlite) {
            return Ok(reader);
        }
    }
}

fn table(out: &mut impl Write, title: &str, family: &Family) -> io::Result<()> {
    if family.is_empty() {
        return Ok(());
    }
    let width = family.keys().map(|name| name.as_str().len()).max().unwrap_or(0).clamp(title.len(), 48);
    writeln!(
        out,
        "\n{title:width$}  {:>8}  {:>12}  {:>12}  {:>12}  {:>10}",
        "samples", "min", "max", "last", "at step"
    )?;
    for (name, series) in family.iter() {
        let (min, max) = series.min_max().map_or((f64::NAN, f64::NAN), |(min, max)| (min, max));
        let last = series.last();
        let step = last.and_then(|s| s.step).map_or_else(|| "-".to_string(), |s| s.to_string());
        let last = last.map_or_else(|| "-".to_string(), |s| short(s.value));
        writeln!(
            out,
            "{name:width$}  {:>8}  {:>12}  {:>12}  {last:>12}  {step:>10}",
            series.len(),
            short(min),
            short(max)
        )?;
    }
    Ok(())
}

/// Five digits.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        "-".to_string()
    } else if value.fract() == 0.0 && magnitude < 1e9 {
        format!("{value}")
    } else if (1e-3..1e6).contains(&magnitude) {
        let before = magnitude.log10().floor().max(0.0) as usize;
        format!("{value:.*}", 4usize.saturating_sub(before))
    } else {
        format!("{value:.3e}")
    }
}

/// A point as a line of JSON. Written by hand: a log can have millions of numbers.
fn write_point<'a>(
    out: &mut Vec<u8>,
    kind: PointKind,
    head: &Head,
    raw: impl Iterator<Item = (&'a Clean, f64)>,
    canonical: impl Iterator<Item = (&'static str, f64)>,
    file: &Clean,
) -> Result<()> {
    let kind = match kind {
        PointKind::Train => "train",
        PointKind::Eval => "eval",
        PointKind::Final => "final",
    };
    write!(out, r#"{{"type":"point","kind":"{kind}","step":"#)?;
    integer(out, head.step)?;
    out.extend_from_slice(b",\"epoch\":");
    match head.epoch {
        Some(epoch) => number(out, epoch)?,
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"rank\":");
    integer(out, head.rank.map(u64::from))?;
    write!(out, ",\"segment\":{},\"source\":", head.segment)?;
    serde_json::to_writer(&mut *out, file)?;
    write!(out, ",\"line\":{},\"raw\":{{", head.line)?;
    for (i, (key, value)) in raw.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        text(out, key.as_str())?;
        out.push(b':');
        number(out, value)?;
    }
    out.extend_from_slice(b"},\"canonical\":{");
    for (i, (key, value)) in canonical.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        text(out, key)?;
        out.push(b':');
        number(out, value)?;
    }
    out.extend_from_slice(b"}}\n");
    Ok(())
}

fn integer(out: &mut Vec<u8>, value: Option<u64>) -> io::Result<()> {
    match value {
        Some(value) => Ok(serde_json::to_writer(out, &value)?),
        None => out.write_all(b"null"),
    }
}

/// A key; nearly all need no escape.
fn text(out: &mut Vec<u8>, text: &str) -> Result<()> {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text)?;
    }
    Ok(())
}

/// `nan` and `inf` are strings in JSON.
fn number(out: &mut Vec<u8>, value: f64) -> Result<()> {
    if value.is_nan() {
        out.extend_from_slice(b"\"nan\"");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"\"inf\"" } else { b"\"-inf\"" });
    } else if value.fract() == 0.0 && value.abs() < 9e15 {
        serde_json::to_writer(&mut *out, &(value as i64))?;
    } else {
        serde_json::to_writer(&mut *out, &value)?;
    }
    Ok(())
}
