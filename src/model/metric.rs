//! Points: what a trainer logged at one step.

use std::{ops::Range, sync::Arc};

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

impl Point {
    /// Where it stands.
    pub fn head(&self) -> Head {
        Head {
            step: self.step,
            step_guessed: self.step_guessed,
            epoch: self.epoch,
            time: self.time,
            rank: self.rank,
            segment: self.segment,
            line: self.line,
            byte: self.byte,
        }
    }
}

/// Where a row of values stands: everything of a [`Point`] but its values and its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Head {
    pub step: Option<u64>,
    pub step_guessed: bool,
    pub epoch: Option<f64>,
    pub time: Option<f64>,
    pub rank: Option<u32>,
    pub segment: u32,
    pub line: u64,
    pub byte: u64,
}

/// Keys that are logged together and what they mean: found out once for all rows that have them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    pub kind: PointKind,
    /// Keys as printed, cleaned.
    pub names: Vec<Clean>,
    /// Bit `i` is set where `names[i]` stands in `canonical` too.
    pub renamed: u128,
    /// Places of the values that have a canonical name, that name, and the factor to its unit.
    pub canonical: Vec<(usize, &'static str, f64)>,
    /// Places of the values that tell the step and the epoch.
    pub step: Option<usize>,
    pub epoch: Option<usize>,
}

impl Shape {
    /// What a row's own values say of where it stands.
    pub fn head(&self, values: &[f64]) -> Head {
        let value = |at: usize| values.get(at).copied();
        Head {
            step: self.step.and_then(value).filter(|s| (0.0..9e15).contains(s)).map(|s| s as u64),
            epoch: self.epoch.and_then(value),
            ..Head::default()
        }
    }

    /// The canonical values of a row.
    pub fn canonical(&self, values: &[f64]) -> impl Iterator<Item = (&'static str, f64)> {
        self.canonical.iter().filter_map(|(at, name, factor)| Some((*name, values.get(*at)? * factor)))
    }

    /// A row as a point of its own.
    pub fn point(&self, head: &Head, values: &[f64]) -> Point {
        Point {
            kind: self.kind,
            step: head.step,
            step_guessed: head.step_guessed,
            epoch: head.epoch,
            time: head.time,
            rank: head.rank,
            segment: head.segment,
            line: head.line,
            byte: head.byte,
            raw: self.names.iter().cloned().zip(values.iter().copied()).collect(),
            renamed: self.renamed,
            canonical: self.canonical(values).collect(),
        }
    }
}

/// Points of one shape, one after the other: the bulk of long logs, without an allocation for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub shape: Arc<Shape>,
    pub heads: Vec<Head>,
    /// As many for each head as the shape has names.
    pub values: Vec<f64>,
}

impl Rows {
    pub fn iter(&self) -> impl Iterator<Item = (&Head, &[f64])> {
        self.heads.iter().zip(self.values.chunks_exact(self.shape.names.len().max(1)))
    }

    /// Some of them; `None` instead of nothing.
    pub fn part(&self, which: Range<usize>) -> Option<Self> {
        let width = self.shape.names.len();
        let heads = self.heads.get(which.clone()).filter(|heads| !heads.is_empty())?.to_vec();
        let values = self.values.get(which.start * width..which.end * width)?.to_vec();
        Some(Self { shape: Arc::clone(&self.shape), heads, values })
    }

    /// Each as a point of its own.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        self.iter().map(|(head, values)| self.shape.point(head, values))
    }
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
