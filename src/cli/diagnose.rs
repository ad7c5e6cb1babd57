//! `oomph diagnose`: reads pasted or saved logs, names each failure and what will make it fit.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    diagnose::diagnose,
    memory,
    model::{Clean, failure::Diagnosis, knobs::Knobs},
    parse::{
        facts::Facts,
        oom::{self, Scanner},
        snapshot,
        utf16::Utf16,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    /// Ready for an issue: secrets, user names and home folders are taken out
    Markdown,
}

/// Read pasted or saved logs; name each out-of-memory failure, its cause, and what will make it fit.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph diagnose train.log
  oomph diagnose -                                    paste, then Ctrl-D
  oomph diagnose --config grpo.yaml --method grpo train.log    with a plan that has figures
  kubectl logs pod | oomph diagnose --json - | jq .
  oomph diagnose --format markdown train.log > issue.md

Exit status: 0 no failure found, 1 found, 2 could not read.")]
pub struct DiagnoseArgs {
    /// Log files, gzipped ones too, or PyTorch's memory snapshots; `-` or nothing reads standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// JSON (schema oomph.diagnosis/1): the same as --format json
    #[arg(long)]
    json: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    job: super::knobs::KnobArgs,
}

use super::{gzip, pieces, report, scan};

/// # Errors
/// When a file cannot be read.
pub fn run(args: &DiagnoseArgs) -> Result<ExitCode> {
    let mut incidents = Vec::new();
    let mut of_snapshots = Vec::new();
    let mut knobs = args.job.read()?;
    let stdin = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &stdin[..] } else { &args.files };
    for path in files {
        let name = Clean::new(&path.to_string_lossy());
        let input: Box<dyn Read> = if path.as_os_str() == "-" {
            if io::stdin().is_terminal() {
                super::say("oomph: paste the text of the failure, then press Ctrl-D on an empty line");
            }
            Box::new(io::stdin().lock())
        } else {
            if path.is_dir() {
                anyhow::bail!("{name} is a folder: name the log file in it");
            }
            Box::new(File::open(path).with_context(|| name.to_string())?)
        };
        let mut input = gzip::reader(BufReader::with_capacity(1 << 18, input)).with_context(|| name.to_string())?;
        if snapshot::recognise(input.fill_buf().with_context(|| name.to_string())?) == Some(true) {
            // A memory snapshot of PyTorch: who held the memory is in it, where a log has a message.
            let capacity = args.job.capacity()?.map(|gpu| gpu.capacity_bytes);
            of_snapshots.extend(super::snapshot::judge(name, input, &knobs, capacity)?.diagnosis.failures);
            continue;
        }
        let start = input.fill_buf().with_context(|| name.to_string())?;
        if start.is_empty() {
            super::say(&format!(
                "oomph: {} is empty",
                if path.as_os_str() == "-" { "the text" } else { name.as_str() }
            ));
        } else if memchr::memchr_iter(0, start).count() > start.len() / 20
            && start[0] != 0
            && Utf16::recognise(start).is_none()
        {
            super::say(&format!("oomph: {name} looks like a binary file, not a log; it is searched all the same"));
        }
        let mut scanner = Scanner::new(name.clone());
        let mut facts = Facts::default();
        let mut utf16 = Utf16::recognise(start);
        let long = File::open(path).ok().filter(|file| utf16.is_none() && pieces::is_long(file));
        if let Some(file) = long {
            scan::file(&file, &mut scanner, &mut facts).with_context(|| name.to_string())?;
        } else {
            let mut chunk = vec![0; 1 << 18];
            let mut text = Vec::new();
            loop {
                let n = input.read(&mut chunk).with_context(|| name.to_string())?;
                if n == 0 {
                    break;
                }
                let mut part = &chunk[..n];
                if let Some(utf16) = &mut utf16 {
                    text.clear();
                    utf16.decode(part, &mut text);
                    part = &text;
                }
                scanner.feed(part);
                facts.feed(part);
            }
        }
        scanner.finish();
        knobs.merge(facts.knobs());
        incidents.extend_from_slice(scanner.incidents());
    }
    let knobs = memory::defaults::recognised(&knobs);
    if files.len() > 1 {
        incidents = oom::fold(incidents);
    }
    let mut diagnosis = diagnose(&incidents, &knobs);
    if let Some(first) = of_snapshots.first().filter(|_| diagnosis.first_oom().is_none()) {
        diagnosis.summary = first.summary.clone();
    }
    diagnosis.failures.extend(of_snapshots);
    let text = match args.format {
        _ if args.json => serde_json::to_string_pretty(&diagnosis)? + "\n",
        Format::Json => serde_json::to_string_pretty(&diagnosis)? + "\n",
        Format::Markdown => report::markdown(&diagnosis, &knobs),
        Format::Text => {
            let terminal = io::stdout().is_terminal();
            let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || crate::ui::is_dumb();
            let columns =
                terminal.then(ratatui::crossterm::terminal::size).and_then(Result::ok).map_or(100, |(w, _)| w);
            report::text(&diagnosis, &knobs, usize::from(columns), report::Paint(terminal && !plain))
        }
    };
    super::print(&text)?;
    Ok(ExitCode::from(u8::from(diagnosis.failures.iter().any(|f| f.is_oom))))
}

/// Judges a text that was pasted.
pub fn judge_text(name: &str, text: &[u8], knobs: &Knobs) -> Diagnosis {
    let mut scanner = Scanner::new(Clean::new(name));
    let mut facts = Facts::default();
    scanner.feed(text);
    scanner.finish();
    facts.feed(text);
    let mut all = facts.knobs().clone();
    all.merge(knobs);
    diagnose(scanner.incidents(), &all)
}
