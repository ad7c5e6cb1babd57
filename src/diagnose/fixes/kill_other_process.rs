//! # Free the card of other processes
//!
//! ## What it changes
//! Who else holds memory of the card.
//!
//! ## Why it helps
//! What they hold is what is missing.
//!
//! ## Cost
//! the other job
//!
//! ## When not
//! it is yours and wanted: then give one of the two another card (CUDA_VISIBLE_DEVICES)

use super::{NOTHING, Spec};

pub(super) const SPEC: Spec = Spec {
    id: "kill_other_process",
    source: include_str!("kill_other_process.rs"),
    commands: &[
        "nvidia-smi --query-compute-apps=pid,used_memory,name --format=csv",
        "ps -fp PID   # then kill PID, if it is yours",
    ],
    ..NOTHING
};
