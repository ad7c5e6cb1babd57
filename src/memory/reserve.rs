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
    pool::{Kind, Pool},
};

/// What leaves holes at the peak: blocks of smaller phases that the peak cannot use, a layer's transients, logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    NotCheckpointed,
    Adapters,
    QuantisedAdapters,
    ForeachStep,
    Full,
    /// The model's own loss: on top of what [`walk`] says.
    Walked,
    Liger,
    EvaluationLogits,
}

/// The group of a job and the features, in GiB, whose coefficients [`RESERVE`] holds.
pub fn features(job: &Job, largest: &PhaseEstimate) -> (Group, [f64; 3]) {
    let s = super::phases::sizes(job);
    let billions = job.model.parameters() as f64 / 1e9;
    let layers = (s.layer + s.kept) / GIB;
    let lora = job.lora_rank > 0;
    if let Some(evaluation) =
        job.evaluation.filter(|_| largest.id == PhaseId::Eval && !matches!(job.loss, Loss::Tiles | Loss::Value))
    {
        let one = (evaluation.micro_batch * job.sequences_per_row * job.sequence * job.model.vocab) as f64;
        (Group::EvaluationLogits, [1.0, 4.0 * one / GIB, 0.0])
    } else if job.loss == Loss::Whole && largest.id != PhaseId::Eval {
        (Group::Walked, [1.0, if job.checkpointing { layers } else { 0.0 }, 0.0])
    } else if largest.id == PhaseId::Eval || !job.checkpointing {
        (Group::NotCheckpointed, [1.0, largest.bytes as f64 / GIB, 0.0])
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

/// Whose a block of the pool is, in [`walk`].
mod owner {
    pub const KEPT: u8 = 0;
    pub const WORKING: u8 = 10;
    pub const LOGITS: u8 = 11;
    pub const COPY: u8 = 12;
    pub const SOFTMAX: u8 = 13;
    pub const TABLE: u8 = 14;
    pub const GRADIENTS: u8 = 15;
    pub const STATES: u8 = 16;
    pub const COPIES: u8 = 17;
}

/// Activations are given back, and gradients come, a slice of the layers after the other.
const SLICES: u8 = 8;

/// What the pool takes beside weights, where whole logits are built: two steps, request by request as far as blocks are
/// large, the rest poured.
fn walk(job: &Job) -> f64 {
    let s = super::phases::sizes(job);
    let t = super::phases::transients(job);
    let m = &job.model;
    let n = job.tokens();
    let all = n * m.vocab as f64;
    let lora = job.lora_rank > 0;
    // Adapters' tensors stand in the pool of small blocks; tables of the vocabulary are blocks as large as logits.
    let table = if lora { 0.0 } else { m.embedding() as f64 * job.weight_bytes };
    let tables = if m.tied { 1.0 } else { 2.0 };
    let state_of_table = match job.optimizer {
        Optimizer::Adam8bit | Optimizer::Adam32bit | Optimizer::Lion8bit | Optimizer::Lion => {
            m.embedding() as f64 * 4.0
        }
        Optimizer::AdamForeach | Optimizer::AdamFused => table,
        _ => 0.0,
    };
    let states_of_tables = match job.optimizer {
        Optimizer::Lion | Optimizer::Lion8bit => tables as u64,
        _ => 2 * tables as u64,
    };
    let (gradients, states) = if lora {
        (0.0, 0.0)
    } else {
        ((s.gradients - tables * table).max(0.0), (s.states - states_of_tables as f64 * state_of_table).max(0.0))
    };
    let step = if job.optimizer == Optimizer::AdamForeach && !lora { gradients } else { 0.0 };
    let recomputed = if job.checkpointing { s.layer } else { 0.0 };
    // A matrix of the MLP does not fit where a layer's input stood, unless the batch has more tokens than it has rows.
    let attention = (m.q() + m.kv()) as f64 / ((m.q() + m.kv()) as f64 + 1.5 * m.intermediate as f64);
    let share = if !job.checkpointing || n >= m.intermediate as f64 { 1.0 } else { attention };
    // Where a layer's tensors are larger than its matrices, gradients come to lie one by one between what is given back,
    // and states between them.
    let scattered = n > m.hidden as f64 && job.accumulation == 1 && s.states > s.gradients / 2.0;
    // Autocast's 16-bit copies of float32 weights.
    let copies = if job.float32 && job.autocast && !lora { 2.0 * (m.linear() + m.embedding()) as f64 } else { 0.0 };
    let mut pool = Pool::default();
    for step_number in 0..job.steps.min(2) {
        for _ in 0..job.accumulation.min(2) {
            pool.pour(owner::COPIES, Kind::Weights, copies, 1.0);
            for slice in 0..SLICES {
                pool.pour(owner::KEPT + slice, Kind::Activations, s.kept / f64::from(SLICES), 1.0);
            }
            pool.pour(owner::WORKING, Kind::Activations, n * t.forward + t.eager_forward, 1.0);
            pool.free(owner::WORKING);
            if job.checkpointing {
                pool.free(owner::COPIES);
            }
            // 16-bit logits, their float32 copy, its log-softmax; the first are gone when the gradient comes.
            pool.take(owner::LOGITS, 2.0 * all);
            pool.take(owner::COPY, 4.0 * all);
            pool.take(owner::SOFTMAX, 4.0 * all);
            pool.free(owner::LOGITS);
            pool.take(owner::LOGITS, 4.0 * all);
            pool.free(owner::SOFTMAX);
            pool.free(owner::COPY);
            pool.take(owner::COPY, 2.0 * all);
            pool.free(owner::LOGITS);
            if !lora {
                pool.take(owner::TABLE, table);
            }
            pool.free(owner::COPY);
            pool.pour(owner::WORKING, Kind::Activations, recomputed + t.backward, 1.0);
            for slice in 0..SLICES {
                pool.free(owner::KEPT + slice);
                pool.pour(owner::GRADIENTS, Kind::Weights, gradients / f64::from(SLICES), share);
            }
            pool.free(owner::WORKING);
            pool.free(owner::COPIES);
            pool.take(if m.tied { owner::WORKING } else { owner::TABLE }, table);
            pool.free(owner::WORKING);
        }
        if step_number == 0 && !lora {
            for _ in 0..states_of_tables {
                pool.take(owner::STATES, state_of_table);
            }
            pool.pour(owner::STATES, Kind::Weights, states, share);
        }
        if step > 0.0 {
            pool.take(owner::WORKING, table);
            pool.pour(owner::WORKING, Kind::Weights, step, share);
        }
        pool.free(owner::WORKING);
        if scattered {
            pool.scatter(owner::GRADIENTS, owner::STATES);
        } else {
            pool.free(owner::GRADIENTS);
        }
        pool.free(owner::TABLE);
    }
    pool.reserved()
}

/// What [`walk`] says that the pool holds beyond the peak of what is allocated; 0 where it has no say.
pub fn walked(job: &Job, largest: &PhaseEstimate) -> f64 {
    if job.loss != Loss::Whole || job.early_trl || largest.id == PhaseId::Eval {
        return 0.0;
    }
    let c = &largest.components;
    let fixed = c.weights + c.adapters + c.reference_model + c.workspace;
    let s = super::phases::sizes(job);
    // Adapters' own gradients and states stand in the pool of small blocks.
    let fixed = fixed as f64 + if job.lora_rank > 0 { s.gradients + s.states } else { 0.0 };
    (fixed + walk(job) - largest.bytes as f64).max(0.0)
}

/// Reserved and unusable at the peak, in bytes.
fn unusable(job: &Job, largest: &PhaseEstimate) -> f64 {
    if job.early_trl {
        return RESERVE_EARLY * largest.bytes as f64;
    }
    let (group, features) = features(job, largest);
    let fitted: f64 = RESERVE[group as usize].iter().zip(features).map(|(c, f)| c * f).sum();
    fitted * GIB + walked(job, largest) + eager(job)
}

/// What eager attention leaves on top.
fn eager(job: &Job) -> f64 {
    if !job.eager {
        return 0.0;
    }
    let scores = 4.0 * (job.model.heads * job.micro_batch * job.sequence * job.sequence) as f64;
    // Where the pool is walked through, that says what logits leave.
    let logits = if job.loss == Loss::Rows { 4.0 * job.tokens() * job.model.vocab as f64 } else { 0.0 };
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
