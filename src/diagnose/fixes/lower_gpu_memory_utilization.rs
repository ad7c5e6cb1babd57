//! # Give vLLM a smaller share
//!
//! ## What it changes
//! The share of the whole card that the engine takes for weights and KV cache.
//!
//! ## Why it helps
//! It is taken before the trainer gets anything.
//!
//! ## Cost
//! fewer sequences at once
//!
//! ## When not
//! vLLM fails at its start for lack of cache: then it needs more

use super::{Knob, NOTHING, Spec, none, on};
use crate::model::knobs::Value;

pub(super) const SPEC: Spec = Spec {
    id: "lower_gpu_memory_utilization",
    source: include_str!("lower_gpu_memory_utilization.rs"),
    applies: |case| case.knobs.bool(Knob::UseVllm) != Some(false) && case.knobs.str(Knob::VllmMode) != Some("server"),
    changes: |case| {
        let less = case.knobs.f64(Knob::VllmGpuMemoryUtilization).map(|share| (share * 70.0).round() / 100.0);
        less.map(|share| (Knob::VllmGpuMemoryUtilization, Value::Float(share))).into_iter().collect()
    },
    how: &[
        on(&["trl"], "vllm_gpu_memory_utilization: {vllm_gpu_memory_utilization|0.2}").since("0.18"),
        on(&["trl"], "vllm_gpu_memory_utilization: {vllm_gpu_memory_utilization|0.5}").before("0.18"),
        on(&["verl"], "actor_rollout_ref.rollout.gpu_memory_utilization={vllm_gpu_memory_utilization|0.4}"),
        on(&["openrlhf"], "--vllm.gpu_memory_utilization {vllm_gpu_memory_utilization|0.4}").since("2026-04"),
        on(&["openrlhf"], "--vllm_gpu_memory_utilization {vllm_gpu_memory_utilization|0.4}").before("2026-04"),
        on(&["unsloth"], "FastLanguageModel.from_pretrained(..., gpu_memory_utilization={vllm_gpu_memory_utilization|0.4})"),
        on(&["axolotl"], "vllm.gpu_memory_utilization: {vllm_gpu_memory_utilization|0.4}"),
        on(&["vllm"], "--gpu-memory-utilization {vllm_gpu_memory_utilization|0.8}"),
        on(
            &["transformers", "llamafactory", "torchtune", "lightning", "accelerate", "deepspeed", "megatron", "pytorch"],
            "LLM(..., gpu_memory_utilization={vllm_gpu_memory_utilization|0.4}), where you start vLLM",
        ),
        none(&["jax"], "XLA_PYTHON_CLIENT_MEM_FRACTION is JAX's own share"),
    ],
    ..NOTHING
};
