//! # Not out of memory
//!
//! ## What it is
//! The text looks like it and is something else: on-chip memory of a kernel, an assertion, an illegal address, a time-out, a
//! full disk, a crash, a warning that a program got over.
//!
//! ## What it looks for
//! The messages of those failures, where no out-of-memory failure stands beside them.
//!
//! ## What would settle it
//! For a time-out: the logs of the other ranks, of which one may have run out of memory first.
//!
//! ## What helps
//! Nothing that saves memory.

use super::{Case, Verdict, found, message};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    let refusal = case.incident.refusal.as_ref().map_or("not out of memory", |r| r.as_str());
    found(1.0, vec![message(case)], refusal)
}
