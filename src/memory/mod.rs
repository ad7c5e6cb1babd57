//! The memory model: the peak of a configuration by phase and component. Pure arithmetic; no IO.
//!
//! Formulas say where they are from: read in source, measured on an H200 (the runs of `tests/measured`), or derived. Fitted
//! numbers stand in [`constants`], defaults of trainers and versions in `defaults/*.toml`, shapes of models in
//! `models.jsonl`.

pub mod constants;
pub mod defaults;
mod job;
#[cfg(test)]
mod laws;
pub mod live;
pub mod models;
mod phases;
mod pool;
mod reserve;

use std::collections::BTreeMap;

use crate::model::{
    Bytes, Clean,
    architecture::Architecture,
    estimate::{Estimate, GpuCapacity, Input, Peak, PhaseEstimate},
    failure::{PhaseId, Verdict},
    knobs::{Knob, Knobs, Origin, Value},
};

use defaults::Assumption;
pub use defaults::resolve;
pub use job::Job;
use job::Loss;
pub use reserve::Group;

/// The estimate of a configuration. `capacity` is what the job may use of its card, and where that figure is from.
pub fn estimate(model: &Architecture, knobs: &Knobs, capacity: Option<GpuCapacity>) -> Estimate {
    let job = Job::new(model.clone(), knobs);
    let (phases, peak) = predict(&job, capacity.as_ref());
    let assumed = job.assumed.iter().filter(|a| matters(a.knob, &job, knobs)).map(|a| {
        let effect = a.other.as_ref().map(|other| effect(model, knobs, a, other, peak.device_bytes));
        Clean::new(&format!("{}={} ({}{})", a.knob.as_str(), a.value, a.from, effect.unwrap_or_default()))
    });
    let inputs = knobs
        .iter()
        .map(|(knob, s)| (knob.as_str(), Input { value: s.value.clone(), from: s.origin.to_string() }))
        .collect();
    Estimate {
        schema: Estimate::SCHEMA,
        inputs,
        assumed: assumed.collect(),
        verdict: if model.tower { Verdict::Unknown } else { verdict(&peak, capacity.as_ref()) },
        notes: notes(&job, knobs),
        phases,
        peak,
        gpu: capacity,
        largest: BTreeMap::new(),
    }
}

/// Only the peak: what plans and searches ask for many times over.
pub fn peak(model: &Architecture, knobs: &Knobs, capacity: Option<&GpuCapacity>) -> Peak {
    predict(&Job::new(model.clone(), knobs), capacity).1
}

/// Whether the job's trainer computes its loss without ever holding all logits.
pub fn computes_tiles(knobs: &Knobs) -> bool {
    let (resolved, _) = resolve(knobs);
    let trl = defaults::version_of(&resolved, Knob::TrlVersion).unwrap_or(1.016);
    let sft = !matches!(resolved.str(Knob::Method), Some("grpo" | "rloo" | "ppo" | "dpo" | "kto" | "orpo" | "cpo"));
    resolved.str(Knob::Trainer).unwrap_or("trl") == "trl" && trl >= if sft { 1.007 } else { 1.015 }
}

fn predict(job: &Job, capacity: Option<&GpuCapacity>) -> (Vec<PhaseEstimate>, Peak) {
    let phases = phases::phases(job);
    let mut peak = reserve::peak(job, &phases);
    if job.evaluation.is_some_and(|e| e.kept_rows.is_some_and(|rows| rows > e.micro_batch))
        && let Some(capacity) = capacity
        && let Some(largest) = phases.iter().max_by_key(|p| p.bytes).filter(|p| p.id == PhaseId::Eval)
    {
        reserve::fill(job, &mut peak, largest, capacity.capacity_bytes);
    }
    if job.vllm_share > 0.0
        && let Some(capacity) = capacity
    {
        // vLLM takes its share of the whole card; asleep it gives back weights and cache while the trainer works.
        let share = (job.vllm_share * capacity.capacity_bytes as f64) as u64;
        if job.vllm_sleeps {
            // Awake it stands beside what the trainer never lets go of, and that can be what fills the card.
            let held = phases.iter().find(|p| p.id == PhaseId::Forward).map_or(0, |p| {
                let c = &p.components;
                c.weights + c.adapters + c.optimizer_states + c.reference_model + c.workspace
            });
            let awake = share + held + (peak.device_bytes - peak.reserved_bytes);
            for bytes in [&mut peak.device_bytes, &mut peak.low_bytes, &mut peak.high_bytes] {
                *bytes = awake.max(*bytes);
            }
        } else {
            for bytes in [&mut peak.device_bytes, &mut peak.low_bytes, &mut peak.high_bytes] {
                *bytes += share;
            }
        }
    }
    (phases, peak)
}

/// Whether a default has any say in this job.
fn matters(knob: Knob, job: &Job, given: &Knobs) -> bool {
    match knob {
        Knob::VllmMode | Knob::VllmGpuMemoryUtilization | Knob::VllmEnableSleepMode => job.vllm_share > 0.0,
        Knob::PerDeviceEvalBatchSize => job.evaluation.is_some(),
        Knob::SequenceLength | Knob::Packing => job.completion == 0,
        Knob::PromptLength | Knob::MaxCompletionLength | Knob::Beta => job.completion > 0,
        Knob::NumGenerations => job.early_trl,
        Knob::TrlVersion => job.trl,
        Knob::TorchVersion => given.value(Knob::Optimizer).is_none(),
        Knob::Attention => false,
        _ => true,
    }
}

/// What changes if an assumption is wrong, where that is more than a hundredth of the peak.
fn effect(model: &Architecture, given: &Knobs, assumed: &Assumption, other: &Value, device: u64) -> String {
    let mut changed = given.clone();
    changed.put(assumed.knob, other.clone(), Origin::Set);
    let would = peak(model, &changed, None).device_bytes;
    let (more, word) = (would.abs_diff(device), if would > device { "more" } else { "less" });
    if more < device / 100 { String::new() } else { format!("; {other} would need {} {word}", Bytes(more)) }
}

/// What the figures leave out.
fn notes(job: &Job, knobs: &Knobs) -> Vec<Clean> {
    let mut notes = Vec::new();
    let model = &job.model;
    if model.tower {
        notes.push("the model's tower for pictures or sound, and what it makes of them, is not modelled: these figures are of its language model alone, and the verdict is unknown".into());
    }
    if let Some(name) = knobs.str(Knob::Model)
        && models::is_likeness(name, model)
    {
        notes.push(Clean::new(&format!("{name} is taken to have the shape of {}", model.name)));
    }
    if model.experts > 1 {
        notes.push("mixture of experts: derived, not measured".into());
    }
    if job.vllm_share > 0.0 && job.vllm_sleeps {
        notes.push("vLLM asleep is counted as holding nothing while training; its CUDA graphs stay".into());
    }
    if job.ranks > 1 || job.zero_stage > 0 || job.tensor_parallel > 1 {
        notes.push(
            "sharding and offloading follow their published formulas; buffers of the communication are not counted"
                .into(),
        );
    }
    if knobs.str(Knob::Method) == Some("ppo") {
        notes.push("PPO's value and reward models are not counted: each takes what a model of its size does".into());
    }
    if job.loss == Loss::Whole && !job.early_trl && knobs.bool(Knob::Packing) != Some(true) {
        notes.push(
            "counted with rows of one length: where lengths differ, the logits of each longer batch take new blocks (two \
             measured runs held 1.8 times what they used), which PyTorch gives back when the card is full"
                .into(),
        );
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
    notes
}

/// What the fitted part of the prediction is made of. For those who fit anew.
#[derive(Clone, Copy, Debug)]
pub struct Fitted {
    pub group: Group,
    /// In GiB.
    pub features: [f64; 3],
    pub coefficients: [f64; 3],
    /// What is known to stay unused without a fit, in GiB.
    pub walked: f64,
}

/// The fitted part of a job's prediction; `None` where it has none.
pub fn fitted(model: &Architecture, knobs: &Knobs) -> Option<Fitted> {
    let job = Job::new(model.clone(), knobs);
    let phases = phases::phases(&job);
    let largest = phases.iter().max_by_key(|p| p.bytes)?;
    let (group, features) = reserve::features(&job, largest);
    let walked = reserve::walked(&job, largest) / constants::GIB;
    let coefficients = constants::RESERVE[group as usize];
    (!job.early_trl && !job.eager).then_some(Fitted { group, features, coefficients, walked })
}

/// Fits when even the upper end of the interval does; does not when not even the lower end does.
fn verdict(peak: &Peak, capacity: Option<&GpuCapacity>) -> Verdict {
    match capacity {
        None => Verdict::Unknown,
        Some(c) if peak.high_bytes <= c.capacity_bytes => Verdict::Fits,
        Some(c) if peak.low_bytes > c.capacity_bytes => Verdict::DoesNotFit,
        Some(_) => Verdict::Tight,
    }
}

/// The largest value of each knob that is still predicted to fit in four of five runs, the others as they are; of
/// generations with as much accumulation as one group needs.
pub fn largest(model: &Architecture, knobs: &Knobs, capacity: &GpuCapacity) -> BTreeMap<Knob, u64> {
    let (resolved, _) = resolve(knobs);
    let job = Job::new(model.clone(), &resolved);
    let batch = resolved.u64(Knob::PerDeviceTrainBatchSize).unwrap_or(1).max(1);
    let fits = |knob: Knob, value: u64| {
        let mut changed = resolved.clone();
        changed.put(knob, Value::Int(value.cast_signed()), Origin::Set);
        if knob == Knob::NumGenerations {
            let steps = value.div_ceil(batch).max(job.accumulation);
            changed.put(Knob::GradientAccumulationSteps, Value::Int(steps.cast_signed()), Origin::Set);
        }
        verdict(&peak(model, &changed, Some(capacity)), Some(capacity)) == Verdict::Fits
    };
    let wanted: &[Knob] = if model.tower {
        &[]
    } else if job.completion > 0 {
        &[Knob::PerDeviceTrainBatchSize, Knob::MaxCompletionLength, Knob::NumGenerations]
    } else {
        &[Knob::PerDeviceTrainBatchSize, Knob::SequenceLength]
    };
    let mut found = BTreeMap::new();
    for knob in wanted {
        if let Some(value) = most(|value| fits(*knob, value)) {
            found.insert(*knob, value);
        }
    }
    found
}

/// The largest number that fits, where larger ones fit less and some do not.
fn most(fits: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (0, 1u64 << 20);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    (low > 0 && low < (1 << 20) - 1).then_some(low)
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
