//! The side of `oomph run` that nobody looks at: starts the command, records, waits for its end, says why it failed.

use std::{
    ffi::OsString,
    io::Write,
    os::unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;

use super::history;
use crate::{
    model::{Bytes, Event, EventKind, SourceId, knobs::Knobs, redact},
    session::Session,
    source::{
        child::{self, Pumps, Spool, Trim, Writing},
        file::Tail,
        gpu::{self, Sampling},
        host::{self, Places, Watching, Worth},
        kernel::KernelLog,
        leftovers,
        processes::table::start_of,
    },
    store::{
        live::{Ended, Identity, Live},
        recorder::{self, Recorder, kept},
        runs::RECORDING,
    },
};

/// Lines of the output in a report of a failure that nothing explains.
const LAST: usize = 30;
/// How often the output is looked at while it is passed on.
const LOOK: Duration = Duration::from_millis(50);
/// How long the last output of an ended command is waited for where it comes through a pipe.
const REST: Duration = Duration::from_secs(1);
/// How often the room on the disk is looked at.
const DISK: Duration = Duration::from_secs(5);
/// Samples that may wait; the run's output does not go this way.
const WAITING: usize = 256;
/// Processes left behind that are named one by one.
const SURVIVORS: usize = 20;
/// How often the dead are let go where oomph is the first process.
const REAP: Duration = Duration::from_secs(1);

/// What is done beside running the command.
#[derive(Clone, Debug, Args)]
pub struct CareArgs {
    /// Write a Markdown report here when the command fails
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Run this shell command when the command fails; the Markdown report is its standard input
    #[arg(long, value_name = "CMD")]
    pub on_failure: Option<String>,
    /// Give the command a terminal to write to (for bars and colours); it then waits while oomph is stopped
    #[arg(long)]
    pub pty: bool,
    /// Do not record the run
    #[arg(long)]
    pub no_record: bool,
    /// Do not look at GPUs
    #[arg(long)]
    pub no_gpu: bool,
}

impl CareArgs {
    /// The options again, for another oomph.
    pub fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(path) = &self.report {
            words.extend(["--report".into(), path.into()]);
        }
        if let Some(command) = &self.on_failure {
            words.extend(["--on-failure".into(), command.into()]);
        }
        words.extend(self.pty.then(|| "--pty".into()));
        words.extend(self.no_record.then(|| "--no-record".into()));
        words.extend(self.no_gpu.then(|| "--no-gpu".into()));
        words
    }
}

/// The supervisor behind the dashboard of `oomph run`.
#[derive(Debug, Args)]
pub struct SuperviseArgs {
    /// Folder of the run
    #[arg(long)]
    place: PathBuf,
    #[command(flatten)]
    care: CareArgs,
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// Whether the command's output is also oomph's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Untouched, as if oomph were not there.
    PassOn,
    Keep,
}

/// The hidden command: in a session of its own, so that no terminal's end reaches it.
///
/// # Errors
/// When the command could not be started at all.
pub fn run(args: &SuperviseArgs) -> Result<ExitCode> {
    let _ = rustix::process::setsid();
    supervise(&args.command, &args.care, &args.place, Output::Keep)?;
    Ok(ExitCode::SUCCESS)
}

/// Name of the file in a run's folder that says what is known of the job before it begins.
const GIVEN: &str = "given.json";

/// Writes down what is known of the job, for the supervisor that may be another process.
///
/// # Errors
/// When the run's folder cannot be written.
pub fn give(place: &Path, given: &Knobs) -> Result<()> {
    let path = place.join(GIVEN);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let mut value = serde_json::to_value(given)?;
    redact::json(&mut value);
    file.write_all(value.to_string().as_bytes()).with_context(|| path.display().to_string())
}

fn given(place: &Path) -> Knobs {
    std::fs::read(place.join(GIVEN)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Runs the command to its end.
///
/// # Errors
/// When the command could not be started at all.
pub fn supervise(command: &[OsString], care: &CareArgs, place: &Path, output: Output) -> Result<ExitStatus> {
    let writing = if care.pty { Writing::ToTerminal } else { Writing::ToFile };
    // A terminal is one place.
    let apart = output == Output::PassOn && !care.pty && child::outputs_are_apart();
    let spool = Spool::in_folder(place, apart);
    let stdin = if output == Output::PassOn { Stdio::inherit() } else { Stdio::null() };
    let mut running = child::start(command, &spool, stdin, writing).context("the command was not started")?;
    let live = Live { child: identity(running.pid()), supervisor: identity(std::process::id()), spool: spool.files() };
    if let Err(error) = live.write(place) {
        super::say(&format!("oomph: {}: {error}: the run cannot be attached to", place.display()));
    }
    let given = given(place);
    let mut watch = Watch { session: Session::new(given.clone()), recorder: None, disk: None, reaped: None };
    if !care.no_record && super::config::records() {
        watch.record(&place.join(RECORDING), command, &given);
    }
    watch.take(EventKind::Started { command: child::shown(command), pid: running.pid() });
    let mut tails: Vec<Tail> =
        spool.files().into_iter().zip(0..).map(|(path, id)| Tail::in_order(SourceId(id), path)).collect();
    let mut trims: Vec<Trim> = spool.files().iter().map(|path| Trim::of(path)).collect();
    let pumps = running.take_pumps();
    let look = if pumps.is_empty() { LOOK } else { LOOK / 10 };
    let passing = (output == Output::PassOn).then(|| Passing::start(&spool, look));
    host::stand_back(Worth::BelowTheCommand);
    let mut kernel = KernelLog::open(Path::new(super::machine::KERNEL), &mut |kind| watch.take(kind));
    let (samples, inbox) = sync_channel(WAITING);
    let pid = running.pid();
    let (gpus, machine) = sample(care, pid, samples);
    let waiting = thread::spawn(move || running.wait());
    while !waiting.is_finished() {
        let before = Instant::now();
        watch.take_all(&inbox);
        kernel.poll(&mut |kind| watch.take(kind));
        watch.look_at_the_recording();
        watch.reap(pid);
        let more = read(&mut tails, &mut watch);
        let offsets = told(&tails, passing.as_ref(), &pumps);
        for (trim, offset) in trims.iter_mut().zip(offsets) {
            trim.read_up_to(offset);
        }
        watch.warn_of_a_full_disk(place);
        if !more {
            thread::sleep(look.saturating_sub(before.elapsed()));
        }
    }
    drop(gpus);
    let status = waiting.join().map_err(|_| anyhow::anyhow!("lost sight of the command"))?;
    let status = status.context("the command's end could not be learnt")?;
    // What the kernel counted and wrote at its end is read before its end is judged.
    machine.finish();
    watch.take_all(&inbox);
    // A process that the command left behind may hold the pipe: what it says later is not waited for.
    let ended = Instant::now();
    while read(&mut tails, &mut watch) || (!pumps.are_done() && ended.elapsed() < REST) {
        told(&tails, passing.as_ref(), &pumps);
        thread::sleep(Duration::from_millis(1));
    }
    kernel.poll(&mut |kind| watch.take(kind));
    while read(&mut tails, &mut watch) {}
    for id in 0..tails.len() {
        watch.take(EventKind::Ended { source: SourceId(u16::try_from(id).unwrap_or(u16::MAX)) });
    }
    watch.take(EventKind::Exited { code: status.code(), signal: status.signal() });
    let _ = Ended { code: status.code(), signal: status.signal() }.write(place);
    if let Some(passing) = passing {
        passing.finish();
    }
    if let lost @ 1.. = pumps.lost() {
        super::say(&format!("oomph: {} of the output found no room on the disk and are lost", Bytes(lost)));
    }
    tell_survivors(pid, &child::run_of(&spool));
    if let Some(recorder) = &watch.recorder {
        recorder.settle();
    }
    if !status.success() {
        tell(care, place, &watch.session, status);
    }
    watch.finish(status);
    Ok(status)
}

fn identity(pid: u32) -> Identity {
    Identity { pid, start: start_of(&super::jobs::proc_folder(), pid) }
}

/// Samples the machine while the command runs.
fn sample(care: &CareArgs, pid: u32, events: SyncSender<Event>) -> (Option<Sampling>, Watching) {
    let gpus = (!care.no_gpu).then(|| gpu::spawn(Duration::from_secs(1), events.clone()));
    let places = Places::of_this_machine(super::jobs::proc_folder());
    (gpus, host::spawn(places, Some(pid), events))
}

/// Names the processes that go on after the command. They are left alone.
fn tell_survivors(leader: u32, run: &str) {
    let left = leftovers::survivors(&super::jobs::proc_folder(), leader, run);
    if left.is_empty() {
        return;
    }
    let (are, them) = if left.len() == 1 { ("process is", "it was") } else { ("processes are", "they were") };
    super::say(&format!("oomph: {} {are} still running that the command started; {them} left alone:", left.len()));
    for survivor in left.iter().take(SURVIVORS) {
        super::say(&format!("oomph:   {} {}", survivor.pid, survivor.command));
    }
    if let Some(more @ 1..) = left.len().checked_sub(SURVIVORS) {
        super::say(&format!("oomph:   and {more} more"));
    }
}

/// What is known of the run, and its recording.
struct Watch {
    session: Session,
    recorder: Option<Arc<Recorder>>,
    /// When the room on the disk was last looked at.
    disk: Option<Instant>,
    /// When the command's dead were last let go.
    reaped: Option<Instant>,
}

impl Watch {
    /// Says once, and where it can be seen later too, that the output will soon find no room.
    fn warn_of_a_full_disk(&mut self, place: &Path) {
        if self.disk.is_some_and(|at| at.elapsed() < DISK) {
            return;
        }
        self.disk = Some(Instant::now());
        let short = recorder::is_short(place);
        let told = self.session.sources.values().any(|source| source.trouble.is_some());
        if short != told {
            let what = short.then(|| "the disk of its output is nearly full".into());
            self.take(EventKind::Trouble { source: SourceId(0), what });
        }
    }

    /// As the first process of a container, oomph is who orphans are left to.
    fn reap(&mut self, leader: u32) {
        if self.reaped.is_none_or(|at| at.elapsed() > REAP) {
            self.reaped = Some(Instant::now());
            leftovers::reap(&super::jobs::proc_folder(), leader);
        }
    }

    fn record(&mut self, path: &Path, command: &[OsString], given: &Knobs) {
        match Recorder::start(path) {
            Err(error) => super::say(&format!("oomph: not recording: {error}")),
            Ok(recorder) => {
                let recorder = Arc::new(recorder);
                let place = path.parent().unwrap_or(path);
                super::record::describe(&recorder, place, &child::shown(command), given);
                super::record::compact_old_runs();
                self.session.observe(super::record::listener(&recorder));
                self.recorder = Some(recorder);
            }
        }
    }

    /// What the recording lacks is known to whoever asks this session. It is no event of the recording.
    fn look_at_the_recording(&mut self) {
        for kind in self.recorder.iter().flat_map(|recorder| recorder.news()).collect::<Vec<_>>() {
            self.session.apply(Event { at: Timestamp::now(), kind });
        }
    }

    fn take(&mut self, kind: EventKind) {
        self.take_event(Event { at: Timestamp::now(), kind });
    }

    fn take_all(&mut self, inbox: &Receiver<Event>) {
        for event in inbox.try_iter() {
            self.take_event(event);
        }
    }

    fn take_event(&mut self, mut event: Event) {
        event.at = kept(event.at);
        if let Some(recorder) = &self.recorder {
            recorder.event(&event);
        }
        self.session.apply(event);
    }

    fn finish(self, status: ExitStatus) {
        let Self { session, recorder, .. } = self;
        let Some(recorder) = recorder else { return };
        super::record::conclude(&recorder, &session, Some(status));
        super::record::close(&recorder);
    }
}

/// Reads what is new in the output. True when there is more at once.
fn read(tails: &mut [Tail], watch: &mut Watch) -> bool {
    let mut more = false;
    for tail in tails {
        more |= tail.poll(&mut |kind| watch.take(kind));
    }
    more
}

/// Tells those who fill the spool how far it has been read. Returns up to where it may be given back to the disk.
///
/// What oomph's user has seen may go, even where oomph itself has not read it: a hole is stepped over and counted.
fn told(tails: &[Tail], passing: Option<&Passing>, pumps: &Pumps) -> Vec<u64> {
    let read: Vec<u64> = tails.iter().map(Tail::offset).collect();
    let Some(passing) = passing else {
        pumps.have_read(read.iter().copied());
        return read;
    };
    let passed = passing.offsets();
    // A file that begins anew does so for both only when both are at its beginning.
    let both = read.iter().zip(&passed).map(|(a, b)| if *a == 0 || *b == 0 { *a.max(b) } else { *a.min(b) });
    pumps.have_read(both);
    passed
}

/// Copies the output to where the command would have written it, apart from those who read it: a pipe that nobody
/// empties holds up neither the recording nor the diagnosis.
struct Passing {
    read: Vec<Arc<AtomicU64>>,
    /// The command has ended and all that it wrote is in the spool.
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Passing {
    fn start(spool: &Spool, look: Duration) -> Self {
        let mut tails: Vec<Tail> =
            spool.files().into_iter().zip(0..).map(|(path, id)| Tail::in_order(SourceId(id), path)).collect();
        let read: Vec<Arc<AtomicU64>> = tails.iter().map(|_| Arc::default()).collect();
        let over = Arc::new(AtomicBool::new(false));
        let (offsets, ended) = (read.clone(), Arc::clone(&over));
        let thread = thread::Builder::new().name("pass on".into()).spawn(move || {
            loop {
                // Asked before looking: what was written until then is seen below.
                let last = ended.load(Ordering::Acquire);
                let mut more = false;
                for (index, (tail, offset)) in tails.iter_mut().zip(&offsets).enumerate() {
                    more |= tail.poll(&mut |kind| {
                        if let EventKind::Output { data, .. } = kind {
                            write(index, &data);
                        }
                    });
                    offset.store(tail.offset(), Ordering::Release);
                }
                if last && !more {
                    return;
                }
                if !more {
                    thread::park_timeout(look);
                }
            }
        });
        Self { read, over, thread: thread.ok() }
    }

    fn offsets(&self) -> Vec<u64> {
        self.read.iter().map(|offset| offset.load(Ordering::Acquire)).collect()
    }

    /// Waits until everything is passed on.
    fn finish(self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// A reader that went away is no reason to end: the spool has everything.
fn write(index: usize, data: &[u8]) {
    let _ = if index == 0 {
        let mut out = std::io::stdout().lock();
        out.write_all(data).and_then(|()| out.flush())
    } else {
        std::io::stderr().lock().write_all(data)
    };
}

/// A report of a failure that nothing explains: the last lines, secrets taken out.
fn without_diagnosis(told: &str, session: &Session) -> String {
    let mut text = format!("# oomph\n\n{told}.\n\nIts last lines:\n\n");
    for source in session.sources.values() {
        let lines = source.log.lines();
        for line in lines.iter().skip(lines.len().saturating_sub(LAST)) {
            text.push_str("    ");
            text.push_str(line.text.as_str());
            text.push('\n');
        }
    }
    redact::block(&text)
}

/// The diagnosis after a failure: on standard error, in the report, to the user's command.
fn tell(care: &CareArgs, place: &Path, session: &Session, status: ExitStatus) {
    let tried = history::tried_before(place, session);
    let mut report = if let Some(diagnosis) = session.diagnosis() {
        super::say(&format!("\n{}", super::report::text(diagnosis, session.knobs(), 100, super::report::Paint(false))));
        super::report::markdown(diagnosis, session.knobs())
    } else {
        let told = format!("the command failed ({status}); nothing in its output says that memory ran out");
        super::say(&format!("oomph: {told}"));
        without_diagnosis(&told, session)
    };
    if !tried.is_empty() {
        super::say("oomph: tried before:");
        report.push_str("\n## Tried before\n\n");
        for line in tried {
            super::say(&format!("oomph:   {line}"));
            report.push_str("- ");
            report.push_str(&line.replace(['`', '*', '<'], "'"));
            report.push('\n');
        }
    }
    if let Some(path) = &care.report {
        match super::save(path, &report) {
            Ok(path) => super::say(&format!("oomph: report written to {}", path.display())),
            Err(error) => super::say(&format!("oomph: {}: {error}", path.display())),
        }
    }
    if let Some(command) = &care.on_failure {
        let spawned = Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).spawn();
        match spawned {
            Ok(mut child) => {
                if let Some(mut input) = child.stdin.take() {
                    let _ = input.write_all(report.as_bytes());
                }
                let _ = child.wait();
            }
            Err(error) => super::say(&format!("oomph: --on-failure: {error}")),
        }
    }
}
