//! # Larger /dev/shm
//!
//! ## What it changes
//! How much processes of the container can share.
//!
//! ## Why it helps
//! Workers hand over batches through it, NCCL its buffers; Docker gives 64 MB.
//!
//! ## Cost
//! none
//!
//! ## When not
//! `df -h /dev/shm` shows gigabytes free

use super::{NOTHING, Spec};

pub(super) const SPEC: Spec = Spec {
    id: "raise_shm",
    source: include_str!("raise_shm.rs"),
    commands: &[
        "docker run --shm-size=16g …   (or --ipc=host)",
        "Kubernetes: an emptyDir with medium: Memory mounted at /dev/shm",
        "docker compose: shm_size: 16gb",
    ],
    ..NOTHING
};
