//! # Not known from this text
//!
//! ## What it is
//! Memory ran out, and nothing in the text tells why.
//!
//! ## What it looks for
//! It stands where no other judge found anything.
//!
//! ## What would settle it
//! The traceback above the message; the settings (`--config`, `--model`); the memory over time.
//!
//! ## What helps
//! What saves memory everywhere: `reduce_batch`, `grad_checkpointing`, shorter sequences.

use super::{Case, Verdict};

pub(super) fn check(_: &Case<'_>) -> Verdict {
    Verdict::NotEnoughData {
        likely: 0.0,
        summary: "the text does not tell why",
        settled_by: "the traceback above the message, or the settings (--config, --model)",
    }
}
