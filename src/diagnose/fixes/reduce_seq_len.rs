//! # Shorter sequences
//!
//! ## What it changes
//! The longest sample that is kept whole.
//!
//! ## Why it helps
//! Activations, logits and caches shrink with every token; attention that is not flash shrinks with its square.
//!
//! ## Cost
//! what is cut is not learnt
//!
//! ## When not
//! the longest samples are what you train for

use super::{Knob, NOTHING, Spec, halved, on};

pub(super) const SPEC: Spec = Spec {
    id: "reduce_seq_len",
    source: include_str!("reduce_seq_len.rs"),
    changes: |case| halved(case, Knob::SequenceLength, 64),
    how: &[
        on(&["trl"], "max_length: {sequence_length|half}"),
        on(&["transformers"], "tokenizer(..., truncation=True, max_length={sequence_length|half})"),
        on(&["axolotl"], "sequence_len: {sequence_length|half}"),
        on(&["llamafactory"], "cutoff_len: {sequence_length|half}"),
        on(&["torchtune"], "tokenizer.max_seq_len={sequence_length|half}"),
        on(&["verl"], "data.max_prompt_length={sequence_length|half} (SFT: data.max_length)"),
        on(&["openrlhf"], "--data.max_len {sequence_length|half}").since("2026-04"),
        on(&["openrlhf"], "--prompt_max_len {sequence_length|half} (SFT: --max_len)").before("2026-04"),
        on(&["unsloth"], "FastLanguageModel.from_pretrained(..., max_seq_length={sequence_length|half})"),
        on(&["megatron"], "--seq-length {sequence_length|half}"),
        on(&["vllm"], "--max-model-len {sequence_length|half}"),
        on(&["pytorch", "lightning", "accelerate", "deepspeed", "jax"], "truncate in the tokenizer or the dataset: {sequence_length|half}"),
    ],
    ..NOTHING
};
