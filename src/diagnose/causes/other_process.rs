//! # Another process on the card
//!
//! ## What it is
//! Somebody else's memory is what is missing: another job, a notebook that was never closed, an engine beside the trainer,
//! a rank that landed on the wrong GPU.
//!
//! ## What it looks for
//! The processes that PyTorch lists, without the job itself (in a container it is listed by its pid on the host). Where it
//! lists none: what is neither free nor this process's, when that is more than contexts and libraries take (2 GiB).
//!
//! ## What would settle it
//! `nvidia-smi --query-compute-apps=pid,used_memory,name --format=csv` on the host, at the time.
//!
//! ## What helps
//! `kill_other_process`; where an inference engine shares the card, `lower_gpu_memory_utilization`.

use crate::model::{Bytes, failure::PhaseId};

use super::{Case, Verdict, found, kind, message, unused};

/// What contexts, NCCL and library workspaces may take.
const OUTSIDE: u64 = 2 << 30;

pub(super) fn check(case: &Case<'_>) -> Verdict {
    let n = &case.incident.numbers;
    if kind(case) == "vllm.startup.free_below_util" {
        return found(
            0.9,
            vec![message(case)],
            "something else holds memory of this card: less is free at start than vLLM was told to take",
        );
    }
    if kind(case) == "torch.cuda.bare" && n.requested_bytes.is_none() {
        // PyTorch's own message comes from its allocator; the driver's comes where not even a context found room.
        let first = case.incident.frames.last().is_some_and(|f| {
            [".cuda(", ".to(", "torch.cuda.", "cuda.init"].iter().any(|call| f.code.as_str().contains(call))
        });
        match case.incident.phase.id {
            PhaseId::ModelLoad | PhaseId::Unknown if first || case.incident.phase.id == PhaseId::ModelLoad => {
                return found(
                    0.6,
                    vec![message(case)],
                    "the driver itself refused before PyTorch held anything: most likely the card is full of somebody else's memory (nvidia-smi tells)",
                );
            }
            PhaseId::Unknown => {
                return Verdict::NotEnoughData {
                    likely: 0.3,
                    summary: "the driver itself refused: the card may be full of somebody else's memory",
                    settled_by: "nvidia-smi on the host, before the job starts",
                };
            }
            _ => {}
        }
    }
    let Some(capacity) = n.capacity_bytes.filter(|_| n.allowed_bytes.is_none()) else { return Verdict::Absent };
    let theirs: u64 = case.incident.other_processes.iter().filter_map(|p| p.bytes).sum();
    let needed = n.requested_bytes.unwrap_or(0).saturating_sub(n.free_bytes.unwrap_or(0));
    // A context without tensors is no reason.
    if theirs > capacity / 20 && theirs > 1 << 30 {
        let pids: Vec<String> = case.incident.other_processes.iter().map(|p| p.pid.to_string()).collect();
        let score = if theirs >= needed && theirs > capacity / 8 { 0.88 } else { 0.55 };
        let (theirs, capacity) = (Bytes(theirs), Bytes(capacity));
        let summary = format!("other processes hold {theirs} of the card's {capacity} (pid {})", pids.join(", "));
        return found(score, vec![message(case)], summary);
    }
    let rest = unexplained(case, capacity).unwrap_or(0);
    if rest > OUTSIDE && rest > capacity / 20 && rest >= needed {
        let score = match rest {
            r if r > capacity / 4 => 0.86,
            r if r > capacity / 8 => 0.7,
            _ => 0.5,
        };
        let summary = format!(
            "{} of the card's {} are neither free nor held by PyTorch in this process: another process, or another library in this one (nvidia-smi tells)",
            Bytes(rest),
            Bytes(capacity)
        );
        return found(score, vec![message(case)], summary);
    }
    Verdict::Absent
}

/// What is neither free nor this process's, from the message's own figures.
fn unexplained(case: &Case<'_>, capacity: u64) -> Option<u64> {
    let n = &case.incident.numbers;
    // Figures that cannot be (unified memory, WSL) explain nothing.
    let free = n.free_bytes.filter(|f| *f <= capacity)?;
    let held = n.allocated_bytes? + unused(case)?;
    let own = n.in_use_bytes.unwrap_or(held).max(held);
    capacity.checked_sub(free)?.checked_sub(own)
}
