//! # Let go of what a step made
//!
//! ## What it changes
//! What lives on after a step.
//!
//! ## Why it helps
//! A graph, a loss or an output that is kept keeps all its activations.
//!
//! ## Cost
//! none
//!
//! ## When not
//! memory does not grow from step to step

use super::{NOTHING, Spec, none, on};

pub(super) const SPEC: Spec = Spec {
    id: "stop_leak",
    source: include_str!("stop_leak.rs"),
    how: &[
        on(
            super::TORCH,
            "total += loss.item() instead of loss; no retain_graph=True; outputs.detach().cpu(); optimizer.zero_grad(set_to_none=True)",
        ),
        on(&["jax"], "jax.device_get(metrics) before they are kept; donate_argnums for the old state"),
        none(&["vllm"], "it keeps nothing between requests but its cache"),
    ],
    ..NOTHING
};
