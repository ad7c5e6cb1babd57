//! # A limit below the card's capacity
//!
//! ## What it is
//! The process may take only a part of the card (`set_per_process_memory_fraction`, macOS' watermark), and that part is full.
//!
//! ## What it looks for
//! `… GiB allowed` in PyTorch's message below the card's capacity, the more so when enough of the card is free; `max
//! allowed` of the MPS backend.
//!
//! ## What would settle it
//! Whether somebody meant the limit: search for `set_per_process_memory_fraction` and `per_process_memory_fraction`.
//!
//! ## What helps
//! Raise or drop the limit; if it is meant, what helps on a card of that size.

use crate::model::Bytes;

use super::{Case, Verdict, found, kind, message};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    let n = &case.incident.numbers;
    let Some(allowed) = n.allowed_bytes else { return Verdict::Absent };
    if kind(case) == "torch.mps" {
        return found(0.6, vec![message(case)], format!("macOS lets this process have {}", Bytes(allowed)));
    }
    let Some(capacity) = n.capacity_bytes.filter(|c| allowed < *c) else { return Verdict::Absent };
    let free = n.free_bytes.unwrap_or(0);
    let (limit, card) = (Bytes(allowed), Bytes(capacity));
    if free > n.requested_bytes.unwrap_or(u64::MAX) {
        let summary = format!("this process may take {limit} of a card of {card}, of which {} are free", Bytes(free));
        return found(0.87, vec![message(case)], summary);
    }
    found(0.4, vec![message(case)], format!("a limit of {limit} was set on a card of {card}"))
}
