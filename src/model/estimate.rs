//! Estimates: the peak of a configuration by phase and component. The shapes follow the schema `oomph.estimate/1`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Clean,
    failure::{PhaseId, Verdict},
    knobs::{Knob, Value},
};

/// What is alive in one phase, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Components {
    pub weights: u64,
    pub adapters: u64,
    pub gradients: u64,
    pub optimizer_states: u64,
    pub activations: u64,
    pub logits: u64,
    pub kv_cache: u64,
    pub reference_model: u64,
    pub autocast_cache: u64,
    pub workspace: u64,
}

impl Components {
    /// Name and size of each component, in the order of the contract.
    pub fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("weights", self.weights),
            ("adapters", self.adapters),
            ("gradients", self.gradients),
            ("optimizer_states", self.optimizer_states),
            ("activations", self.activations),
            ("logits", self.logits),
            ("kv_cache", self.kv_cache),
            ("reference_model", self.reference_model),
            ("autocast_cache", self.autocast_cache),
            ("workspace", self.workspace),
        ]
    }

    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, bytes)| bytes).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseEstimate {
    pub id: PhaseId,
    pub bytes: u64,
    pub components: Components,
}

/// The largest phase, and what the device shows. `low` and `high` are an 80 % interval of `device_bytes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Peak {
    pub phase: PhaseId,
    pub allocated_bytes: u64,
    pub reserved_bytes: u64,
    pub device_bytes: u64,
    pub low_bytes: u64,
    pub high_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Input {
    pub value: Value,
    pub from: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GpuCapacity {
    pub capacity_bytes: u64,
    pub from: Clean,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub schema: &'static str,
    pub inputs: BTreeMap<&'static str, Input>,
    /// Values that nobody gave, and what changes if they are wrong.
    pub assumed: Vec<Clean>,
    pub phases: Vec<PhaseEstimate>,
    pub peak: Peak,
    pub gpu: Option<GpuCapacity>,
    pub verdict: Verdict,
    /// The largest value of each knob, the others unchanged, that still fits.
    pub largest: BTreeMap<Knob, u64>,
    /// What the model does not cover for this configuration.
    pub notes: Vec<Clean>,
}

impl Estimate {
    pub const SCHEMA: &'static str = "oomph.estimate/1";
}
