//! # 8-bit optimizer
//!
//! ## What it changes
//! The type in which the optimizer keeps its states.
//!
//! ## Why it helps
//! AdamW's two states take two bytes a parameter instead of eight (or four, where weights are in 16 bits).
//!
//! ## Cost
//! slightly noisier steps
//!
//! ## When not
//! LoRA: there is next to nothing to save; with an optimizer on the host

use super::{Conflict, Knob, NOTHING, Spec, evaluates, none, offloaded, on, text, trains_adapters};

pub(super) const SPEC: Spec = Spec {
    id: "quantize_8bit_optim",
    source: include_str!("quantize_8bit_optim.rs"),
    applies: |case| {
        !evaluates(case)
            && !trains_adapters(case)
            && case.knobs.str(Knob::Optimizer).is_none_or(|optimizer| !optimizer.contains('8'))
    },
    changes: |_| vec![(Knob::Optimizer, text("adamw_8bit"))],
    how: &[
        on(&["trl"], "optim: adamw_bnb_8bit"),
        on(&["transformers"], "optim=\"adamw_bnb_8bit\""),
        on(&["unsloth"], "optim=\"adamw_8bit\""),
        on(&["axolotl"], "optimizer: adamw_bnb_8bit"),
        on(&["llamafactory"], "optim: adamw_8bit"),
        on(&["torchtune"], "optimizer._component_=bitsandbytes.optim.PagedAdamW8bit"),
        on(&["pytorch", "lightning", "accelerate"], "bitsandbytes.optim.AdamW8bit(params)"),
        on(&["deepspeed"], "bitsandbytes.optim.AdamW8bit(params) and {\"zero_allow_untested_optimizer\": true}"),
        on(&["megatron"], "--use-precision-aware-optimizer --exp-avg-dtype bf16 --exp-avg-sq-dtype bf16 (16 bits)"),
        none(&["openrlhf"], "no 8-bit optimizer; --ds.adam_offload moves the states to the host"),
        on(&["verl"], "actor_rollout_ref.actor.optim.optimizer_impl=bitsandbytes.optim actor_rollout_ref.actor.optim.optimizer=AdamW8bit"),
        none(&["vllm"], "it trains nothing"),
        none(&["jax"], "optax has none; optax.adafactor keeps far smaller states"),
    ],
    conflicts: &[Conflict {
        fixes: &["cpu_offload"],
        now: offloaded,
        why: "states on the host take nothing of the card, and 8-bit states do not go there",
    }],
    ..NOTHING
};
