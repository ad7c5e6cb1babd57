//! # Move evaluation outputs to the CPU
//!
//! ## What it changes
//! Where the outputs of evaluation batches wait for the metrics.
//!
//! ## Why it helps
//! The logits of every evaluation batch are kept on the card until the end.
//!
//! ## Cost
//! a little slower
//!
//! ## When not
//! prediction_loss_only is set already

use super::{Knob, NOTHING, Spec, none, on, whole};

pub(super) const SPEC: Spec = Spec {
    id: "eval_accumulation",
    source: include_str!("eval_accumulation.rs"),
    changes: |_| vec![(Knob::EvalAccumulationSteps, whole(1))],
    how: &[
        on(&["trl", "llamafactory"], "eval_accumulation_steps: 1, per_device_eval_batch_size: 1"),
        on(&["transformers", "unsloth"], "eval_accumulation_steps=1 (or prediction_loss_only=True), per_device_eval_batch_size=1"),
        on(&["axolotl"], "eval_batch_size: 1 (outputs: do_causal_lm_eval: false)"),
        on(&["lightning"], "return nothing from validation_step, metrics with self.log; a smaller batch_size in val_dataloader"),
        on(&["pytorch", "accelerate", "deepspeed"], "with torch.inference_mode(): …; outputs.append(out.cpu())"),
        none(&["torchtune", "megatron"], "they keep the loss alone: a smaller evaluation batch"),
        none(&["verl", "openrlhf"], "they evaluate by generating: a smaller share or fewer sequences for the engine"),
        none(&["vllm", "jax"], "no evaluation loop of their own"),
    ],
    ..NOTHING
};
