//! `oomph dialects`: the log formats that are known, which one a log is of, and a first draft for one that is unknown;
//! the user's own dialects.

use std::{
    fmt::Write,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    model::{
        Clean,
        metric::{Point, PointKind},
    },
    parse::{
        dialects::{self, About, Dialect, Match, draft},
        files::{AnyReader, Format},
        frames,
        metrics::points,
    },
};

/// Bytes of a log that are looked at.
const MAX_LOG: u64 = 64 << 20;
/// Longest dialect file.
const MAX_FILE: u64 = 1 << 20;

/// List the log formats that are known; say which one a log is of; draft one.
///
/// A dialect is a TOML file with the lines of one trainer's log. Your own lie in the folder dialects beside config.toml
/// and are tried before the built-in ones.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph dialects                               every format
  oomph dialects test train.log                which one this is, and why
  oomph dialects new train.log > mine.toml     a first draft for a log that nobody knows
  oomph dialects test --with mine.toml train.log
  mkdir -p ~/.config/oomph/dialects && mv mine.toml ~/.config/oomph/dialects/")]
pub struct DialectsArgs {
    #[command(subcommand)]
    command: Option<DialectsCommand>,
    /// JSON (schema oomph.dialects/1)
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum DialectsCommand {
    /// Say which dialect a log is of, why, and what of it was not understood; exit status 1 if none
    Test {
        /// A log, or another file of metrics
        file: PathBuf,
        /// Try this dialect first, and check its samples
        #[arg(long, value_name = "TOML")]
        with: Vec<PathBuf>,
    },
    /// Draft a dialect from the lines of a log that look most like measurements
    New {
        /// The log
        file: PathBuf,
        /// Its name; by default the log's
        #[arg(long)]
        name: Option<String>,
    },
}

/// # Errors
/// When a file cannot be read or holds no dialect.
pub fn run(args: &DialectsArgs) -> Result<ExitCode> {
    match &args.command {
        None => {
            load();
            list(args.json)
        }
        Some(DialectsCommand::Test { file, with }) => test(file, with, args.json),
        Some(DialectsCommand::New { file, name }) => {
            load();
            new(file, name.as_deref())
        }
    }
}

/// Where the user's dialects belong; the folder need not be there.
fn folder() -> Option<PathBuf> {
    super::config::folder("dialects")
}

/// Reads the user's dialects, for whatever reads logs. One that is no dialect is told of and left out.
pub fn load() {
    let mut known = Vec::new();
    for path in user_files() {
        match read(&path) {
            Ok(dialect) => known.push(dialect),
            Err(error) => super::say(&format!("warning: this dialect is left out: {error:#}")),
        }
    }
    dialects::add(known);
}

fn user_files() -> Vec<PathBuf> {
    super::config::files("dialects")
}

/// The user's dialects that can be read, and what is wrong with the others.
pub(super) fn user() -> (usize, Vec<String>) {
    let (good, bad): (Vec<_>, Vec<_>) = user_files().iter().map(|path| read(path)).partition(Result::is_ok);
    (good.len(), bad.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect())
}

/// A dialect's file; its samples must give what they say.
fn read(path: &Path) -> Result<Dialect> {
    let shown = Clean::new(&path.to_string_lossy());
    let (bytes, cut) = head(path, MAX_FILE)?;
    if cut {
        bail!("{shown}: longer than a dialect is");
    }
    let text = String::from_utf8(bytes).with_context(|| format!("{shown} is not text"))?;
    let mut dialect = dialects::read(&text).map_err(|e| anyhow::anyhow!("{shown}: {}", e.trim_end()))?;
    for (nth, sample) in dialect.samples.iter().enumerate() {
        if let Err(what) = dialects::check(&dialect, sample) {
            bail!("{shown}: [[sample]] {}: {what}: {}", nth + 1, Clean::new(&sample.line));
        }
    }
    dialect.file = Some(shown);
    Ok(dialect)
}

/// The first bytes of a file, and whether there are more.
fn head(path: &Path, most: u64) -> Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let cannot = || format!("cannot read {}", Clean::new(&path.to_string_lossy()));
    if path.as_os_str() == "-" {
        std::io::stdin().take(most + 1).read_to_end(&mut bytes).with_context(cannot)?;
    } else {
        File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).with_context(cannot)?;
    }
    let cut = bytes.len() as u64 > most;
    bytes.truncate(most as usize);
    Ok((bytes, cut))
}

fn list(as_json: bool) -> Result<ExitCode> {
    let all = dialects::list();
    if as_json {
        return super::print(&format!("{}\n", json!({ "schema": "oomph.dialects/1", "dialects": all })));
    }
    let mut out = String::new();
    let width = all.iter().map(|d| d.name.as_str().chars().count()).max().unwrap_or(0);
    for About { name, told_by, file, .. } in &all {
        let own = file.as_ref().map(|f| format!("  (yours: {f})")).unwrap_or_default();
        let _ = writeln!(out, "{name:width$}  {told_by}{own}");
    }
    if let Some(folder) = folder() {
        let _ = writeln!(out, "\nYour own belong in {}; `oomph dialects new LOG` drafts one.", folder.display());
    }
    super::print(&out)
}

/// What the whole reader makes of a log.
#[derive(Debug, Default)]
struct Reading {
    train: u64,
    eval: u64,
    first: Option<Point>,
    last: Option<Point>,
}

fn test(file: &Path, with: &[PathBuf], as_json: bool) -> Result<ExitCode> {
    let mut own = with.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    own.extend(user_files().iter().filter_map(|path| match read(path) {
        Ok(dialect) => Some(dialect),
        Err(error) => {
            super::say(&format!("warning: this dialect is left out: {error:#}"));
            None
        }
    }));
    dialects::add(own);
    let (log, cut) = head(file, MAX_LOG)?;
    let shown = Clean::new(&file.to_string_lossy());
    let mut reader = AnyReader::for_path(&file.to_string_lossy());
    let mut records = Vec::new();
    reader.feed(&log, &mut records);
    reader.finish(&mut records);
    let mut reading = Reading::default();
    for point in points(records) {
        match point.kind {
            PointKind::Eval => reading.eval += 1,
            PointKind::Train | PointKind::Final => reading.train += 1,
        }
        reading.first.get_or_insert_with(|| point.clone());
        reading.last = Some(point);
    }
    let texts = if reader.format() == Some(Format::Text) { frames::texts(&log) } else { Vec::new() };
    let matches = dialects::matches(&texts);
    let spoken = reader.dialects().first().copied();
    let found = reading.train + reading.eval > 0;
    let code = ExitCode::from(u8::from(!found));
    if as_json {
        let out = json!({
            "schema": "oomph.dialects/1", "file": shown, "dialect": spoken, "train": reading.train, "eval": reading.eval,
            "segments": reader.segments(), "total_steps": reader.total_steps(), "bytes": log.len(),
            "unparsed_bytes": reader.unparsed_bytes(), "matches": matches,
        });
        super::print(&format!("{out}\n"))?;
        return Ok(code);
    }
    let mut out = String::new();
    match spoken {
        Some(name) => {
            let _ = writeln!(out, "{shown}: {name}");
            why(&mut out, name, &matches, &texts, &reading);
        }
        None => {
            let _ = writeln!(out, "{shown}: no dialect that oomph knows");
        }
    }
    if found {
        let _ = writeln!(
            out,
            "\n{} training and {} validation points in {} run(s)",
            reading.train,
            reading.eval,
            reader.segments()
        );
        for (which, point) in [("first", &reading.first), ("last", &reading.last)] {
            let _ = writeln!(out, "  {which:5}  {}", point.as_ref().map(told).unwrap_or_default());
        }
    }
    if let Some(total) = reader.total_steps() {
        let _ = writeln!(out, "the whole run has {total} steps");
    }
    let others: Vec<&Match> = matches.iter().filter(|m| Some(m.name.as_str()) != spoken).collect();
    if !others.is_empty() {
        out += "\nAlso read lines of it, if asked alone:\n";
        for m in others {
            let _ = writeln!(
                out,
                "  {}: {} lines, first line {}: {}",
                m.name,
                m.lines,
                m.first_line,
                short(m.first_text.as_str())
            );
        }
    }
    let _ = writeln!(out, "\nnot understood: {} of {} bytes", reader.unparsed_bytes(), log.len());
    if cut {
        let _ = writeln!(out, "(only the first {} MiB were looked at)", MAX_LOG >> 20);
    }
    if !found {
        let _ = writeln!(out, "`oomph dialects new {shown}` drafts a dialect from its lines.");
    }
    super::print(&out)?;
    Ok(code)
}

/// Why a log is of the dialect.
fn why(out: &mut String, name: &str, matches: &[Match], texts: &[(u64, String)], reading: &Reading) {
    if let Some(m) = matches.iter().find(|m| m.name.as_str() == name) {
        if let Some(file) = &m.file {
            let _ = writeln!(out, "  your dialect: {file}");
        }
        let _ = writeln!(
            out,
            "  because {} lines hold `{}` and match its pattern; line {} is the first:",
            m.lines, m.literal, m.first_line
        );
        let _ = writeln!(out, "    {}\n    {}", short(m.first_text.as_str()), m.pattern);
        return;
    }
    if let Some(about) = dialects::list().iter().find(|d| d.name.as_str() == name) {
        let _ = writeln!(out, "  told by: {}", about.told_by);
    }
    let Some(point) = &reading.first else { return };
    // Of the frames of a line the one with the point.
    let key = point.raw.first().map_or("", |(name, _)| name.as_str());
    let of_line = || texts.iter().filter(|(number, _)| *number == point.line);
    if let Some((line, text)) = of_line().find(|(_, text)| text.contains(key)).or_else(|| of_line().next_back()) {
        let _ = writeln!(out, "  line {line} is the first with a point:\n    {}", short(text));
    }
}

fn told(point: &Point) -> String {
    let step = point.step.map(|s| format!("step {s}"));
    let epoch = point.epoch.map(|e| format!("epoch {e}"));
    let values = point.raw.iter().take(8).map(|(name, value)| format!("{name} {value}"));
    let more = (point.raw.len() > 8).then(|| format!("and {} more", point.raw.len() - 8));
    step.into_iter().chain(epoch).chain(values).chain(more).collect::<Vec<_>>().join("  ")
}

fn short(text: &str) -> String {
    const MOST: usize = 160;
    let text = Clean::new(text);
    let mut short: String = text.as_str().chars().take(MOST).collect();
    if short.len() < text.as_str().len() {
        short.push('…');
    }
    short
}

fn new(file: &Path, name: Option<&str>) -> Result<ExitCode> {
    let (log, _) = head(file, MAX_LOG)?;
    let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).filter(|s| s != "-");
    let name = name.map(str::to_string).or(stem).unwrap_or_else(|| "mine".to_string());
    let mut reader = AnyReader::default();
    let mut records = Vec::new();
    reader.feed(&log, &mut records);
    reader.finish(&mut records);
    let points = points(records).count();
    if points > 0 {
        let known = reader.dialects().join(", ");
        super::say(&format!("note: oomph reads {points} points of this log already, as {known}"));
    }
    let texts = frames::texts(&log);
    let draft = draft::draft(&name, texts.iter().map(|(_, text)| text.as_str()))
        .map_err(|why| anyhow::anyhow!("{}: nothing to draft from: {why}", Clean::new(&file.to_string_lossy())))?;
    super::print(&draft)
}
