//! # The optimizer's states
//!
//! ## What it is
//! Adam keeps two numbers for every trainable parameter, made in the first step; its usual implementation holds one more copy
//! of the parameters while it steps.
//!
//! ## What it looks for
//! A traceback that ends in the optimizer's step (`exp_avg`, `_init_group`, `_multi_tensor_adamw`, ZeRO's step).
//!
//! ## What would settle it
//! The traceback, and whether the first step had ended: the states exist from then on.
//!
//! ## What helps
//! `fused_optimizer`, `quantize_8bit_optim`, `lora`, `bf16`, `cpu_offload`, `zero_fsdp`. A smaller batch does not.

use crate::model::failure::PhaseId;

use super::{Case, Verdict, found};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    if case.incident.phase.id != PhaseId::OptimizerStep {
        return Verdict::Absent;
    }
    found(
        0.9,
        case.incident.phase.evidence.clone(),
        "it died in the optimizer's step: its states are made in the first one, and the default AdamW holds one more copy of the parameters meanwhile",
    )
}
