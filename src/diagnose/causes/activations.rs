//! # Activations kept for the backward pass
//!
//! ## What it is
//! Each layer keeps its inputs and intermediate results until the backward pass has used them: they grow with the
//! sequences of one forward and with their length.
//!
//! ## What it looks for
//! A traceback that ends in a forward, a backward, a scoring or an evaluation pass; a single large request.
//!
//! ## What would settle it
//! The traceback above the message; or a memory snapshot (`oomph snapshot`).
//!
//! ## What helps
//! `reduce_batch`, `grad_checkpointing`, `reduce_seq_len`, `flash_attention` where attention is eager.

use crate::model::failure::{Memory, PhaseId};

use super::{Case, Verdict, found, kind, limit, message};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    let n = &case.incident.numbers;
    if case.incident.memory != Memory::Gpu {
        return Verdict::Absent;
    }
    if matches!(kind(case), "tf.resource_exhausted" | "tf.bfc") {
        return found(0.7, vec![message(case)], "a layer's output does not fit: it grows with the batch");
    }
    let evidence = case.incident.phase.evidence.clone();
    match case.incident.phase.id {
        PhaseId::Forward | PhaseId::Backward => {
            found(0.75, evidence, "it died while layers kept their outputs for the backward pass")
        }
        PhaseId::Scoring | PhaseId::Eval => {
            found(0.75, evidence, "it died in a forward pass whose outputs grow with the batch and the sequences")
        }
        PhaseId::LogitsLoss => found(0.5, evidence, "what the layers keep leaves no room for the loss"),
        PhaseId::Unknown if trains(case) => {
            let large = n.requested_bytes.is_some_and(|r| r > 256 << 20);
            let own = n.allocated_bytes.zip(limit(n)).is_none_or(|(held, limit)| held > limit / 2);
            match (large, own) {
                (true, _) => Verdict::NotEnoughData {
                    likely: 0.35,
                    summary: "a single large request: activations, most likely",
                    settled_by: "the traceback above the message",
                },
                (false, true) if n.allocated_bytes.is_some() => Verdict::NotEnoughData {
                    likely: 0.2,
                    summary: "the batch may be too large: a small request was only the last one",
                    settled_by: "the traceback above the message",
                },
                _ => Verdict::Absent,
            }
        }
        _ => Verdict::Absent,
    }
}

/// Not an engine's, a communicator's or a compiled program's message: those have their own judges.
fn trains(case: &Case<'_>) -> bool {
    ["torch.", "paddle.", "cupy.", "mxnet."].iter().any(|family| kind(case).starts_with(family))
}
