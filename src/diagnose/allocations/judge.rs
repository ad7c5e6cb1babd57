//! From a snapshot's figures to a diagnosis: the causes that who holds the memory proves, and their fixes.

use crate::model::{
    Bytes, Clean,
    failure::{Cause, Diagnosis, Evidence, Memory, Numbers, PhaseId, Place},
    incident::{Frame, Incident},
    knobs::Knobs,
    snapshot::Owner,
};

use super::{DeviceReport, Held, Oom, Report};
use crate::diagnose::{Case, causes, conclude};

/// The id of what a snapshot's own record of a refusal is called.
pub const KIND: &str = "torch.cuda.snapshot";

/// Judges every device whose recording holds a refused request. `frames_of` gives the Python part of a stack, outermost
/// first; `capacity` is the card's memory where something else told it.
pub fn diagnose(
    report: &Report,
    knobs: &Knobs,
    capacity: Option<u64>,
    frames_of: &dyn Fn(u32) -> Vec<Frame>,
) -> Diagnosis {
    let mut failures = Vec::new();
    for device in &report.devices {
        let Some(oom) = &device.oom else { continue };
        let incident = incident(report, device, oom, capacity, frames_of(oom.stack));
        let case = Case { incident: &incident, knobs };
        let mut all = causes::judge(&case);
        all.retain(|cause| !matches!(cause.id, "unknown" | "fragmentation" | "leak_growth"));
        for mut cause in shown(device, oom, report.settings.expandable_segments) {
            let old = all.iter().position(|c| c.id == cause.id).map(|at| all.remove(at));
            if let Some(old) = old {
                cause.score = cause.score.max(old.score);
                cause.evidence.extend(old.evidence);
            }
            all.push(cause);
        }
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        if all.is_empty() {
            let summary = "the snapshot does not tell: stacks (context='all' of _record_memory_history) would".into();
            all.push(Cause {
                id: "unknown",
                score: 0.0,
                evidence: vec![evidence(&incident.message)],
                summary,
                settled_by: None,
            });
        }
        let mut failure = conclude(&case, all);
        // Here it is known, and no guess, whether what lies free would have been enough.
        if device.pool.free_bytes < oom.requested_bytes {
            failure.fixes.retain(|f| !matches!(f.id, "empty_cache" | "expandable_segments" | "max_split_size"));
        }
        let settings = &report.settings;
        failure.fixes.retain(|f| match f.id {
            "expandable_segments" => settings.expandable_segments != Some(true),
            "max_split_size" => settings.max_split_size_bytes.is_none(),
            _ => true,
        });
        failures.push(failure);
    }
    let summary = failures
        .first()
        .map_or_else(|| Clean::new("no refused request in this recording"), |failure| failure.summary.clone());
    Diagnosis { schema: Diagnosis::SCHEMA, summary, failures }
}

fn incident(report: &Report, device: &DeviceReport, oom: &Oom, capacity: Option<u64>, frames: Vec<Frame>) -> Incident {
    let message = format!(
        "{} were asked for on GPU {} and refused: PyTorch had {} reserved, {} of it in use, and the driver {} free",
        Bytes(oom.requested_bytes),
        device.device,
        Bytes(oom.held.reserved_bytes),
        Bytes(oom.held.bytes),
        Bytes(oom.device_free_bytes),
    );
    Incident {
        is_oom: true,
        memory: Memory::Gpu,
        kind: KIND.into(),
        device: Some(device.device),
        place: Place { source: report.source.clone(), line: 0, byte: 0 },
        numbers: Numbers {
            requested_bytes: Some(oom.requested_bytes),
            capacity_bytes: capacity,
            free_bytes: Some(oom.device_free_bytes),
            allocated_bytes: Some(oom.held.bytes),
            reserved_unallocated_bytes: Some(oom.held.reserved_bytes.saturating_sub(oom.held.bytes)),
            ..Numbers::default()
        },
        message: Clean::new(&message),
        phase: oom.found.clone(),
        frames,
        ..Incident::default()
    }
}

fn evidence(text: &Clean) -> Evidence {
    Evidence { line: None, text: text.clone() }
}

/// The causes that the snapshot's own figures show.
fn shown(device: &DeviceReport, oom: &Oom, expandable: Option<bool>) -> Vec<Cause> {
    let mut all = Vec::new();
    let mut push = |id, score, summary: String, told: Vec<String>| {
        let told = told.iter().map(|text| Evidence { line: None, text: Clean::new(text) }).collect();
        all.push(Cause { id, score, evidence: told, summary: Clean::new(&summary), settled_by: None });
    };
    let held = &oom.held;
    let grown: u64 = device.growth.iter().fold(0, |sum, g| sum.saturating_add(g.bytes));
    if grown > held.bytes / 10
        && let Some(first) = device.growth.first()
    {
        let each: u64 = device.growth.iter().map(|g| g.bytes_per_step).fold(0, u64::saturating_add);
        let place = first.user.as_ref().or(first.place.as_ref()).map_or(String::new(), |p| format!(", made at {p}"));
        let graph = if first.owner == Owner::Activations {
            ": something keeps the graphs of earlier steps alive, such as a sum of losses without .item() or .detach(), or retain_graph=True"
        } else {
            ""
        };
        push(
            "leak_growth",
            0.96,
            format!(
                "every step leaves about {} behind that is never freed ({} in all, mostly {}{place}){graph}",
                Bytes(each),
                Bytes(grown),
                first.owner.words()
            ),
            device
                .growth
                .iter()
                .take(3)
                .map(|g| {
                    let place = g.user.as_ref().or(g.place.as_ref()).map_or("no stack", Clean::as_str);
                    format!(
                        "{} of {} in {} allocations of {} steps: {place}",
                        Bytes(g.bytes),
                        g.owner.words(),
                        g.allocations,
                        g.steps
                    )
                })
                .collect(),
        );
    }
    let pool = &device.pool;
    // The pool is as it stands at the end: of the failure only where nothing followed it.
    let of_the_failure = held.bytes.abs_diff(device.end.bytes) < held.bytes / 50 + 1;
    let asked = oom.requested_bytes;
    if of_the_failure && pool.usable_bytes >= asked && pool.largest_usable_bytes < asked {
        let how = if expandable == Some(false) { "; expandable segments would join them" } else { "" };
        push(
            "fragmentation",
            if pool.usable_bytes >= 2 * asked { 0.9 } else { 0.75 },
            format!(
                "{} lie free in the pool, in pieces of at most {}: too small for the {} asked for{how}",
                Bytes(pool.usable_bytes),
                Bytes(pool.largest_usable_bytes),
                Bytes(asked)
            ),
            vec![format!("{} free pieces in {} segments", pool.free_blocks, pool.segments)],
        );
    }
    if oom.device_free_bytes >= asked.saturating_add(2 << 20) {
        push(
            "cap_limit",
            0.62,
            format!(
                "the card had {} free: a limit of the process stopped it at {}, not the card",
                Bytes(oom.device_free_bytes),
                Bytes(held.reserved_bytes)
            ),
            Vec::new(),
        );
    }
    let share = |owners: &[Owner]| {
        let bytes: u64 = held.categories.iter().filter(|c| owners.contains(&c.owner)).map(|c| c.bytes).sum();
        (bytes, bytes as f64 / held.bytes.max(1) as f64)
    };
    let mut largest = |id, owners: &[Owner], from: f64, words: &str| {
        let (bytes, part) = share(owners);
        if part >= from {
            let score = (0.45 + 0.45 * part).min(0.88);
            let summary =
                format!("{words} hold {} of the {} in use ({:.0} %)", Bytes(bytes), Bytes(held.bytes), part * 100.0);
            push(id, score, summary, top(held, owners));
        }
    };
    largest("activations", &[Owner::Activations, Owner::Recomputed, Owner::Backward], 0.3, "activations");
    largest("logits", &[Owner::Logits], 0.15, "logits and what the loss makes of them");
    largest("optimizer_state", &[Owner::OptimizerStates, Owner::OptimizerStep], 0.35, "the optimizer's states");
    largest("kv_cache", &[Owner::KvCache], 0.2, "the cache of keys and values");
    if matches!(oom.found.id, PhaseId::ModelLoad | PhaseId::Forward | PhaseId::Unknown) {
        largest("too_big_model", &[Owner::Weights, Owner::BeforeRecording], 0.75, "the weights");
    }
    all
}

/// The places that hold the most of some owners' memory.
fn top(held: &Held, owners: &[Owner]) -> Vec<String> {
    let sites = held.sites.iter().filter(|site| owners.contains(&site.owner)).take(2);
    sites
        .map(|site| {
            let place = site.place.as_ref().or(site.user.as_ref()).map_or("no stack", Clean::as_str);
            format!("{} in {} allocations: {place}", Bytes(site.bytes), site.allocations)
        })
        .collect()
}
