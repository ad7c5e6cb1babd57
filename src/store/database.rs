//! One recording as an SQLite file: opened so that it is safe where it lies, written in batches, read in order.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::Serialize;

use crate::model::{Bytes, Clean, Event, EventKind, SourceId, failure::Failure, gpu::GpuReading, metric::Point};

use super::{disk, tables};

/// Version of `schema.sql`, kept in `PRAGMA user_version`.
const SCHEMA: i64 = 2;
/// Name of the fact that counts transactions.
const BATCHES: &str = "batches";

/// Why a recording could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}: {source}")]
    Sqlite { path: String, source: rusqlite::Error },
    #[error("{path} is not a recording of oomph")]
    Foreign { path: String },
    #[error("{path} was written by a newer oomph (schema {found}, this one knows {SCHEMA}): update oomph to read it")]
    Newer { path: String, found: i64 },
}

/// A recording open for writing or reading.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    connection: Connection,
    schema: i64,
    /// The most memory of each GPU since its last whole sample.
    peaks: BTreeMap<String, u64>,
    /// Transactions that are in the file.
    batches: i64,
}

impl Database {
    /// Makes a new recording; the file must not exist.
    ///
    /// # Errors
    /// When it exists already or cannot be written.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        // SQLite would follow a planted link; this does not, and nobody else may read the file.
        {
            use std::os::unix::fs::OpenOptionsExt;
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(|source| StoreError::Io { path: path.display().to_string(), source })?;
        }
        Self::reopen(path)
    }

    /// Opens a recording of this run again, to go on writing after the disk failed.
    ///
    /// # Errors
    /// When the disk still fails.
    pub fn reopen(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(at(path))?;
        let mut database =
            Self { path: path.to_path_buf(), connection, schema: SCHEMA, peaks: BTreeMap::new(), batches: 0 };
        database.set_up().map_err(at(path))?;
        database.batches = database.meta(BATCHES)?.and_then(|n| n.as_str().parse().ok()).unwrap_or(0);
        Ok(database)
    }

    fn set_up(&self) -> rusqlite::Result<()> {
        let c = &self.connection;
        // Before the first table: room can then be given back to the disk without a copy of the file.
        c.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        if disk::is_shared(&self.path) {
            c.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            c.pragma_update(None, "journal_mode", "DELETE")?;
        } else {
            c.pragma_update(None, "journal_mode", "WAL")?;
            c.pragma_update(None, "synchronous", "NORMAL")?;
            c.pragma_update(None, "journal_size_limit", 16 << 20)?;
        }
        c.busy_timeout(std::time::Duration::from_secs(2))?;
        c.execute_batch(include_str!("schema.sql"))?;
        c.pragma_update(None, "user_version", SCHEMA)
    }

    /// Opens a recording for reading alone.
    ///
    /// # Errors
    /// When it cannot be read, is no recording, or is of a newer oomph.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        std::fs::metadata(path).map_err(|source| StoreError::Io { path: path.display().to_string(), source })?;
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(at(path))?;
        let foreign = || StoreError::Foreign { path: path.display().to_string() };
        let found: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|_| foreign())?;
        if found > SCHEMA {
            return Err(StoreError::Newer { path: path.display().to_string(), found });
        }
        let has_events: bool = connection
            .query_row("SELECT count(*) FROM sqlite_master WHERE name IN ('event', 'meta')", [], |row| {
                row.get::<_, i64>(0)
            })
            .map_err(|_| foreign())?
            == 2;
        if found < 1 || !has_events {
            return Err(foreign());
        }
        Ok(Self { path: path.to_path_buf(), connection, schema: found, peaks: BTreeMap::new(), batches: 0 })
    }

    /// Writes a batch in one transaction. `synced` waits until the disk has it.
    ///
    /// # Errors
    /// When the disk does not take it. All of the batch is then in the file or nothing of it: [`Self::batches`] of a
    /// connection opened anew tells which.
    pub fn write(&mut self, batch: &Batch, synced: bool) -> Result<(), StoreError> {
        let path = self.path.clone();
        let batches = self.batches + 1;
        let mut all = || -> rusqlite::Result<()> {
            if synced {
                self.connection.pragma_update(None, "synchronous", "FULL")?;
            }
            let transaction = self.connection.transaction()?;
            {
                let mut put = transaction
                    .prepare_cached("INSERT INTO event (seq, at, kind, body, data) VALUES (?1, ?2, ?3, ?4, ?5)")?;
                for Row { number, event, data } in &batch.events {
                    let body = serde_json::to_string(&event.kind)
                        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
                    put.execute(params![number, event.at.as_microsecond(), name(&event.kind), body, data])?;
                    match &event.kind {
                        EventKind::Gpu { reading: GpuReading::Memory(looks) } => {
                            for (uuid, used) in looks {
                                let peak = self.peaks.entry(uuid.clone()).or_default();
                                *peak = used.0.max(*peak);
                            }
                        }
                        EventKind::Gpu { reading: GpuReading::Samples(samples) } => {
                            for sample in samples {
                                let peak = self.peaks.remove(&sample.uuid);
                                tables::put_gpu(&transaction, event.at, sample, peak)?;
                            }
                        }
                        EventKind::Host { sample } if !sample.fine => {
                            tables::put_host(&transaction, event.at, sample)?;
                        }
                        _ => {}
                    }
                }
                for (at, point) in &batch.points {
                    tables::put_point(&transaction, *at, point)?;
                }
                for (at, failure) in &batch.failures {
                    tables::put_failure(&transaction, *at, failure)?;
                }
                for gap in &batch.gaps {
                    transaction.execute(
                        "INSERT INTO gap (rowid, at, events, bytes, reason) VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT (rowid) DO UPDATE SET events = ?3, bytes = ?4, reason = ?5",
                        params![
                            gap.number,
                            gap.at.as_microsecond(),
                            i64::try_from(gap.events).unwrap_or(i64::MAX),
                            i64::try_from(gap.bytes).unwrap_or(i64::MAX),
                            gap.reason.as_str()
                        ],
                    )?;
                }
                for Setting { name, value, origin } in &batch.settings {
                    transaction.execute(
                        "INSERT INTO setting (name, value, origin) VALUES (?1, ?2, ?3)
                         ON CONFLICT (name) DO UPDATE SET value = ?2, origin = ?3",
                        params![name, value, origin],
                    )?;
                }
                for (key, value) in &batch.meta {
                    transaction.execute(
                        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                        params![key, value.as_str()],
                    )?;
                }
                transaction.execute(
                    "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                    params![BATCHES, batches.to_string()],
                )?;
            }
            transaction.commit()?;
            if synced {
                self.connection.pragma_update(None, "synchronous", "NORMAL")?;
            }
            Ok(())
        };
        all().map_err(at(&path))?;
        self.batches = batches;
        Ok(())
    }

    /// Transactions that were in the file when it was opened for writing, and those written since.
    pub fn batches(&self) -> i64 {
        self.batches
    }

    /// What is missing, in the order in which it was noticed.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn gaps(&self) -> Result<Vec<Gap>, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT rowid, at, events, bytes, reason FROM gap ORDER BY rowid")
            .map_err(at(&self.path))?;
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        let rows = statement.query_map([], |row| {
            Ok(Gap {
                number: row.get(0)?,
                at: Timestamp::from_microsecond(row.get(1)?).unwrap_or_default(),
                events: number(row.get(2)?),
                bytes: number(row.get(3)?),
                reason: Clean::from(row.get::<_, String>(4)?),
            })
        });
        rows.and_then(Iterator::collect).map_err(at(&self.path))
    }

    /// Everything to be played in order: each event as it was when it was recorded, secrets aside, and each gap where it
    /// began.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn events(&self) -> Result<Vec<Event>, StoreError> {
        let mut events = self.recorded()?;
        // What was taken out of an old recording is told at its end.
        let last = events.last().map(|event| event.at);
        for gap in self.gaps()? {
            let Some(at) = last.map(|last| last.min(gap.at)) else { break };
            let place = events.partition_point(|event| event.at <= at);
            events.insert(place, Event { at, kind: gap.told() });
        }
        Ok(events)
    }

    fn recorded(&self) -> Result<Vec<Event>, StoreError> {
        let mut statement =
            self.connection.prepare("SELECT seq, at, body, data FROM event ORDER BY seq").map_err(at(&self.path))?;
        let rows = statement
            .query_map([], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, Option<Vec<u8>>>(3)?,
                ))
            })
            .map_err(at(&self.path))?;
        let mut events: Vec<Event> = Vec::new();
        for row in rows {
            let (number, when, body, bytes) = row.map_err(at(&self.path))?;
            let Ok(when) = Timestamp::from_microsecond(when) else { continue };
            let Ok(mut kind) = serde_json::from_str::<EventKind>(&body) else { continue };
            if let EventKind::Output { data, .. } = &mut kind {
                *data = bytes.unwrap_or_default();
            }
            if number % 2 != 0
                && let Some(before) = events.last_mut().filter(|before| before.at == when)
                && join(&mut before.kind, &kind)
            {
                continue;
            }
            events.push(Event { at: when, kind });
        }
        Ok(events)
    }

    /// A fact about the recording.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn meta(&self, key: &str) -> Result<Option<Clean>, StoreError> {
        self.connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, Option<String>>(0))
            .optional()
            .map(|value| value.flatten().map(Clean::from))
            .map_err(at(&self.path))
    }

    /// One number that an SQL question gives; `None` when it gives NULL or nothing.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn number(&self, sql: &str) -> Result<Option<f64>, StoreError> {
        self.connection
            .query_row(sql, [], |row| row.get::<_, Option<f64>>(0))
            .optional()
            .map(Option::flatten)
            .map_err(at(&self.path))
    }

    /// One text that an SQL question gives.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn text(&self, sql: &str) -> Result<Option<Clean>, StoreError> {
        self.connection
            .query_row(sql, [], |row| row.get::<_, Option<String>>(0))
            .optional()
            .map(|text| text.flatten().map(Clean::from))
            .map_err(at(&self.path))
    }

    /// Two texts of each row that an SQL question gives.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn pairs(&self, sql: &str) -> Result<Vec<(String, String)>, StoreError> {
        let mut statement = self.connection.prepare(sql).map_err(at(&self.path))?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(at(&self.path))?;
        rows.collect::<rusqlite::Result<_>>().map_err(at(&self.path))
    }

    /// Version of the schema that the file was written with.
    pub fn schema(&self) -> i64 {
        self.schema
    }

    /// Changes rows. How many were changed.
    ///
    /// # Errors
    /// When the disk does not take it; then nothing is changed.
    pub fn change(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, StoreError> {
        self.connection.execute(sql, values).map_err(at(&self.path))
    }

    /// Gives the room of deleted rows back to the disk, without needing more room first.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn shrink(&self) -> Result<(), StoreError> {
        self.connection
            .execute_batch("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")
            .map_err(at(&self.path))
    }

    /// Bytes of the file and of its journal.
    pub fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |m| m.len()) + self.journal()
    }

    /// Bytes of its write-ahead log.
    pub fn journal(&self) -> u64 {
        std::fs::metadata(self.path.with_extension("sqlite-wal")).map_or(0, |m| m.len())
    }
}

/// What is missing, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// Its row.
    #[serde(skip)]
    pub number: i64,
    /// Since when.
    pub at: Timestamp,
    /// Events and points.
    pub events: u64,
    pub bytes: u64,
    pub reason: Clean,
}

impl Gap {
    /// The event by which it is told to those who look on, live or at a replay.
    pub fn told(&self) -> EventKind {
        let number = u32::try_from(self.number).unwrap_or(u32::MAX);
        EventKind::Unrecorded { number, events: self.events, bytes: self.bytes, reason: self.reason.clone() }
    }

    /// `1,204 events (3.2 MiB of output): the recorder could not keep up`.
    pub fn sentence(&self) -> String {
        let bytes = if self.bytes > 0 { format!(" ({} of output)", Bytes(self.bytes)) } else { String::new() };
        match self.events {
            0 => format!("nothing is lost: {}", self.reason),
            1 => format!("1 event{bytes}: {}", self.reason),
            n => format!("{n} events{bytes}: {}", self.reason),
        }
    }
}

/// An event as it is written, or a part of one.
#[derive(Debug)]
pub struct Row {
    /// Even for an event, odd for the end of the event before it.
    pub number: i64,
    pub event: Event,
    /// The bytes of an output event, with secrets masked.
    pub data: Option<Vec<u8>>,
}

impl Row {
    fn weight(&self) -> usize {
        let more = match &self.event.kind {
            EventKind::Gpu { reading: GpuReading::Samples(samples) } => {
                samples.iter().map(|sample| 800 + 300 * sample.processes.len()).sum()
            }
            EventKind::Kernel { text } => text.as_str().len(),
            _ => 0,
        };
        200 + more + self.data.as_ref().map_or(0, Vec::len)
    }

    pub fn output(number: i64, at: Timestamp, source: SourceId, offset: u64, data: Vec<u8>) -> Self {
        let kind = EventKind::Output { source, offset, data: Vec::new() };
        Self { number, event: Event { at, kind }, data: Some(data) }
    }
}

/// What is written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<Row>,
    pub points: Vec<(Timestamp, Point)>,
    pub failures: Vec<(Timestamp, Failure)>,
    pub gaps: Vec<Gap>,
    pub meta: Vec<(&'static str, Clean)>,
    pub settings: Vec<Setting>,
    /// Events and points that were weighed, and their weight.
    weighed: (usize, usize, usize),
}

/// The beginning of a batch: so many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub events: usize,
    pub points: usize,
    pub failures: usize,
}

/// One setting of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
    /// `knob`, `option`, `config` or `environment`.
    pub origin: &'static str,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.points.is_empty()
            && self.failures.is_empty()
            && self.gaps.is_empty()
            && self.meta.is_empty()
            && self.settings.is_empty()
    }

    /// Bytes that it holds in memory, roughly.
    pub fn weigh(&mut self) -> usize {
        let (events, points, weight) = &mut self.weighed;
        *weight += self.events.iter().skip(*events).map(Row::weight).sum::<usize>();
        let values = |point: &Point| 100 + 64 * (point.raw.len() + point.canonical.len());
        *weight += self.points.iter().skip(*points).map(|(_, point)| values(point)).sum::<usize>();
        (*events, *points) = (self.events.len(), self.points.len());
        *weight
    }

    /// All that is in it.
    pub fn extent(&self) -> Extent {
        Extent { events: self.events.len(), points: self.points.len(), failures: self.failures.len() }
    }

    /// Takes its beginning out. How many bytes of output that were.
    pub fn take_out(&mut self, extent: &Extent) -> u64 {
        self.weighed = (0, 0, 0);
        let gone = self.events.drain(..extent.events.min(self.events.len()));
        let bytes = gone.map(|row| row.data.map_or(0, |data| data.len()) as u64).sum();
        self.points.drain(..extent.points.min(self.points.len()));
        self.failures.drain(..extent.failures.min(self.failures.len()));
        bytes
    }
}

/// Puts the end of an event's bytes to their beginning, where it is that.
fn join(before: &mut EventKind, end: &EventKind) -> bool {
    match (before, end) {
        (EventKind::Output { source, offset, data }, EventKind::Output { source: same, offset: after, data: rest })
            if source == same && *offset + data.len() as u64 == *after =>
        {
            data.extend_from_slice(rest);
            true
        }
        _ => false,
    }
}

fn name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Opened { .. } => "opened",
        EventKind::Written { .. } => "written",
        EventKind::Output { .. } => "output",
        EventKind::Truncated { .. } => "truncated",
        EventKind::Rotated { .. } => "rotated",
        EventKind::Skipped { .. } => "skipped",
        EventKind::Trouble { .. } => "trouble",
        EventKind::CaughtUp { .. } => "caught_up",
        EventKind::Filled { .. } => "filled",
        EventKind::Ended { .. } => "ended",
        EventKind::Started { .. } => "started",
        EventKind::Exited { .. } => "exited",
        EventKind::Gpu { reading: GpuReading::Memory(_) } => "gpu_memory",
        EventKind::Gpu { .. } => "gpu",
        EventKind::Host { sample } if sample.fine => "host_memory",
        EventKind::Host { .. } => "host",
        EventKind::Kernel { .. } => "kernel",
        EventKind::KernelLog { .. } => "kernel_log",
        EventKind::Unrecorded { .. } => "unrecorded",
        EventKind::Recording { .. } => "recording",
    }
}

fn at(path: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError + use<> {
    let path = path.display().to_string();
    move |source| StoreError::Sqlite { path, source }
}
