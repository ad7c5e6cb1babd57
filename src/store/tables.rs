//! The tables for questions, beside the events: one row a value, a sample, a failure.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::model::{
    Bytes,
    event::HostSample,
    failure::Failure,
    gpu::GpuSample,
    metric::{Point, PointKind},
    redact,
};

/// SQLite has signed numbers alone.
fn signed(bytes: Option<u64>) -> Option<i64> {
    bytes.and_then(|b| i64::try_from(b).ok())
}

/// `peak` is the most memory that was seen since the sample before.
pub(super) fn put_gpu(c: &Connection, at: Timestamp, s: &GpuSample, peak: Option<u64>) -> rusqlite::Result<()> {
    let mut put = c.prepare_cached(
        "INSERT INTO gpu (at, uuid, name, memory_total, memory_used, memory_peak, utilization, temperature_c, power_w)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let bytes = |b: Option<Bytes>| signed(b.map(|b| b.0));
    put.execute(params![
        at.as_microsecond(),
        s.uuid,
        s.name.as_str(),
        bytes(s.memory_total),
        bytes(s.memory_used),
        signed(peak.max(s.memory_used.map(|b| b.0))),
        s.utilization,
        s.temperature_c,
        s.power_w
    ])
    .map(drop)
}

pub(super) fn put_host(c: &Connection, at: Timestamp, s: &HostSample) -> rusqlite::Result<()> {
    let mut put = c.prepare_cached(
        "INSERT INTO host (at, total, available, cgroup_limit, cgroup_used, cgroup_oom_kills, shm_total, shm_used,
                           trainer_rss, trainer_processes, cpu_percent)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    put.execute(params![
        at.as_microsecond(),
        signed(s.total_bytes),
        signed(s.available_bytes),
        signed(s.cgroup_limit_bytes),
        signed(s.cgroup_used_bytes),
        signed(s.cgroup_oom_kills),
        signed(s.shm_total_bytes),
        signed(s.shm_used_bytes),
        signed(s.trainer_rss_bytes),
        s.trainer_processes,
        s.cpu_percent
    ])
    .map(drop)
}

pub(super) fn put_point(c: &Connection, at: Timestamp, point: &Point) -> rusqlite::Result<()> {
    let mut put = c.prepare_cached(
        "INSERT INTO point (at, kind, step, epoch, segment, rank, key, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let kind = match point.kind {
        PointKind::Train => "train",
        PointKind::Eval => "eval",
        PointKind::Final => "final",
    };
    let canonical = point.canonical.iter().map(|(key, value)| (*key, *value));
    let raw = point.raw.iter().map(|(key, value)| (key.as_str(), *value));
    let raw = raw.filter(|(key, _)| !point.canonical.iter().any(|(name, _)| name == key));
    for (key, value) in canonical.chain(raw) {
        let step = point.step.and_then(|s| i64::try_from(s).ok());
        put.execute(params![at.as_microsecond(), kind, step, point.epoch, point.segment, point.rank, key, value])?;
    }
    Ok(())
}

pub(super) fn put_failure(c: &Connection, at: Timestamp, failure: &Failure) -> rusqlite::Result<()> {
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
    };
    // It quotes lines of the log.
    let mut report = serde_json::to_value(failure).unwrap_or_default();
    redact::json(&mut report);
    c.execute(
        "INSERT INTO failure (at, is_oom, memory, kind, phase, cause, requested, summary, report)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            at.as_microsecond(),
            failure.is_oom,
            word(serde_json::to_value(failure.memory)),
            failure.kind.as_str(),
            word(serde_json::to_value(failure.phase.id)),
            failure.causes.first().map(|cause| cause.id),
            failure.numbers.requested_bytes.and_then(|b| i64::try_from(b).ok()),
            redact::line(failure.summary.as_str()),
            report.to_string()
        ],
    )
    .map(drop)
}
