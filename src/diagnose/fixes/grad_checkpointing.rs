//! # Gradient checkpointing
//!
//! ## What it changes
//! What a forward pass keeps for the backward pass: the inputs of the layers alone.
//!
//! ## Why it helps
//! The rest is computed again in the backward pass: from about 34 numbers a token, layer and unit of width to one.
//!
//! ## Cost
//! 20-30 % slower
//!
//! ## When not
//! it is on already, or logits or the optimizer are the peak; beside FSDP's own activation checkpointing

use super::{Knob, NOTHING, Spec, evaluates, none, on, value};

pub(super) const SPEC: Spec = Spec {
    id: "grad_checkpointing",
    source: include_str!("grad_checkpointing.rs"),
    applies: |case| !evaluates(case) && case.knobs.bool(Knob::GradientCheckpointing) != Some(true),
    changes: |_| vec![(Knob::GradientCheckpointing, value(true))],
    how: &[
        on(&["trl"], "gradient_checkpointing: true"),
        on(&["transformers"], "gradient_checkpointing=True, gradient_checkpointing_kwargs={\"use_reentrant\": False}"),
        on(&["axolotl"], "gradient_checkpointing: true"),
        on(&["llamafactory"], "disable_gradient_checkpointing: false"),
        on(&["torchtune"], "enable_activation_checkpointing=True"),
        on(&["verl"], "actor_rollout_ref.model.enable_gradient_checkpointing=True"),
        on(&["openrlhf"], "--actor.gradient_checkpointing_enable").since("2026-04"),
        on(&["openrlhf"], "--gradient_checkpointing").before("2026-04"),
        on(&["unsloth"], "use_gradient_checkpointing=\"unsloth\""),
        on(&["lightning"], "FSDPStrategy(activation_checkpointing_policy={Block}), or model.gradient_checkpointing_enable()"),
        on(&["accelerate"], "--fsdp_activation_checkpointing true (then not the trainer's own flag)"),
        on(&["deepspeed"], "{\"activation_checkpointing\": {\"partition_activations\": true}}, where the model calls deepspeed.checkpointing"),
        on(&["megatron"], "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1"),
        on(&["jax"], "jax.checkpoint(layer)"),
        on(&["pytorch"], "torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)"),
        none(&["vllm"], "it keeps no activations"),
    ],
    ..NOTHING
};
