//! # Fused optimizer step
//!
//! ## What it changes
//! The implementation of AdamW's step, and nothing of what it computes.
//!
//! ## Why it helps
//! adamw_torch steps over lists of tensors and holds one more copy of all trainable parameters meanwhile; the fused step does not.
//!
//! ## Cost
//! none: usually faster
//!
//! ## When not
//! with CPU offload, or when the optimizer is no AdamW

use crate::memory;

use super::{Case, Conflict, Knob, NOTHING, Spec, on, none, offloaded, text, trains_adapters};

pub(super) const SPEC: Spec = Spec {
    id: "fused_optimizer",
    source: include_str!("fused_optimizer.rs"),
    applies: |case| !trains_adapters(case) && is_slow_here(case),
    changes: |_| vec![(Knob::Optimizer, text("adamw_torch_fused"))],
    how: &[
        on(&["trl", "llamafactory"], "optim: adamw_torch_fused"),
        on(&["transformers", "unsloth"], "optim=\"adamw_torch_fused\""),
        on(&["axolotl"], "optimizer: adamw_torch_fused"),
        on(&["torchtune"], "optimizer.fused=True"),
        on(&["pytorch", "lightning", "accelerate"], "torch.optim.AdamW(params, fused=True)"),
        on(&["verl"], "+actor_rollout_ref.actor.optim.override_optimizer_config.fused=True"),
        none(&["deepspeed", "openrlhf"], "DeepSpeed's own Adam is fused already"),
        none(&["megatron"], "its Adam is fused already"),
        none(&["vllm"], "it trains nothing"),
        none(&["jax"], "XLA fuses the update by itself"),
    ],
    conflicts: &[Conflict {
        fixes: &["cpu_offload"],
        now: offloaded,
        why: "an optimizer on the host is another one: DeepSpeed's CPU Adam",
    }],
    ..NOTHING
};

/// Whether the job steps over lists of tensors: as it is set, as the traceback shows, or as its trainer does unasked.
fn is_slow_here(case: &Case<'_>) -> bool {
    let steps = |name: &str| case.incident.frames.iter().any(|f| f.function.as_str().contains(name));
    if let Some(optimizer) = case.knobs.str(Knob::Optimizer) {
        return is_slow(optimizer);
    }
    // Older than torch 2.8, as the message's own form tells, nothing is fused unasked.
    let kind = case.incident.kind.as_str();
    let old = kind.starts_with("torch.cuda.v1_") || kind == "torch.cuda.v2_capacty";
    if old || steps("_multi_tensor_") || steps("_single_tensor_") {
        return true;
    }
    let told = case.knobs.value(Knob::Trainer).or(case.knobs.value(Knob::Method)).is_some();
    !steps("_fused_adam") && (!told || memory::resolve(case.knobs).0.str(Knob::Optimizer).is_none_or(is_slow))
}

fn is_slow(optimizer: &str) -> bool {
    optimizer.starts_with("adamw_torch") && !optimizer.contains("fused") || optimizer == "adamw_hf"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{incident::{Frame, Incident}, knobs::{Knobs, Origin}};

    #[test]
    fn the_fused_and_the_quantised_are_not_slow() {
        for (optimizer, want) in [("adamw_torch", true), ("adamw_hf", true), ("adamw_torch_fused", false), ("adamw_8bit", false)] {
            assert_eq!(is_slow(optimizer), want, "{optimizer}");
        }
    }

    #[test]
    fn what_steps_fused_unasked_is_not_told_to() {
        let applies = |settings: &[(Knob, &str)], function: &str| {
            let mut knobs = Knobs::default();
            for (knob, value) in settings {
                knobs.put(*knob, text(value), Origin::Set);
            }
            let frames = vec![Frame { function: function.into(), ..Frame::default() }];
            let incident = Incident { frames, ..Incident::default() };
            (SPEC.applies)(&Case { incident: &incident, knobs: &knobs })
        };
        let hf = (Knob::Trainer, "transformers");
        assert!(applies(&[hf, (Knob::TorchVersion, "2.6.0")], "step"));
        assert!(!applies(&[hf, (Knob::TorchVersion, "2.9.1")], "step"));
        assert!(!applies(&[(Knob::Trainer, "axolotl")], "step"));
        // The traceback knows better, and so does the setting.
        assert!(applies(&[(Knob::Trainer, "axolotl")], "_multi_tensor_adamw"));
        assert!(applies(&[hf, (Knob::TorchVersion, "2.9.1"), (Knob::Optimizer, "adamw_torch")], "step"));
        assert!(applies(&[], "step") && !applies(&[], "_fused_adamw"));
    }
}
