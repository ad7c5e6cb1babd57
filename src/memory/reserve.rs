//! From what tensors take to what the card shows: the allocator's cached and broken blocks, the CUDA context.

use crate::model::{
    estimate::{Peak, PhaseEstimate},
    failure::PhaseId,
};

use super::job::{Job, Method, Optimizer};

const GIB: f64 = 1_073_741_824.0;
const MIB: f64 = 1_048_576.0;
/// Context, kernels and libraries outside the pool, measured on H200 with torch 2.11 and driver 580 as NVML's figure of
/// the process less the reserved pool: 742 to 780 MiB over 72 runs.
const OUTSIDE: f64 = 758.0 * MIB;
const OUTSIDE_GENERATING: f64 = 774.0 * MIB;
const OUTSIDE_EARLY: f64 = 830.0 * MIB;

/// Peak of the job, and an interval that holds four of five measured runs.
pub fn peak(job: &Job, phases: &[PhaseEstimate]) -> Peak {
    let Some(largest) = phases.iter().max_by_key(|p| p.bytes) else { return Peak::default() };
    let allocated = largest.bytes as f64;
    let reserved = allocated + unusable(job, largest);
    let outside = match job.method {
        _ if job.early_trl => OUTSIDE_EARLY,
        Method::Online => OUTSIDE_GENERATING,
        _ => OUTSIDE,
    };
    let device = reserved + outside;
    // Half the spread of the residues: fragmentation depends on the order of requests, which no formula has.
    let spread = (0.042 * device).max(0.2 * GIB);
    Peak {
        phase: if largest.id == PhaseId::LogitsLoss && job.fused_head() { PhaseId::Backward } else { largest.id },
        allocated_bytes: allocated as u64,
        reserved_bytes: reserved as u64,
        device_bytes: device as u64,
        low_bytes: (device - spread).max(allocated) as u64,
        high_bytes: (device + spread) as u64,
    }
}

/// Reserved and unusable at the peak. Least squares of the measured gap on what leaves holes: the blocks of smaller
/// phases that the peak cannot use, a layer's transients, and logits.
fn unusable(job: &Job, largest: &PhaseEstimate) -> f64 {
    if largest.id == PhaseId::Eval {
        return 0.16 * GIB + 0.026 * largest.bytes as f64;
    }
    let s = super::phases::sizes(job);
    let billions = job.model.parameters() as f64 / 1e9;
    let all_logits = 4.0 * job.tokens() * job.model.vocab as f64;
    if job.early_trl {
        return 0.13 * largest.bytes as f64;
    }
    if job.plain_trainer && !job.fused_loss && job.checkpointing {
        return match (job.lora_rank > 0, job.float32) {
            // With float32 weights the largest blocks are the parameters' own.
            (_, true) => 0.1 * GIB,
            (true, false) => 0.72 * all_logits,
            (false, false) => 0.9 * GIB + 0.22 * all_logits,
        };
    }
    if !job.checkpointing {
        return 0.16 * GIB + 0.026 * largest.bytes as f64;
    }
    if job.lora_rank > 0 {
        return 0.08 * GIB + 0.24 * (s.layer + s.kept) + 0.027 * s.weights;
    }
    if job.plain_trainer {
        return (0.05 + 0.38 * billions) * GIB;
    }
    if largest.id == PhaseId::OptimizerStep && job.optimizer == Optimizer::AdamForeach {
        return (0.41 + 0.47 * billions) * GIB;
    }
    (0.32 + 0.28 * billions) * GIB + 0.17 * (s.layer + s.kept)
}

/// An evaluation that keeps its logits asks at each batch for a larger block than any before, so the blocks of all
/// earlier batches stay cached until the card is full and PyTorch gives them back: the card shows itself nearly full
/// whatever the evaluation needs. On average the last block that found no room was half of the largest.
pub fn fill(peak: &mut Peak, largest: &PhaseEstimate, capacity: u64) {
    let outside = peak.device_bytes - peak.reserved_bytes;
    let block = largest.components.logits / 2;
    let need = peak.allocated_bytes + outside;
    peak.low_bytes = need;
    peak.high_bytes = (need + peak.allocated_bytes / 20).max(capacity);
    peak.device_bytes = need.max(capacity.saturating_sub(block / 4));
    peak.reserved_bytes = peak.device_bytes - outside;
}
