//! Many machines: what one of them tells of itself, and what was heard of each.

use serde::{Deserialize, Serialize};

use super::{Clean, Timestamp};

/// The words of the program that tells; one that is newer adds to them, or says that it has others.
pub const SCHEMA: &str = "oomph.host/1";

/// What a machine tells of itself at one moment. Unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostReport {
    pub schema: Clean,
    /// Version of the oomph that told it; empty where another program did.
    pub oomph: Clean,
    pub at: Option<Timestamp>,
    pub host: Clean,
    pub memory_total_bytes: Option<u64>,
    pub memory_used_bytes: Option<u64>,
    pub gpus: Vec<FleetGpu>,
    /// Why there are none, and what would help.
    pub gpus_unavailable: Option<Clean>,
    pub jobs: Vec<FleetJob>,
    /// What could not be seen there.
    pub notes: Vec<Clean>,
}

/// One GPU of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetGpu {
    pub uuid: Clean,
    pub index: u32,
    pub name: Clean,
    pub memory_total_bytes: Option<u64>,
    pub memory_used_bytes: Option<u64>,
    pub utilization_percent: Option<f64>,
    pub temperature_c: Option<f64>,
    pub power_w: Option<f64>,
    pub lost: bool,
    /// The worst thing that is wrong with it.
    pub trouble: Option<Clean>,
}

impl FleetGpu {
    /// Memory in use as a share of all.
    pub fn share(&self) -> Option<f64> {
        let (used, total) = (self.memory_used_bytes?, self.memory_total_bytes.filter(|total| *total > 0)?);
        Some(used as f64 / total as f64)
    }
}

/// One training job of a machine: it goes on, or its end is worth knowing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetJob {
    pub title: Clean,
    pub pid: Option<u32>,
    /// Name of its recording on that machine.
    pub run: Option<Clean>,
    /// `waiting`, `training`, `silent`, `finished`, `failed`.
    pub state: Clean,
    /// Its processes are gone.
    pub ended: bool,
    pub step: Option<u64>,
    pub total_steps: Option<u64>,
    pub loss: Option<f64>,
    pub seconds_per_step: Option<f64>,
    pub remaining_seconds: Option<f64>,
    /// Indices of its GPUs.
    pub gpus: Vec<u32>,
    /// The verdict in one line.
    pub says: Clean,
    /// How bad that is: 0 all well, 1 deserves a look, 2 is broken.
    pub severity: u8,
}

/// What was heard of the one at a place of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    pub at: Timestamp,
    pub place: usize,
    pub heard: Heard,
}

/// What came of asking a machine, or a server that knows of many.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It is being asked.
    Asking,
    /// Everything that it knows now.
    Reports(Vec<HostReport>),
    /// It cannot be asked: why, and what helps.
    Down { why: Clean, advice: Clean },
}
