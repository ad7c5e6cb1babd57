//! The trainer that `oomph run` starts, so that nothing that happens to oomph can hurt it.
//!
//! The child is in a session of its own and writes to spool files through its own descriptors: it never waits for
//! oomph, and goes on when oomph is stopped or killed. oomph reads the spool like any other log, and gives what it has
//! read back to the disk. Only where the size of files is limited (`ulimit -f`), which would kill a child that writes to
//! one, or where the command asks for a terminal, does the output go through a pipe or a terminal that oomph empties.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::OwnedFd,
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGCONT, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::model::Clean;

use super::leftovers::RUN;

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

/// The most that is kept of an output that was read.
const KEEP: u64 = 1 << 30;
/// How long a command that writes through a pipe waits at most for its spool to be read.
const PATIENCE: Duration = Duration::from_millis(500);
/// What was read is given back in pieces of this size, which every file system's blocks divide.
const PIECE: u64 = 64 << 10;

/// Gives what was read of a spool file back to the disk, all but the last part. Offsets stay what they were.
#[derive(Debug)]
pub struct Trim {
    /// `None` where it cannot be opened or its file system has no holes: then it grows.
    file: Option<File>,
    keep: u64,
    given_back: u64,
}

impl Trim {
    /// Keeps a gibibyte, or a quarter of what is free on the disk now.
    pub fn of(path: &Path) -> Self {
        let free = path.parent().and_then(|folder| rustix::fs::statvfs(folder).ok());
        let free = free.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        Self { file: OpenOptions::new().write(true).open(path).ok(), keep: KEEP.min(free / 4), given_back: 0 }
    }

    /// Everything before `offset` has been read.
    pub fn read_up_to(&mut self, offset: u64) {
        let Some(file) = &self.file else { return };
        let until = offset.saturating_sub(self.keep) / PIECE * PIECE;
        if until <= self.given_back {
            return;
        }
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(file, flags, self.given_back, until - self.given_back) {
            Ok(()) => self.given_back = until,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => self.file = None,
        }
    }
}

/// The largest file that this process and its children may write, where there is such a limit.
fn largest_file() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

fn wait_for(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Empties a pipe or a terminal into a spool file. Where files are limited, the file begins anew once in a while, so that
/// it stays below the limit.
fn pump(mut output: impl Read + Send + 'static, mut spool: File, limit: Option<u64>) -> io::Result<Pump> {
    let read = Arc::new(AtomicU64::new(0));
    let lost = Arc::new(AtomicU64::new(0));
    let most = limit.map_or(u64::MAX, |limit| (limit / 2).clamp(1, 64 << 20));
    let (readers, no_room) = (Arc::clone(&read), Arc::clone(&lost));
    let thread = thread::Builder::new().name("spool".into()).spawn(move || {
        let (read, lost) = (readers, no_room);
        let mut buffer = vec![0; PIECE as usize];
        let mut written = 0;
        loop {
            let n = match output.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A terminal's last writer is gone.
                Err(_) => return,
            };
            for part in buffer.get(..n).unwrap_or_default().chunks(usize::try_from(most).unwrap_or(usize::MAX)) {
                if part.len() as u64 > most.saturating_sub(written) {
                    // Whoever reads the spool gets a moment to do so, and to see that it begins anew: what was read of the
                    // old bytes says nothing about the new ones. The command does not wait for more than that.
                    wait_for(|| read.load(Ordering::Acquire) >= written);
                    if spool.set_len(0).is_ok() {
                        wait_for(|| read.load(Ordering::Acquire) == 0);
                        written = 0;
                    }
                }
                // What the disk does not take is lost and counted; the command must not be.
                if spool.write_all(part).is_ok() {
                    written += part.len() as u64;
                } else {
                    lost.fetch_add(part.len() as u64, Ordering::Relaxed);
                }
            }
        }
    })?;
    Ok(Pump { read, lost, thread })
}

/// Columns and rows of a terminal that nobody looks at.
const UNSEEN: (u16, u16) = (120, 40);

/// A terminal for the command to write to: oomph's end, and the command's. Nothing is read from it, and it is not the
/// command's controlling terminal, so that its end is no signal. What is written comes out as it is, byte for byte.
fn terminal() -> io::Result<(File, OwnedFd)> {
    use rustix::{
        fs::{Mode, OFlags},
        pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
        termios::{
            LocalModes, OptionalActions, OutputModes, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
        },
    };
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs =
        rustix::fs::open(ptsname(&ours, Vec::new())?, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let mut modes = tcgetattr(&theirs)?;
    modes.output_modes.remove(OutputModes::OPOST);
    modes.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0).unwrap_or(Winsize {
        ws_col: UNSEEN.0,
        ws_row: UNSEEN.1,
        ws_xpixel: 0,
        ws_ypixel: 0,
    });
    tcsetwinsize(&theirs, size)?;
    Ok((ours.into(), theirs))
}

/// The run's id: the name of the folder that its output lies in.
pub fn run_of(spool: &Spool) -> String {
    let folder = spool.stdout.parent().and_then(Path::file_name);
    folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether standard output and standard error lead to different places.
pub fn outputs_are_apart() -> bool {
    let place = |fd: &str| std::fs::metadata(format!("/proc/self/fd/{fd}")).map(|m| (m.dev(), m.ino(), m.rdev())).ok();
    place("1") != place("2")
}

/// What the command finds at the other end of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// The spool file itself.
    ToFile,
    /// A terminal that oomph empties: the command waits when oomph does.
    ToTerminal,
}

/// The running child.
#[derive(Debug)]
pub struct Running {
    child: Child,
    ended: Arc<AtomicBool>,
    signals: signal_hook::iterator::Handle,
    pumps: Pumps,
}

/// A thread that fills a spool file.
#[derive(Debug)]
struct Pump {
    /// How far the spool file has been read.
    read: Arc<AtomicU64>,
    /// Bytes that the disk did not take.
    lost: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

/// Who fills the spool files where the command does not do so itself. Else empty.
#[derive(Debug, Default)]
pub struct Pumps(Vec<Pump>);

impl Pumps {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The spool files have been read up to these offsets.
    pub fn have_read(&self, offsets: impl Iterator<Item = u64>) {
        for (pump, offset) in self.0.iter().zip(offsets) {
            pump.read.store(offset, Ordering::Release);
        }
    }

    /// Whether everything that the ended command wrote is in its spool files by now.
    pub fn are_done(&self) -> bool {
        self.0.iter().all(|pump| pump.thread.is_finished())
    }

    /// Bytes of the output that the disk did not take.
    pub fn lost(&self) -> u64 {
        self.0.iter().map(|pump| pump.lost.load(Ordering::Relaxed)).sum()
    }
}

/// Starts `command` with its output going to `spool`, through a terminal where it wants one, and forwards signals to it from now on.
///
/// # Errors
/// When the spool cannot be written or the process cannot be created. A command that does not exist is no error here:
/// the child then ends with 127, or 126 when it cannot be executed, as a shell's would.
pub fn start(command: &[std::ffi::OsString], spool: &Spool, stdin: Stdio, on: Writing) -> Result<Running, StartError> {
    let failed = |source| StartError::Spool { path: spool.stdout.display().to_string(), source };
    let mut pumps = Pumps::default();
    let mut open = |path: &Path| -> Result<OwnedFd, StartError> {
        let file = open_spool(path)?;
        let limit = largest_file();
        match (on, limit) {
            (Writing::ToTerminal, _) => {
                let (ours, theirs) = terminal().map_err(failed)?;
                pumps.0.push(pump(ours, file, limit).map_err(failed)?);
                Ok(theirs)
            }
            (Writing::ToFile, Some(_)) => {
                let (ours, theirs) = io::pipe().map_err(failed)?;
                pumps.0.push(pump(ours, file, limit).map_err(failed)?);
                Ok(theirs.into())
            }
            (Writing::ToFile, None) => Ok(file.into()),
        }
    };
    let stdout = open(&spool.stdout)?;
    let stderr = match &spool.stderr {
        Some(path) => open(path)?,
        None => stdout.try_clone().map_err(failed)?,
    };
    // A full file is an error to oomph, not its end.
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map_err(StartError::Signals)?;
    // Caught before the child exists, so that no signal falls between.
    let mut signals = signal_hook::iterator::Signals::new(FORWARDED).map_err(StartError::Signals)?;
    let oomph = std::env::current_exe().map_err(StartError::Launch)?;
    let child = Command::new(oomph)
        .arg("exec-child")
        .arg("--")
        .args(command)
        .env(RUN, run_of(spool))
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
    Ok(Running { child, ended, signals: handle, pumps })
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

    /// Who fills the spool files, where the command does not do so itself.
    pub fn take_pumps(&mut self) -> Pumps {
        std::mem::take(&mut self.pumps)
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
            // What the crate does not know (16, 30, the real-time ones) or holds to be harmless (29): oomph never
            // catches those, so that sending them is enough.
            let _ = signal_hook::low_level::raise(number);
        }
        // Still here: the signal is blocked or ignored. The shell's convention.
        return u8::try_from(128 + number).unwrap_or(255);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
