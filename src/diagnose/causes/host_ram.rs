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

use std::sync::LazyLock;

use regex::Regex;

use crate::model::{
    Clean,
    failure::{Evidence, Memory},
};

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
        "ray.worker_died" => found(
            0.5,
            vec![message(case)],
            "a worker was gone and Ray does not know why: the kernel's killer is the likeliest (dmesg would prove it); a crash looks the same",
        ),
        "windows.pagefile" => found(
            0.95,
            vec![message(case)],
            "Windows has no memory left to promise: the machine's memory and its page file are used up; the card has no part in it",
        ),
        "tf.pinned_host" => found(
            0.95,
            vec![message(case)],
            "memory of the host could not be pinned, although the message names CUDA: the host is short of it, or a limit on locked memory is",
        ),
        _ => {
            let users = memory_users(case);
            let most = users.first().map(|(_, user)| format!("; most of it is held by {user}")).unwrap_or_default();
            let evidence = [message(case)].into_iter().chain(users.into_iter().map(|(line, _)| line)).collect();
            found(0.95, evidence, format!("the host's memory ran out, not the card's{most}"))
        }
    }
}

/// Processes of Ray's table that are shown.
const USERS: usize = 3;

/// A row of it: a process id, its size in GB, and before the next such row its command.
static USER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"([0-9]{2,8})[ \t]+([0-9]+\.[0-9]+)[ \t]+").expect("the pattern is tested"));

/// Who Ray says held the node's memory, the largest first: each with its row, and in words. Rows whose line breaks were
/// lost stand behind each other.
fn memory_users(case: &Case<'_>) -> Vec<(Evidence, String)> {
    let lines = &case.incident.context;
    let Some(head) = lines.iter().position(|l| l.text.as_str().contains("memory users:")) else { return Vec::new() };
    let mut all: Vec<(f64, Evidence, String)> = Vec::new();
    for line in lines.iter().skip(head).take(14) {
        let text = line.text.as_str();
        let rows: Vec<regex::Captures<'_>> = USER.captures_iter(text).collect();
        for (nth, row) in rows.iter().enumerate() {
            let end = rows.get(nth + 1).and_then(|next| next.get(0)).map_or(text.len(), |next| next.start());
            let (Some(whole), Some(pid), Ok(size)) = (row.get(0), row.get(1), row[2].parse::<f64>()) else { continue };
            let command: String = text.get(whole.end()..end).unwrap_or_default().trim().chars().take(60).collect();
            let name = command.split_whitespace().next().unwrap_or("a process");
            let user = format!("{name} (pid {}, {size:.2} GiB)", pid.as_str());
            let row = Clean::new(&format!("{} {} {command}", pid.as_str(), &row[2]));
            all.push((size, Evidence { line: line.line, text: row }, user));
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.into_iter().take(USERS).map(|(_, row, user)| (row, user)).collect()
}
