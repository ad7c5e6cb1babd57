//! Rows of somebody else's SQLite database, which is only read: all of them, or the newest run's as they are written.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, types::ValueRef};

use crate::model::{Clean, EventKind, SourceId};

/// A row of a tracker's metrics: the run's name, the step, the time as text, the metrics as JSON.
pub struct MetricsRow<'a> {
    pub run: &'a [u8],
    pub step: Option<i64>,
    pub time: &'a [u8],
    pub metrics: &'a [u8],
}

/// Calls `put` with each row that `query` gives.
///
/// # Errors
/// When the file is no database that can be read, or has not the tables that the query asks for.
pub fn read_metrics(path: &Path, query: &str, put: &mut dyn FnMut(MetricsRow<'_>)) -> rusqlite::Result<()> {
    let open = |path: &Path, flags| Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | flags);
    let read = |connection: &Connection, put: &mut dyn FnMut(MetricsRow<'_>)| {
        let mut statement = connection.prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            put(MetricsRow {
                run: bytes(row.get_ref(0)?),
                step: row.get_ref(1)?.as_i64().ok(),
                time: bytes(row.get_ref(2)?),
                metrics: bytes(row.get_ref(3)?),
            });
        }
        Ok(())
    };
    let mut seen = false;
    let first = open(path, OpenFlags::empty()).and_then(|connection| {
        read(&connection, &mut |row| {
            seen = true;
            put(row);
        })
    });
    match first {
        // Beside a database in a folder that cannot be written, SQLite cannot make the index of its journal.
        Err(_) if !seen => {
            let uri = format!("file:{}?immutable=1", escaped(path));
            read(&open(Path::new(&uri), OpenFlags::SQLITE_OPEN_URI)?, put)
        }
        other => other,
    }
}

/// Whether a file is a database of SQLite.
pub fn is_one(path: &Path) -> bool {
    let mut start = [0; 16];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"SQLite format 3\0"
}

/// The run that was begun last.
const RUN: &str = "SELECT run_name FROM metrics GROUP BY run_name ORDER BY MIN(id) DESC LIMIT 1";
/// Rows that are read in one go, and the longest of them.
const MOST: u32 = 2000;
const LONGEST: usize = 1 << 20;

/// Follows the newest run in a database of trackio: each of its rows comes as a line of JSON, as if a log held it.
#[derive(Debug)]
pub struct Followed {
    id: SourceId,
    path: PathBuf,
    connection: Option<Connection>,
    /// The run, the last row of it that was read, and the last row of all.
    run: Option<String>,
    after: i64,
    newest: i64,
    /// Bytes given so far.
    offset: u64,
    is_open: bool,
    caught_up: bool,
    has_trouble: bool,
}

impl Followed {
    pub fn new(id: SourceId, path: PathBuf) -> Self {
        Self {
            id,
            path,
            connection: None,
            run: None,
            after: 0,
            newest: -1,
            offset: 0,
            is_open: false,
            caught_up: false,
            has_trouble: false,
        }
    }

    /// Sends what is new. True if there is more.
    pub fn poll(&mut self, send: &mut dyn FnMut(EventKind)) -> bool {
        if !std::mem::replace(&mut self.is_open, true) {
            let name = self.path.file_name().map(|n| Clean::new(&n.to_string_lossy())).unwrap_or_default();
            send(EventKind::Opened { source: self.id, name, path: Some(self.path.clone()), size: None });
        }
        match self.rows() {
            Ok(lines) => {
                if std::mem::take(&mut self.has_trouble) {
                    send(EventKind::Trouble { source: self.id, what: None });
                }
                let more = !lines.is_empty();
                if more {
                    let (offset, length) = (self.offset, lines.len() as u64);
                    send(EventKind::Output { source: self.id, offset, data: lines });
                    self.offset += length;
                } else if !std::mem::replace(&mut self.caught_up, true) {
                    send(EventKind::CaughtUp { source: self.id });
                }
                more
            }
            Err(error) => {
                // It may be written at this moment; the next look opens it anew.
                self.connection = None;
                if !std::mem::replace(&mut self.has_trouble, true) {
                    let what = Some(Clean::new(&format!("not read as a database of trackio: {error}")));
                    send(EventKind::Trouble { source: self.id, what });
                }
                false
            }
        }
    }

    /// The next rows as lines.
    fn rows(&mut self) -> rusqlite::Result<Vec<u8>> {
        if self.connection.is_none() {
            let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            // The writer is never waited for: the next look is soon.
            connection.busy_timeout(std::time::Duration::ZERO)?;
            self.connection = Some(connection);
        }
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        let newest: i64 = connection.query_row("SELECT IFNULL(MAX(id), 0) FROM metrics", [], |row| row.get(0))?;
        if newest == self.newest {
            return Ok(Vec::new());
        }
        let run: String = connection.query_row(RUN, [], |row| row.get(0))?;
        if self.run.as_ref() != Some(&run) {
            (self.run, self.after) = (Some(run.clone()), 0);
        }
        let mut statement = connection.prepare_cached(
            "SELECT id, step, metrics FROM metrics WHERE run_name = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        )?;
        let mut rows = statement.query((&run, self.after, MOST))?;
        let (mut lines, mut count) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            (self.after, count) = (row.get(0)?, count + 1);
            let step = row.get_ref(1)?.as_i64().unwrap_or(0);
            let metrics = bytes(row.get_ref(2)?).trim_ascii();
            if let Some(rest) = metrics.strip_prefix(b"{").filter(|rest| rest.len() > 1 && rest.len() < LONGEST) {
                lines.extend_from_slice(format!("{{\"_step\": {step}, ").as_bytes());
                lines.extend(rest.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
                lines.push(b'\n');
            }
        }
        if count < MOST {
            self.newest = newest;
        }
        Ok(lines)
    }
}

/// A path as part of a URI.
fn escaped(path: &Path) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    path.as_os_str().as_encoded_bytes().iter().map(|b| one(*b)).collect()
}

fn bytes(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        _ => &[],
    }
}
