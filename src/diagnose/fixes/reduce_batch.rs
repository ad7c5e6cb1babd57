//! # Smaller micro-batch, same effective batch
//!
//! ## What it changes
//! Sequences in one forward pass; gradients are accumulated over as many more passes.
//!
//! ## Why it helps
//! Activations and logits shrink with the sequences of one forward; accumulation keeps the batch that the optimizer sees.
//!
//! ## Cost
//! slower: smaller matrices
//!
//! ## When not
//! the micro-batch is 1 already, or the optimizer's step is the peak; in GRPO the generation's own memory stays unless steps_per_generation changes too

use super::{Knob, NOTHING, Spec, halve_batch, on};

pub(super) const SPEC: Spec = Spec {
    id: "reduce_batch",
    source: include_str!("reduce_batch.rs"),
    applies: |case| case.knobs.u64(Knob::PerDeviceTrainBatchSize) != Some(1),
    changes: |case| halve_batch(case, 1),
    how: &[
        on(
            &["trl", "llamafactory"],
            "per_device_train_batch_size: {per_device_train_batch_size|half}, gradient_accumulation_steps: {gradient_accumulation_steps|double}",
        ),
        on(
            &["transformers", "unsloth"],
            "per_device_train_batch_size={per_device_train_batch_size|half}, gradient_accumulation_steps={gradient_accumulation_steps|double}",
        ),
        on(
            &["axolotl"],
            "micro_batch_size: {per_device_train_batch_size|half}, gradient_accumulation_steps: {gradient_accumulation_steps|double}",
        ),
        on(
            &["torchtune"],
            "batch_size={per_device_train_batch_size|half} gradient_accumulation_steps={gradient_accumulation_steps|double}",
        ),
        on(
            &["verl"],
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu={per_device_train_batch_size|half} (with use_dynamic_bsz: halve actor_rollout_ref.actor.ppo_max_token_len_per_gpu)",
        ),
        on(&["openrlhf"], "--train.micro_batch_size {per_device_train_batch_size|half}").since("2026-04"),
        on(&["openrlhf"], "--micro_train_batch_size {per_device_train_batch_size|half}").before("2026-04"),
        on(
            &["lightning"],
            "DataLoader(batch_size={per_device_train_batch_size|half}), Trainer(accumulate_grad_batches={gradient_accumulation_steps|double})",
        ),
        on(
            &["accelerate"],
            "DataLoader(batch_size={per_device_train_batch_size|half}), Accelerator(gradient_accumulation_steps={gradient_accumulation_steps|double})",
        ),
        on(
            &["deepspeed"],
            "{\"train_micro_batch_size_per_gpu\": {per_device_train_batch_size|half}, \"gradient_accumulation_steps\": {gradient_accumulation_steps|double}}",
        ),
        on(&["megatron"], "--micro-batch-size {per_device_train_batch_size|half} (--global-batch-size stays)"),
        on(&["vllm"], "--max-num-seqs {per_device_train_batch_size|half} (sequences at once)"),
        on(&["jax"], "a batch of {per_device_train_batch_size|half}, optax.MultiSteps(optimizer, {gradient_accumulation_steps|double})"),
        on(
            &["pytorch"],
            "batch_size={per_device_train_batch_size|half}, (loss / k).backward(), optimizer.step() every k = {gradient_accumulation_steps|2} batches",
        ),
    ],
    ..NOTHING
};
