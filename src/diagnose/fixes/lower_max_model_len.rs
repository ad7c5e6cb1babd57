//! # Shorter model length for the engine
//!
//! ## What it changes
//! The longest sequence that the engine promises to serve.
//!
//! ## Why it helps
//! The cache must hold one sequence of that length.
//!
//! ## Cost
//! longer prompts are refused
//!
//! ## When not
//! you need the length

use super::{NOTHING, Spec, none, on};

pub(super) const SPEC: Spec = Spec {
    id: "lower_max_model_len",
    source: include_str!("lower_max_model_len.rs"),
    how: &[
        on(&["vllm"], "--max-model-len 8192"),
        on(&["trl"], "vllm_max_model_length: 8192").since("0.26"),
        none(&["trl"], "no such field from 0.18 to 0.25: max_prompt_length and max_completion_length decide").since("0.18").before("0.26"),
        on(&["trl"], "vllm_max_model_len: 8192").since("0.15").before("0.18"),
        on(&["verl"], "actor_rollout_ref.rollout.max_model_len=8192"),
        on(&["openrlhf"], "--data.max_len 8192 (prompt and answer)").since("2026-04"),
        on(&["openrlhf"], "--prompt_max_len 4096 --generate_max_len 4096").before("2026-04"),
        on(&["unsloth"], "FastLanguageModel.from_pretrained(..., max_seq_length=8192)"),
        on(&["axolotl"], "vllm.max_model_len: 8192"),
        on(&["llamafactory"], "vllm_maxlen: 8192"),
        none(
            &["transformers", "torchtune", "lightning", "accelerate", "deepspeed", "megatron", "jax", "pytorch"],
            "where you start vLLM yourself: LLM(..., max_model_len=8192)",
        ),
    ],
    ..NOTHING
};
