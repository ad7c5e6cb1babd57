//! What stays behind after each step: memory that grows as long as the run lasts.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::model::{
    Clean,
    snapshot::{Action, Owner, Snapshot, SnapshotDevice},
};

use super::{
    lives::{ALIVE, BEFORE, Life},
    place,
};

/// Steps that must have left something behind, and steps that must be seen at all.
const MIN_STEPS: usize = 3;
/// What is worth telling, of the memory in use at the end.
const WORTH: u64 = 50;

/// Memory of one place that outlived the steps it was made in.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    pub category: &'static str,
    pub bytes: u64,
    pub allocations: u64,
    /// Steps of which something is still there, of so many that ended.
    pub steps: u64,
    pub of_steps: u64,
    pub bytes_per_step: u64,
    pub place: Option<Clean>,
    pub user: Option<Clean>,
    #[serde(skip)]
    pub owner: Owner,
}

/// The events at which steps ended: the optimizer's marks, else the turns from a backward pass to the next forward.
pub fn steps(snapshot: &Snapshot, device: &SnapshotDevice) -> Vec<u32> {
    let marks: Vec<i64> = snapshot
        .annotations
        .iter()
        .filter(|a| !a.begins && a.name.as_str().starts_with("Optimizer.step"))
        .map(|a| a.time_us)
        .collect();
    let events = &device.events;
    if marks.len() >= 2 && events.first().is_some_and(|e| e.time_us > 0) {
        let mut ends: Vec<u32> =
            marks.iter().map(|mark| events.partition_point(|e| e.time_us <= *mark) as u32).collect();
        ends.dedup();
        return ends;
    }
    let mut ends = Vec::new();
    let mut backward = 0;
    for (at, event) in events.iter().enumerate().filter(|(_, e)| e.action == Action::Alloc) {
        let Some(stack) = snapshot.stacks.get(event.stack as usize).filter(|s| !s.frames.is_empty()) else { continue };
        if stack.in_backward {
            backward += 1;
        } else if matches!(stack.owner, Owner::Activations | Owner::Inputs | Owner::Logits) && backward > 0 {
            backward = 0;
            ends.push(at as u32);
        }
    }
    ends
}

pub fn growth(snapshot: &Snapshot, all: &[Life], steps: &[u32]) -> Vec<Growth> {
    if steps.len() < MIN_STEPS {
        return Vec::new();
    }
    let step_of = |event: u32| steps.partition_point(|end| *end <= event);
    let used: u64 = all.iter().filter(|l| l.died == ALIVE).fold(0, |sum, l| sum.saturating_add(l.size));
    // Optimizer states and what is made once come with the first step; the step at hand has not ended.
    let ended = 1..steps.len();
    let mut sites: HashMap<_, (u64, u64, BTreeMap<usize, u64>)> = HashMap::new();
    for life in all.iter().filter(|l| l.died == ALIVE && l.born != BEFORE) {
        let step = step_of(life.born);
        if !ended.contains(&step) {
            continue;
        }
        let stack = snapshot.stacks.get(life.stack as usize);
        let key = (life.owner, stack.and_then(|s| s.site), stack.and_then(|s| s.user));
        let site = sites.entry(key).or_default();
        site.0 = site.0.saturating_add(life.size);
        site.1 += 1;
        *site.2.entry(step).or_default() += life.size;
    }
    let seen = ended.len();
    let mut found: Vec<Growth> = sites
        .into_iter()
        .filter(|(_, (bytes, _, by_step))| {
            by_step.len() >= MIN_STEPS.min(seen) && by_step.len() * 2 >= seen && *bytes >= used / WORTH && seen >= 2
        })
        .map(|((owner, site, user), (bytes, allocations, by_step))| Growth {
            category: owner.id(),
            bytes,
            allocations,
            steps: by_step.len() as u64,
            of_steps: seen as u64,
            bytes_per_step: bytes / by_step.len().max(1) as u64,
            place: site.and_then(|id| place(snapshot, id)),
            user: user.and_then(|id| place(snapshot, id)),
            owner,
        })
        .collect();
    found.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.place.cmp(&b.place)));
    let mut seen = HashSet::new();
    found.retain(|g| seen.insert((g.owner, g.place.clone(), g.user.clone())));
    found
}
