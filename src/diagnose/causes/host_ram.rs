//! # The host's memory
//!
//! ## What it is
//! The machine's memory, or what its cgroup (Slurm, Kubernetes, Docker) allows, ran out. No setting for the GPU helps.
//!
//! ## What it looks for
//! The kernel's OOM killer, a cgroup's kill, Slurm's and Kubernetes' reports, Ray's memory monitor, `DefaultCPUAllocator`,
//! `MemoryError`, pinned memory that could not be had. A bare `Killed`, exit 137 or SIGKILL is believed less: pre-emption,
//! a liveness probe and `docker stop` look the same.
//!
//! ## What would settle it
//! `dmesg -T | grep -i -E 'oom|killed process'`; `memory.events` of the cgroup; `sacct -j JOB --format=MaxRSS,State`;
//! `kubectl describe pod`. `oomph run` watches all of them while the job runs.
//!
//! ## What helps
//! `more_host_ram`, `reduce_dataloader_workers`, loading the model on one rank only, no offload to the CPU.

use crate::model::failure::Memory;

use super::{Case, Verdict, found, kind, message};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    if case.incident.memory != Memory::Host {
        return Verdict::Absent;
    }
    match kind(case) {
        "shell.killed" | "elastic.sigkill" | "deepspeed.sigkill" => found(
            0.7,
            vec![message(case)],
            "the process was killed by SIGKILL: most likely the kernel, because the host's memory ran out (dmesg would prove it)",
        ),
        "tf.pinned_host" => found(
            0.95,
            vec![message(case)],
            "memory of the host could not be pinned, although the message names CUDA: the host is short of it, or a limit on locked memory is",
        ),
        _ => found(0.95, vec![message(case)], "the host's memory ran out, not the card's"),
    }
}
