//! Rows of somebody else's SQLite database, which is only read.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, types::ValueRef};

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
