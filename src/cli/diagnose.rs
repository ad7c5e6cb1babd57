//! `oomph diagnose`: reads pasted or saved logs, names each failure and what will make it fit.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    diagnose::diagnose,
    model::{Clean, failure::Diagnosis, knobs::Knobs},
    parse::{facts::Facts, oom::Scanner},
};

/// Read pasted or saved logs; name each out-of-memory failure, its cause, and what will make it fit.
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// Log files; `-` or nothing reads standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// JSON (schema oomph.diagnosis/1)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    job: super::knobs::KnobArgs,
}

/// # Errors
/// When a file cannot be read.
pub fn run(args: &DiagnoseArgs) -> Result<ExitCode> {
    let mut incidents = Vec::new();
    let mut knobs = args.job.read()?;
    let stdin = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &stdin[..] } else { &args.files };
    for path in files {
        let name = Clean::new(&path.to_string_lossy());
        let mut input: Box<dyn Read> = if path.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(path).with_context(|| name.to_string())?)
        };
        let mut scanner = Scanner::new(name.clone());
        let mut facts = Facts::default();
        let mut chunk = vec![0; 1 << 18];
        loop {
            let n = input.read(&mut chunk).with_context(|| name.to_string())?;
            if n == 0 {
                break;
            }
            scanner.feed(&chunk[..n]);
            facts.feed(&chunk[..n]);
        }
        scanner.finish();
        knobs.merge(facts.knobs());
        incidents.extend_from_slice(scanner.incidents());
    }
    let diagnosis = diagnose(&incidents, &knobs);
    let text = if args.json { serde_json::to_string_pretty(&diagnosis)? } else { format!("{}", diagnosis.summary) };
    super::print(&(text + "\n"))?;
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
