//! # Expandable segments
//!
//! ## What it changes
//! How PyTorch's allocator takes memory from the driver: as address ranges that grow page by page.
//!
//! ## Why it helps
//! Blocks of different sizes share pages, so that what is free is usable.
//!
//! ## Cost
//! none
//!
//! ## When not
//! the card is simply full: it then changes nothing; not with vLLM's sleep mode; not on Windows or WSL

use super::{Conflict, Knob, NOTHING, Spec, engine_sleeps, none, on, text};

pub(super) const SPEC: Spec = Spec {
    id: "expandable_segments",
    source: include_str!("expandable_segments.rs"),
    applies: |case| !case.knobs.str(Knob::AllocConf).is_some_and(|conf| conf.contains("expandable_segments:True")),
    changes: |_| vec![(Knob::AllocConf, text("expandable_segments:True"))],
    // The older name is read by every version: it comes first, for where the version is not known.
    how: &[
        on(super::TORCH, "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True").of(Knob::TorchVersion).since("2.1").before("2.9"),
        on(super::TORCH, "PYTORCH_ALLOC_CONF=expandable_segments:True").of(Knob::TorchVersion).since("2.9"),
        none(super::TORCH, "it came with torch 2.1: PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:512").of(Knob::TorchVersion).before("2.1"),
        on(&["vllm"], "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, without --enable-sleep-mode"),
        none(&["jax"], "XLA has an allocator of its own: XLA_PYTHON_CLIENT_PREALLOCATE=false"),
    ],
    conflicts: &[Conflict {
        fixes: &["vllm_sleep", "max_split_size"],
        now: engine_sleeps,
        why: "vLLM's sleep mode keeps memory in a pool of its own that refuses expandable segments",
    }],
    ..NOTHING
};
