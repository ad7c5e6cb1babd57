//! Failures and what is said of them. The shapes follow the schema `oomph.diagnosis/1`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Clean,
    architecture::Architecture,
    knobs::{Knob, Knobs, Value},
};

/// Which memory ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    Gpu,
    Host,
    Shm,
    #[default]
    None,
}

/// What a message says in numbers, in bytes. A figure that the text does not give is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Numbers {
    pub requested_bytes: Option<u64>,
    pub capacity_bytes: Option<u64>,
    pub free_bytes: Option<u64>,
    pub in_use_bytes: Option<u64>,
    pub allocated_bytes: Option<u64>,
    pub reserved_unallocated_bytes: Option<u64>,
    pub allowed_bytes: Option<u64>,
    pub private_pools_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherProcess {
    pub pid: u32,
    pub bytes: Option<u64>,
    /// Name of the program, where something could tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Clean>,
}

/// A place in a source: the line is 1-based, `byte` the offset of its first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    pub source: Clean,
    pub line: u64,
    pub byte: u64,
}

/// A line that proves something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// 1-based line in the source; `None` where the evidence is a figure or a setting.
    pub line: Option<u64>,
    pub text: Clean,
}

/// What the job was doing when it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseId {
    ModelLoad,
    Forward,
    LogitsLoss,
    Generation,
    Scoring,
    Backward,
    OptimizerStep,
    DdpFsdpComm,
    Eval,
    CheckpointSave,
    KvCacheInit,
    WeightSync,
    Dataloader,
    #[default]
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Phase {
    pub id: PhaseId,
    pub evidence: Vec<Evidence>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    pub id: &'static str,
    pub score: f64,
    pub evidence: Vec<Evidence>,
    /// One sentence for people.
    pub summary: Clean,
    /// For a cause that was not found but cannot be excluded: what would settle it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_by: Option<Clean>,
}

/// One setting that a fix changes, and how to type it in each framework.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub knob: Knob,
    pub from: Option<Value>,
    pub to: Value,
    pub how: BTreeMap<&'static str, Clean>,
}

/// Will a configuration run?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Fits,
    Tight,
    DoesNotFit,
    #[default]
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fix {
    pub id: &'static str,
    pub title: Clean,
    pub changes: Vec<Change>,
    pub saves_bytes: Option<u64>,
    pub predicted_peak_bytes: Option<u64>,
    pub verdict: Verdict,
    pub cost: Clean,
    pub when_not: Clean,
    /// Commands or lines to type that are not a setting (a pid to look at, a Slurm line), for the user's framework.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Clean>,
}

/// The least costly set of changes that is predicted to fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    pub changes: BTreeMap<&'static str, Value>,
    pub predicted_peak_bytes: Option<u64>,
    pub verdict: Verdict,
    pub command: Option<Clean>,
    pub config_patch: Option<String>,
    /// How sure, and what it rests on.
    pub note: Clean,
}

/// What a failed job may use, and how its predicted use is corrected by what the message measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    pub bytes: f64,
    /// The limit is of PyTorch's pool, not of the card.
    pub pool: bool,
    /// Measured by predicted, where the message says more than the model does.
    pub correction: f64,
}

/// What the peak of changed settings can be predicted from.
#[derive(Clone, Debug, PartialEq)]
pub struct Basis {
    pub model: Architecture,
    /// The settings as they were, defaults and what the failure itself proves among them.
    pub knobs: Knobs,
    pub limit: Limit,
    /// The predicted peak of these.
    pub peak_bytes: u64,
}

/// One distinct failure with everything that is said of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    pub is_oom: bool,
    pub memory: Memory,
    pub kind: Clean,
    pub rank: Option<u32>,
    pub device: Option<u32>,
    #[serde(rename = "where")]
    pub place: Place,
    /// The line at which the same was told last.
    #[serde(skip)]
    pub again: Option<u64>,
    pub numbers: Numbers,
    pub other_processes: Vec<OtherProcess>,
    pub phase: Phase,
    pub causes: Vec<Cause>,
    pub fixes: Vec<Fix>,
    pub plan: Option<Plan>,
    /// `None` where nothing can be predicted.
    #[serde(skip)]
    pub basis: Option<Box<Basis>>,
    /// The message as it was read, cleaned.
    pub message: Clean,
    /// One sentence for people.
    pub summary: Clean,
    /// Failures that only echo this one: other ranks' time-outs, the launcher's signals.
    pub echoes: Vec<Evidence>,
}

/// The answer to a text: every distinct failure, the root cause first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    pub schema: &'static str,
    pub summary: Clean,
    pub failures: Vec<Failure>,
}

impl Diagnosis {
    pub const SCHEMA: &'static str = "oomph.diagnosis/1";

    /// The first failure that is out of memory.
    pub fn first_oom(&self) -> Option<&Failure> {
        self.failures.iter().find(|f| f.is_oom)
    }
}
