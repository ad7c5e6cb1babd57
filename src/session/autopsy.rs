//! What was measured up to a failure, put beside what the failure's text says: the curve of the memory that ran out,
//! the kernel's own counts and lines. Also the failure of a process that could say nothing: SIGKILL leaves no text.

use std::collections::BTreeMap;

use crate::model::{
    Bytes, Clean, Timestamp,
    curve::{Curve, Shape},
    failure::{Evidence, Memory, Place},
    incident::Incident,
};

use super::{Session, gpus::Gpu, host::Look};

/// The end that a spike belongs to.
const END: f64 = 10.0;
/// A shorter past says nothing about growth.
const SHORTEST_GROWTH: f64 = 60.0;
/// A part of the memory that is worth a word.
const PART: f64 = 0.02;
/// Windows of the past whose high marks must rise for growth.
const WINDOWS: usize = 6;
/// SIGKILL, and how a shell and Python tell it.
const KILL: i32 = 9;
const KILLED: i32 = 137;

/// What was found beside the text of each failure, by its place, and of the one without text.
#[derive(Debug, Default)]
pub(super) struct Autopsies {
    done: BTreeMap<(Clean, u64), (Option<Curve>, Vec<Evidence>)>,
}

impl Autopsies {
    /// Adds to each incident what was measured when it was first read, and the incident of a silent death.
    pub fn perform(&mut self, session: &Session, incidents: &mut Vec<Incident>) {
        if let Some(silent) = silent_death(session, incidents) {
            incidents.push(silent);
        }
        for incident in incidents {
            let key = (incident.place.source.clone(), incident.place.byte);
            let (curve, seen) =
                self.done.entry(key).or_insert_with(|| (curve_of(session, incident), seen(session, incident)));
            // The kernel counts a kill after the text of its victim was read: that may only become clearer.
            if seen.is_empty() {
                *seen = self::seen(session, incident);
            }
            incident.curve.clone_from(curve);
            incident.seen.clone_from(seen);
        }
    }
}

/// The trainer was killed by SIGKILL and no text tells why: memory, where that can be shown; not memory, where that can.
fn silent_death(session: &Session, incidents: &[Incident]) -> Option<Incident> {
    let child = &session.child;
    child.exited?;
    (child.signal == Some(KILL) || child.code == Some(KILLED)).then_some(())?;
    incidents.is_empty().then_some(())?;
    let at_end = session.host_past.looks().into_iter().rev().find_map(|look| look.memory);
    let counted = session.host_past.kills() > 0;
    let line = own_line(session);
    let full = at_end.is_some_and(|(used, limit)| used as f64 > limit as f64 * 0.9);
    let half_free = at_end.is_some_and(|(used, limit)| (used as f64) < limit as f64 * 0.8);
    let is_oom = counted || line.is_some() || full;
    if !is_oom && !half_free {
        return None;
    }
    let kind = match (counted, &line) {
        (true, _) => "linux.memcg_oom",
        (false, Some(line)) if line.as_str().contains("emory cgroup") => "linux.memcg_oom",
        (false, Some(_)) => "linux.oom_killer",
        (false, None) => "shell.killed",
    };
    let refusal = (!is_oom).then(|| {
        let (used, limit) = at_end.unwrap_or_default();
        Clean::new(&format!(
            "the command was killed by SIGKILL while the host used {} of {}: somebody or something (kill -9, a scheduler, a time limit) ended it, not the kernel for want of memory",
            Bytes(used),
            Bytes(limit)
        ))
    });
    let last = session.sources.values().next();
    Some(Incident {
        is_oom,
        memory: if is_oom { Memory::Host } else { Memory::None },
        kind: kind.into(),
        refusal,
        place: Place {
            source: last.map_or_else(|| "exit status".into(), |s| s.name.clone()),
            line: last.map_or(0, |s| s.log.last_number()),
            byte: last.map_or(0, |s| s.bytes_read),
        },
        message: line.unwrap_or_else(|| "the command was killed by SIGKILL".into()),
        ..Incident::default()
    })
}

/// A line of the kernel's log that names the trainer as killed for want of memory.
fn own_line(session: &Session) -> Option<Clean> {
    let pid = session.child.pid?;
    let named = [format!("process {pid} "), format!("process {pid}("), format!("pid={pid},")];
    let names = |text: &str| {
        let lower = text.to_ascii_lowercase();
        (lower.contains("out of memory") || lower.contains("oom-kill")) && named.iter().any(|name| lower.contains(name))
    };
    session.kernel.iter().rev().map(|(_, text)| text).find(|text| names(text.as_str())).cloned()
}

/// Counters and lines beside a failure of host memory.
fn seen(session: &Session, incident: &Incident) -> Vec<Evidence> {
    if !matches!(incident.memory, Memory::Host) {
        return Vec::new();
    }
    let mut seen = Vec::new();
    let mut put = |text: String| seen.push(Evidence { line: None, text: Clean::new(&text) });
    match session.host_past.kills() {
        0 => {}
        1 => put("the cgroup counts 1 process that the kernel killed for want of memory meanwhile".into()),
        n => put(format!("the cgroup counts {n} processes that the kernel killed for want of memory meanwhile")),
    }
    let is_news =
        |text: &Clean| *text != incident.message && text.as_str().to_ascii_lowercase().contains("out of memory");
    for (_, text) in session.kernel.iter().filter(|(_, text)| is_news(text)) {
        put(format!("the kernel's log: {text}"));
    }
    seen
}

fn curve_of(session: &Session, incident: &Incident) -> Option<Curve> {
    let now = session.now?;
    let looks = |of: fn(&Look) -> Option<(u64, u64)>| -> (Vec<(Timestamp, u64)>, u64) {
        let all = session.host_past.looks();
        let total = all.iter().rev().find_map(of).map_or(0, |(_, total)| total);
        // Another limit is another memory.
        let same = all.iter().filter_map(|look| Some((look.at, of(look)?)));
        (same.filter(|(_, (_, limit))| *limit == total).map(|(at, (used, _))| (at, used)).collect(), total)
    };
    match incident.memory {
        Memory::Gpu => {
            let gpu = gpu_of(session, incident)?;
            let used: Vec<_> = gpu.memory().into_iter().map(|(at, used)| (at, used.0)).collect();
            let most = used.iter().map(|(_, used)| *used).max()?;
            // A limit of one process means nothing where others hold more than that.
            let allowed = incident.numbers.allowed_bytes.filter(|allowed| most <= *allowed);
            let total = allowed.or(gpu.latest.memory_total.map(|b| b.0))?;
            shape(&used, total, now).map(|found| found.named(format!("GPU {}", gpu.latest.index)))
        }
        Memory::Host => {
            let (used, limit) = looks(|look| look.memory);
            let of_cgroup = session.host.as_ref().is_some_and(|host| host.cgroup_limit_bytes == Some(limit));
            let name = if of_cgroup { "the memory of the job's cgroup" } else { "the host's memory" };
            shape(&used, limit, now).map(|found| found.named(name.into()))
        }
        Memory::Shm => {
            let (used, total) = looks(|look| look.shm);
            shape(&used, total, now).map(|found| found.named("/dev/shm".into()))
        }
        Memory::None => None,
    }
}

/// The GPU that ran out: the only one, the one of the message's number when that one is full, or the fullest.
fn gpu_of<'a>(session: &'a Session, incident: &Incident) -> Option<&'a Gpu> {
    let mut all = session.gpus.iter();
    if let (Some(only), None) = (all.next(), all.next()) {
        return Some(only);
    }
    let share = |gpu: &Gpu| {
        let newest = gpu.memory().iter().rev().take(20).map(|(_, used)| used.0).max()?;
        Some(newest as f64 / gpu.latest.memory_total?.0.max(1) as f64)
    };
    let is_full = |gpu: &&Gpu| share(gpu).is_some_and(|share| share > 0.8);
    let named = session.gpus.iter().find(|gpu| Some(gpu.latest.index) == incident.device).filter(is_full);
    named.or_else(|| {
        let fullest = session.gpus.iter().max_by(|a, b| share(a).unwrap_or(0.0).total_cmp(&share(b).unwrap_or(0.0)));
        fullest.filter(is_full)
    })
}

struct Found {
    shape: Shape,
    used: u64,
    total: u64,
    seconds: f64,
}

impl Found {
    fn named(self, of: String) -> Curve {
        Curve { of, shape: self.shape, used: Bytes(self.used), total: Bytes(self.total), seconds: self.seconds }
    }
}

/// What a curve looks like up to `now`. `None` where it is too short or neither of the three.
fn shape(curve: &[(Timestamp, u64)], total: u64, now: Timestamp) -> Option<Found> {
    let points: Vec<(f64, u64)> =
        curve.iter().map(|(at, used)| (now.duration_since(*at).as_secs_f64(), *used)).collect();
    let (oldest, _) = *points.first()?;
    let part = (total as f64 * PART) as u64;
    (total > 0 && points.len() >= 3).then_some(())?;
    let high =
        |from: f64, to: f64| points.iter().filter(|(ago, _)| *ago <= from && *ago >= to).map(|(_, used)| *used).max();
    let end = high(END.min(oldest), 0.0)?;
    if let Some((from, speed)) = growth(&high, oldest, part) {
        let shape = Shape::Growth { from: Bytes(from), bytes_per_minute: speed };
        return Some(Found { shape, used: end, total, seconds: oldest });
    }
    (oldest > END).then_some(())?;
    let before = high(oldest, END)?;
    if end > before + part * 2 {
        // What the system took back afterwards is not the curve of the failure.
        let peak = points.iter().rev().find(|(_, used)| *used == end).map_or(0.0, |(ago, _)| *ago);
        let low = |(ago, used): &&(f64, u64)| *ago > peak && *used <= before + part;
        let began = points.iter().rev().find(low).map_or(END, |(ago, _)| *ago);
        let shape = Shape::Spike { from: Bytes(before), seconds: (began - peak).max(0.0) };
        return Some(Found { shape, used: end, total, seconds: oldest });
    }
    // How long it has been about there.
    let settled = points.iter().rev().skip_while(|(_, used)| used.abs_diff(end) > part);
    let since = settled.take_while(|(_, used)| used.abs_diff(end) <= part).last().map_or(0.0, |(ago, _)| *ago);
    (since >= END && end.abs_diff(before) <= part * 2).then_some(Found {
        shape: Shape::Level,
        used: end,
        total,
        seconds: since,
    })
}

/// High marks that rose from window to window, none of them by most of the whole rise. The first fifth is the start of
/// the job, in which every memory grows. Gives the first mark and the bytes a minute.
fn growth(high: &dyn Fn(f64, f64) -> Option<u64>, oldest: f64, part: u64) -> Option<(u64, f64)> {
    let span = oldest * 0.8;
    (span >= SHORTEST_GROWTH).then_some(())?;
    let window = span / WINDOWS as f64;
    let marks: Vec<u64> = (0..WINDOWS)
        .map(|n| high(span - window * n as f64, span - window * (n + 1) as f64))
        .collect::<Option<Vec<_>>>()?;
    let (first, last) = (*marks.first()?, *marks.last()?);
    let rise = last.checked_sub(first).filter(|rise| *rise > part * 2)?;
    let steps = marks.windows(2).map(|pair| (pair[0], pair[1]));
    // The caching allocator grows in pieces: one window may stand still.
    let rising = steps.clone().filter(|(a, b)| b > a).count();
    let largest = steps.map(|(a, b)| b.saturating_sub(a)).max()?;
    (rising + 1 >= WINDOWS - 1 && largest as f64 <= rise as f64 * 0.6)
        .then(|| (first, rise as f64 / (span - window) * 60.0))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const GIB: u64 = 1 << 30;

    /// The shape of a curve of one GPU of 80 GiB, given as seconds before the end and GiB.
    fn of(points: impl IntoIterator<Item = (f64, f64)>) -> Option<Shape> {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let curve: Vec<_> = points
            .into_iter()
            .map(|(ago, gib)| (now - SignedDuration::from_secs_f64(ago), (gib * GIB as f64) as u64))
            .collect();
        shape(&curve, 80 * GIB, now).map(|found| found.shape)
    }

    fn seconds(from: u32) -> impl Iterator<Item = f64> {
        (0..=from).rev().map(f64::from)
    }

    #[test]
    fn a_leak_is_told_from_a_spike() {
        // Half a gibibyte a minute, with saw teeth.
        let leak = seconds(1800).map(|ago| (ago, 60.0 + (1800.0 - ago) / 120.0 + (ago % 7.0)));
        let Some(Shape::Growth { bytes_per_minute, .. }) = of(leak) else { panic!() };
        assert!((bytes_per_minute / GIB as f64 - 0.5).abs() < 0.05, "{bytes_per_minute}");
        // The same teeth for half an hour, then up within one second.
        let spike = seconds(1800).map(|ago| (ago + 1.0, 50.0 + (ago % 7.0)));
        let spike = spike.chain([(0.6, 70.0), (0.4, 79.0), (0.2, 3.0)]);
        let Some(Shape::Spike { from, seconds: took }) = of(spike) else { panic!() };
        assert!(from.0 / GIB == 56 && (took - 0.6).abs() < 0.01, "{from} {took}");
        // Full for long; the request that failed never shows.
        assert_eq!(of(seconds(600).map(|ago| (ago, 77.5))), Some(Shape::Level));
    }

    #[test]
    fn the_start_of_a_job_is_no_leak() {
        // Weights, then the first step, then flat.
        let start = seconds(300).map(|ago| {
            (
                ago,
                if ago > 280.0 {
                    1.0
                } else if ago > 250.0 {
                    30.0
                } else {
                    78.0
                },
            )
        });
        assert_eq!(of(start), Some(Shape::Level));
        assert_eq!(of(seconds(5).map(|ago| (ago, 70.0 - ago * 10.0))), None, "too short to tell");
        assert_eq!(of([]), None);
    }
}
