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

use super::{Case, NOTHING, Spec};

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

/// Whether a command is of the place that the job ran in, as far as the message tells it.
pub(super) fn belongs(case: &Case<'_>, command: &str) -> bool {
    match case.incident.kind.as_str() {
        "slurm.oom_kill" => command.starts_with("Slurm"),
        "k8s.oomkilled" => command.starts_with("Kubernetes"),
        // The kernel's own line proves it already.
        "linux.oom_killer" | "linux.memcg_oom" => !command.starts_with("dmesg"),
        "windows.pagefile" | "notebook.ram" => false,
        _ => true,
    }
}
