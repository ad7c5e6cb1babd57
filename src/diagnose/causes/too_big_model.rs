//! # The model itself is too big
//!
//! ## What it is
//! Weights, or weights with gradients and optimizer states, do not fit whatever the batch is.
//!
//! ## What it looks for
//! A traceback that ends while weights are loaded; a single request larger than the card; a known model whose parameters
//! need more than the card has.
//!
//! ## What would settle it
//! The model's name (`--model`) and how it is trained (`--config`): `oomph estimate` then counts.
//!
//! ## What helps
//! `qlora`, `lora`, `bf16`, `zero_fsdp`, `cpu_offload`, `more_gpus`.

use crate::model::{
    Bytes,
    failure::{Evidence, Memory, PhaseId},
    knobs::Knob,
};

use super::{Case, Verdict, found, kind, limit, message};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    let n = &case.incident.numbers;
    let k = kind(case);
    // Whoever else holds the card, the weights had not their turn yet.
    let loading = case.incident.phase.id == PhaseId::ModelLoad && k != "vllm.startup.free_below_util";
    if k.starts_with("vllm.kv.")
        && let Some((weights, budget, line)) = engine_budget(case)
        && weights > budget * 0.8
    {
        let summary = format!("the weights alone take {weights:.2} of the {budget:.2} GiB that the engine may use");
        return found(0.8, vec![line], summary);
    }
    if let (Some(requested), Some(capacity)) = (n.requested_bytes, n.capacity_bytes)
        && requested > capacity
        && loading
    {
        let summary = format!("{} at once are more than the card has", Bytes(requested));
        return found(0.95, vec![message(case)], summary);
    }
    if k.starts_with("ggml.") && case.incident.memory == Memory::Gpu && loading {
        return found(0.9, vec![message(case)], "the weights alone do not fit");
    }
    if k.starts_with("jax.") {
        return found(0.6, vec![message(case)], "the program's buffers do not fit as compiled");
    }
    if loading {
        return found(
            if k == "torch.cuda.bare" { 0.5 } else { 0.85 },
            case.incident.phase.evidence.clone(),
            "it died while the weights were loaded: they do not fit beside what is there",
        );
    }
    // Weights in two bytes against the card.
    if let (Some(model), Some(limit)) = (case.knobs.str(Knob::Model).and_then(crate::memory::models::find), limit(n)) {
        let lora = case.knobs.u64(Knob::LoraRank).unwrap_or(0) > 0;
        let needed = model.parameters() * if lora { 2 } else { 8 };
        if needed > limit {
            let summary = format!(
                "{} parameters need {} for weights{} alone",
                model.parameters(),
                Bytes(needed),
                if lora { "" } else { ", gradients and optimizer states" }
            );
            return found(0.7, vec![message(case)], summary);
        }
    }
    // Nearly everything is live tensors and even a small request fails: what is there does not leave room for a step.
    if let (Some(allocated), Some(limit), Some(requested)) = (n.allocated_bytes, limit(n), n.requested_bytes)
        && case.incident.phase.id == PhaseId::Unknown
        && allocated > limit / 100 * 85
        && requested < limit / 50
    {
        return Verdict::NotEnoughData {
            likely: 0.38,
            summary: "nearly all of it is live tensors and even a small request failed: weights, states and activations together are too much",
            settled_by: "the model and the settings (--model, --config), or the traceback above the message",
        };
    }
    Verdict::Absent
}

/// What vLLM says of its share before it fails: the weights' size and all that it may use, in GiB.
fn engine_budget(case: &Case<'_>) -> Option<(f64, f64, Evidence)> {
    let after = |text: &str, words: &str| -> Option<f64> {
        let rest = text.get(text.find(words)? + words.len()..)?.trim_start();
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        rest.get(..end)?.parse().ok()
    };
    let lines = &case.incident.context;
    let budget = lines.iter().find_map(|l| {
        let text = l.text.as_str();
        let at = text.find("gpu_memory_utilization (")?;
        after(text.get(at..)?, "=")
    })?;
    let said = lines.iter().find(|l| after(l.text.as_str(), "model weights take").is_some())?;
    Some((after(said.text.as_str(), "model weights take")?, budget, said.clone()))
}
