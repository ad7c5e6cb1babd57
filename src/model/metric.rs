//! Points: what a trainer logged at one step.

use serde::Serialize;

use super::Clean;

/// Canonical metric names, in the order in which they are shown. Units: seconds, bytes, rates per second, fractions.
pub const CANONICAL: &[&str] = &[
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "grad_norm",
    "reward",
    "reward_std",
    "kl",
    "entropy",
    "clip_ratio",
    "completion_length",
    "tokens_per_second",
    "samples_per_second",
    "steps_per_second",
    "step_time_seconds",
    "mfu",
    "tflops",
    "gpu_memory_bytes",
    "eval_loss",
    "accuracy",
    "num_tokens",
    "loss_scale",
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    #[default]
    Train,
    Eval,
    /// The summary of a finished run, such as `train_runtime` of transformers.
    Final,
}

/// One logged point. Values keep the order in which they were printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    pub kind: PointKind,
    pub step: Option<u64>,
    /// The step was counted or taken from a bar rather than printed with the point.
    pub step_guessed: bool,
    pub epoch: Option<f64>,
    /// When it was logged, in Unix seconds, where the record says so.
    pub time: Option<f64>,
    pub rank: Option<u32>,
    /// Rises at each restart of the run.
    pub segment: u32,
    /// Line number (1-based) and byte offset of the line in its source.
    pub line: u64,
    pub byte: u64,
    /// Keys as printed, cleaned.
    pub raw: Vec<(Clean, f64)>,
    /// Bit `i` is set where `raw[i]` stands in `canonical` too, by another name or in another unit.
    pub renamed: u128,
    /// Keys of [`CANONICAL`] with canonical units.
    pub canonical: Vec<(&'static str, f64)>,
}

/// How far a progress bar of the training has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    pub done: u64,
    pub total: Option<u64>,
    #[serde(skip)]
    pub elapsed_seconds: Option<f64>,
    #[serde(skip)]
    pub remaining_seconds: Option<f64>,
    #[serde(skip)]
    pub seconds_per_step: Option<f64>,
}

/// A number for JSON: `nan` and `inf` are the strings of the contract.
pub fn number_to_json(value: f64) -> serde_json::Value {
    if value.is_nan() {
        "nan".into()
    } else if value.is_infinite() {
        if value > 0.0 { "inf".into() } else { "-inf".into() }
    } else if value.fract() == 0.0 && value.abs() < 9e15 {
        (value as i64).into()
    } else {
        value.into()
    }
}
