//! A terminal with somebody (or nobody) in front of it.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::until;

/// A program on a terminal of its own, in a session of its own.
pub struct Seat {
    pub child: Child,
    master: Option<Arc<OwnedFd>>,
    seen: Arc<Mutex<Seen>>,
    looking: Arc<AtomicBool>,
    /// Bytes a second that it reads at most.
    speed: Arc<AtomicUsize>,
    /// How often there was nothing to read.
    silences: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

impl Seat {
    /// Puts `program` in front of a terminal. The child leads the terminal's session.
    pub fn take(program: &str, arguments: &[&str], state: &Path, variables: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        resize_to(&master, 100, 30);
        let terminal: File = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program).args(arguments);
        command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
        command.env("OOMPH_STATE", state).env("XDG_CONFIG_HOME", state.join("config"));
        command
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("RUST_BACKTRACE", "0")
            .env_remove("TMUX")
            .env_remove("NO_COLOR");
        command.envs(variables.iter().copied());
        let child = command.spawn().unwrap();
        let master = Arc::new(master);
        let seen = Arc::new(Mutex::new(Seen {
            screen: vt100::Parser::new(30.try_into().unwrap(), 100.try_into().unwrap(), 0),
            bytes: Vec::new(),
        }));
        let (looking, closed) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let speed = Arc::new(AtomicUsize::new(usize::MAX));
        let silences = Arc::new(AtomicUsize::new(0));
        let reader = {
            let (master, seen, silences) = (Arc::clone(&master), Arc::clone(&seen), Arc::clone(&silences));
            let (looking, closed, speed) = (Arc::clone(&looking), Arc::clone(&closed), Arc::clone(&speed));
            thread::spawn(move || {
                let mut buffer = vec![0; 65536];
                while !closed.load(Ordering::SeqCst) {
                    if !looking.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    let mut fds = [PollFd::from_borrowed_fd(master.as_fd(), PollFlags::IN)];
                    let soon = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                    if poll(&mut fds, Some(&soon)).is_ok_and(|n| n > 0) {
                        // A hundredth of a second's worth at a time.
                        let most = (speed.load(Ordering::SeqCst) / 100).clamp(1, buffer.len());
                        if let Ok(n @ 1..) = rustix::io::read(&*master, &mut buffer[..most]) {
                            if most < buffer.len() {
                                thread::sleep(Duration::from_millis(n as u64 * 10 / most as u64));
                            }
                            let mut seen = seen.lock().unwrap();
                            seen.bytes.extend_from_slice(&buffer[..n]);
                            seen.screen.process(&buffer[..n]);
                        } else {
                            // Nobody holds the other end any more.
                            silences.fetch_add(1, Ordering::SeqCst);
                            thread::sleep(Duration::from_millis(5));
                        }
                    } else {
                        silences.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        };
        Self { child, master: Some(master), seen, looking, speed, silences, closed, reader: Some(reader) }
    }

    /// oomph itself in front of a terminal.
    pub fn oomph(state: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::take(env!("CARGO_BIN_EXE_oomph"), arguments, state, variables)
    }

    pub fn contents(&self) -> String {
        self.seen.lock().unwrap().screen.screen().contents()
    }

    /// Everything that was ever written to the terminal.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().bytes.clone()
    }

    pub fn look_at<T>(&self, what: impl FnOnce(&vt100::Screen) -> T) -> T {
        what(self.seen.lock().unwrap().screen.screen())
    }

    pub fn shows(&self, text: &str) {
        self.shows_within(Duration::from_secs(30), text);
    }

    pub fn shows_within(&self, patience: Duration, text: &str) {
        let start = Instant::now();
        while !self.contents().contains(text) {
            assert!(start.elapsed() < patience, "never shown: {text}\n{}", self.contents());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn press(&self, keys: &str) {
        self.type_in(keys.as_bytes());
    }

    /// Writes to the terminal as a keyboard does; gives up a part that the program does not take.
    pub fn type_in(&self, mut bytes: &[u8]) {
        let Some(master) = &self.master else { return };
        while !bytes.is_empty() {
            let n = rustix::io::write(&**master, bytes).unwrap();
            bytes = &bytes[n..];
        }
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        resize_to(self.master.as_ref().unwrap(), columns, rows);
        let (columns, rows) = (columns.clamp(1, 500), rows.clamp(1, 200));
        let mut seen = self.seen.lock().unwrap();
        seen.screen.screen_mut().set_size(rows.try_into().unwrap(), columns.try_into().unwrap());
    }

    /// The terminal stops or starts reading what is written to it.
    pub fn look(&self, looking: bool) {
        self.looking.store(looking, Ordering::SeqCst);
    }

    /// The line takes so many bytes a second.
    pub fn throttle(&self, bytes_a_second: usize) {
        self.speed.store(bytes_a_second, Ordering::SeqCst);
    }

    /// The line is lost: the terminal is gone from one moment to the next.
    pub fn hang_up(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        self.reader.take().unwrap().join().unwrap();
        drop(self.master.take());
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// How it ended, and how long that took; fails after a minute.
    pub fn end(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let mut status = None;
        until("the end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        // What was written last may still be on its way: a look that began after the end must find nothing more.
        let silent = self.silences.load(Ordering::SeqCst) + 2;
        if self.looking.load(Ordering::SeqCst) && self.master.is_some() {
            until("all is read", || self.silences.load(Ordering::SeqCst) >= silent);
        }
        (status.unwrap(), start.elapsed())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.closed.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn resize_to(master: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

/// A log that goes on being written.
pub struct Log {
    pub path: std::path::PathBuf,
    file: File,
}

impl Log {
    pub fn new(folder: &Path) -> Self {
        let path = folder.join("train.log");
        Self { file: File::create(&path).unwrap(), path }
    }

    pub fn say(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).unwrap();
    }

    pub fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }
}
