//! Writes a run down while it goes on, in a thread of its own: a slow or full disk costs the recording, nothing else.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::model::{Clean, Event, EventKind, failure::Failure, metric::Point};

use super::{
    database::{Database, Gap, Setting, StoreError},
    writer::Writer,
};

/// Bytes that may wait for the recorder's thread, and items.
const WAITING: u64 = 64 << 20;
const ITEMS: usize = 4096;
/// The largest recording of one run.
pub const LARGEST: u64 = 512 << 20;
/// Recording stops when the disk has less room than this, or less than a hundredth of it.
const LEAST_FREE: u64 = 2 << 30;
/// A disk that has not answered for so long is told.
const STUCK: Duration = Duration::from_secs(5);
/// Gaps that are kept in memory one by one.
const GAPS: usize = 64;

/// What the recorder's thread is given.
pub enum Item {
    Event(Event),
    Points(Vec<(Timestamp, Point)>),
    Failure(Timestamp, Box<Failure>),
    Meta(&'static str, Clean),
    Settings(Vec<Setting>),
    /// Whoever waits is told when all before it is on the disk.
    Settle(SyncSender<()>),
    Finish,
}

/// What the recorder and its thread share.
#[derive(Debug)]
pub struct State {
    /// Lost on the way to the thread, and not told yet.
    pub lost_events: AtomicU64,
    pub lost_bytes: AtomicU64,
    /// Bytes of output that wait to be taken in.
    pub waiting: AtomicU64,
    pub standing: Mutex<Standing>,
    start: Instant,
    /// Milliseconds from the start to the thread's last look at what waits.
    beat: AtomicU64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            lost_events: AtomicU64::new(0),
            lost_bytes: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            standing: Mutex::default(),
            start: Instant::now(),
            beat: AtomicU64::new(0),
        }
    }
}

impl State {
    /// The thread is not held up.
    pub fn beat(&self) {
        self.beat.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn since_beat(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.beat.load(Ordering::Relaxed)))
    }
}

/// How the recording stands: what is missing in it, and why nothing is written at present.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    pub trouble: Option<Clean>,
    pub gaps: BTreeMap<i64, Gap>,
}

impl Standing {
    /// Notes a gap, or how far it has grown.
    pub fn put(&mut self, gap: &Gap) {
        if self.gaps.get(&gap.number) != Some(gap) {
            self.gaps.insert(gap.number, gap.clone());
            if self.gaps.len() > GAPS {
                self.gaps.pop_first();
            }
        }
    }
}

/// A recording in progress.
#[derive(Debug)]
pub struct Recorder {
    items: SyncSender<Item>,
    state: Arc<State>,
    path: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What was told of its standing.
    told: Mutex<Standing>,
}

impl Recorder {
    /// Begins a recording in `path`, which must not exist.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn start(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path)?;
        let (items, inbox) = sync_channel(ITEMS);
        let state = Arc::new(State::default());
        let writer = Writer::new(database, path.to_path_buf(), Arc::clone(&state));
        let thread = thread::Builder::new().name("recorder".into()).spawn(move || writer.run(&inbox)).ok();
        let thread = Mutex::new(thread);
        Ok(Self { items, state, path: path.to_path_buf(), thread, told: Mutex::default() })
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
            let many = points.len() as u64;
            self.send(Item::Points(points), many, 0);
        }
    }

    pub fn failure(&self, at: Timestamp, failure: &Failure) {
        self.send(Item::Failure(at, Box::new(failure.clone())), 1, 0);
    }

    /// Notes a fact about the run.
    pub fn meta(&self, key: &'static str, value: Clean) {
        self.send(Item::Meta(key, value), 1, 0);
    }

    /// Notes settings of the run, for the comparison of attempts.
    pub fn settings(&self, settings: Vec<Setting>) {
        if !settings.is_empty() {
            self.send(Item::Settings(settings), 1, 0);
        }
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

    /// Waits until all that was given so far is on the disk, a second at most: what is told afterwards is recorded.
    pub fn settle(&self) {
        let (done, is_done) = sync_channel(1);
        if self.items.try_send(Item::Settle(done)).is_ok() {
            let _ = is_done.recv_timeout(Duration::from_secs(1));
        }
    }

    /// How the recording stands now.
    pub fn standing(&self) -> Standing {
        let mut standing = self.state.standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let silent = self.state.since_beat();
        if silent > STUCK {
            let lost = self.state.lost_events.load(Ordering::Relaxed);
            let lost = if lost > 0 { format!(", {lost} events are lost so far") } else { String::new() };
            standing.trouble = Some(Clean::new(&format!("its disk does not answer{lost}")));
        }
        standing
    }

    /// What changed in its standing since this was asked last, for those who look on. It is not recorded: the
    /// recording tells it by its gaps.
    pub fn news(&self) -> Vec<EventKind> {
        let standing = self.standing();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = Vec::new();
        for (number, gap) in &standing.gaps {
            if told.gaps.get(number) != Some(gap) {
                news.push(gap.told());
            }
        }
        if told.trouble != standing.trouble {
            news.push(EventKind::Recording { trouble: standing.trouble.clone() });
        }
        *told = standing;
        news
    }

    /// Writes what is waiting and ends; gives up after two seconds on a disk that does not answer. What the recording
    /// lacks, in sentences.
    pub fn finish(&self) -> Vec<String> {
        let start = Instant::now();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut told = false;
        let mut ended = true;
        if let Some(thread) = thread {
            while !thread.is_finished() && start.elapsed() < Duration::from_secs(2) {
                told = told || self.items.try_send(Item::Finish).is_ok();
                thread::sleep(Duration::from_millis(5));
            }
            ended = thread.is_finished();
        }
        let mut lacks: Vec<String> = self.standing().gaps.values().map(Gap::sentence).collect();
        if !ended {
            lacks.push("its disk does not answer: the end of the run may be missing".into());
        }
        lacks
    }
}

/// The time as recordings keep it: whole microseconds. What is recorded and shown at once should be stamped so, for a
/// replay to be exact.
pub fn kept(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// Whether so little room is left on the disk of a folder that it should be left to others.
pub fn is_short(folder: &Path) -> bool {
    is_short_after(folder, 0)
}

/// The same, once so many bytes are written.
pub fn is_short_after(folder: &Path, bytes: u64) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|disk| {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(bytes);
        free < LEAST_FREE.max(disk.f_blocks.saturating_mul(disk.f_frsize) / 100)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        SourceId,
        gpu::{GpuReading, GpuSample},
    };

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
