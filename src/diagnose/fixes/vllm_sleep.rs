//! # Let vLLM sleep while the trainer works
//!
//! ## What it changes
//! What the engine holds during the update: nothing but its CUDA graphs.
//!
//! ## Why it helps
//! Its weights and cache leave the card until the next generation.
//!
//! ## Cost
//! a wake-up each step, and the weights in host memory
//!
//! ## When not
//! expandable_segments is set; vLLM runs as a server on a card of its own

use super::{Conflict, Knob, NOTHING, Spec, none, on, value};

pub(super) const SPEC: Spec = Spec {
    id: "vllm_sleep",
    source: include_str!("vllm_sleep.rs"),
    applies: |case| {
        !super::engine_sleeps(case) && case.knobs.str(Knob::VllmMode) != Some("server")
    },
    changes: |_| vec![(Knob::VllmEnableSleepMode, value(true))],
    how: &[
        on(&["trl"], "vllm_enable_sleep_mode: true").since("0.23"),
        none(&["trl"], "sleep mode came with 0.23").before("0.23"),
        on(&["verl"], "actor_rollout_ref.rollout.free_cache_engine=True"),
        on(&["openrlhf"], "--vllm.enable_sleep").since("2026-04"),
        on(&["openrlhf"], "--vllm_enable_sleep").before("2026-04"),
        on(&["unsloth"], "UNSLOTH_VLLM_STANDBY=1"),
        on(&["axolotl"], "trl.vllm_enable_sleep_mode: true"),
        on(&["vllm"], "LLM(..., enable_sleep_mode=True), llm.sleep(level=1), llm.wake_up()"),
        none(&["llamafactory"], "it trains without vLLM"),
        none(
            &["transformers", "torchtune", "lightning", "accelerate", "deepspeed", "megatron", "jax", "pytorch"],
            "where you start vLLM yourself: LLM(..., enable_sleep_mode=True)",
        ),
    ],
    conflicts: &[Conflict {
        fixes: &["expandable_segments"],
        now: |case| case.knobs.str(Knob::AllocConf).is_some_and(|conf| conf.contains("expandable_segments:True")),
        why: "the pool that sleeps refuses expandable segments",
    }],
    ..NOTHING
};
