//! # No gradients where none are used
//!
//! ## What it changes
//! Whether a forward pass records itself for a backward pass.
//!
//! ## Why it helps
//! Without it every forward keeps its activations.
//!
//! ## Cost
//! none
//!
//! ## When not
//! in training itself

use super::{NOTHING, Spec, none, on};

pub(super) const SPEC: Spec = Spec {
    id: "torch_no_grad",
    source: include_str!("torch_no_grad.rs"),
    how: &[
        on(&["pytorch", "accelerate", "deepspeed", "torchtune"], "with torch.inference_mode(): …"),
        on(&["lightning"], "Trainer(inference_mode=True), the default; torch.no_grad() in your own loops"),
        none(
            &["trl", "transformers", "axolotl", "llamafactory", "unsloth", "verl", "openrlhf", "megatron"],
            "its own evaluation does it already; in callbacks and metrics of yours: with torch.inference_mode(): …",
        ),
        none(&["vllm", "jax"], "nothing is recorded unless asked for"),
    ],
    ..NOTHING
};
