//! Writes a run down while it goes on, in a thread of its own: a slow or full disk costs the recording, nothing else.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::model::{Clean, Event, EventKind, SourceId, failure::Failure, gpu::GpuReading, metric::Point, redact};

use super::{
    compact,
    database::{Batch, Database, Gap, Row, Setting, StoreError},
};

/// Output is written at most this often; events that matter are written at once.
const FLUSH: Duration = Duration::from_millis(500);
/// A disk that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(10);
/// What is kept in memory while the disk fails.
const KEEP: usize = 64 << 20;
/// Bytes that may wait for the recorder's thread.
const WAITING: u64 = 64 << 20;
/// The largest recording of one run.
pub const LARGEST: u64 = 512 << 20;
/// How often a large recording is rid of old fine looks.
const THIN: Duration = Duration::from_mins(5);
/// Recording stops when the disk has less room than this, or less than a hundredth of it.
const LEAST_FREE: u64 = 2 << 30;

enum Item {
    Event(Event),
    Points(Vec<(Timestamp, Point)>),
    Failure(Timestamp, Box<Failure>),
    Meta(&'static str, Clean),
    Settings(Vec<Setting>),
    Finish,
}

/// What the recorder can tell of itself.
#[derive(Debug, Default)]
struct State {
    lost_events: AtomicU64,
    lost_bytes: AtomicU64,
    /// Bytes of output that wait to be taken in.
    waiting: AtomicU64,
}

/// A recording in progress.
#[derive(Debug)]
pub struct Recorder {
    items: SyncSender<Item>,
    state: Arc<State>,
    path: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    /// Begins a recording in `path`, which must not exist.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn start(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path)?;
        let (items, inbox) = sync_channel(4096);
        let state = Arc::new(State::default());
        let writer = Writer {
            database,
            path: path.to_path_buf(),
            folder: path.parent().map(Path::to_path_buf).unwrap_or_default(),
            batch: Batch::default(),
            streams: Vec::new(),
            next_row: 0,
            state: Arc::clone(&state),
            failed: None,
            full: false,
            looked: None,
            thinned: None,
        };
        let thread = thread::Builder::new().name("recorder".into()).spawn(move || writer.run(&inbox)).ok();
        let thread = Mutex::new(thread);
        Ok(Self { items, state, path: path.to_path_buf(), thread })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes an event down soon. Never waits: when the recorder cannot keep up, the event is counted as lost.
    pub fn event(&self, event: &Event) {
        let bytes = if let EventKind::Output { data, .. } = &event.kind { data.len() as u64 } else { 0 };
        self.send(Item::Event(event.clone()), 1, bytes);
    }

    pub fn points(&self, points: Vec<(Timestamp, Point)>) {
        if !points.is_empty() {
            self.send(Item::Points(points), 0, 0);
        }
    }

    pub fn failure(&self, at: Timestamp, failure: &Failure) {
        self.send(Item::Failure(at, Box::new(failure.clone())), 0, 0);
    }

    /// Notes a fact about the run.
    pub fn meta(&self, key: &'static str, value: Clean) {
        self.send(Item::Meta(key, value), 0, 0);
    }

    /// Notes settings of the run, for the comparison of attempts.
    pub fn settings(&self, settings: Vec<Setting>) {
        if !settings.is_empty() {
            self.send(Item::Settings(settings), 0, 0);
        }
    }

    /// Events that could not be recorded so far.
    pub fn lost_events(&self) -> u64 {
        self.state.lost_events.load(Ordering::Relaxed)
    }

    fn send(&self, item: Item, events: u64, bytes: u64) {
        // Counted before it is sent: the recorder's thread may take it in at once.
        let waiting = self.state.waiting.fetch_add(bytes, Ordering::Relaxed);
        let room = waiting + bytes <= WAITING;
        if !room || matches!(self.items.try_send(item), Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) {
            self.state.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.state.lost_events.fetch_add(events, Ordering::Relaxed);
            self.state.lost_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Writes what is waiting and ends; gives up after two seconds on a disk that does not answer.
    pub fn finish(&self) {
        let start = Instant::now();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let mut told = false;
        while !thread.is_finished() && start.elapsed() < Duration::from_secs(2) {
            told = told || self.items.try_send(Item::Finish).is_ok();
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The time as recordings keep it: whole microseconds. What is recorded and shown at once should be stamped so, for a
/// replay to be exact.
pub fn kept(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// Whether so little room is left on the disk of a folder that it should be left to others.
pub fn is_short(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|disk| {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        free < LEAST_FREE.max(disk.f_blocks.saturating_mul(disk.f_frsize) / 100)
    })
}

/// Takes secrets out of what an event says beside its bytes.
fn mask_event(kind: &mut EventKind) {
    match kind {
        EventKind::Started { command, .. } => *command = redact::words(command),
        EventKind::Opened { name, path, .. } => {
            *name = Clean::new(&redact::line(name.as_str()));
            // A path that is not UTF-8 cannot be written as JSON.
            *path = path.take().filter(|p| p.to_str().is_some_and(|p| redact::secrets(p.as_bytes()).is_empty()));
        }
        EventKind::Gpu { reading: GpuReading::Samples(samples) } => {
            for process in samples.iter_mut().flat_map(|sample| &mut sample.processes) {
                process.command = process.command.take().map(|c| Clean::new(&redact::line(c.as_str())));
            }
        }
        EventKind::Kernel { text } => *text = Clean::new(&redact::line(text.as_str())),
        _ => {}
    }
}

/// Takes the secret out of a setting: its name may be what says that it is one.
fn mask_setting(setting: &mut Setting) {
    let pair = format!("{}={}", setting.name, setting.value);
    let clean = redact::line(&pair);
    if clean != pair {
        setting.value = clean.strip_prefix(&format!("{}=", setting.name)).unwrap_or("***").to_string();
    }
}

/// Bytes of one event that have not been written yet.
#[derive(Debug)]
struct Piece {
    row: i64,
    at: Timestamp,
    offset: u64,
    bytes: usize,
}

/// The bytes of one source on their way to the disk. A secret may lie across two events, so the end of an unfinished
/// line waits for the rest of the line; it is then written with the place and the time of the event that brought it.
#[derive(Debug, Default)]
struct Stream {
    mask: redact::Mask,
    /// Offset of the byte that follows on.
    next: u64,
    waiting: VecDeque<Piece>,
    /// Masked bytes of the first waiting piece.
    ready: Vec<u8>,
}

impl Stream {
    fn take(&mut self, source: SourceId, piece: Piece, data: &[u8], batch: &mut Batch) {
        if self.next != piece.offset {
            // Another stretch of the file: nothing follows on what was held back.
            self.finish(source, batch);
        }
        self.next = piece.offset + data.len() as u64;
        let masked = self.mask.apply(data);
        self.ready.extend_from_slice(&masked);
        self.write(source, batch);
        if !self.waiting.is_empty() || self.ready.is_empty() {
            self.waiting.push_back(piece);
            return;
        }
        let head = std::mem::take(&mut self.ready);
        let Piece { row, at, offset, bytes } = piece;
        let rest = bytes - head.len();
        if rest > 0 {
            let offset = offset + head.len() as u64;
            self.waiting.push_back(Piece { row: row + 1, at, offset, bytes: rest });
        }
        batch.events.push(Row::output(row, at, source, offset, head));
    }

    /// Writes the waiting pieces that are whole.
    fn write(&mut self, source: SourceId, batch: &mut Batch) {
        while self.waiting.front().is_some_and(|piece| piece.bytes <= self.ready.len())
            && let Some(piece) = self.waiting.pop_front()
        {
            let data = self.ready.drain(..piece.bytes).collect();
            batch.events.push(Row::output(piece.row, piece.at, source, piece.offset, data));
        }
    }

    fn finish(&mut self, source: SourceId, batch: &mut Batch) {
        let rest = self.mask.finish();
        self.ready.extend_from_slice(&rest);
        self.write(source, batch);
    }
}

struct Writer {
    database: Database,
    path: PathBuf,
    folder: PathBuf,
    batch: Batch,
    /// One for each source.
    streams: Vec<Stream>,
    /// Number of the next event's row. Every event has two: the second is for the end of a line that was held back.
    next_row: i64,
    state: Arc<State>,
    /// Since when the disk fails.
    failed: Option<Instant>,
    /// The recording may not grow any more; why has been written down.
    full: bool,
    looked: Option<Instant>,
    /// When old fine looks were last taken out.
    thinned: Option<Instant>,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Item>) {
        let mut flushed = Instant::now();
        loop {
            let item = inbox.recv_timeout(FLUSH.saturating_sub(flushed.elapsed()));
            let mut urgent = false;
            let mut over = false;
            match item {
                Ok(Item::Event(event)) => urgent = self.take(event),
                Ok(Item::Points(points)) if self.full => drop(points),
                Ok(Item::Points(mut points)) => {
                    for (key, _) in points.iter_mut().flat_map(|(_, point)| &mut point.raw) {
                        *key = Clean::new(&redact::line(key.as_str()));
                    }
                    self.batch.points.extend(points);
                }
                Ok(Item::Failure(at, failure)) => {
                    self.batch.failures.push((at, *failure));
                    urgent = true;
                }
                Ok(Item::Meta(key, value)) => self.batch.meta.push((key, Clean::new(&redact::line(value.as_str())))),
                Ok(Item::Settings(mut settings)) => {
                    settings.iter_mut().for_each(mask_setting);
                    self.batch.settings.extend(settings);
                }
                Ok(Item::Finish) | Err(RecvTimeoutError::Disconnected) => {
                    self.release();
                    over = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if over || urgent || flushed.elapsed() >= FLUSH || self.batch.weight() > 4 << 20 {
                self.flush(urgent || over);
                flushed = Instant::now();
            }
            if over {
                return;
            }
        }
    }

    /// Puts an event into the batch. True when it must be on disk before anybody is told.
    fn take(&mut self, mut event: Event) -> bool {
        event.at = kept(event.at);
        let row = self.next_row;
        self.next_row += 2;
        if let EventKind::Output { source, offset, data } = &mut event.kind {
            let data = std::mem::take(data);
            self.state.waiting.fetch_sub(data.len() as u64, Ordering::Relaxed);
            if self.is_full(event.at) {
                self.lose(1, data.len() as u64);
                return false;
            }
            let index = usize::from(source.0);
            if self.streams.len() <= index {
                self.streams.resize_with(index + 1, Stream::default);
            }
            let (source, offset) = (*source, *offset);
            if let Some(stream) = self.streams.get_mut(index) {
                stream.take(source, Piece { row, at: event.at, offset, bytes: data.len() }, &data, &mut self.batch);
            }
            return false;
        }
        // Samples go as the output goes: what is written of a full recording is how the run ended.
        if matches!(event.kind, EventKind::Gpu { .. } | EventKind::Host { .. }) && self.is_full(event.at) {
            self.lose(1, 0);
            return false;
        }
        let urgent =
            matches!(event.kind, EventKind::Exited { .. } | EventKind::Kernel { .. } | EventKind::Started { .. });
        if matches!(
            event.kind,
            EventKind::Ended { .. }
                | EventKind::Truncated { .. }
                | EventKind::Rotated { .. }
                | EventKind::Exited { .. }
        ) {
            self.release();
        }
        mask_event(&mut event.kind);
        self.batch.events.push(Row { number: row, event, data: None });
        urgent
    }

    /// Writes what the masks hold back: no more will follow on it.
    fn release(&mut self) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            stream.finish(SourceId(u16::try_from(index).unwrap_or(u16::MAX)), &mut self.batch);
        }
    }

    fn flush(&mut self, synced: bool) {
        let lost_events = self.state.lost_events.swap(0, Ordering::Relaxed);
        let lost_bytes = self.state.lost_bytes.swap(0, Ordering::Relaxed);
        if lost_events > 0 {
            self.batch.gaps.push(Gap {
                at: Timestamp::now(),
                events: lost_events,
                bytes: lost_bytes,
                reason: "the recorder could not keep up".into(),
            });
        }
        if self.batch.is_empty() || self.failed.is_some_and(|since| since.elapsed() < RETRY && !synced) {
            self.shed();
            return;
        }
        if self.failed.is_some() {
            // After a failed sync nothing of the old connection is trusted.
            match Database::reopen(&self.path) {
                Ok(database) => self.database = database,
                Err(_) => return self.shed(),
            }
        }
        if self.database.write(&self.batch, synced).is_ok() {
            self.batch = Batch::default();
            self.failed = None;
        } else {
            self.failed = Some(Instant::now());
            self.shed();
        }
    }

    /// While the disk fails, keeps what fits in memory, the newest first.
    fn shed(&mut self) {
        if self.batch.weight() <= KEEP {
            return;
        }
        let half = self.batch.events.len() / 2;
        let dropped: Vec<_> = self.batch.events.drain(..half).collect();
        let bytes = dropped.iter().map(|row| row.data.as_ref().map_or(0, Vec::len) as u64).sum();
        self.lose(dropped.len() as u64, bytes);
    }

    fn lose(&self, events: u64, bytes: u64) {
        self.state.lost_events.fetch_add(events, Ordering::Relaxed);
        self.state.lost_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether the recording or the disk has reached its limit; asked of the disk once a second at most.
    fn is_full(&mut self, now: Timestamp) -> bool {
        if self.looked.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return self.full;
        }
        self.looked = Some(Instant::now());
        let size = self.database.size();
        if size >= LARGEST / 2 && self.thinned.is_none_or(|at| at.elapsed() > THIN) {
            self.thinned = Some(Instant::now());
            if let Ok(thinned @ 1..) = compact::thin_fine_looks(&self.database, now) {
                let reason = "old fine looks at memory gave way, as the recording is large".into();
                self.batch.gaps.push(Gap { at: now, events: thinned as u64, bytes: 0, reason });
            }
        }
        let reason = if size >= LARGEST {
            Some("the recording has reached its largest size")
        } else {
            is_short(&self.folder).then_some("the disk is nearly full: the room is left to the checkpoints")
        };
        if let (Some(reason), false) = (reason, self.full) {
            self.batch.gaps.push(Gap { at: now, events: 0, bytes: 0, reason: reason.into() });
        }
        self.full = reason.is_some();
        self.full
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::gpu::GpuSample;

    fn at(n: i64) -> Timestamp {
        Timestamp::from_microsecond(1_700_000_000_000_000 + n * 250_000).unwrap()
    }

    fn record(events: &[Event]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.sqlite");
        let recorder = Recorder::start(&path).unwrap();
        for event in events {
            recorder.event(event);
        }
        recorder.finish();
        (folder, path)
    }

    proptest! {
        #![proptest_config(crate::properties::config(24))]

        /// What is read back is what was recorded: every event with its bytes, its time and its place.
        #[test]
        fn a_recording_reads_back(chunks in prop::collection::vec((0u16..2, "[a-z \\n\\r]{1,60}"), 1..40)) {
            let mut offsets = [0u64; 2];
            let mut events = Vec::new();
            for (n, (source, text)) in chunks.iter().enumerate() {
                let offset = &mut offsets[usize::from(*source)];
                let data = text.as_bytes().to_vec();
                let kind = EventKind::Output { source: SourceId(*source), offset: *offset, data };
                *offset += text.len() as u64;
                events.push(Event { at: at(n as i64), kind });
                if n % 7 == 0 {
                    let sample = GpuSample { uuid: "GPU-1".into(), utilization: Some(n as u32), ..GpuSample::default() };
                    let kind = EventKind::Gpu { reading: GpuReading::Samples(vec![sample]) };
                    events.push(Event { at: at(n as i64), kind });
                }
            }
            let (_folder, path) = record(&events);
            let back = Database::open(&path).unwrap().events().unwrap();
            prop_assert_eq!(back, events);
        }
    }

    #[test]
    fn secrets_never_reach_the_disk() {
        let secret = format!("hf_{}", "Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0");
        let line = format!("token is {secret} here\nnext\n");
        let mut events = Vec::new();
        for (n, byte) in line.bytes().enumerate() {
            let kind = EventKind::Output { source: SourceId(0), offset: n as u64, data: vec![byte] };
            events.push(Event { at: at(n as i64), kind });
        }
        let (folder, path) = record(&events);
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(memchr::memmem::find(&bytes, &secret.as_bytes()[3..20]).is_none());
        }
        let back = Database::open(&path).unwrap().events().unwrap();
        let bytes: Vec<u8> = back
            .iter()
            .filter_map(|e| if let EventKind::Output { data, .. } = &e.kind { Some(data.clone()) } else { None })
            .flatten()
            .collect();
        assert_eq!(back.len(), events.len());
        assert_eq!(bytes.len(), line.len());
        assert!(bytes.ends_with(b" here\nnext\n"));
    }

    #[test]
    fn an_existing_file_is_never_overwritten_and_a_foreign_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.sqlite");
        std::fs::write(&path, "precious").unwrap();
        assert!(Recorder::start(&path).is_err());
        assert!(matches!(Database::open(&path), Err(StoreError::Foreign { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_newer_recording_is_refused_politely() {
        let (_folder, path) = record(&[]);
        rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(Database::open(&path).unwrap_err().to_string().contains("newer oomph"));
    }

    #[test]
    fn a_damaged_recording_never_panics() {
        let events: Vec<Event> = (0..50)
            .map(|n| Event {
                at: at(n),
                kind: EventKind::Output { source: SourceId(0), offset: n as u64 * 10, data: b"some line\n".to_vec() },
            })
            .collect();
        let (folder, path) = record(&events);
        let whole = std::fs::read(&path).unwrap();
        let broken = folder.path().join("broken.sqlite");
        for nth in 0..100 {
            let mut bytes = whole.clone();
            let place = nth * 7919 % bytes.len();
            bytes[place] ^= 0x55;
            bytes.truncate(if nth % 3 == 0 { place } else { bytes.len() });
            std::fs::write(&broken, &bytes).unwrap();
            if let Ok(database) = Database::open(&broken) {
                let _ = database.events();
                let _ = database.meta("schema");
            }
        }
    }
}
