//! # bfloat16 weights
//!
//! ## What it changes
//! The type in which weights are kept.
//!
//! ## Why it helps
//! Weights, gradients and optimizer states halve. `bf16=True` alone is autocast: it changes none of them and adds a 16-bit copy of the weights.
//!
//! ## Cost
//! small updates get lost at learning rates below about 1e-5 in full fine-tuning
//!
//! ## When not
//! the weights are in 16 bits already

use super::{Knob, NOTHING, Spec, none, on, text};

pub(super) const SPEC: Spec = Spec {
    id: "bf16",
    source: include_str!("bf16.rs"),
    applies: |case| case.knobs.str(Knob::Dtype).is_none_or(|d| d == "float32"),
    changes: |_| vec![(Knob::Dtype, text("bfloat16"))],
    how: &[
        on(&["trl"], "model_init_kwargs: {dtype: bfloat16}").of(Knob::TransformersVersion).since("5.0"),
        on(&["trl"], "model_init_kwargs: {torch_dtype: bfloat16}").of(Knob::TransformersVersion).before("5.0"),
        on(&["transformers"], "from_pretrained(..., dtype=torch.bfloat16)").since("5.0"),
        on(&["transformers"], "from_pretrained(..., torch_dtype=torch.bfloat16)").before("5.0"),
        on(&["axolotl"], "bfloat16: true"),
        on(&["llamafactory"], "pure_bf16: true"),
        on(&["torchtune"], "dtype=bf16"),
        on(&["verl"], "actor_rollout_ref.actor.fsdp_config.model_dtype=bf16"),
        on(&["openrlhf"], "--ds.param_dtype bf16"),
        on(&["unsloth"], "FastLanguageModel.from_pretrained(..., dtype=torch.bfloat16)"),
        on(&["lightning"], "Trainer(precision=\"bf16-true\")"),
        on(&["deepspeed"], "{\"bf16\": {\"enabled\": true}}"),
        on(&["megatron"], "--bf16"),
        on(&["vllm"], "--dtype bfloat16"),
        on(&["jax"], "params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)"),
        on(&["pytorch"], "model.to(torch.bfloat16)"),
        none(&["accelerate"], "mixed_precision: bf16 is autocast alone; load the model in bfloat16"),
    ],
    ..NOTHING
};
