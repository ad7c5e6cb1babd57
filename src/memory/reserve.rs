//! From what tensors take to what the card shows: the allocator's cached and broken blocks, the CUDA context.

use crate::model::{
    estimate::{Peak, PhaseEstimate},
    failure::PhaseId,
};

use super::{
    constants::{
        GIB, OUTSIDE, OUTSIDE_A_TOKEN, OUTSIDE_EARLY, OUTSIDE_GENERATING, OUTSIDE_MOST, RESERVE, RESERVE_EAGER,
        RESERVE_EARLY, SPREAD, SPREAD_EAGER, SPREAD_LEAST,
    },
    job::{Job, Loss, Method, Optimizer},
};

/// What leaves holes at the peak: blocks of smaller phases that the peak cannot use, a layer's transients, logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    NotCheckpointed,
    Adapters,
    QuantisedAdapters,
    ForeachStep,
    Full,
    WholeLogits,
    WholeLogitsAdapters,
    Liger,
    BesideWholeLogits,
    EvaluationLogits,
}

/// The group of a job and the features, in GiB, whose coefficients [`RESERVE`] holds.
pub fn features(job: &Job, largest: &PhaseEstimate) -> (Group, [f64; 3]) {
    let s = super::phases::sizes(job);
    let billions = job.model.parameters() as f64 / 1e9;
    let layers = (s.layer + s.kept) / GIB;
    let logits = 4.0 * job.tokens() * job.model.vocab as f64 / GIB;
    let lora = job.lora_rank > 0;
    let whole_logits = matches!(job.loss, Loss::Whole | Loss::Rows);
    if let Some(evaluation) =
        job.evaluation.filter(|_| largest.id == PhaseId::Eval && !matches!(job.loss, Loss::Tiles | Loss::Value))
    {
        let one = (evaluation.micro_batch * job.sequences_per_row * job.sequence * job.model.vocab) as f64;
        (Group::EvaluationLogits, [1.0, 4.0 * one / GIB, 0.0])
    } else if largest.id == PhaseId::Eval || !job.checkpointing {
        (Group::NotCheckpointed, [1.0, largest.bytes as f64 / GIB, 0.0])
    } else if whole_logits && largest.id == PhaseId::LogitsLoss {
        (
            if lora { Group::WholeLogitsAdapters } else { Group::WholeLogits },
            [1.0, logits, if lora { 0.0 } else { billions }],
        )
    } else if whole_logits {
        // The step of the optimizer and the last gradients find room in what the logits left.
        (Group::BesideWholeLogits, [1.0, 0.0, 0.0])
    } else if lora {
        let quantised = job.adapter_bytes() < 4.0;
        (if quantised { Group::QuantisedAdapters } else { Group::Adapters }, [1.0, layers, s.weights / GIB])
    } else if matches!(job.loss, Loss::Chunks | Loss::Sequences) {
        (Group::Liger, [1.0, billions, 0.0])
    } else if largest.id == PhaseId::OptimizerStep && job.optimizer == Optimizer::AdamForeach {
        (Group::ForeachStep, [1.0, billions, 0.0])
    } else {
        (Group::Full, [1.0, billions, layers])
    }
}

/// Reserved and unusable at the peak, in bytes.
fn unusable(job: &Job, largest: &PhaseEstimate) -> f64 {
    if job.early_trl {
        return RESERVE_EARLY * largest.bytes as f64;
    }
    let (group, features) = features(job, largest);
    let fitted: f64 = RESERVE[group as usize].iter().zip(features).map(|(c, f)| c * f).sum();
    fitted * GIB + eager(job)
}

/// What eager attention leaves on top.
fn eager(job: &Job) -> f64 {
    if !job.eager {
        return 0.0;
    }
    let scores = 4.0 * (job.model.heads * job.micro_batch * job.sequence * job.sequence) as f64;
    let whole_logits = matches!(job.loss, Loss::Whole | Loss::Rows);
    let logits = if whole_logits { 4.0 * job.tokens() * job.model.vocab as f64 } else { 0.0 };
    RESERVE_EAGER.0 * scores + RESERVE_EAGER.1 * logits
}

/// Peak of the job, and an interval that holds four of five measured runs.
pub fn peak(job: &Job, phases: &[PhaseEstimate]) -> Peak {
    let Some(largest) = phases.iter().max_by_key(|p| p.bytes) else { return Peak::default() };
    let allocated = largest.bytes as f64;
    let reserved = allocated + unusable(job, largest);
    let outside = match job.method {
        _ if job.early_trl => OUTSIDE_EARLY,
        Method::Online => (OUTSIDE_GENERATING + OUTSIDE_A_TOKEN * job.completion as f64).min(OUTSIDE_MOST),
        _ => OUTSIDE,
    };
    let device = reserved + outside;
    // Half the spread of the residues: fragmentation depends on the order of requests, which no formula has.
    let spread = (if job.eager { SPREAD_EAGER } else { SPREAD } * device).max(SPREAD_LEAST);
    Peak {
        phase: if largest.id == PhaseId::LogitsLoss && job.loss == Loss::Tiles {
            PhaseId::Backward
        } else {
            largest.id
        },
        allocated_bytes: allocated as u64,
        reserved_bytes: reserved as u64,
        device_bytes: device as u64,
        low_bytes: (device - spread).max(allocated) as u64,
        high_bytes: (device + spread) as u64,
    }
}

/// An evaluation that keeps its logits asks at each batch for a larger block than any before, so the blocks of all
/// earlier batches stay cached until the card is full and PyTorch gives them back: the card shows far more than the
/// evaluation needs. On average the last block that found no room was half of the largest.
pub fn fill(job: &Job, peak: &mut Peak, largest: &PhaseEstimate, capacity: u64) {
    let Some((rows, batch)) = job.evaluation.and_then(|e| Some((e.kept_rows?, e.micro_batch))) else { return };
    let outside = peak.device_bytes - peak.reserved_bytes;
    let kept = largest.components.logits / 2;
    let rest = peak.allocated_bytes - largest.components.logits;
    let batches = rows.div_ceil(batch);
    // Blocks of one, two, ... all batches, and those of the last batch's own loss.
    let cached = rest + kept * (batches + 1) / 2 + kept / batches * 5 / 2;
    let need = peak.allocated_bytes + outside;
    peak.low_bytes = need;
    peak.high_bytes = (need + peak.allocated_bytes / 20).max(capacity.min(cached + cached / 10));
    peak.device_bytes = need.max((cached + outside).min(capacity.saturating_sub(kept / 4)));
    peak.reserved_bytes = peak.device_bytes - outside;
}
