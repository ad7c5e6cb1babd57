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

use super::{Conflict, Knob, NOTHING, Spec, on, none, offloaded, text, trains_adapters};

pub(super) const SPEC: Spec = Spec {
    id: "fused_optimizer",
    source: include_str!("fused_optimizer.rs"),
    applies: |case| !trains_adapters(case) && case.knobs.str(Knob::Optimizer).is_none_or(is_slow),
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

fn is_slow(optimizer: &str) -> bool {
    optimizer.starts_with("adamw_torch") && !optimizer.contains("fused") || optimizer == "adamw_hf"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fused_and_the_quantised_are_not_slow() {
        for (optimizer, want) in [("adamw_torch", true), ("adamw_hf", true), ("adamw_torch_fused", false), ("adamw_8bit", false)] {
            assert_eq!(is_slow(optimizer), want, "{optimizer}");
        }
    }
}
