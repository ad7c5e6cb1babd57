//! # Accumulate gradients
//!
//! ## What it changes
//! How many batches one step of the optimizer is made of.
//!
//! ## Why it helps
//! Alone it saves nothing: it gives back the effective batch that a smaller micro-batch took away.
//!
//! ## Cost
//! none, except where the loss is normalised over a batch
//!
//! ## When not
//! the micro-batch stays as it is; torchtune's optimizer_in_bwd steps at every batch and cannot accumulate

use super::{Knob, NOTHING, Spec, evaluates, halve_batch, none, on};

pub(super) const SPEC: Spec = Spec {
    id: "grad_accum",
    source: include_str!("grad_accum.rs"),
    applies: |case| !evaluates(case) && case.knobs.u64(Knob::PerDeviceTrainBatchSize) != Some(1),
    changes: |case| halve_batch(case, 1).into_iter().filter(|(knob, _)| *knob == Knob::GradientAccumulationSteps).collect(),
    how: &[
        on(&["trl", "llamafactory", "axolotl"], "gradient_accumulation_steps: {gradient_accumulation_steps|double}"),
        on(&["transformers", "unsloth"], "gradient_accumulation_steps={gradient_accumulation_steps|double}"),
        on(&["torchtune"], "gradient_accumulation_steps={gradient_accumulation_steps|double}"),
        on(&["lightning"], "Trainer(accumulate_grad_batches={gradient_accumulation_steps|2})"),
        on(&["accelerate"], "Accelerator(gradient_accumulation_steps={gradient_accumulation_steps|2}), with accelerator.accumulate(model): …"),
        on(&["deepspeed"], "{\"gradient_accumulation_steps\": {gradient_accumulation_steps|double}}"),
        on(&["jax"], "optax.MultiSteps(optimizer, {gradient_accumulation_steps|2})"),
        on(&["pytorch"], "(loss / k).backward() at each batch, optimizer.step() and zero_grad() every k"),
        none(&["verl"], "it divides its mini-batch by the micro-batch itself"),
        none(&["openrlhf"], "it divides --train.batch_size by the micro-batch itself"),
        none(&["megatron"], "it divides --global-batch-size by the micro-batch itself"),
        none(&["vllm"], "it trains nothing"),
    ],
    ..NOTHING
};
