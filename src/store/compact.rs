//! Old recordings grow smaller: samples are thinned, and the copies of the output go. What is known of a run stays: its
//! points, its failures, its settings, its raw output, and the minutes before a failure whole.

use std::{path::Path, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rusqlite::params;

use super::{
    database::{Database, StoreError},
    folder::{self, FolderError},
    live::{Ended, Live},
    runs::{self, RECORDING},
};

/// The time before a failure that is kept whole.
pub const BEFORE_FAILURE: SignedDuration = SignedDuration::from_mins(10);
/// Samples of runs that ended longer ago are thinned.
const OLD: SignedDuration = SignedDuration::from_hours(14 * 24);
/// One sample of each GPU and of the host is left for so long.
const EACH: Duration = Duration::from_secs(30);
/// The copy of the output goes after this time: the recording holds the same bytes.
const VERY_OLD: SignedDuration = SignedDuration::from_hours(60 * 24);
/// Runs compacted at one go: nobody waits for it, but it is work.
const AT_ONCE: usize = 8;

/// What became of the old runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    pub runs: usize,
    pub samples: usize,
    /// Bytes given back to the disk.
    pub bytes: u64,
}

/// Takes fine looks at memory out of a recording that goes on, all but those of the last minutes and of those before a
/// failure. How many.
///
/// # Errors
/// When the disk does not take it.
pub fn thin_fine_looks(database: &Database, now: Timestamp) -> Result<usize, StoreError> {
    let before = BEFORE_FAILURE.as_micros() as i64;
    database.change(
        "DELETE FROM event WHERE kind IN ('gpu_memory', 'host_memory') AND at < ?1
         AND NOT EXISTS (SELECT 1 FROM failure WHERE event.at BETWEEN failure.at - ?2 AND failure.at)",
        params![now.as_microsecond() - before, before],
    )
}

/// Compacts the runs that are old enough and have not been, the oldest first, a few at a time.
///
/// # Errors
/// When no state folder is known.
pub fn compact(now: Timestamp, all: bool) -> Result<Compacted, FolderError> {
    let mut done = Compacted::default();
    for place in runs::folders()? {
        if done.runs >= AT_ONCE && !all {
            break;
        }
        // A run that cannot be compacted stays as it is.
        if let Ok(Some((samples, bytes))) = compact_run(&place, now) {
            done.runs += 1;
            done.samples += samples;
            done.bytes += bytes;
        }
    }
    Ok(done)
}

fn compact_run(place: &Path, now: Timestamp) -> Result<Option<(usize, u64)>, StoreError> {
    let path = place.join(RECORDING);
    // Somebody may still write into a run that did not end.
    if Live::read(place).is_some() && Ended::read(place).is_none() {
        return Ok(None);
    }
    let read = Database::open(&path)?;
    let Some(ended) = read.meta("ended_at")?.and_then(|at| at.as_str().parse::<Timestamp>().ok()) else {
        return Ok(None);
    };
    let age = now.duration_since(ended);
    if age < OLD || read.schema() < 2 {
        return Ok(None);
    }
    let was = folder::size(place);
    let mut samples = 0;
    let thin = read.meta("compacted_at")?.is_none();
    let whole = read.number("SELECT count(*) FROM gap")? == Some(0.0);
    drop(read);
    if thin {
        let database = Database::reopen(&path)?;
        samples = thin_samples(&database, now)?;
        database.shrink()?;
    }
    if age > VERY_OLD && whole {
        for spool in Live::read(place).map(|live| live.spool).unwrap_or_default() {
            if spool.parent() == Some(place) {
                let _ = std::fs::remove_file(spool);
            }
        }
    }
    let freed = was.saturating_sub(folder::size(place));
    Ok((thin || freed > 0).then_some((samples, freed)))
}

/// Leaves one sample a half minute, and everything before failures. All or nothing.
fn thin_samples(database: &Database, now: Timestamp) -> Result<usize, StoreError> {
    let before = BEFORE_FAILURE.as_micros() as i64;
    let each = EACH.as_micros() as i64;
    let far = |table: &str| {
        format!("NOT EXISTS (SELECT 1 FROM failure WHERE {table}.at BETWEEN failure.at - ?1 AND failure.at)")
    };
    database.change("BEGIN IMMEDIATE", [])?;
    let mut samples = database.change(
        &format!("DELETE FROM event WHERE kind IN ('gpu_memory', 'host_memory') AND {}", far("event")),
        params![before],
    )?;
    // What is left of a GPU's half minute tells the most memory of it.
    database.change(
        "CREATE TEMP TABLE top AS SELECT min(rowid) AS id, max(max(coalesce(memory_peak, 0), memory_used)) AS peak
         FROM gpu WHERE memory_used IS NOT NULL GROUP BY uuid, at / ?1",
        params![each],
    )?;
    database.change("UPDATE gpu SET memory_peak = top.peak FROM top WHERE gpu.rowid = top.id", [])?;
    for (table, key, only) in [
        ("event", "kind", "kind IN ('gpu', 'host') AND"),
        ("gpu", "uuid, memory_used IS NULL", ""),
        ("host", "1 = 1", ""),
    ] {
        let first = format!("SELECT min(rowid) FROM {table} GROUP BY {key}, at / ?2");
        let gone = database.change(
            &format!("DELETE FROM {table} WHERE {only} {} AND rowid NOT IN ({first})", far(table)),
            params![before, each],
        )?;
        samples += if table == "event" { gone } else { 0 };
    }
    database.change(
        "INSERT INTO gap (at, events, bytes, reason) VALUES (?1, ?2, 0, 'samples of an old run were thinned')",
        params![now.as_microsecond(), samples as i64],
    )?;
    database.change(
        "INSERT INTO meta (key, value) VALUES ('compacted_at', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1",
        params![now.to_string()],
    )?;
    database.change("COMMIT", [])?;
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            Bytes, Event, EventKind, SourceId,
            event::HostSample,
            failure::{Failure, Memory, Numbers, Phase, Place},
            gpu::{GpuReading, GpuSample},
        },
        store::{
            database::{Batch, Row},
            live::Identity,
        },
    };

    fn failure() -> Failure {
        Failure {
            is_oom: true,
            memory: Memory::Gpu,
            kind: "torch.cuda.bare".into(),
            rank: None,
            device: None,
            place: Place::default(),
            again: None,
            numbers: Numbers::default(),
            other_processes: Vec::new(),
            phase: Phase::default(),
            causes: Vec::new(),
            fixes: Vec::new(),
            plan: None,
            basis: None,
            message: "m".into(),
            summary: "s".into(),
            echoes: Vec::new(),
        }
    }

    #[test]
    fn an_old_run_grows_smaller_and_keeps_what_matters() {
        let folder = tempfile::tempdir().unwrap();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |second: i64| start + SignedDuration::from_secs(second);
        let mut batch = Batch::default();
        let mut put = |second: i64, kind, data| {
            let number = batch.events.len() as i64 * 2;
            batch.events.push(Row { number, event: Event { at: at(second), kind }, data });
        };
        for second in 0..3600 {
            let used = Some(Bytes(if second == 1801 { 70 << 30 } else { 10 << 30 }));
            let sample = GpuSample { uuid: "GPU-1".into(), memory_used: used, ..GpuSample::default() };
            put(second, EventKind::Gpu { reading: GpuReading::Samples(vec![sample]) }, None);
            let sample = HostSample { total_bytes: Some(1), ..HostSample::default() };
            put(second, EventKind::Host { sample }, None);
            let data = b"{'loss': 1.0}\n".to_vec();
            let offset = second as u64 * 14;
            put(second, EventKind::Output { source: SourceId(0), offset, data: Vec::new() }, Some(data));
        }
        batch.failures.push((at(3599), failure()));
        batch.meta.push(("ended_at", at(3600).to_string().as_str().into()));
        let mut database = Database::create(&folder.path().join(RECORDING)).unwrap();
        database.write(&batch, true).unwrap();
        drop(database);
        let identity = Identity { pid: 1, start: None };
        let spool = folder.path().join("output.log");
        std::fs::write(&spool, "x").unwrap();
        Live { child: identity, supervisor: identity, spool: vec![spool.clone()] }.write(folder.path()).unwrap();
        Ended { code: Some(1), signal: None }.write(folder.path()).unwrap();
        let count = |sql: &str| Database::open(&folder.path().join(RECORDING)).unwrap().number(sql).unwrap().unwrap();
        let outputs = count("SELECT count(*) FROM event WHERE kind = 'output'");
        assert_eq!(count("SELECT count(*) FROM gap"), 0.0);

        // Young runs stay as they are.
        assert_eq!(compact_run(folder.path(), at(3700)).unwrap(), None);
        let (samples, freed) = compact_run(folder.path(), at(3600) + OLD).unwrap().unwrap();
        assert!(samples > 5000 && freed > 0, "{samples} {freed}");
        // Fifty minutes at two a minute, ten minutes whole.
        let left = count("SELECT count(*) FROM event WHERE kind = 'gpu'");
        assert!((690.0..=705.0).contains(&left), "{left}");
        assert_eq!(count("SELECT max(memory_peak) FROM gpu"), (70_u64 << 30) as f64);
        assert_eq!(count("SELECT count(*) FROM event WHERE kind = 'output'"), outputs);
        assert_eq!(count("SELECT peak_gpu_memory FROM attempt"), (70_u64 << 30) as f64);
        assert_eq!(compact_run(folder.path(), at(3600) + OLD).unwrap(), None, "once is enough");
        assert!(spool.exists());
    }
}
