//! # More host memory for the job
//!
//! ## What it changes
//! The limit that the job's processes share: the host's, the container's, the Slurm job's.
//!
//! ## Why it helps
//! That limit was met, not the card's.
//!
//! ## Cost
//! none
//!
//! ## When not
//! memory grows with every step: then it only takes longer

use super::{NOTHING, Spec};

pub(super) const SPEC: Spec = Spec {
    id: "more_host_ram",
    source: include_str!("more_host_ram.rs"),
    commands: &[
        "Slurm: #SBATCH --mem=128G",
        "Kubernetes: resources.limits.memory",
        "docker run --memory=128g …",
        "dmesg -T | grep -i -E 'oom|killed process'   # proves it",
    ],
    ..NOTHING
};
