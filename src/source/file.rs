//! Tails a file: polling is the truth, file notifications only wake it earlier.
//!
//! [`Tail`] is the whole logic and is driven by [`Tail::poll`], so that tests can interleave it with a writer; [`spawn`]
//! gives each file a thread of its own, so that one hung mount costs one file.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::model::{Clean, Event, EventKind, SourceId};

use super::database;

/// Bytes read in one go.
const CHUNK: usize = 256 << 10;
/// Bytes of a read that expects a line or two.
const SIP: usize = 8 << 10;
/// A larger file is read from this far before its end first, and its earlier part afterwards.
const TAIL: u64 = 4 << 20;
/// Bytes read at one poll before others get their turn.
const BURST: u64 = 8 << 20;
/// Bytes at the head that tell a file from another one with the same inode.
const HEAD: usize = 1024;
/// Bytes before the reading place that tell a file that was truncated and grew past it again.
const NECK: usize = 64;
/// A file that was just written to is polled so soon again, and one that nobody writes to so late.
const SOON: Duration = Duration::from_millis(100);
const LATEST: Duration = Duration::from_secs(1);
/// How long the old file of a rotation is still listened to.
const LINGER: Duration = Duration::from_secs(5);
/// A file system that has not answered for so long is said to be hung.
const SILENCE: Duration = Duration::from_millis(1500);

/// Whether a file means nothing without its beginning: a header, a document's brackets, the framing of records.
fn needs_its_start(path: &Path) -> bool {
    path.extension().is_some_and(|ext| ["csv", "tsv", "json", "wandb", "db"].iter().any(|known| ext == *known))
}

/// Why a file cannot be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {error}")]
    Io { path: String, error: io::Error },
    #[error("{path} is {what}; oomph reads regular files (pipe other things into `oomph -`)")]
    NotAFile { path: String, what: &'static str },
}

/// What stands under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    File,
    Folder,
    /// The file system does not answer; a tail of it will say so, and go on when it does.
    NoAnswer,
}

/// What stands under a path, asked by a thread of its own: a hung mount holds up nobody.
///
/// # Errors
/// When it does not exist, cannot be opened, or is neither a regular file nor a folder.
pub fn find(path: &Path) -> Result<Found, OpenError> {
    let (answer, answered) = sync_channel(1);
    let asked = path.to_path_buf();
    let _ = thread::Builder::new().name("find".into()).spawn(move || {
        let found = if asked.is_dir() { Ok(Found::Folder) } else { check(&asked).map(|_| Found::File) };
        let _ = answer.send(found);
    });
    answered.recv_timeout(SILENCE).unwrap_or(Ok(Found::NoAnswer))
}

/// Checks that a path can be tailed, before any thread is started.
///
/// # Errors
/// When it does not exist, cannot be opened, or is no regular file.
pub fn check(path: &Path) -> Result<Metadata, OpenError> {
    let shown = || Clean::new(&path.to_string_lossy()).as_str().to_string();
    let metadata = std::fs::metadata(path).map_err(|error| OpenError::Io { path: shown(), error })?;
    let kind = metadata.file_type();
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        File::open(path).map_err(|error| OpenError::Io { path: shown(), error })?;
        return Ok(metadata);
    };
    Err(OpenError::NotAFile { path: shown(), what })
}

/// An open file and how far it has been read.
#[derive(Debug)]
struct Handle {
    file: File,
    device: u64,
    inode: u64,
    /// First bytes of the file, at most [`HEAD`], as far as they were there when last looked at.
    head: Vec<u8>,
    /// Bytes just before `offset`, at most [`NECK`].
    neck: Vec<u8>,
    /// The last read was cut by its length: more is waiting.
    is_hungry: bool,
    offset: u64,
    /// Size when last looked at.
    size: u64,
}

/// One tailed file.
#[derive(Debug)]
pub struct Tail {
    id: SourceId,
    path: PathBuf,
    handle: Option<Handle>,
    /// The file that stood under the name before a rotation, still listened to for a while.
    old: Option<(Handle, Instant)>,
    /// What the old file still said, waiting for the new one to be at the start of a line.
    late: Vec<u8>,
    /// The new file's last byte sent was a line break (or nothing was sent).
    at_line_start: bool,
    /// The part before the place where reading began: next byte, end.
    earlier: Option<(u64, u64)>,
    caught_up: bool,
    troubled: bool,
    opened_before: bool,
    in_order: bool,
    /// Where reading goes on in a file that was read before.
    resume: Option<u64>,
}

impl Tail {
    pub fn new(id: SourceId, path: PathBuf) -> Self {
        Self {
            id,
            path,
            handle: None,
            old: None,
            late: Vec::new(),
            at_line_start: true,
            earlier: None,
            caught_up: false,
            troubled: false,
            opened_before: false,
            in_order: false,
            resume: None,
        }
    }

    /// Reads from the first byte on, however long the file is: for whoever passes the bytes on in their order.
    pub fn in_order(id: SourceId, path: PathBuf) -> Self {
        Self { in_order: true, ..Self::new(id, path) }
    }

    /// Offset of the byte that is read next; 0 before the file was opened.
    pub fn offset(&self) -> u64 {
        self.handle.as_ref().map_or(0, |handle| handle.offset)
    }

    /// Goes on at a byte up to which the file has been read before; what was read then is not told again.
    pub fn resume(id: SourceId, path: PathBuf, offset: u64) -> Self {
        Self { resume: Some(offset), caught_up: true, opened_before: true, ..Self::new(id, path) }
    }

    /// Looks once and sends what is new. True when there is more to read at once.
    pub fn poll(&mut self, send: &mut dyn FnMut(EventKind)) -> bool {
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => {
                // The name is gone or unreadable; what is still open goes on being read.
                let more = self.read_new(send);
                let what = if error.kind() == io::ErrorKind::NotFound {
                    "gone; waiting for it to come back".to_string()
                } else {
                    error.to_string()
                };
                self.trouble(&what, send);
                return more;
            }
        };
        let same = self.handle.as_ref().map(|h| h.device == metadata.dev() && h.inode == metadata.ino());
        match same {
            None => self.open(&metadata, send),
            Some(true) => {
                self.well(send);
                self.look_for_truncation(&metadata, send);
            }
            Some(false) => {
                // Everything the old file holds comes first.
                if self.read_new(send) {
                    return true;
                }
                let old = self.handle.take();
                self.open(&metadata, send);
                if self.handle.is_some() {
                    self.old = old.map(|h| (h, Instant::now() + LINGER));
                } else {
                    self.handle = old;
                }
            }
        }
        self.listen_to_old(send);
        let more = self.read_new(send);
        more || self.read_earlier(send)
    }

    fn open(&mut self, metadata: &Metadata, send: &mut dyn FnMut(EventKind)) {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) => return self.trouble(&error.to_string(), send),
        };
        // The name may have changed hands between the two calls: believe the open file.
        let metadata = file.metadata().unwrap_or_else(|_| metadata.clone());
        let mut handle = Handle {
            device: metadata.dev(),
            inode: metadata.ino(),
            head: Vec::new(),
            neck: Vec::new(),
            is_hungry: false,
            offset: 0,
            size: metadata.len(),
            file,
        };
        handle.extend_head();
        if let Some(offset) = self.resume.take() {
            handle.offset = offset.min(handle.size);
        } else if self.opened_before {
            send(EventKind::Rotated { source: self.id });
            self.at_line_start = true;
        } else {
            self.opened_before = true;
            let name = Clean::new(&self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy());
            let path = Some(self.path.clone());
            send(EventKind::Opened { source: self.id, name, path, size: Some(metadata.len()) });
            if let Some(at) = metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok()) {
                send(EventKind::Written { source: self.id, at });
            }
            if handle.size > TAIL && !self.in_order && !handle.head.contains(&0) && !needs_its_start(&self.path) {
                handle.offset = handle.line_start_before_tail();
                self.earlier = (handle.offset > 0).then_some((0, handle.offset));
            }
        }
        self.handle = Some(handle);
        self.well(send);
    }

    fn look_for_truncation(&mut self, metadata: &Metadata, send: &mut dyn FnMut(EventKind)) {
        let Some(handle) = &mut self.handle else { return };
        let size = metadata.len();
        let replaced = size < handle.offset || !handle.is_what_it_was();
        if replaced {
            let unread = handle.size.saturating_sub(handle.offset);
            handle.offset = 0;
            handle.neck.clear();
            handle.head.clear();
            self.earlier = None;
            self.at_line_start = true;
            send(EventKind::Truncated { source: self.id, unread });
        }
        handle.size = size;
        handle.extend_head();
    }

    fn listen_to_old(&mut self, send: &mut dyn FnMut(EventKind)) {
        let Some((handle, until)) = &mut self.old else { return };
        let mut buffer = Vec::new();
        let at = handle.offset;
        while handle.read_chunk(&mut buffer).is_ok_and(|n| n > 0) {
            self.late.extend_from_slice(&buffer);
        }
        let over = Instant::now() >= *until;
        let whole = if over { self.late.len() } else { memchr::memrchr(b'\n', &self.late).map_or(0, |end| end + 1) };
        if whole > 0 && self.at_line_start {
            let mut data: Vec<u8> = self.late.drain(..whole).collect();
            if data.last() != Some(&b'\n') {
                data.push(b'\n');
            }
            send(EventKind::Output { source: self.id, offset: at, data });
        }
        if over && self.late.is_empty() {
            self.old = None;
        }
    }

    /// Reads what was appended. True when the burst ended before the file did.
    fn read_new(&mut self, send: &mut dyn FnMut(EventKind)) -> bool {
        let mut sent = 0;
        while let Some(handle) = &mut self.handle {
            let hole = handle.skip_hole();
            if let Some((from, bytes)) = hole {
                let reason = Clean::new("a hole in a sparse file");
                send(EventKind::Skipped { source: self.id, offset: from, bytes, reason });
            }
            let offset = handle.offset;
            let mut data = Vec::new();
            match handle.read_chunk(&mut data) {
                Ok(0) => {
                    if !self.caught_up {
                        self.caught_up = true;
                        send(EventKind::CaughtUp { source: self.id });
                    }
                    return false;
                }
                Ok(n) => {
                    self.at_line_start = data.last() == Some(&b'\n');
                    send(EventKind::Output { source: self.id, offset, data });
                    sent += n as u64;
                    if sent >= BURST {
                        return true;
                    }
                }
                Err(error) => {
                    // A stale or failing handle is opened again at the next poll, at the same place.
                    self.trouble(&error.to_string(), send);
                    self.reopen();
                    return false;
                }
            }
        }
        false
    }

    /// Takes a fresh handle to the same file after a read error, keeping the place.
    fn reopen(&mut self) {
        let Some(handle) = &mut self.handle else { return };
        if let Ok(file) = File::open(&self.path)
            && file.metadata().is_ok_and(|m| m.dev() == handle.device && m.ino() == handle.inode)
        {
            handle.file = file;
        }
    }

    /// Reads the next chunk of the part before the place where reading began. True when there is more.
    fn read_earlier(&mut self, send: &mut dyn FnMut(EventKind)) -> bool {
        let (Some((next, end)), Some(handle)) = (self.earlier, &mut self.handle) else { return false };
        let want = CHUNK.min(usize::try_from(end - next).unwrap_or(CHUNK));
        let mut data = vec![0; want];
        let got = match handle.file.read_at(&mut data, next) {
            Ok(n) => n,
            Err(error) => {
                let reason = Clean::new(&error.to_string());
                send(EventKind::Skipped { source: self.id, offset: next, bytes: end - next, reason });
                0
            }
        };
        if got == 0 {
            self.earlier = None;
            send(EventKind::Filled { source: self.id });
            return false;
        }
        data.truncate(got);
        send(EventKind::Output { source: self.id, offset: next, data });
        let next = next + got as u64;
        self.earlier = Some((next, end));
        if next >= end {
            self.earlier = None;
            send(EventKind::Filled { source: self.id });
        }
        self.earlier.is_some()
    }

    fn trouble(&mut self, what: &str, send: &mut dyn FnMut(EventKind)) {
        if !self.troubled {
            self.troubled = true;
            send(EventKind::Trouble { source: self.id, what: Some(Clean::new(what)) });
        }
    }

    fn well(&mut self, send: &mut dyn FnMut(EventKind)) {
        if self.troubled {
            self.troubled = false;
            send(EventKind::Trouble { source: self.id, what: None });
        }
    }
}

impl Handle {
    /// Reads at most a chunk at the present place and moves on. Interrupted calls are tried again.
    fn read_chunk(&mut self, data: &mut Vec<u8>) -> io::Result<usize> {
        data.resize(if self.is_hungry { CHUNK } else { SIP }, 0);
        loop {
            match self.file.read_at(data, self.offset) {
                Ok(n) => {
                    self.is_hungry = n == data.len();
                    data.truncate(n);
                    self.offset += n as u64;
                    self.size = self.size.max(self.offset);
                    let keep = data.len().saturating_sub(NECK);
                    self.neck.extend_from_slice(&data[keep..]);
                    let extra = self.neck.len().saturating_sub(NECK);
                    self.neck.drain(..extra);
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps the first bytes as soon as they are there.
    fn extend_head(&mut self) {
        if self.head.len() < HEAD {
            let mut head = vec![0; HEAD];
            if let Ok(n) = self.file.read_at(&mut head, 0) {
                head.truncate(n);
                self.head = head;
            }
        }
    }

    /// Whether head and neck still read as remembered: false after a truncation that grew past the old place. A read
    /// that fails says nothing about that: the next one will tell.
    fn is_what_it_was(&self) -> bool {
        let still = |at: u64, want: &[u8]| {
            let mut got = vec![0; want.len()];
            match self.file.read_exact_at(&mut got, at) {
                Ok(()) => got == want,
                Err(error) => error.kind() != io::ErrorKind::UnexpectedEof,
            }
        };
        still(0, &self.head) && still(self.offset - self.neck.len() as u64, &self.neck)
    }

    /// The start of a line about [`TAIL`] bytes before the end.
    fn line_start_before_tail(&self) -> u64 {
        let from = self.size - TAIL;
        let mut data = vec![0; CHUNK];
        let got = self.file.read_at(&mut data, from).unwrap_or(0);
        memchr::memchr(b'\n', &data[..got]).map_or(from, |end| from + end as u64 + 1)
    }

    /// Steps over a hole at the present place: where it began and its length.
    fn skip_hole(&mut self) -> Option<(u64, u64)> {
        // Only a file that says it takes far less room than its size can have one worth asking for.
        if self.size.saturating_sub(self.offset) < 1 << 20 {
            return None;
        }
        let metadata = self.file.metadata().ok()?;
        if metadata.blocks().saturating_mul(512) + (1 << 20) >= metadata.len() {
            return None;
        }
        let from = self.offset;
        let data = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(from)) {
            Ok(at) => at,
            Err(rustix::io::Errno::NXIO) => metadata.len(),
            Err(_) => return None,
        };
        (data > from).then(|| {
            self.offset = data;
            self.neck.clear();
            (from, data - from)
        })
    }
}

/// Wakes the tailing threads early.
#[derive(Debug, Default)]
pub struct Wake {
    woken: Mutex<u64>,
    changed: Condvar,
}

impl Wake {
    /// Something may have changed.
    pub fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Whether it was woken before the time was over.
    fn wait(&self, seen: &mut u64, longest: Duration) -> bool {
        let guard = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .changed
            .wait_timeout_while(guard, longest, |now| *now == *seen)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(seen, *guard) != *guard
    }
}

/// The threads that tail a set of files. Dropping it lets them end by themselves; nobody waits for a hung one.
#[derive(Debug)]
pub struct Tails {
    stop: Arc<AtomicBool>,
    wake: Arc<Wake>,
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Drop for Tails {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake.wake();
    }
}

/// Looks once for what is new in a file; true if there is more.
type Poll = Box<dyn FnMut(&mut dyn FnMut(EventKind)) -> bool>;

/// Tails each file in a thread of its own. Notifications only shorten the wait between polls.
pub fn spawn(files: Vec<(SourceId, PathBuf)>, events: &SyncSender<Event>) -> Tails {
    let stop = Arc::new(AtomicBool::new(false));
    let wake = Arc::new(Wake::default());
    let watcher = watch_folders(&files, &wake);
    let mut pulses = Vec::new();
    for (id, path) in files {
        let (stop, wake, sender) = (Arc::clone(&stop), Arc::clone(&wake), events.clone());
        let pulse = Arc::new(Pulse::default());
        pulses.push((id, path.clone(), Arc::clone(&pulse)));
        let started = thread::Builder::new().name(format!("tail-{}", id.0)).stack_size(256 << 10).spawn(move || {
            pulse.ask();
            let mut poll: Poll = if database::is_one(&path) {
                let mut followed = database::Followed::new(id, path);
                Box::new(move |send| followed.poll(send))
            } else {
                let mut tail = Tail::new(id, path);
                Box::new(move |send| tail.poll(send))
            };
            pulse.answered();
            let mut seen = 0;
            let mut idle = SOON;
            let mut woken = false;
            while !stop.load(Ordering::Relaxed) {
                let mut gone = false;
                let mut quiet = true;
                pulse.ask();
                let more = poll(&mut |kind| {
                    pulse.answered();
                    if matches!(kind, EventKind::Opened { .. }) {
                        pulse.opened.store(true, Ordering::Relaxed);
                    }
                    quiet &= !matches!(kind, EventKind::Output { .. });
                    gone |= sender.send(Event { at: Timestamp::now(), kind }).is_err();
                    pulse.ask();
                });
                pulse.answered();
                if gone {
                    return;
                }
                if !more {
                    idle = match (quiet, woken) {
                        (true, _) => (idle * 2).min(LATEST),
                        // Notifications arrive here: the poll is only behind them.
                        (false, true) => LATEST / 2,
                        (false, false) => SOON,
                    };
                    woken = wake.wait(&mut seen, idle);
                }
            }
        });
        if started.is_err() {
            let what = Some(Clean::new("no thread could be started for it"));
            let _ = events.send(Event { at: Timestamp::now(), kind: EventKind::Trouble { source: id, what } });
        }
    }
    let (over, sender) = (Arc::clone(&stop), events.clone());
    let _ = thread::Builder::new().name("pulse".into()).spawn(move || listen_for_silence(pulses, &over, &sender));
    Tails { stop, wake, _watcher: watcher }
}

/// Since when a tail waits for its file system.
#[derive(Debug, Default)]
struct Pulse {
    /// Milliseconds on the clock of [`uptime`], and 0 while it does not wait.
    asked: AtomicU64,
    opened: AtomicBool,
}

impl Pulse {
    fn ask(&self) {
        self.asked.store(uptime(), Ordering::Relaxed);
    }

    fn answered(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        match self.asked.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(uptime().saturating_sub(since)),
        }
    }
}

/// Milliseconds since the first call, never 0.
fn uptime() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Says of each file whose file system does not answer for how long, and when it answers again.
fn listen_for_silence(tails: Vec<(SourceId, PathBuf, Arc<Pulse>)>, stop: &AtomicBool, events: &SyncSender<Event>) {
    let mut tails: Vec<_> = tails.into_iter().map(|(id, path, pulse)| (id, path, pulse, Duration::ZERO)).collect();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(SILENCE / 3);
        for (source, path, pulse, told) in &mut tails {
            let silence = pulse.silence();
            let send = |kind| events.send(Event { at: Timestamp::now(), kind }).is_ok();
            let source = *source;
            if silence >= SILENCE && (*told == Duration::ZERO || silence > *told * 2) {
                *told = silence;
                if !pulse.opened.swap(true, Ordering::Relaxed) {
                    let name = Clean::new(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy());
                    send(EventKind::Opened { source, name, path: Some(path.clone()), size: None });
                }
                let what = format!("no answer from its file system for {} s", silence.as_secs().max(1));
                send(EventKind::Trouble { source, what: Some(Clean::new(&what)) });
            } else if silence < SILENCE && *told > Duration::ZERO {
                *told = Duration::ZERO;
                send(EventKind::Trouble { source, what: None });
            }
        }
    }
}

/// Watches the folders of the files, where the system lets us; without it polling goes on alone.
fn watch_folders(files: &[(SourceId, PathBuf)], wake: &Arc<Wake>) -> Option<notify::RecommendedWatcher> {
    use notify::Watcher;
    let handler = {
        let wake = Arc::clone(wake);
        move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|e| e.kind.is_access()) {
                wake.wake();
            }
        }
    };
    let mut watcher = notify::recommended_watcher(handler).ok()?;
    let mut folders: Vec<&Path> = files.iter().filter_map(|(_, path)| path.parent()).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let _ = watcher.watch(folder, notify::RecursiveMode::NonRecursive);
    }
    Some(watcher)
}

/// Reads standard input to its end in a thread.
pub fn spawn_stdin(id: SourceId, events: SyncSender<Event>) {
    let _ = thread::Builder::new().name("stdin".into()).spawn(move || {
        let send = |kind| events.send(Event { at: Timestamp::now(), kind }).is_ok();
        if !send(EventKind::Opened { source: id, name: "standard input".into(), path: None, size: None }) {
            return;
        }
        let mut offset = 0;
        let mut input = io::stdin().lock();
        loop {
            let mut data = vec![0; CHUNK];
            match input.read(&mut data) {
                Ok(0) => break,
                Ok(n) => {
                    data.truncate(n);
                    if !send(EventKind::Output { source: id, offset, data }) {
                        return;
                    }
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    send(EventKind::Trouble { source: id, what: Some(Clean::new(&error.to_string())) });
                    break;
                }
            }
        }
        send(EventKind::CaughtUp { source: id });
        send(EventKind::Ended { source: id });
    });
}
