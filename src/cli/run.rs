//! `oomph run -- CMD…`: starts the trainer where nothing can hurt it, and says why it died when it does.

use std::{
    ffi::OsString,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;

use crate::{
    model::{Event, EventKind, SourceId, knobs::Knobs},
    session::Session,
    source::{
        child::{self, Spool},
        file::Tail,
    },
    store::{
        folder,
        recorder::{Recorder, kept},
        runs::RECORDING,
    },
};

/// How often the output is looked at while it is passed on.
const LOOK: Duration = Duration::from_millis(50);

/// Start a training command, pass its output through, and diagnose it when it fails.
///
/// The command runs in a session of its own and writes into a file, never into a pipe that oomph would have to empty:
/// a stopped or killed oomph, a lost SSH line or a full terminal cannot slow or end it. oomph exits exactly as the
/// command did: with its exit code, or by the signal that killed it (127: no such command, 126: not executable).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph run -- python train.py --config grpo.yaml
  oomph run -- torchrun --nproc_per_node 8 train.py
  oomph run --report why.md -- accelerate launch train.py
  oomph run --on-failure 'curl -d @- https://example.org/hook' -- python train.py")]
pub struct RunArgs {
    /// Write a Markdown report here when the command fails
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Do not record the run
    #[arg(long)]
    no_record: bool,
    /// Run this shell command when the command fails; the Markdown report is its standard input
    #[arg(long, value_name = "CMD")]
    on_failure: Option<String>,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// # Errors
/// When the command could not be started at all.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let place = folder::new_run(Timestamp::now(), std::process::id())?;
    let spool = Spool::in_folder(&place, child::outputs_are_apart());
    let mut running = child::start(&args.command, &spool, Stdio::inherit()).context("the command was not started")?;
    let mut watch = Watch { session: Session::new(Knobs::default()), recorder: None };
    if !args.no_record {
        watch.record(&place.join(RECORDING), &args.command);
    }
    watch.take(EventKind::Started { command: child::shown(&args.command), pid: running.pid() });
    let mut tails: Vec<Tail> =
        spool.files().into_iter().zip(0..).map(|(path, id)| Tail::new(SourceId(id), path)).collect();
    let waiting = thread::spawn(move || (running.wait(), running));
    while !waiting.is_finished() {
        let before = Instant::now();
        if !pass_on(&mut tails, &mut watch) {
            thread::sleep(LOOK.saturating_sub(before.elapsed()));
        }
    }
    let (status, running) = waiting.join().map_err(|_| anyhow::anyhow!("lost sight of the command"))?;
    let status = status.context("the command's end could not be learnt")?;
    while pass_on(&mut tails, &mut watch) {}
    for id in 0..tails.len() {
        watch.take(EventKind::Ended { source: SourceId(u16::try_from(id).unwrap_or(u16::MAX)) });
    }
    watch.take(EventKind::Exited { code: status.code(), signal: status.signal() });
    if running.has_survivors() {
        eprintln!("oomph: processes that the command started are still running; they were left alone");
    }
    if !status.success() {
        tell(args, &watch.session, status);
    }
    watch.finish(status);
    Ok(ExitCode::from(child::end_like(status)))
}

/// What is known of the run, and its recording.
struct Watch {
    session: Session,
    recorder: Option<Arc<Recorder>>,
}

impl Watch {
    fn record(&mut self, path: &std::path::Path, command: &[OsString]) {
        match Recorder::start(path) {
            Err(error) => eprintln!("oomph: not recording: {error}"),
            Ok(recorder) => {
                let recorder = Arc::new(recorder);
                super::record::describe(&recorder, &child::shown(command), &Knobs::default());
                self.session.observe(super::record::listener(&recorder));
                self.recorder = Some(recorder);
            }
        }
    }

    fn take(&mut self, kind: EventKind) {
        let event = Event { at: kept(Timestamp::now()), kind };
        if let Some(recorder) = &self.recorder {
            recorder.event(&event);
        }
        self.session.apply(event);
    }

    fn finish(self, status: ExitStatus) {
        let Self { session, recorder } = self;
        let Some(recorder) = recorder else { return };
        super::record::conclude(&recorder, &session, Some(status));
        drop(session);
        recorder.finish();
    }
}

/// Copies what is new to where the command would have written it. True when there is more at once.
fn pass_on(tails: &mut [Tail], watch: &mut Watch) -> bool {
    let mut more = false;
    for (index, tail) in tails.iter_mut().enumerate() {
        more |= tail.poll(&mut |kind| {
            if let EventKind::Output { data, .. } = &kind {
                // A reader that went away is no reason to end: the spool has everything.
                let _ = if index == 0 {
                    let mut out = std::io::stdout().lock();
                    out.write_all(data).and_then(|()| out.flush())
                } else {
                    std::io::stderr().lock().write_all(data)
                };
            }
            watch.take(kind);
        });
    }
    more
}

/// The diagnosis after a failure: on standard error, in the report, to the user's command.
fn tell(args: &RunArgs, session: &Session, status: ExitStatus) {
    let Some(diagnosis) = session.diagnosis() else {
        eprintln!("oomph: the command failed ({status}); nothing in its output says that memory ran out");
        return;
    };
    eprintln!("\n{}", super::report::text(diagnosis, session.knobs(), 100, super::report::Paint(false)));
    let report = super::report::markdown(diagnosis, session.knobs());
    if let Some(path) = &args.report {
        match std::fs::write(path, &report) {
            Ok(()) => eprintln!("oomph: report written to {}", path.display()),
            Err(error) => eprintln!("oomph: {}: {error}", path.display()),
        }
    }
    if let Some(command) = &args.on_failure {
        let spawned = Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).spawn();
        match spawned {
            Ok(mut child) => {
                if let Some(mut input) = child.stdin.take() {
                    let _ = input.write_all(report.as_bytes());
                }
                let _ = child.wait();
            }
            Err(error) => eprintln!("oomph: --on-failure: {error}"),
        }
    }
}
