//! The recorder's thread: takes in what comes, masks secrets, and writes in batches what the disk takes.

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::model::{Clean, Event, EventKind, SourceId, gpu::GpuReading, redact};

use super::{
    compact,
    database::{Batch, Database, Extent, Row, Setting},
    gaps::{Gaps, Why},
    recorder::{Item, LARGEST, State, is_short_after, kept},
    stream::{Piece, Stream},
};

/// Output is written at most this often; events that matter are written at once.
const FLUSH: Duration = Duration::from_millis(500);
/// A disk that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(10);
/// What is kept in memory while the disk fails.
const KEEP: usize = 64 << 20;
/// A batch of so many bytes does not wait.
const LARGE: usize = 4 << 20;
/// The disk is asked for its room when so many bytes have come.
const LOOK: u64 = 1 << 20;
/// How often a large recording is rid of old fine looks.
const THIN: Duration = Duration::from_mins(5);
const BEHIND: &str = "the recorder could not keep up";

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

/// The thread's own state.
pub struct Writer {
    /// Nothing while the disk fails.
    database: Option<Database>,
    /// Transactions that are in the file, as far as is known.
    batches: i64,
    path: PathBuf,
    folder: PathBuf,
    batch: Batch,
    /// One for each source.
    streams: Vec<Stream>,
    /// Number of the next event's row. Every event has two: the second is for the end of a line that was held back.
    next_row: i64,
    state: Arc<State>,
    gaps: Gaps,
    /// The disk fails.
    failed: Option<Failed>,
    /// The recording may not grow any more, and why.
    full: Option<&'static str>,
    looked: Option<Instant>,
    /// Bytes of output taken in since then.
    since: u64,
    /// When old fine looks were last taken out.
    thinned: Option<Instant>,
}

struct Failed {
    tried: Instant,
    said: String,
    /// What was in the batch then: it may have reached the disk all the same.
    extent: Extent,
}

impl Writer {
    pub fn new(database: Database, path: PathBuf, state: Arc<State>) -> Self {
        Self {
            batches: database.batches(),
            database: Some(database),
            folder: path.parent().map(Into::into).unwrap_or_default(),
            path,
            batch: Batch::default(),
            streams: Vec::new(),
            next_row: 0,
            state,
            gaps: Gaps::default(),
            failed: None,
            full: None,
            looked: None,
            since: 0,
            thinned: None,
        }
    }

    /// Works until it is told to end, or until nobody is left to tell it anything.
    pub fn run(mut self, inbox: &Receiver<Item>) {
        let mut flushed = Instant::now();
        loop {
            self.state.beat();
            let item = inbox.recv_timeout(FLUSH.saturating_sub(flushed.elapsed()));
            let mut urgent = false;
            let mut over = false;
            match item {
                Ok(Item::Finish) | Err(RecvTimeoutError::Disconnected) => {
                    self.release();
                    over = true;
                }
                Ok(Item::Settle(done)) => {
                    self.release();
                    self.flush(true, false);
                    let _ = done.try_send(());
                }
                Ok(item) => urgent = self.take(item),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if over || urgent || flushed.elapsed() >= FLUSH || self.batch.weigh() > LARGE {
                self.flush(urgent, over);
                flushed = Instant::now();
            }
            if over {
                return;
            }
        }
    }

    /// Puts an item into the batch. True when it must be on disk before anybody is told.
    fn take(&mut self, item: Item) -> bool {
        match item {
            Item::Event(event) => return self.take_event(event),
            Item::Points(points) if self.full.is_some() => self.lose_to_limit(points.len() as u64, 0),
            Item::Points(mut points) => {
                for (key, _) in points.iter_mut().flat_map(|(_, point)| &mut point.raw) {
                    *key = Clean::new(&redact::line(key.as_str()));
                }
                self.batch.points.extend(points);
            }
            Item::Failure(at, failure) => {
                self.batch.failures.push((at, *failure));
                return true;
            }
            Item::Meta(key, value) => self.batch.meta.push((key, Clean::new(&redact::line(value.as_str())))),
            Item::Settings(mut settings) => {
                settings.iter_mut().for_each(mask_setting);
                self.batch.settings.extend(settings);
            }
            Item::Settle(_) | Item::Finish => {}
        }
        false
    }

    fn take_event(&mut self, mut event: Event) -> bool {
        event.at = kept(event.at);
        let row = self.next_row;
        self.next_row += 2;
        if let EventKind::Output { source, offset, data } = &mut event.kind {
            let data = std::mem::take(data);
            self.state.waiting.fetch_sub(data.len() as u64, Ordering::Relaxed);
            self.since += data.len() as u64;
            if self.is_full(event.at) {
                self.lose_to_limit(1, data.len() as u64);
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
            self.lose_to_limit(1, 0);
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

    /// Writes the batch. `urgent`: the disk must have it afterwards; `over`: for the last time.
    fn flush(&mut self, urgent: bool, over: bool) {
        let lost = self.state.lost_events.swap(0, Ordering::Relaxed);
        let bytes = self.state.lost_bytes.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.gaps.lose(Why::Behind, Timestamp::now(), lost, bytes, BEHIND);
        }
        let waits = self.failed.as_ref().is_some_and(|failed| failed.tried.elapsed() < RETRY);
        let taken = if waits && !urgent && !over { false } else { self.write(urgent || over, over) };
        if over && !taken {
            let rest = self.batch.extent();
            let bytes = self.batch.take_out(&rest);
            self.gaps.lose(Why::Disk, Timestamp::now(), (rest.events + rest.points) as u64, bytes, "the disk failed");
        }
        self.shed();
        let trouble = match (&self.failed, self.full) {
            (Some(failed), _) => Some(format!("the disk does not take it ({}): tried every 10 s", failed.said)),
            (None, Some(reason)) => Some(reason.to_string()),
            (None, None) => None,
        };
        let mut standing = self.state.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.trouble = trouble.as_deref().map(Clean::new);
        for gap in self.gaps.all() {
            standing.put(gap);
        }
    }

    /// False when the disk does not take it.
    fn write(&mut self, synced: bool, all: bool) -> bool {
        let mut database = match self.database.take().map_or_else(|| Database::reopen(&self.path), Ok) {
            Ok(database) => database,
            Err(error) => return self.fail(&error.to_string(), None),
        };
        if let Some(failed) = &mut self.failed
            && database.batches() > self.batches
        {
            // What was told to have failed is on the disk all the same.
            self.batch.take_out(&std::mem::take(&mut failed.extent));
        }
        self.batches = database.batches();
        self.batch.gaps = self.gaps.due(all);
        if !self.batch.is_empty()
            && let Err(error) = database.write(&self.batch, synced)
        {
            // After a failed sync nothing of this connection is trusted.
            return self.fail(&error.to_string(), Some(self.batch.extent()));
        }
        self.gaps.wrote(&self.batch.gaps);
        self.batch = Batch::default();
        self.batches = database.batches();
        self.database = Some(database);
        if let Some(Failed { said, .. }) = self.failed.take() {
            self.gaps.end(Why::Disk, |seconds| format!("the disk did not take it for {seconds} s: {said}"));
            return self.write(synced, all);
        }
        true
    }

    fn fail(&mut self, said: &str, extent: Option<Extent>) -> bool {
        let said = redact::text(said);
        let extent = extent.or_else(|| self.failed.take().map(|failed| failed.extent)).unwrap_or_default();
        self.gaps.begin(Why::Disk, Timestamp::now(), &format!("the disk does not take it: {said}"));
        self.failed = Some(Failed { tried: Instant::now(), said, extent });
        false
    }

    /// While the disk fails, keeps what fits in memory, the newest first.
    fn shed(&mut self) {
        if self.batch.weigh() <= KEEP {
            return;
        }
        let half = Extent {
            events: self.batch.events.len().div_ceil(2),
            points: self.batch.points.len().div_ceil(2),
            ..Extent::default()
        };
        let bytes = self.batch.take_out(&half);
        if let Some(failed) = &mut self.failed {
            failed.extent.events = failed.extent.events.saturating_sub(half.events);
            failed.extent.points = failed.extent.points.saturating_sub(half.points);
        }
        self.gaps.lose(
            Why::Disk,
            Timestamp::now(),
            (half.events + half.points) as u64,
            bytes,
            "the disk does not take it",
        );
    }

    fn lose_to_limit(&mut self, events: u64, bytes: u64) {
        if let Some(reason) = self.full {
            self.gaps.lose(Why::Full, Timestamp::now(), events, bytes, reason);
        }
    }

    /// Whether the recording or the disk has reached its limit; asked of the disk once a second, and more often when much
    /// comes.
    fn is_full(&mut self, now: Timestamp) -> bool {
        if self.looked.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) && self.since < LOOK {
            return self.full.is_some();
        }
        (self.looked, self.since) = (Some(Instant::now()), 0);
        let size = self.database.as_ref().map_or(0, Database::size);
        if size >= LARGEST / 2
            && self.thinned.is_none_or(|at| at.elapsed() > THIN)
            && let Some(database) = &self.database
        {
            self.thinned = Some(Instant::now());
            if let Ok(thinned @ 1..) = compact::thin_fine_looks(database, now) {
                let reason = "old fine looks at memory gave way, as the recording is large";
                self.gaps.lose(Why::Thinned, now, thinned as u64, 0, reason);
                self.gaps.end(Why::Thinned, |_| reason.into());
            }
        }
        let reason = if size >= LARGEST {
            Some("the recording has reached its largest size")
        } else {
            // What waits is written twice: into the journal, and from there into the file.
            let coming = 2 * (self.batch.weigh() as u64 + LOOK) + self.database.as_ref().map_or(0, Database::journal);
            is_short_after(&self.folder, coming)
                .then_some("the disk is nearly full: the room is left to the checkpoints")
        };
        if reason != self.full {
            let before = self.full.unwrap_or_default();
            self.gaps.end(Why::Full, |_| before.to_string());
        }
        if let Some(reason) = reason {
            self.gaps.begin(Why::Full, now, reason);
        }
        self.full = reason;
        self.full.is_some()
    }
}

#[cfg(test)]
mod tests;
