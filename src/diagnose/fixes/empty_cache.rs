//! # Return cached blocks between phases
//!
//! ## What it changes
//! What PyTorch's allocator keeps of freed blocks.
//!
//! ## Why it helps
//! Generation and training leave blocks that the other cannot use.
//!
//! ## Cost
//! about 10 % slower
//!
//! ## When not
//! allocated memory alone fills the card

use super::{NOTHING, Spec, none, on};

pub(super) const SPEC: Spec = Spec {
    id: "empty_cache",
    source: include_str!("empty_cache.rs"),
    how: &[
        on(&["trl", "axolotl", "llamafactory"], "torch_empty_cache_steps: 1"),
        on(&["transformers", "unsloth"], "torch_empty_cache_steps=1"),
        on(&["pytorch", "lightning", "accelerate", "torchtune"], "torch.cuda.empty_cache()"),
        on(&["deepspeed"], "get_accelerator().empty_cache() after the step"),
        none(&["verl", "openrlhf"], "they empty the cache between phases already"),
        on(&["megatron"], "--empty-unused-memory-level 1"),
        none(&["vllm"], "it keeps its share on purpose"),
        none(&["jax"], "XLA has an allocator of its own: XLA_PYTHON_CLIENT_ALLOCATOR=platform (slow)"),
    ],
    ..NOTHING
};
