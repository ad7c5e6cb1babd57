//! # Fragmentation
//!
//! ## What it is
//! Enough memory is reserved and unused, but in pieces of which none is large enough.
//!
//! ## What it looks for
//! The arithmetic of the message: what is free and what PyTorch holds without using it are together at least what was
//! asked for. Where the card would be nearly full even with perfect order, that is said and weighs less.
//!
//! ## What would settle it
//! One run with `expandable_segments:True`: if it fails at the same place, the card is simply full.
//!
//! ## What helps
//! `expandable_segments`, `max_split_size`, `empty_cache`.

use crate::model::Bytes;

use super::{Case, Verdict, filled, found, limit, message, unused};

/// Share of the limit above which the order of blocks matters little.
pub(in crate::diagnose) const NEARLY_FULL: f64 = 0.9;

pub(super) fn check(case: &Case<'_>) -> Verdict {
    let n = &case.incident.numbers;
    if let (Some(requested), Some(largest)) = (n.requested_bytes, case.incident.details.get("largest_free_bytes")) {
        let summary = format!(
            "{} are free, but the largest piece of it is {}: less than the {} asked for",
            n.free_bytes.map_or("enough".into(), |b| Bytes(b).to_string()),
            Bytes(*largest as u64),
            Bytes(requested)
        );
        return found(0.85, vec![message(case)], summary);
    }
    let (Some(requested), Some(unused), Some(limit)) = (n.requested_bytes, unused(case), limit(n)) else {
        return Verdict::Absent;
    };
    let held = n.allocated_bytes.unwrap_or(0) + unused;
    // Under a limit only what is left of it is free, whatever the card has.
    let free = if n.allowed_bytes.is_some() { limit.saturating_sub(held) } else { n.free_bytes.unwrap_or(0) };
    if requested > limit || unused < requested.saturating_sub(free) || unused < limit / 50 {
        return Verdict::Absent;
    }
    let full = n.in_use_bytes.unwrap_or(held).min(limit) as f64 / limit as f64;
    let tail = if full > 0.85 {
        format!("; and the card is {:.0} % full anyway, so the next levers matter too", full * 100.0)
    } else {
        String::new()
    };
    let score = match (unused >= requested, unused > limit / 4) {
        _ if filled(case).is_some_and(|f| f > NEARLY_FULL) => 0.45,
        (true, true) => 0.85,
        (true, false) => 0.72,
        (false, _) => 0.6,
    };
    let summary = format!(
        "{} are free or reserved and unused, more than the {} asked for, but not in one piece ({} of {} held){tail}",
        Bytes(unused + free),
        Bytes(requested),
        Bytes(held),
        Bytes(limit)
    );
    found(score, vec![message(case)], summary)
}
