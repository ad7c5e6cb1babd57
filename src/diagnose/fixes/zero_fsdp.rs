//! # Shard over the GPUs
//!
//! ## What it changes
//! Which GPU holds which part of optimizer states, gradients and weights.
//!
//! ## Why it helps
//! Optimizer states, gradients and (stage 3) weights are divided by the number of GPUs. Activations and logits are not.
//!
//! ## Cost
//! communication
//!
//! ## When not
//! one GPU: only the offload half helps

use super::{Knob, NOTHING, Spec, none, on, whole};

pub(super) const SPEC: Spec = Spec {
    id: "zero_fsdp",
    source: include_str!("zero_fsdp.rs"),
    applies: |case| case.knobs.u64(Knob::ZeroStage) != Some(3),
    changes: |_| vec![(Knob::ZeroStage, whole(3))],
    how: &[
        on(&["transformers"], "deepspeed=\"ds.json\" with {\"zero_optimization\": {\"stage\": 3}}"),
        on(&["trl"], "deepspeed: ds.json with {\"zero_optimization\": {\"stage\": 3}}, or accelerate launch --zero_stage 3"),
        on(&["axolotl"], "deepspeed: deepspeed_configs/zero3.json"),
        on(&["llamafactory"], "deepspeed: examples/deepspeed/ds_z3_config.json"),
        on(&["torchtune"], "a distributed recipe: tune run --nproc_per_node N full_finetune_distributed"),
        on(&["verl"], "actor_rollout_ref.actor.strategy=fsdp2"),
        on(&["openrlhf"], "--ds.zero_stage 3").since("2026-04"),
        on(&["openrlhf"], "--zero_stage 3").before("2026-04"),
        on(&["lightning"], "Trainer(strategy=\"fsdp\") or strategy=\"deepspeed_stage_3\""),
        on(&["accelerate"], "accelerate launch --use_fsdp --fsdp_version 2 --fsdp_reshard_after_forward true (or --zero_stage 3)"),
        on(&["deepspeed"], "{\"zero_optimization\": {\"stage\": 3}}"),
        on(&["megatron"], "--use-distributed-optimizer (and --tensor-model-parallel-size 2)"),
        on(&["pytorch"], "torch.distributed.fsdp.fully_shard(model)").since("2.6"),
        on(&["pytorch"], "torch.distributed.fsdp.FullyShardedDataParallel(model)").before("2.6"),
        on(&["jax"], "jax.device_put(params, NamedSharding(mesh, PartitionSpec(\"fsdp\")))"),
        on(&["vllm"], "--tensor-parallel-size 2"),
        none(&["unsloth"], "it has no sharding"),
    ],
    ..NOTHING
};
