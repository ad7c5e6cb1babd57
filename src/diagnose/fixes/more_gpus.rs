//! # More or larger GPUs
//!
//! ## What it changes
//! How much memory there is.
//!
//! ## Why it helps
//! What does not fit on one can be divided.
//!
//! ## Cost
//! money
//!
//! ## When not
//! another setting already makes it fit

use super::{NOTHING, Spec, on};

pub(super) const SPEC: Spec = Spec {
    id: "more_gpus",
    source: include_str!("more_gpus.rs"),
    how: &[
        on(&["vllm"], "--tensor-parallel-size 2"),
        on(&["verl"], "trainer.n_gpus_per_node=N actor_rollout_ref.rollout.tensor_model_parallel_size=2"),
        on(&["megatron"], "--tensor-model-parallel-size 2"),
        on(&["lightning"], "Trainer(devices=N, strategy=\"fsdp\")"),
        on(&["torchtune"], "tune run --nproc_per_node N with a distributed recipe"),
        on(&["jax"], "a larger mesh: jax.make_mesh((N,), (\"fsdp\",))"),
        on(
            &["trl", "transformers", "axolotl", "llamafactory", "accelerate", "unsloth"],
            "accelerate launch --num_processes N, with ZeRO or FSDP: alone it multiplies the job instead of dividing it",
        ),
        on(&["openrlhf"], "--actor.num_gpus_per_node N").since("2026-04"),
        on(&["openrlhf"], "--actor_num_gpus_per_node N").before("2026-04"),
        on(&["deepspeed"], "deepspeed --num_gpus N"),
        on(&["pytorch"], "torchrun --nproc_per_node N, with FSDP"),
    ],
    ..NOTHING
};
