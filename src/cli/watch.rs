//! `oomph FILE…`: the dashboard, or one frame of it.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;

use crate::{
    model::{Clean, Event, EventKind, SourceId, knobs::Knobs, redact},
    session::{Session, alerts::Alert},
    source::{file, processes::environment},
    store::{
        folder,
        recorder::{Recorder, kept},
        runs::RECORDING,
    },
    ui::{
        self, App, Chooser, End, Msg, Outside,
        config::{From, Notify},
    },
};

use super::{calls, config, diagnose, frame, jobs, knobs::KnobArgs, machine::Machine};

/// Events that may wait between the sources and who passes them on; each may hold a quarter of a mebibyte.
const WAITING: usize = 32;
/// Messages that may wait before the screen's own queue: a file that is read faster than it is understood waits, and
/// takes no memory meanwhile.
pub const ON_THE_WAY: usize = 8;
/// How long `--once` waits for the files to be read and the GPUs to answer.
const ONCE: Duration = Duration::from_secs(10);
const ONCE_GPUS: Duration = Duration::from_secs(2);

/// Watch training logs and the GPUs of this machine.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:
  oomph                                  find the training jobs of this machine
  oomph train.log                        the dashboard beside a training job
  oomph train.log runs/exp1              several files and run folders of one job
  python train.py 2>&1 | oomph -         read standard input
  oomph --once train.log                 one frame as plain text
  oomph --once --json train.log          one frame as JSON
  oomph demo                             see it without a GPU or a log")]
pub struct WatchArgs {
    /// Log files, metric files or run folders; `-` reads standard input. Without any, oomph looks for training jobs
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The job that this process belongs to
    #[arg(long, value_name = "PID", conflicts_with = "files")]
    pub pid: Option<u32>,
    /// Print one frame and leave
    #[arg(long)]
    pub once: bool,
    /// With --once: the frame as JSON (schema oomph.frame/1); without a file: the training jobs (oomph.jobs/1)
    #[arg(long)]
    pub json: bool,
    /// With --once: columns and rows of the frame
    #[arg(long, value_name = "COLUMNSxROWS", requires = "once", value_parser = size)]
    pub size: Option<(u16, u16)>,
    /// Seconds between two looks at the GPUs; 1, or 5 with --slow
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    pub interval: Option<f64>,
    /// For a slow link: draw every two seconds at the most, but answer keys at once
    #[arg(long)]
    pub slow: bool,
    /// Colours: dark, light, … (the key t lists them)
    #[arg(long, value_name = "NAME")]
    pub theme: Option<String>,
    /// Do not look at GPUs
    #[arg(long)]
    pub no_gpu: bool,
    /// Do not record what is watched
    #[arg(long)]
    pub no_record: bool,
    #[command(flatten)]
    pub knobs: KnobArgs,
}

/// How a dashboard is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look<'a> {
    /// Name of the theme that was asked for.
    pub theme: Option<&'a str>,
    /// For a slow link.
    pub slow: bool,
}

impl WatchArgs {
    fn look(&self) -> Look<'_> {
        Look { theme: self.theme.as_deref(), slow: self.slow }
    }
}

pub fn size(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once(['x', 'X']).and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    parsed
        .filter(|(w, h)| *w >= 1 && *h >= 1 && *w <= 500 && *h <= 200)
        .ok_or_else(|| "write columns and rows such as 80x24, at most 500x200".to_string())
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    if (0.05..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("between 0.05 and 3600 seconds".into()) }
}

/// What the dashboard is opened on.
struct Target {
    files: Vec<PathBuf>,
    stdin: bool,
    /// Settings of the job that are known from outside its log.
    given: Knobs,
    /// The command of a job that was found, for the recording.
    command: Option<Clean>,
    /// Its process.
    trainer: Option<u32>,
}

/// # Errors
/// When nothing could be opened, or the screen has no terminal.
pub fn run(args: &WatchArgs) -> Result<ExitCode> {
    let given = args.knobs.read()?;
    if args.files.is_empty() {
        return find_jobs(args, &given);
    }
    if args.json && !args.once {
        bail!("--json prints one frame: give --once with it");
    }
    let (files, stdin) = find(&args.files)?;
    let target = Target { files, stdin, given, command: None, trainer: None };
    if args.once {
        return once(args, target);
    }
    need_terminal()?;
    let (messages, inbox) = sync_channel(ON_THE_WAY);
    let (session, running) = Running::start(args, &target, messages);
    let (end, session) = show(session, inbox, args.look(), |_| {}, &mut |_, _| Ok(()))?;
    running.finish(&session);
    Ok(exit_code(end))
}

fn need_terminal() -> Result<()> {
    if !std::io::stdout().is_terminal() {
        bail!(
            "the dashboard needs a terminal; `oomph --once` prints one frame, `oomph --once --json` the same as JSON"
        );
    }
    Ok(())
}

/// The exit code of a dashboard that ended so.
pub fn exit_code(end: End) -> ExitCode {
    match end {
        End::Signal(number) => ExitCode::from(u8::try_from(128 + number).unwrap_or(255)),
        End::Quit | End::TerminalGone => ExitCode::SUCCESS,
    }
}

/// Without a file: the one job of this machine, a list of several, or what was looked for.
fn find_jobs(args: &WatchArgs, given: &Knobs) -> Result<ExitCode> {
    let survey = jobs::survey(args.pid, !args.no_gpu);
    if args.json && !args.once {
        let mut text = serde_json::to_string_pretty(&survey.to_json())?;
        text.push('\n');
        super::print(&text)?;
        return Ok(ExitCode::from(if survey.jobs.is_empty() { 2 } else { 0 }));
    }
    if let (Some(pid), true) = (args.pid, survey.jobs.is_empty()) {
        bail!(
            "there is no process {pid}{}",
            match survey.notes().join("; ") {
                notes if notes.is_empty() => notes,
                notes => format!(" ({notes})"),
            }
        );
    }
    let target = |found: &jobs::Found| {
        let files = found.paths();
        if files.is_empty() {
            return Err(found.why_nothing());
        }
        Ok(Target {
            files,
            stdin: false,
            given: found.knobs(given),
            command: Some(found.command()),
            trainer: Some(found.job.root.pid),
        })
    };
    match survey.jobs.as_slice() {
        [] => {
            super::say(&survey.nothing());
            Ok(ExitCode::from(2))
        }
        [only] if args.once || (std::io::stdout().is_terminal() && !only.paths().is_empty()) => {
            let target = target(only).map_err(anyhow::Error::msg)?;
            if args.once {
                return once(args, target);
            }
            let (messages, inbox) = sync_channel(ON_THE_WAY);
            let (session, running) = Running::start(args, &target, messages);
            let label = Clean::new(&only.title());
            let (end, session) = show(session, inbox, args.look(), |app| app.label = Some(label), &mut |_, _| Ok(()))?;
            running.finish(&session);
            Ok(exit_code(end))
        }
        several if args.once || !std::io::stdout().is_terminal() => {
            if args.once {
                super::say("oomph: several training jobs: choose one with --pid");
            }
            super::print(&survey.to_text(Timestamp::now()))?;
            let readable = several.iter().any(|found| !found.paths().is_empty());
            Ok(ExitCode::from(if args.once || !readable { 2 } else { 0 }))
        }
        several => {
            let now = Timestamp::now();
            let notes = survey.notes().iter().map(|note| Clean::new(note)).collect();
            let choices = several.iter().map(|found| found.choice(now)).collect();
            let (messages, inbox) = sync_channel(ON_THE_WAY);
            let mut running = None;
            let mut choose = |app: &mut App, place: usize| {
                let Some(found) = several.get(place) else { return Err("there is no such job".to_string()) };
                if !found.is_still_there() {
                    return Err(format!("{} has ended meanwhile", found.title()));
                }
                let (session, started) = Running::start(args, &target(found)?, messages.clone());
                app.session = session;
                app.label = Some(Clean::new(&found.title()));
                running = Some(started);
                Ok(())
            };
            let prepare =
                |app: &mut App| app.chooser = Some(Chooser::new("Training jobs on this machine", choices, notes));
            let (end, session) = show(Session::new(given.clone()), inbox, args.look(), prepare, &mut choose)?;
            if let Some(running) = running {
                running.finish(&session);
            }
            Ok(exit_code(end))
        }
    }
}

/// The threads behind a dashboard, and its recording.
struct Running {
    sources: file::Tails,
    _machine: Machine,
    recorder: Option<Arc<Recorder>>,
}

impl Running {
    /// Starts reading, sampling and recording; everything that happens goes to `messages`.
    fn start(args: &WatchArgs, target: &Target, messages: SyncSender<Msg>) -> (Session, Self) {
        if let Some(pid) = target.trainer {
            redact::learn(environment::secrets_of(&jobs::proc_folder(), pid));
        }
        let (events, inbox) = sync_channel(WAITING);
        let sources = open(&target.files, target.stdin, &events);
        let interval =
            (!args.no_gpu).then(|| Duration::from_secs_f64(args.interval.unwrap_or(if args.slow { 5.0 } else { 1.0 })));
        let machine = Machine::watch(interval, target.trainer, &events);
        drop(events);
        let recorder = if args.no_record || !config::records() { None } else { record(target) };
        let mut session = Session::new(target.given.clone());
        if let Some(recorder) = &recorder {
            session.observe(super::record::listener(recorder));
        }
        pump(inbox, recorder.clone(), messages);
        (session, Self { sources, _machine: machine, recorder })
    }

    fn finish(self, session: &Session) {
        drop(self.sources);
        if let Some(recorder) = self.recorder {
            super::record::conclude(&recorder, session, None);
            super::record::close(&recorder);
        }
    }
}

/// Files to read: the ones named, and what is worth reading in the folders named.
fn find(named: &[PathBuf]) -> Result<(Vec<PathBuf>, bool)> {
    let (mut files, mut stdin) = (Vec::new(), false);
    for path in named {
        if path.as_os_str() == "-" {
            stdin = true;
        } else if file::find(path)? == file::Found::Folder {
            let found: Vec<PathBuf> =
                crate::source::run_folder::find(path).files.into_iter().map(|(_, path)| path).collect();
            if found.is_empty() {
                bail!(
                    "{}: no log or metric file in this folder (looked for *.log, *.jsonl, *.csv, tfevents, .wandb, trainer_state.json)",
                    Clean::new(&path.to_string_lossy())
                );
            }
            files.extend(found);
        } else {
            if let Some(other) = no_log(path) {
                bail!("{other}");
            }
            files.push(path.clone());
        }
    }
    if stdin && std::io::stdin().is_terminal() {
        bail!("standard input is a terminal: pipe a log into `oomph -`, or name a file");
    }
    Ok((files, stdin))
}

/// What a file is that holds no log, and which command reads it. A thread of its own looks: a hung mount holds up nobody.
pub fn no_log(path: &Path) -> Option<String> {
    use std::io::Read;
    let (answer, answered) = sync_channel(1);
    let asked = path.to_path_buf();
    let _ = thread::Builder::new().name("look".into()).spawn(move || {
        let mut start = Vec::new();
        // Only an ordinary file: what is read of a pipe is gone from it.
        if asked.is_file() && std::fs::File::open(&asked).and_then(|f| f.take(16).read_to_end(&mut start)).is_ok() {
            let _ = answer.send(start);
        }
    });
    let start = answered.recv_timeout(Duration::from_secs(1)).ok()?;
    let name = Clean::new(&path.to_string_lossy());
    if crate::parse::snapshot::recognise(&start) == Some(true) {
        return Some(format!(
            "{name} is a pickle, not a log: `oomph snapshot {name}` reads PyTorch's memory snapshots"
        ));
    }
    start.starts_with(&[0x1f, 0x8b]).then(|| {
        format!("{name} is compressed: `zcat {name} | oomph -` shows a log, `oomph diagnose` and `oomph snapshot` read it as it is")
    })
}

/// The threads that read; they end when this is dropped.
fn open(files: &[PathBuf], stdin: bool, events: &SyncSender<Event>) -> file::Tails {
    let numbered = files.iter().cloned().zip(0..).map(|(path, n)| (SourceId(n), path)).collect();
    if stdin {
        file::spawn_stdin(SourceId(u16::try_from(files.len()).unwrap_or(u16::MAX)), events.clone());
    }
    file::spawn(numbered, events)
}

/// Begins a recording; a recording that cannot be made is no reason not to watch.
fn record(target: &Target) -> Option<Arc<Recorder>> {
    let started = folder::new_run(Timestamp::now(), std::process::id())
        .map_err(anyhow::Error::from)
        .and_then(|place| Ok((Recorder::start(&place.join(RECORDING))?, place)));
    match started {
        Ok((recorder, place)) => {
            super::record::compact_old_runs();
            super::record::describe(&recorder, &place, &[], &target.given);
            if let Some(command) = &target.command {
                recorder.meta("command", command.clone());
            }
            let names: Vec<_> = target.files.iter().map(|f| f.to_string_lossy().into_owned()).collect();
            recorder.meta("files", names.join("\n").into());
            Some(Arc::new(recorder))
        }
        Err(error) => {
            super::say(&format!("oomph: not recording: {error:#}"));
            None
        }
    }
}

/// The clock waits so long for a sample, so that both are drawn at once.
const TOGETHER: Duration = Duration::from_millis(150);

/// Passes events on to the recorder and the screen, and the clock once a second.
pub fn pump(inbox: Receiver<Event>, recorder: Option<Arc<Recorder>>, messages: SyncSender<Msg>) {
    thread::spawn(move || {
        let mut ticked = Instant::now();
        let mut sampled: Option<Instant> = None;
        loop {
            let more =
                sampled.filter(|at| at.elapsed() < Duration::from_millis(1500)).map_or(Duration::ZERO, |_| TOGETHER);
            let wait = (Duration::from_secs(1) + more).saturating_sub(ticked.elapsed());
            let message = match inbox.recv_timeout(wait) {
                Ok(mut event) => {
                    event.at = kept(event.at);
                    if let Some(recorder) = &recorder {
                        recorder.event(&event);
                    }
                    let is_sample = matches!(event.kind, EventKind::Gpu { .. } | EventKind::Host { .. });
                    if messages.send(Msg::Event(event)).is_err() {
                        return;
                    }
                    if is_sample {
                        sampled = Some(Instant::now());
                    }
                    // However many lines come, the clock goes on.
                    let due = if is_sample {
                        Duration::from_secs(1).saturating_sub(TOGETHER)
                    } else {
                        Duration::from_secs(1) + more
                    };
                    if ticked.elapsed() < due {
                        continue;
                    }
                    ticked = Instant::now();
                    Msg::Tick(Timestamp::now())
                }
                Err(RecvTimeoutError::Timeout) => {
                    ticked = Instant::now();
                    Msg::Tick(Timestamp::now())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(wait);
                    ticked = Instant::now();
                    Msg::Tick(Timestamp::now())
                }
            };
            // With the clock comes what the recording lacks.
            let news = recorder.iter().flat_map(|recorder| recorder.news());
            let news = news.map(|kind| Msg::Event(Event { at: kept(Timestamp::now()), kind }));
            for message in news.chain([message]) {
                if messages.send(message).is_err() {
                    return;
                }
            }
        }
    });
}

/// The dashboard on this terminal, until the user leaves, and what is known then. `prepare` adds what only some
/// commands show; `choose` opens
/// what is chosen from a list, where there is one.
///
/// # Errors
/// When there is no terminal or it fails.
pub fn show(
    session: Session,
    messages: Receiver<Msg>,
    look: Look<'_>,
    prepare: impl FnOnce(&mut App),
    choose: &mut dyn FnMut(&mut App, usize) -> Result<(), String>,
) -> Result<(End, Session)> {
    let config = config::load()?;
    let mut app = App::new(session)
        .for_terminal(&|name| std::env::var(name).ok())
        .with_judge(Box::new(|text| diagnose::judge_text("pasted text", text.as_bytes(), &Knobs::default())));
    app.zone = jiff::tz::TimeZone::system();
    config::apply(&config, &mut app)?;
    prepare(&mut app);
    let env = |name: &str| std::env::var(name).ok();
    let ask_ground = look.theme.or(config.screen.theme.as_deref()).is_none() && app.asks_for_ground(&env);
    // What is played was news once: nobody is called again.
    let live = app.is_live();
    if let Some(name) = look.theme
        && !app.set_theme(name)
    {
        let known: Vec<_> = app.themes().iter().map(|t| t.name.clone()).collect();
        bail!("there is no theme '{}'; there are: {}", Clean::new(name), known.join(", "));
    }
    let mut save = |name: &str, text: &str| match super::save(Path::new(name), text) {
        Ok(path) => Ok(path.to_string_lossy().into_owned()),
        Err(error) => Err(error.to_string()),
    };
    let calls = calls::Calls::new(&config.alerts);
    let mut alert = |alert: &Alert| {
        if live {
            calls.alert(alert);
        }
    };
    if ui::is_dumb() {
        let end = super::plain::follow(&mut app, &messages, &mut alert)?;
        return Ok((end, app.session));
    }
    let mut outside = Outside {
        save: &mut save,
        choose,
        tmux: std::env::var_os("TMUX").is_some(),
        bell: if live { config.alerts.bell } else { From::Off },
        notify: (if live { config.alerts.notify } else { Notify::Off }, config.alerts.from),
        ask_ground,
        pace: if look.slow || config.screen.slow { ui::SLOW_FRAME } else { ui::FRAME },
        alert: &mut alert,
    };
    let end = ui::run(&mut app, messages, &mut outside)?;
    config::keep(&app);
    Ok((end, app.session))
}

/// One frame: reads what is there, asks the GPUs once, prints, leaves.
fn once(args: &WatchArgs, target: Target) -> Result<ExitCode> {
    let Target { files, stdin, given, .. } = target;
    let (events, inbox) = sync_channel(WAITING);
    let sources = open(&files, stdin, &events);
    let gpus = (!args.no_gpu).then(|| crate::source::gpu::spawn(Duration::from_secs(1), events.clone()));
    drop(events);
    let mut session = Session::new(given);
    let start = Instant::now();
    let expected = files.len() + usize::from(stdin);
    loop {
        let read = session.sources.values().filter(|s| s.caught_up && s.filling().is_none()).count() >= expected;
        let asked = gpus.is_none()
            || !session.gpus.is_empty()
            || session.gpus.unavailable.is_some()
            || start.elapsed() > ONCE_GPUS;
        let left = ONCE.saturating_sub(start.elapsed());
        if (read && asked) || left.is_zero() {
            break;
        }
        match inbox.recv_timeout(left.min(Duration::from_millis(50))) {
            Ok(event) => session.apply(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // A file that nobody writes to any more has said all it will: its last line counts, whole or not.
    for id in session.sources.keys().copied().collect::<Vec<_>>() {
        session.apply(Event { at: Timestamp::now(), kind: EventKind::Ended { source: id } });
    }
    session.tick(Timestamp::now());
    drop((sources, gpus));
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&frame::to_json(&session))?;
        text.push('\n');
        text
    } else {
        let (width, height) = args.size.unwrap_or_else(terminal_size);
        let mut app = App::new(session);
        app.zone = jiff::tz::TimeZone::system();
        ui::frame_text(&app, width, height)
    };
    super::print(&text)
}

/// Columns and rows of the terminal, or of a page where there is none.
pub fn terminal_size() -> (u16, u16) {
    let known = std::io::stdout().is_terminal().then(ratatui::crossterm::terminal::size).and_then(Result::ok);
    known.filter(|(w, h)| *w >= 40 && *h >= 12).unwrap_or((100, 40))
}
