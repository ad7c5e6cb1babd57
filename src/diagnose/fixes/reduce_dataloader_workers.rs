//! # Fewer DataLoader workers
//!
//! ## What it changes
//! How many processes prepare batches.
//!
//! ## Why it helps
//! Each worker is a process with its own copies and prefetched batches.
//!
//! ## Cost
//! slower loading
//!
//! ## When not
//! there is one worker

use super::{Knob, NOTHING, Spec, none, on, whole};

pub(super) const SPEC: Spec = Spec {
    id: "reduce_dataloader_workers",
    source: include_str!("reduce_dataloader_workers.rs"),
    applies: |case| case.knobs.u64(Knob::DataloaderNumWorkers) != Some(0),
    changes: |_| vec![(Knob::DataloaderNumWorkers, whole(0))],
    how: &[
        on(&["trl", "axolotl", "llamafactory"], "dataloader_num_workers: 0"),
        on(&["transformers", "unsloth"], "dataloader_num_workers=0"),
        on(&["pytorch", "lightning", "accelerate", "deepspeed"], "DataLoader(num_workers=0, prefetch_factor=None)"),
        on(&["megatron"], "--num-workers 0"),
        on(&["verl"], "data.dataloader_num_workers=0"),
        none(&["torchtune", "openrlhf"], "they load in the trainer's own process"),
        none(&["vllm"], "it has no DataLoader"),
        none(&["jax"], "the input pipeline's own workers (tf.data, grain)"),
    ],
    ..NOTHING
};
