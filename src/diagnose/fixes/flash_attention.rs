//! # Flash or SDPA attention
//!
//! ## What it changes
//! The kernel that computes attention.
//!
//! ## Why it helps
//! Eager attention keeps a matrix of tokens by tokens for every head and layer; these never do.
//!
//! ## Cost
//! none
//!
//! ## When not
//! it is SDPA or flash already; T4 and V100 lack flash-attention 2; output_attentions=True and some soft-capped models force eager

use super::{Knob, NOTHING, Spec, none, on, text};

pub(super) const SPEC: Spec = Spec {
    id: "flash_attention",
    source: include_str!("flash_attention.rs"),
    applies: |case| case.knobs.str(Knob::Attention).is_none_or(|a| a == "eager"),
    changes: |_| vec![(Knob::Attention, text("sdpa"))],
    how: &[
        on(&["trl"], "model_init_kwargs: {attn_implementation: sdpa} (or --attn_implementation sdpa)"),
        on(&["transformers", "unsloth"], "from_pretrained(..., attn_implementation=\"sdpa\")"),
        on(&["axolotl"], "attn_implementation: sdpa (older: sdp_attention: true)"),
        on(&["llamafactory"], "flash_attn: sdpa"),
        on(&["openrlhf"], "--ds.attn_implementation flash_attention_2").since("2026-04"),
        on(&["openrlhf"], "--flash_attn").before("2026-04"),
        on(&["megatron"], "--attention-backend flash"),
        on(&["pytorch", "lightning", "accelerate", "deepspeed"], "torch.nn.functional.scaled_dot_product_attention(q, k, v)"),
        on(&["jax"], "jax.nn.dot_product_attention(q, k, v, implementation=\"cudnn\")"),
        none(&["torchtune"], "it attends with SDPA already"),
        none(&["verl"], "it loads models with flash attention already"),
        none(&["vllm"], "it attends with flash kernels already"),
    ],
    ..NOTHING
};
