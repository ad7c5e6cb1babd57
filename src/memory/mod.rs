//! The memory model: the peak of a configuration by phase and component. Pure arithmetic; no IO.
//!
//! Formulas say where they are from: read in source, measured on an H200 (77 finished runs of 14 models with torch 2.11,
//! transformers 5.17, TRL 1.16 and 0.14), or derived.

mod constants;
mod job;
pub mod models;
mod phases;
mod reserve;

use std::collections::BTreeMap;

use crate::model::{
    Bytes, Clean,
    architecture::Architecture,
    estimate::{Estimate, GpuCapacity, Input},
    failure::{PhaseId, Verdict},
    knobs::{Knob, Knobs, Origin, Value},
};

pub use job::Job;
pub use reserve::Group;

/// Knobs for which the largest value that fits is looked for.
const LARGEST: &[Knob] =
    &[Knob::PerDeviceTrainBatchSize, Knob::MaxCompletionLength, Knob::SequenceLength, Knob::NumGenerations];

/// The estimate of a configuration. `capacity` is what the job may use of its card, and where that figure is from.
pub fn estimate(model: &Architecture, knobs: &Knobs, capacity: Option<GpuCapacity>) -> Estimate {
    let job = Job::new(model.clone(), knobs);
    let phases = phases::phases(&job);
    let mut peak = reserve::peak(&job, &phases);
    let mut notes = Vec::new();
    if job.evaluation.is_some_and(|e| e.kept_rows.is_some_and(|rows| rows > e.micro_batch))
        && let Some(capacity) = &capacity
        && let Some(largest) = phases.iter().max_by_key(|p| p.bytes).filter(|p| p.id == PhaseId::Eval)
    {
        reserve::fill(&job, &mut peak, largest, capacity.capacity_bytes);
    }
    if job.vllm_share > 0.0
        && let Some(capacity) = &capacity
    {
        // vLLM takes its share of the whole card; asleep it gives back weights and cache while the trainer works.
        let share = (job.vllm_share * capacity.capacity_bytes as f64) as u64;
        if job.vllm_sleeps {
            // Awake again beside the trainer's weights and states, it can be what fills the card.
            let awake = share + peak.allocated_bytes / 2;
            for bytes in [&mut peak.device_bytes, &mut peak.low_bytes, &mut peak.high_bytes] {
                *bytes = awake.max(*bytes);
            }
            notes.push(Clean::new("vLLM asleep is counted as holding nothing while training; its CUDA graphs stay"));
        } else {
            for bytes in [&mut peak.device_bytes, &mut peak.low_bytes, &mut peak.high_bytes] {
                *bytes += share;
            }
        }
    }
    if model.experts > 1 {
        notes.push(Clean::new("mixture of experts: derived, not measured"));
    }
    if let Some(evaluation) = job.evaluation.filter(|e| e.unknown_rows) {
        let row = 4 * model.vocab * job.sequence;
        notes.push(Clean::new(&format!(
            "evaluation keeps the logits of all its rows on the card, {} for each, twice over at its end; how many there are \
             is not known (--set eval_samples=N), so the evaluation is counted with one batch of {}",
            Bytes(row),
            evaluation.micro_batch
        )));
    }
    let verdict = verdict(&peak, capacity.as_ref());
    let inputs = knobs
        .iter()
        .map(|(knob, s)| (knob.as_str(), Input { value: s.value.clone(), from: s.origin.to_string() }))
        .collect();
    Estimate {
        schema: Estimate::SCHEMA,
        inputs,
        assumed: job.assumed.clone(),
        phases,
        peak,
        gpu: capacity,
        verdict,
        largest: BTreeMap::new(),
        notes,
    }
}

/// What the fitted part of the prediction is made of: the group of the job, its features and their coefficients (GiB),
/// and what its share of the pool is beside them, in bytes. For those who fit anew.
pub fn reserve_fit(model: &Architecture, knobs: &Knobs) -> Option<(Group, [f64; 3], [f64; 3])> {
    let job = Job::new(model.clone(), knobs);
    let phases = phases::phases(&job);
    let largest = phases.iter().max_by_key(|p| p.bytes)?;
    let (group, features) = reserve::features(&job, largest);
    (!job.early_trl && !job.eager).then_some((group, features, constants::RESERVE[group as usize]))
}

/// Fits when even the upper end of the interval does; does not when not even the lower end does.
fn verdict(peak: &crate::model::estimate::Peak, capacity: Option<&GpuCapacity>) -> Verdict {
    match capacity {
        None => Verdict::Unknown,
        Some(c) if peak.high_bytes <= c.capacity_bytes => Verdict::Fits,
        Some(c) if peak.low_bytes > c.capacity_bytes => Verdict::DoesNotFit,
        Some(_) => Verdict::Tight,
    }
}

/// The largest value of each knob that still fits, the others as they are.
pub fn largest(model: &Architecture, knobs: &Knobs, capacity: &GpuCapacity) -> BTreeMap<Knob, u64> {
    let fits = |knob: Knob, value: u64| {
        let mut changed = knobs.clone();
        changed.put(knob, Value::Int(value.cast_signed()), Origin::Set);
        estimate(model, &changed, Some(capacity.clone())).peak.device_bytes <= capacity.capacity_bytes
    };
    let mut found = BTreeMap::new();
    for knob in LARGEST.iter().filter(|k| knobs.u64(**k).is_some()) {
        let (mut low, mut high) = (0, 1u64 << 20);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if fits(*knob, middle) { low = middle } else { high = middle }
        }
        if low > 0 && low < (1 << 20) - 1 {
            found.insert(*knob, low);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card shared with vLLM in sleep mode: the verdict comes from the same figure as the peak.
    #[test]
    fn a_sleeping_vllm_that_fills_the_card_never_fits() {
        let model = models::find("Qwen/Qwen2.5-1.5B").unwrap();
        let mut knobs = Knobs::default();
        for (knob, value) in [
            (Knob::Method, "grpo"),
            (Knob::Dtype, "bfloat16"),
            (Knob::PerDeviceTrainBatchSize, "4"),
            (Knob::UseVllm, "true"),
            (Knob::VllmEnableSleepMode, "true"),
        ] {
            knobs.put(knob, Value::guess(value), Origin::Set);
        }
        let capacity = GpuCapacity { capacity_bytes: 40 << 30, from: "test".into() };
        for share in ["0.3", "0.6", "0.9", "1.0"] {
            knobs.put(Knob::VllmGpuMemoryUtilization, Value::guess(share), Origin::Set);
            let e = estimate(&model, &knobs, Some(capacity.clone()));
            let p = &e.peak;
            assert!(p.low_bytes <= p.device_bytes && p.device_bytes <= p.high_bytes, "{share}: {p:?}");
            if p.device_bytes > capacity.capacity_bytes {
                assert_ne!(e.verdict, Verdict::Fits, "{share}: {}", Bytes(p.device_bytes));
            }
        }
        assert_ne!(estimate(&model, &knobs, Some(capacity)).verdict, Verdict::Fits);
    }
}
