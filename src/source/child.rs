//! The trainer that `oomph run` starts, so that nothing that happens to oomph can hurt it.
//!
//! The child is in a session of its own and writes to spool files through its own descriptors: it never waits for
//! oomph, and goes on when oomph is stopped or killed. oomph reads the spool like any other log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread,
};

use jiff::Timestamp;
use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGCONT, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::model::{Clean, Event, EventKind};

/// Signals that are passed on to the child's process group, once each time they come. SIGHUP is not: a lost SSH line
/// is no reason to end a training.
const FORWARDED: [i32; 6] = [SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT];

/// Why the child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{path}: the output could not be spooled: {source}")]
    Spool { path: String, source: io::Error },
    #[error("oomph could not start itself again to launch the command: {0}")]
    Launch(io::Error),
    #[error("signals could not be caught: {0}")]
    Signals(io::Error),
}

/// Where the child's output goes.
#[derive(Clone, Debug)]
pub struct Spool {
    pub stdout: PathBuf,
    /// A file of its own only where the caller keeps standard error apart.
    pub stderr: Option<PathBuf>,
}

impl Spool {
    /// Spool files in `folder`; two of them when standard output and standard error of oomph lead to different places.
    pub fn in_folder(folder: &Path, apart: bool) -> Self {
        Self { stdout: folder.join("output.log"), stderr: apart.then(|| folder.join("error.log")) }
    }

    pub fn files(&self) -> Vec<PathBuf> {
        std::iter::once(self.stdout.clone()).chain(self.stderr.clone()).collect()
    }
}

/// Whether standard output and standard error lead to different places.
pub fn outputs_are_apart() -> bool {
    let place = |fd: &str| std::fs::metadata(format!("/proc/self/fd/{fd}")).map(|m| (m.dev(), m.ino(), m.rdev())).ok();
    place("1") != place("2")
}

/// The running child.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    ended: Arc<AtomicBool>,
    signals: signal_hook::iterator::Handle,
}

/// Starts `command` with its output going to `spool`, and forwards signals to it from now on.
///
/// # Errors
/// When the spool cannot be written or the process cannot be created. A command that does not exist is no error here:
/// the child then ends with 127, or 126 when it cannot be executed, as a shell's would.
pub fn start(command: &[std::ffi::OsString], spool: &Spool, stdin: Stdio) -> Result<Running, StartError> {
    let stdout = open_spool(&spool.stdout)?;
    let stderr = match &spool.stderr {
        Some(path) => open_spool(path)?,
        None => stdout
            .try_clone()
            .map_err(|source| StartError::Spool { path: spool.stdout.display().to_string(), source })?,
    };
    // Caught before the child exists, so that no signal falls between.
    let mut signals = signal_hook::iterator::Signals::new(FORWARDED).map_err(StartError::Signals)?;
    let oomph = std::env::current_exe().map_err(StartError::Launch)?;
    let child = Command::new(oomph)
        .arg("exec-child")
        .arg("--")
        .args(command)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(StartError::Launch)?;
    let pid = Pid::from_child(&child);
    let ended = Arc::new(AtomicBool::new(false));
    // A lost terminal ends neither the child nor the watch over it.
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::default()).map_err(StartError::Signals)?;
    let handle = signals.handle();
    let over = Arc::clone(&ended);
    let _ = thread::Builder::new().name("signals".into()).spawn(move || {
        for number in signals.forever() {
            if over.load(Ordering::SeqCst) {
                return;
            }
            if let Some(signal) = Signal::from_named_raw(number) {
                // The child leads its own group from its first instruction on; before that the process itself is meant.
                if rustix::process::kill_process_group(pid, signal).is_err() {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
        }
    });
    Ok(Running { child, pid, ended, signals: handle })
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the child's end.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.ended.store(true, Ordering::SeqCst);
        self.signals.close();
        Ok(status)
    }

    /// Processes of the child's group that are still there.
    pub fn has_survivors(&self) -> bool {
        rustix::process::test_kill_process_group(self.pid).is_ok()
    }

    /// Waits in a thread and tells the end as an event.
    pub fn watch(mut self, events: SyncSender<Event>) -> thread::JoinHandle<(Self, io::Result<ExitStatus>)> {
        thread::spawn(move || {
            let status = self.wait();
            if let Ok(status) = &status {
                let kind = EventKind::Exited { code: status.code(), signal: status.signal() };
                let _ = events.send(Event { at: Timestamp::now(), kind });
            }
            (self, status)
        })
    }
}

/// Passes signals on that a dashboard does not take as a wish to leave, as long as this lives.
///
/// # Errors
/// When signals cannot be caught.
pub fn forward(pid: u32) -> Result<Forwarding, StartError> {
    let mut signals = signal_hook::iterator::Signals::new([SIGUSR1, SIGUSR2]).map_err(StartError::Signals)?;
    let handle = signals.handle();
    let _ = thread::Builder::new().name("forward".into()).spawn(move || {
        for number in signals.forever() {
            pass_signal(pid, number);
        }
    });
    Ok(Forwarding(handle))
}

/// Ends the forwarding when dropped.
#[derive(Debug)]
pub struct Forwarding(signal_hook::iterator::Handle);

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Sends one signal to a child of this process.
pub fn pass_signal(pid: u32, number: i32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(number)) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The command as it can be shown.
pub fn shown(command: &[std::ffi::OsString]) -> Vec<Clean> {
    command.iter().map(|word| Clean::new(&word.to_string_lossy())).collect()
}

fn open_spool(path: &Path) -> Result<File, StartError> {
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|source| StartError::Spool { path: path.display().to_string(), source })
}

/// The second half of [`start`], in the new process: a session of its own, then the command in this process's place.
/// Returns the exit status only when the command could not be executed: 127 when there is none, 126 otherwise.
pub fn exec(command: &[std::ffi::OsString]) -> u8 {
    // Fails only when this process leads a group already, which a fresh child does not.
    let _ = rustix::process::setsid();
    let Some((program, arguments)) = command.split_first() else { return 127 };
    let error = Command::new(program).args(arguments).exec();
    let _ = writeln!(io::stderr(), "oomph: {}: {error}", Clean::new(&program.to_string_lossy()));
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}

/// Ends this process as the child ended: with its exit code, or by the signal that killed it.
pub fn end_like(status: ExitStatus) -> u8 {
    if let Some(number) = status.signal() {
        // A core file of oomph would be no use to anybody.
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
        if number == signal_hook::consts::SIGKILL {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
        } else {
            let _ = signal_hook::low_level::emulate_default_handler(number);
        }
        // Signals that do not end a process by default: the shell's convention.
        return u8::try_from(128 + number).unwrap_or(255);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
