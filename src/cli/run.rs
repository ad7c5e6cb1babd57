//! `oomph run -- CMD…`: starts the trainer where nothing can hurt it, and says why it died when it does.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::IsTerminal,
    os::unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;

use crate::{
    model::Clean,
    source::child,
    store::{
        folder,
        live::{Ended, Live},
    },
    ui::{self, End},
};

use super::{
    attach, knobs,
    knobs::KnobArgs,
    supervise::{self, CareArgs, Output},
};

const LOOK: Duration = Duration::from_millis(10);

/// Start a training command with the dashboard, record it, and diagnose it when it fails.
///
/// The command runs in a session of its own and writes into a file, never into a pipe that oomph would have to empty:
/// a stopped or killed oomph, a lost SSH line or a full terminal cannot slow or end it. On a terminal the dashboard is
/// shown; q leaves it and the run goes on (`oomph attach` opens it again). Without a terminal (or with --headless) the
/// command's output is passed through untouched.
///
/// oomph exits exactly as the command did: with its exit code, or by the signal that killed it (127: no such command,
/// 126: not executable). Behind the dashboard the command's standard input is /dev/null.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph run -- python train.py --config grpo.yaml
  oomph run --headless -- torchrun --nproc_per_node 8 train.py
  oomph run --report why.md -- accelerate launch train.py
  oomph run --on-failure 'curl -d @- https://example.org/hook' -- python train.py")]
pub struct RunArgs {
    /// No dashboard: pass the command's output through
    #[arg(long)]
    headless: bool,
    /// Colours of the dashboard: dark, light, …
    #[arg(long, value_name = "NAME")]
    theme: Option<String>,
    #[command(flatten)]
    care: CareArgs,
    #[command(flatten)]
    knobs: KnobArgs,
    /// The command and its arguments
    #[arg(id = "words", required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// # Errors
/// When the command could not be started at all.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    // What the command says of itself, and over that what is said beside it.
    let mut given = knobs::of_command(&child::shown(&args.command));
    given.merge(&args.knobs.read()?);
    let place = folder::new_run(Timestamp::now(), std::process::id())?;
    supervise::give(&place, &given)?;
    let headless =
        args.headless || ui::is_dumb() || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal();
    if headless {
        let status = supervise::supervise(&args.command, &args.care, &place, Output::PassOn)?;
        return Ok(ExitCode::from(child::end_like(status)));
    }
    on_screen(args, &place)
}

/// The dashboard in front of a supervisor that nothing on this terminal can reach.
fn on_screen(args: &RunArgs, place: &Path) -> Result<ExitCode> {
    let mut supervisor = start_supervisor(args, place)?;
    let _forwarding = child::forward(supervisor.id())?;
    let (end, session) = attach::attach(place, args.theme.as_deref(), args.care.no_gpu)?;
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match end {
        // Nobody is left to be told anything; the supervisor goes on.
        End::TerminalGone | End::Signal(signal_hook::consts::SIGHUP) => return Ok(ExitCode::SUCCESS),
        End::Signal(signal) => child::pass_signal(supervisor.id(), signal),
        End::Quit if attach::goes_on(place) => {
            super::say(&format!("oomph: the run goes on: `oomph attach {name}` opens its dashboard again"));
            return Ok(ExitCode::SUCCESS);
        }
        End::Quit => {}
    }
    // The supervisor has a report to write and a recording to close.
    let _ = supervisor.wait();
    let Some(ended) = Ended::read(place) else { bail!("lost sight of the command; see `oomph history`") };
    let status = match (ended.code, ended.signal) {
        (_, Some(signal)) => ExitStatus::from_raw(signal),
        (code, None) => ExitStatus::from_raw(code.unwrap_or(1) << 8),
    };
    if !status.success() {
        match session.diagnosis() {
            Some(diagnosis) => {
                let text = super::report::text(diagnosis, session.knobs(), 100, super::report::Paint(false));
                super::say(&text);
            }
            None => super::say(&format!(
                "oomph: the command failed ({status}); nothing in its output says that memory ran out"
            )),
        }
    }
    super::say(&format!("oomph: `oomph replay {name}` shows the run again; its output is in {}", place.display()));
    Ok(ExitCode::from(child::end_like(status)))
}

fn start_supervisor(args: &RunArgs, place: &Path) -> Result<Child> {
    let log = place.join("supervisor.log");
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&log)?;
    let oomph = std::env::current_exe().context("oomph could not start itself again")?;
    let mut supervisor = Command::new(oomph)
        .arg("supervise")
        .arg("--place")
        .arg(place)
        .args(args.care.words())
        .arg("--")
        .args(&args.command)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("oomph could not start itself again")?;
    while Live::read(place).is_none() {
        if supervisor.try_wait()?.is_some() && Live::read(place).is_none() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("the command was not started: {}", Clean::new(said.trim().trim_start_matches("error: ")));
        }
        thread::sleep(LOOK);
    }
    Ok(supervisor)
}
