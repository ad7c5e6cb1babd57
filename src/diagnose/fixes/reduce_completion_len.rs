//! # Shorter completions
//!
//! ## What it changes
//! The tokens that one completion may have.
//!
//! ## Why it helps
//! Logits, activations and the KV cache shrink with the completion's length.
//!
//! ## Cost
//! longer answers get no reward
//!
//! ## When not
//! under the 95th percentile of the completions you see

use super::{Knob, NOTHING, Spec, halved, none, on};

pub(super) const SPEC: Spec = Spec {
    id: "reduce_completion_len",
    source: include_str!("reduce_completion_len.rs"),
    changes: |case| halved(case, Knob::MaxCompletionLength, 32),
    how: &[
        on(&["trl"], "max_completion_length: {max_completion_length|half}"),
        on(&["unsloth"], "max_completion_length={max_completion_length|half}"),
        on(&["axolotl"], "trl.max_completion_length: {max_completion_length|half}"),
        on(&["verl"], "data.max_response_length={max_completion_length|half}"),
        on(&["openrlhf"], "--rollout.max_new_tokens {max_completion_length|half}").since("2026-04"),
        on(&["openrlhf"], "--generate_max_len {max_completion_length|half}").before("2026-04"),
        on(&["transformers", "pytorch", "lightning", "accelerate", "deepspeed"], "model.generate(..., max_new_tokens={max_completion_length|half})"),
        on(&["vllm"], "SamplingParams(max_tokens={max_completion_length|half})"),
        none(&["llamafactory"], "it has no GRPO; PPO: max_new_tokens"),
        none(&["torchtune", "megatron", "jax"], "the recipe's own generation length"),
    ],
    ..NOTHING
};
