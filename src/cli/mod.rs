//! The command line: one file a subcommand, and the only place that wires the parts together.

mod attach;
mod calls;
mod config;
mod demo;
pub mod diagnose;
mod dialects;
mod doctor;
mod estimate;
mod explain;
mod export;
mod fleet;
pub mod frame;
mod gzip;
mod history;
pub mod jobs;
pub mod knobs;
mod machine;
mod messages;
mod metrics;
mod pieces;
mod plain;
mod record;
pub mod replay;
pub mod report;
mod run;
mod scan;
mod snapshot;
mod supervise;
mod watch;

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::model::Clean;

/// Watch a training job, and learn why it ran out of memory and what will make it fit.
#[derive(Debug, Parser)]
#[command(name = "oomph", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    watch: watch::WatchArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Metrics(metrics::MetricsArgs),
    Watch(watch::WatchArgs),
    Diagnose(diagnose::DiagnoseArgs),
    Demo(demo::DemoArgs),
    Estimate(estimate::EstimateArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::DoctorArgs),
    Dialects(dialects::DialectsArgs),
    Explain(explain::ExplainArgs),
    Snapshot(snapshot::SnapshotArgs),
    Run(run::RunArgs),
    Attach(attach::AttachArgs),
    Replay(replay::ReplayArgs),
    History(history::HistoryArgs),
    Export(export::ExportArgs),
    Fleet(fleet::FleetArgs),
    /// Reads the GPUs for the dashboard.
    #[command(hide = true)]
    NvmlHelper {
        #[arg(long, default_value_t = 1000)]
        interval_ms: u64,
        /// One answer, with the versions
        #[arg(long)]
        once: bool,
    },
    /// Waits for the command of `run` behind its dashboard.
    #[command(hide = true)]
    Supervise(supervise::SuperviseArgs),
    /// The new process of `run`: a session of its own, then the command.
    #[command(hide = true)]
    ExecChild {
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
}

impl Cli {
    /// Reads this process's arguments. What is wrong with them is told here, with whatever they hold made visible.
    pub fn read() -> Result<Self, ExitCode> {
        let wrong = match Self::try_parse() {
            Ok(cli) => return Ok(cli),
            Err(wrong) => wrong,
        };
        let hostile = std::env::args_os().any(|word| Clean::new(&word.to_string_lossy()).as_str() != word);
        let plain = wrong.render().to_string();
        match (wrong.use_stderr(), crate::ui::is_dumb()) {
            (true, dumb) if dumb || hostile => say(&plain),
            (false, true) => drop(print(&plain)),
            _ => drop(wrong.print()),
        }
        Err(ExitCode::from(if wrong.use_stderr() { 2 } else { 0 }))
    }
}

/// Runs what was asked for and gives the exit code.
pub fn run(cli: Cli) -> Result<ExitCode> {
    crate::model::redact::learn(crate::source::processes::environment::own_secrets());
    let reads_logs = !matches!(
        cli.command,
        Some(
            Command::Config(_)
                | Command::Dialects(_)
                | Command::Doctor(_)
                | Command::Explain(_)
                | Command::Estimate(_)
                | Command::NvmlHelper { .. }
                | Command::ExecChild { .. }
                | Command::Supervise(_)
        )
    );
    if reads_logs {
        dialects::load();
    }
    if reads_logs || matches!(cli.command, Some(Command::Explain(_))) {
        messages::load();
    }
    match cli.command {
        None => watch::run(&cli.watch),
        Some(Command::Metrics(args)) => metrics::run(&args),
        Some(Command::Watch(args)) => watch::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Diagnose(args)) => diagnose::run(&args),
        Some(Command::Explain(args)) => explain::run(&args),
        Some(Command::Config(args)) => config::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Dialects(args)) => dialects::run(&args),
        Some(Command::Estimate(args)) => estimate::run(&args),
        Some(Command::Snapshot(args)) => snapshot::run(&args),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Attach(args)) => attach::run(&args),
        Some(Command::Supervise(args)) => supervise::run(&args),
        Some(Command::Replay(args)) => replay::run(&args),
        Some(Command::History(args)) => history::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Fleet(args)) => fleet::run(&args),
        Some(Command::NvmlHelper { once: true, .. }) => {
            crate::source::driver::helper();
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::NvmlHelper { interval_ms, .. }) => {
            crate::source::gpu::helper(std::time::Duration::from_millis(interval_ms.max(20)));
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::ExecChild { command }) => Ok(ExitCode::from(crate::source::child::exec(&command))),
    }
}

/// Saves a text under a name that is not taken: `why.md`, else `why-1.md`, …; never over anything.
///
/// # Errors
/// When the folder cannot be written.
pub fn save(path: &Path, text: &str) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt;
    let end = path.extension().map_or(String::new(), |end| format!(".{}", end.to_string_lossy()));
    for attempt in 0..100 {
        let path = match attempt {
            0 => path.to_path_buf(),
            n => path
                .with_extension("")
                .with_file_name(format!("{}-{n}{end}", path.file_stem().unwrap_or_default().to_string_lossy())),
        };
        match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other("a hundred files of this name are there already"))
}

/// Tells a person something on standard error: every line clean, and nothing happens when nobody is left to read it.
/// (`eprintln!` would panic then: a supervisor whose terminal is gone must go on.)
pub fn say(text: &str) {
    let mut err = std::io::stderr().lock();
    for line in text.lines() {
        let _ = writeln!(err, "{}", Clean::new(line));
    }
}

/// Prints a text on standard output. A reader that went away is no error.
///
/// # Errors
/// When standard output fails otherwise.
pub fn print(text: &str) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
