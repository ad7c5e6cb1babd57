//! # Offload to the host
//!
//! ## What it changes
//! Where optimizer states (or weights) live.
//!
//! ## Why it helps
//! They take the host's memory instead of the card's.
//!
//! ## Cost
//! several times slower; 16-18 bytes of RAM a parameter
//!
//! ## When not
//! the host is short of memory too

use super::{Conflict, Knob, NOTHING, Spec, none, offloaded, on, value};

pub(super) const SPEC: Spec = Spec {
    id: "cpu_offload",
    source: include_str!("cpu_offload.rs"),
    applies: |case| !offloaded(case),
    changes: |_| vec![(Knob::OffloadOptimizer, value(true))],
    how: &[
        on(
            &["transformers", "trl", "deepspeed"],
            "deepspeed: {\"zero_optimization\": {\"stage\": 2, \"offload_optimizer\": {\"device\": \"cpu\", \"pin_memory\": true}}}",
        ),
        on(&["axolotl"], "deepspeed: deepspeed_configs/zero3_bf16_cpuoffload_all.json"),
        on(&["llamafactory"], "deepspeed: examples/deepspeed/ds_z2_offload_config.json"),
        on(&["torchtune"], "fsdp_cpu_offload=True (distributed recipes)"),
        on(&["verl"], "actor_rollout_ref.actor.fsdp_config.optimizer_offload=True"),
        on(&["openrlhf"], "--ds.adam_offload").since("2026-04"),
        on(&["openrlhf"], "--adam_offload").before("2026-04"),
        on(&["lightning"], "Trainer(strategy=\"deepspeed_stage_2_offload\")"),
        on(&["accelerate"], "accelerate launch --zero_stage 2 --offload_optimizer_device cpu"),
        on(&["megatron"], "--optimizer-cpu-offload"),
        on(&["pytorch"], "fully_shard(model, offload_policy=CPUOffloadPolicy())"),
        on(&["vllm"], "--cpu-offload-gb 8"),
        none(&["unsloth"], "activations alone: use_gradient_checkpointing=\"unsloth\""),
        none(&["jax"], "shardings with memory_kind=\"pinned_host\" for the optimizer's state"),
    ],
    conflicts: &[Conflict {
        fixes: &["fused_optimizer", "quantize_8bit_optim"],
        now: |case| case.knobs.str(Knob::Optimizer).is_some_and(|o| o.contains("8bit") || o.contains("bnb")),
        why: "bitsandbytes' states do not leave the card this way: its paged optimizers do it themselves",
    }],
    ..NOTHING
};
