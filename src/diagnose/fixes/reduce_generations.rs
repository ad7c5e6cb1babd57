//! # Fewer generations a prompt
//!
//! ## What it changes
//! Completions that are compared for one prompt.
//!
//! ## Why it helps
//! Fewer sequences are generated (and in TRL 0.14 trained on) at once.
//!
//! ## Cost
//! noisier advantages; below four poor, two is the least
//!
//! ## When not
//! TRL 0.15 and newer, unless the batch is lowered with it: batch and generations must stay divisible

use super::{Knob, NOTHING, Spec, none, on, whole};

pub(super) const SPEC: Spec = Spec {
    id: "reduce_generations",
    source: include_str!("reduce_generations.rs"),
    changes: |case| {
        let fewer = case.knobs.u64(Knob::NumGenerations).filter(|n| *n >= 4).map(|n| n / 2);
        fewer.map(|n| (Knob::NumGenerations, whole(n))).into_iter().collect()
    },
    how: &[
        on(&["trl"], "num_generations: {num_generations|half}"),
        on(&["unsloth"], "num_generations={num_generations|half}"),
        on(&["axolotl"], "trl.num_generations: {num_generations|half}"),
        on(&["verl"], "actor_rollout_ref.rollout.n={num_generations|half}"),
        on(&["openrlhf"], "--rollout.n_samples_per_prompt {num_generations|half}").since("2026-04"),
        on(&["openrlhf"], "--n_samples_per_prompt {num_generations|half}").before("2026-04"),
        on(&["megatron"], "--grpo-group-size {num_generations|half}"),
        none(&["llamafactory"], "it has no GRPO stage"),
        none(
            &["transformers", "torchtune", "lightning", "accelerate", "deepspeed", "vllm", "jax", "pytorch"],
            "the recipe's own group size",
        ),
    ],
    ..NOTHING
};
