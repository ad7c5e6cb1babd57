//! What may be changed to make a job fit, and what each change costs in speed, quality and trouble.

use crate::{
    memory,
    model::{
        failure::PhaseId,
        knobs::{Knob, Value},
    },
};

use super::{Case, fixes};

/// One thing that may be changed.
pub struct Lever {
    /// What it costs; 0.1 is nothing to speak of, 1 some speed, from 3 on the training itself.
    pub cost: f64,
    pub changes: Vec<(Knob, Value)>,
}

/// Every lever that a case has: free ones first, then what costs speed, then what changes the training.
pub fn levers(case: &Case<'_>) -> Vec<Lever> {
    let mut all = Vec::new();
    let k = case.knobs;
    let mut add = |cost: f64, changes: Vec<(Knob, Value)>| {
        // What is so already is no change.
        let changes: Vec<(Knob, Value)> = changes.into_iter().filter(|(knob, to)| k.value(*knob) != Some(to)).collect();
        if !changes.is_empty() {
            all.push(Lever { cost, changes });
        }
    };
    let is = |knob: Knob, names: &[&str]| k.str(knob).is_some_and(|v| names.contains(&v));
    let lora = k.u64(Knob::LoraRank).unwrap_or(0) > 0;
    let trl = is(Knob::Trainer, &["trl"]);
    let pairs = is(Knob::Method, &["dpo", "kto"]);
    let of = |id: &str| fixes::changes(case, id);
    if case.incident.phase.id == PhaseId::Eval {
        // Neither changes what is learnt.
        if k.bool(Knob::ComputeMetrics) == Some(true) && k.u64(Knob::EvalAccumulationSteps) != Some(1) {
            add(0.05, of("eval_accumulation"));
        }
        // Whether a plain trainer keeps the logits for metrics no configuration tells; on the host they cost nothing
        // where it does not.
        let untold = k.bool(Knob::ComputeMetrics).is_none() && is(Knob::Trainer, &["transformers", "llamafactory"]);
        let batch = k.u64(Knob::PerDeviceEvalBatchSize).unwrap_or(8);
        for (nth, smaller) in [batch / 2, batch / 4, 1].into_iter().filter(|b| *b > 0 && *b < batch).enumerate() {
            let mut changes = vec![(Knob::PerDeviceEvalBatchSize, Value::Int(smaller.cast_signed()))];
            if untold {
                changes.extend(of("eval_accumulation"));
            }
            add(0.05 + 0.02 * nth as f64, changes);
        }
    }
    let optimizer = k.str(Knob::Optimizer);
    if !lora && optimizer.is_none_or(|o| o == "adamw_torch" || o == "adamw_hf") {
        add(0.1, of("fused_optimizer"));
    }
    if is(Knob::Attention, &["eager"]) {
        add(0.1, of("flash_attention"));
    }
    // TRL's newer trainers compute no whole logits, and call Liger's kernels deprecated.
    let tiles = trl && memory::computes_tiles(k);
    if k.bool(Knob::FusedLoss) != Some(true) && !tiles && !is(Knob::Trainer, &["verl", "openrlhf", "vllm", "unsloth"]) {
        add(0.3, of("liger_or_chunked_loss"));
    }
    if is(Knob::Dtype, &["float32"]) {
        // Weights under adapters are not trained: 16 bits cost them nothing.
        add(if lora { 0.1 } else { 0.9 }, of("bf16"));
    }
    if trl && pairs && !lora && k.bool(Knob::ReferenceModel) != Some(false) {
        add(0.7, vec![(Knob::ReferenceModel, Value::Bool(false))]);
    }
    if k.bool(Knob::GradientCheckpointing) == Some(false) {
        add(1.2, of("grad_checkpointing"));
    }
    let adam = optimizer.is_none_or(|o| o.starts_with("adam") && !o.contains('8'));
    if !lora && adam {
        add(1.0, of("quantize_8bit_optim"));
    }
    for times in 1..=4 {
        let changes = fixes::halve_batch(case, times);
        if times == 1 || changes != fixes::halve_batch(case, times - 1) {
            add(0.5 + 0.35 * f64::from(times), changes);
        }
    }
    if trl
        && !is(Knob::Method, &["grpo", "rloo", "ppo"])
        && k.bool(Knob::GradientCheckpointing) == Some(true)
        && k.bool(Knob::ActivationOffloading) != Some(true)
    {
        add(1.6, vec![(Knob::ActivationOffloading, Value::Bool(true))]);
    }
    if !lora {
        add(4.0, of("lora"));
    }
    if k.str(Knob::Quantization).is_none_or(|q| q == "none") {
        add(if lora { 3.0 } else { 6.0 }, of("qlora"));
    }
    add(5.0, of("reduce_completion_len"));
    add(5.0, of("reduce_seq_len"));
    all
}
