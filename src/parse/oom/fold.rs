//! Which incidents are one failure: ranks and repetitions folded, echoes attached, the root cause first.

use crate::model::{
    failure::{Evidence, Numbers, PhaseId, Place},
    incident::Incident,
};

use super::judge::EXACT;

/// Echoes that are kept: the first of them stand next to the failure.
const ECHOES: usize = 50;

/// One incident for each distinct failure: ranks and repetitions folded, echoes attached, the root cause first.
pub fn fold(all: Vec<Incident>) -> Vec<Incident> {
    let mut out: Vec<Incident> = Vec::new();
    for incident in all {
        let same = |o: &&mut Incident| same_failure(o, &incident);
        if let Some(first) = out.iter_mut().find(same) {
            if first.place.source == incident.place.source {
                first.again = first.again.max(incident.again).max(Some(incident.place.line));
            }
            if let Some(rank) = incident.rank
                && !first.ranks.contains(&rank)
            {
                first.ranks.push(rank);
            }
            if first.phase.id == PhaseId::Unknown {
                first.phase = incident.phase.clone();
                first.frames.clone_from(&incident.frames);
                // The message in one file, its traceback in another: the traceback is the place to look at.
                if first.place.source != incident.place.source && incident.phase.id != PhaseId::Unknown {
                    first.place = incident.place.clone();
                }
            }
            complete(&mut first.numbers, &incident.numbers);
            // ggml's second line has the exact size of the first one's; a cut one would be another.
            if let (Some(exact), Some(rounded)) = (incident.details.get(EXACT), first.numbers.requested_bytes)
                && (exact - rounded as f64).abs() < 16384.0
            {
                first.numbers.requested_bytes = incident.numbers.requested_bytes;
            }
            continue;
        }
        out.push(incident);
    }
    unwrap_wrapped(&mut out);
    one_of_several(&mut out);
    // Ray guesses at the kernel; a crash that says what it is needs no guess.
    let crash = |i: &Incident| !i.is_oom && i.kind.as_str() != "notoom.nccl_timeout";
    if out.iter().any(crash) {
        out.retain(|i| i.kind.as_str() != "ray.worker_died");
    }
    if out.iter().any(|i| i.is_oom) {
        // What is no lack of memory beside one that is: its echo.
        let echoes: Vec<Evidence> = out
            .iter()
            .filter(|i| !i.is_oom)
            .map(|i| Evidence { line: Some(i.place.line), text: i.message.clone() })
            .collect();
        out.retain(|i| i.is_oom);
        if let Some(first) = out.first_mut() {
            first.echoes.extend(echoes);
            first.echoes.truncate(ECHOES);
        }
        if out.iter().any(|i| i.kind.as_str().starts_with("jax.")) {
            // JAX allocates through the BFC allocator, whose warning comes first.
            out.retain(|i| i.kind.as_str() != "tf.bfc");
        }
        // A bare kill beside a precise message says nothing more.
        let precise = |i: &Incident| match i.kind.as_str() {
            "shell.killed" | "elastic.sigkill" | "deepspeed.sigkill" | "torch.cuda.bare" | "ray.worker_died" => false,
            "python.memory_error" => i.numbers.requested_bytes.is_some(),
            _ => true,
        };
        if out.iter().any(precise) {
            out.retain(precise);
        }
    }
    out.truncate(20);
    out
}

/// Messages that one failure prints one after the other, and the one of them that says most.
const TOGETHER: &[(&str, &[&str])] = &[
    ("linux.memcg_oom", &["linux.oom_killer"]),
    ("shm.nccl", &["shm.errno28", "notoom.disk_full"]),
    ("shm.bus_error", &["shm.errno28", "shm.unable_to_write"]),
];

fn one_of_several(all: &mut Vec<Incident>) {
    for (best, others) in TOGETHER {
        let places: Vec<Place> = all.iter().filter(|i| i.kind.as_str() == *best).map(|i| i.place.clone()).collect();
        all.retain(|i| {
            let near = |p: &Place| p.source == i.place.source && p.line.abs_diff(i.place.line) <= WRAPPED;
            // A kill that names its own victim is one of its own.
            let own = i.kind.as_str() == "linux.oom_killer" && i.numbers.in_use_bytes.is_some();
            own || !others.contains(&i.kind.as_str()) || !places.iter().any(near)
        });
    }
}

/// Lines within which the text that a wrapper announces (`Original Traceback`) ends.
const WRAPPED: u64 = 400;

/// `Caught OutOfMemoryError in replica 1 on device 1.` is what a worker's failure is handed on as: the failure itself
/// stands in the text after it, and is the same one.
fn unwrap_wrapped(all: &mut Vec<Incident>) {
    let wrapper = |i: &Incident| i.kind.as_str() == "torch.cuda.wrapped";
    let wrappers: Vec<Incident> = all.iter().filter(|i| wrapper(i)).cloned().collect();
    for outer in wrappers {
        let inside = |i: &&mut Incident| {
            !wrapper(i)
                && i.is_oom
                && i.kind.as_str().starts_with("torch.")
                && i.place.source == outer.place.source
                && i.place.line >= outer.place.line
                && i.place.line - outer.place.line <= WRAPPED
        };
        let Some(inner) = all.iter_mut().find(inside) else { continue };
        inner.device = inner.device.or(outer.device);
        inner.rank = inner.rank.or(outer.rank);
        if inner.phase.id == PhaseId::Unknown {
            inner.phase = outer.phase.clone();
            inner.frames.clone_from(&outer.frames);
        }
        inner.echoes.push(Evidence { line: Some(outer.place.line), text: outer.message.clone() });
        all.retain(|i| !(wrapper(i) && i.place == outer.place));
    }
}

fn same_failure(a: &Incident, b: &Incident) -> bool {
    if a.kind != b.kind || a.memory != b.memory {
        return false;
    }
    let torch = a.kind.as_str().starts_with("torch.");
    if !torch {
        return true;
    }
    let (x, y) = (&a.numbers, &b.numbers);
    // The same request on the same device is the same message again; another rank's is the same failure.
    x == y
        || a.rank != b.rank && a.rank.is_some() && b.rank.is_some()
        // Ranks that nothing names, each on a card of its own.
        || a.rank == b.rank && beside(a, b)
        || x.requested_bytes == y.requested_bytes
            && (y.capacity_bytes.is_none()
                || x.free_bytes == y.free_bytes
                // One of them was cut, as in the title of an issue.
                || a.device == b.device && (x.free_bytes.is_none() || y.free_bytes.is_none()))
}

/// Lines within which ranks of one job print what befell them.
const BESIDE: u64 = 400;

fn beside(a: &Incident, b: &Incident) -> bool {
    let (Some(x), Some(y)) = (a.device, b.device) else { return false };
    x != y && a.place.source == b.place.source && a.place.line.abs_diff(b.place.line) <= BESIDE
}

fn complete(mine: &mut Numbers, theirs: &Numbers) {
    if mine.requested_bytes == theirs.requested_bytes || mine.requested_bytes.is_none() {
        mine.requested_bytes = mine.requested_bytes.or(theirs.requested_bytes);
        mine.in_use_bytes = mine.in_use_bytes.or(theirs.in_use_bytes);
        mine.reserved_unallocated_bytes = mine.reserved_unallocated_bytes.or(theirs.reserved_unallocated_bytes);
        mine.allowed_bytes = mine.allowed_bytes.or(theirs.allowed_bytes);
        mine.capacity_bytes = mine.capacity_bytes.or(theirs.capacity_bytes);
        mine.free_bytes = mine.free_bytes.or(theirs.free_bytes);
        mine.allocated_bytes = mine.allocated_bytes.or(theirs.allocated_bytes);
    }
}
