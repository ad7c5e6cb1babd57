//! # Limit the splitting of blocks
//!
//! ## What it changes
//! Cached blocks above this size are never cut for smaller requests.
//!
//! ## Why it helps
//! Large blocks stay whole for large requests.
//!
//! ## Cost
//! some memory lies idle
//!
//! ## When not
//! expandable segments are available: they do it better and take no limit beside them

use super::{Conflict, Knob, NOTHING, Spec, none, on, text};

pub(super) const SPEC: Spec = Spec {
    id: "max_split_size",
    source: include_str!("max_split_size.rs"),
    changes: |_| vec![(Knob::AllocConf, text("max_split_size_mb:512"))],
    // The older name is read by every version: it comes first, for where the version is not known.
    how: &[
        on(super::TORCH, "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:512").of(Knob::TorchVersion).since("1.10").before("2.9"),
        on(super::TORCH, "PYTORCH_ALLOC_CONF=max_split_size_mb:512").of(Knob::TorchVersion).since("2.9"),
        none(super::TORCH, "the allocator has no settings before torch 1.10").of(Knob::TorchVersion).before("1.10"),
        on(&["vllm"], "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:512"),
        none(&["jax"], "XLA has an allocator of its own"),
    ],
    conflicts: &[Conflict {
        fixes: &["expandable_segments"],
        now: |case| case.knobs.str(Knob::AllocConf).is_some_and(|conf| conf.contains("expandable_segments:True")),
        why: "with expandable segments there are no split blocks to limit",
    }],
    ..NOTHING
};
