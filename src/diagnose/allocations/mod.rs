//! What a memory snapshot shows: who holds the memory at its end, at its peak and when it ran out; how much of the
//! pool is free and in how large pieces; what grows from step to step. The shape is the schema `oomph.snapshot/1`.

mod growth;
mod judge;
mod lives;
mod pool;
mod timeline;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::model::{
    Clean,
    failure::Phase,
    snapshot::{Action, Owner, Snapshot, SnapshotDevice},
};

pub use growth::Growth;
pub use judge::{KIND, diagnose};
pub use pool::{Pool, SegmentPart};
pub use timeline::Moment;

use lives::Life;

/// The most places listed for one moment.
const SITES: usize = 40;

/// Everything that is said of a snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub source: Clean,
    pub settings: Settings,
    pub recording: Recording,
    pub devices: Vec<DeviceReport>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Settings {
    pub alloc_conf: Option<Clean>,
    pub expandable_segments: Option<bool>,
    pub max_split_size_bytes: Option<u64>,
}

/// What was recorded besides the state at the end.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Recording {
    pub events: u64,
    pub stacks: bool,
    pub annotations: u64,
    pub passed_over: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct DeviceReport {
    pub device: u32,
    pub pool: Pool,
    pub events: u64,
    pub seconds: Option<f64>,
    /// Steps of training that the events span, by the optimizer's marks or the turns of forward and backward.
    pub steps: u64,
    pub end: Held,
    pub peak: Option<Held>,
    pub oom: Option<Oom>,
    pub growth: Vec<Growth>,
    pub timeline: Vec<Moment>,
}

/// Who holds the memory at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Held {
    /// Number of the event after which it was so; `None` for the end.
    pub event: Option<u32>,
    pub time_us: Option<i64>,
    pub bytes: u64,
    pub reserved_bytes: u64,
    pub categories: Vec<Category>,
    pub sites: Vec<Site>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Category {
    pub id: &'static str,
    pub bytes: u64,
    pub allocations: u64,
    #[serde(skip)]
    pub owner: Owner,
}

/// A place in the code and what it holds.
#[derive(Clone, Debug, Serialize)]
pub struct Site {
    pub category: &'static str,
    pub bytes: u64,
    pub allocations: u64,
    pub largest_bytes: u64,
    /// `FILE:LINE in FUNCTION`, the innermost that says something; `None` where no stack was recorded.
    pub place: Option<Clean>,
    /// The same for the user's own code.
    pub user: Option<Clean>,
    #[serde(skip)]
    pub owner: Owner,
}

/// A request that was refused.
#[derive(Clone, Debug, Serialize)]
pub struct Oom {
    pub requested_bytes: u64,
    /// What the driver had free on the card.
    pub device_free_bytes: u64,
    pub time_us: Option<i64>,
    pub phase: &'static str,
    /// Innermost first.
    pub frames: Vec<Clean>,
    pub held: Held,
    /// Requests that were refused in all.
    pub times: u64,
    #[serde(skip)]
    pub found: Phase,
    #[serde(skip)]
    pub stack: u32,
    #[serde(skip)]
    pub stream: u64,
}

impl Report {
    pub const SCHEMA: &'static str = "oomph.snapshot/1";
}

/// Reports on a snapshot. `phase_of` says what the program was doing at a stack.
pub fn report(source: Clean, snapshot: &Snapshot, phase_of: &dyn Fn(u32) -> Phase) -> Report {
    let settings = snapshot.settings.as_ref();
    Report {
        schema: Report::SCHEMA,
        source,
        settings: Settings {
            alloc_conf: settings.map(|s| s.alloc_conf.clone()).filter(|conf| !conf.is_empty()),
            expandable_segments: settings.and_then(|s| s.expandable_segments),
            max_split_size_bytes: settings.and_then(|s| s.max_split_size),
        },
        recording: Recording {
            events: snapshot.devices.iter().map(|d| d.events.len() as u64).sum(),
            stacks: snapshot.stacks.iter().any(|s| !s.frames.is_empty()),
            annotations: snapshot.annotations.len() as u64,
            passed_over: snapshot.passed_over,
        },
        devices: snapshot.devices.iter().map(|device| one(snapshot, device, phase_of)).collect(),
    }
}

fn one(snapshot: &Snapshot, device: &SnapshotDevice, phase_of: &dyn Fn(u32) -> Phase) -> DeviceReport {
    let all = lives::lives(snapshot, device);
    let curve = timeline::Curve::new(device, &all);
    let times: Vec<i64> = device.events.iter().map(|e| e.time_us).filter(|t| *t > 0).collect();
    let seconds = times.first().zip(times.last()).map(|(a, b)| (b - a).max(0) as f64 / 1e6);
    let end = held(snapshot, device, &all, None, curve.reserved_end);
    let oom = device.events.iter().rposition(|e| e.action == Action::Oom).map(|at| {
        let event = &device.events[at];
        let found = phase_of(event.stack);
        Oom {
            requested_bytes: event.size,
            device_free_bytes: event.address,
            time_us: (event.time_us > 0).then_some(event.time_us),
            phase: phase_id(&found),
            frames: frames(snapshot, event.stack),
            held: held(snapshot, device, &all, Some(at as u32), curve.reserved_at(at)),
            times: device.events.iter().filter(|e| e.action == Action::Oom).count() as u64,
            found,
            stack: event.stack,
            stream: event.stream,
        }
    });
    let steps = growth::steps(snapshot, device);
    DeviceReport {
        device: device.index,
        pool: pool::pool(device, oom.as_ref()),
        events: device.events.len() as u64,
        seconds: seconds.filter(|s| *s > 0.0),
        steps: steps.len() as u64,
        peak: curve.peak().map(|at| held(snapshot, device, &all, Some(at), curve.reserved_at(at as usize))),
        growth: growth::growth(snapshot, &all, &steps),
        timeline: timeline::timeline(device, &all, &curve),
        end,
        oom,
    }
}

fn phase_id(phase: &Phase) -> &'static str {
    // The schema's own spelling, without a round trip through text.
    use crate::model::failure::PhaseId as P;
    match phase.id {
        P::ModelLoad => "model_load",
        P::Forward => "forward",
        P::LogitsLoss => "logits_loss",
        P::Generation => "generation",
        P::Scoring => "scoring",
        P::Backward => "backward",
        P::OptimizerStep => "optimizer_step",
        P::DdpFsdpComm => "ddp_fsdp_comm",
        P::Eval => "eval",
        P::CheckpointSave => "checkpoint_save",
        P::KvCacheInit => "kv_cache_init",
        P::WeightSync => "weight_sync",
        P::Dataloader => "dataloader",
        P::Unknown => "unknown",
    }
}

/// `FILE:LINE in FUNCTION` of one frame; the file without the folders that every path shares.
pub fn place(snapshot: &Snapshot, frame: u32) -> Option<Clean> {
    let frame = snapshot.frames.get(frame as usize)?;
    let file = short_path(frame.file.as_str());
    Some(match (file, frame.line) {
        ("autograd", 0) => Clean::new(&format!("autograd: {}", frame.function)),
        (_, 0) => frame.function.clone(),
        (file, line) => Clean::new(&format!("{file}:{line} in {}", frame.function)),
    })
}

/// A path from its package, or its last two parts.
fn short_path(path: &str) -> &str {
    if let Some((_, package)) = path.rsplit_once("-packages/") {
        return package;
    }
    let from = path.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    path.get(from..).unwrap_or(path)
}

/// The frames of a stack that say something, innermost first; C++ ones where there are no others.
fn frames(snapshot: &Snapshot, stack: u32) -> Vec<Clean> {
    let Some(stack) = snapshot.stacks.get(stack as usize) else { return Vec::new() };
    let of = |python: bool| {
        let ids = stack
            .frames
            .iter()
            .copied()
            .filter(move |id| snapshot.frames.get(*id as usize).is_some_and(|f| (f.line > 0) == python));
        ids.filter_map(|id| place(snapshot, id)).take(64).collect::<Vec<_>>()
    };
    let python = of(true);
    if python.is_empty() { of(false) } else { python }
}

/// Sums up who holds the memory after an event, or at the end.
fn held(snapshot: &Snapshot, device: &SnapshotDevice, all: &[Life], at: Option<u32>, reserved: u64) -> Held {
    let mut categories: BTreeMap<Owner, (u64, u64)> = BTreeMap::new();
    let mut sites: HashMap<(Owner, Option<u32>, Option<u32>), Site> = HashMap::new();
    let mut bytes = 0;
    let there = |life: &&Life| match at {
        Some(at) => life.lives_at(at),
        None => life.died == lives::ALIVE,
    };
    for life in all.iter().filter(there) {
        bytes += life.size;
        let sum = categories.entry(life.owner).or_default();
        sum.0 += life.size;
        sum.1 += 1;
        let stack = snapshot.stacks.get(life.stack as usize);
        let (site, user) = stack.map_or((None, None), |s| (s.site, s.user));
        let entry = sites.entry((life.owner, site, user)).or_insert_with(|| Site {
            category: life.owner.id(),
            bytes: 0,
            allocations: 0,
            largest_bytes: 0,
            place: None,
            user: None,
            owner: life.owner,
        });
        entry.bytes += life.size;
        entry.allocations += 1;
        entry.largest_bytes = entry.largest_bytes.max(life.size);
    }
    let mut sites: Vec<_> = sites.into_iter().collect();
    sites.sort_by(|(a, x), (b, y)| y.bytes.cmp(&x.bytes).then_with(|| a.cmp(b)));
    sites.truncate(SITES);
    let named = |((_, site, user), mut entry): ((Owner, Option<u32>, Option<u32>), Site)| {
        entry.place = site.and_then(|id| place(snapshot, id));
        entry.user = user.and_then(|id| place(snapshot, id));
        entry
    };
    let mut categories: Vec<Category> = categories
        .into_iter()
        .map(|(owner, (bytes, allocations))| Category { id: owner.id(), bytes, allocations, owner })
        .collect();
    categories.sort_by_key(|c| std::cmp::Reverse(c.bytes));
    let time = at.and_then(|at| device.events.get(at as usize)).map(|e| e.time_us).filter(|t| *t > 0);
    Held {
        event: at,
        time_us: time,
        bytes,
        reserved_bytes: reserved,
        categories,
        sites: sites.into_iter().map(named).collect(),
    }
}

#[cfg(test)]
mod tests;
