//! # The cache of keys and values
//!
//! ## What it is
//! An inference engine keeps keys and values of every token it has seen; beside the weights, or beside a trainer on the same
//! card, they do not fit.
//!
//! ## What it looks for
//! The messages of vLLM and SGLang at their start, a wake-up after sleep that found no room, and a traceback that ends while
//! the cache is set up, while weights are synchronised, or while tokens are generated.
//!
//! ## What would settle it
//! The engine's own lines at its start: `model weights take …`, `Available KV cache memory: …`, `avail mem=…`.
//!
//! ## What helps
//! At the start of an engine that owns the card: a larger share, `lower_max_model_len`, `more_gpus`. Beside a trainer:
//! `lower_gpu_memory_utilization`, `vllm_sleep`, shorter or fewer completions.

use crate::model::failure::PhaseId;

use super::{Case, Verdict, found, kind, message};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    let k = kind(case);
    if k.starts_with("vllm.kv") {
        return found(
            0.95,
            vec![message(case)],
            "the KV cache that the model's length asks for does not fit beside the weights",
        );
    }
    if k == "vllm.startup.sampler" {
        let summary = "the engine's warm-up with as many sequences as it may serve at once did not fit";
        return found(0.85, vec![message(case)], summary);
    }
    if k == "vllm.cumem" || k.starts_with("sglang") {
        return found(
            0.75,
            vec![message(case)],
            "the inference engine could not take its memory (back) beside what is there",
        );
    }
    let evidence = case.incident.phase.evidence.clone();
    match case.incident.phase.id {
        PhaseId::KvCacheInit => found(0.85, evidence, "the engine died while it set up its KV cache"),
        PhaseId::WeightSync => found(0.7, evidence, "trainer and engine share the card; both were awake"),
        PhaseId::Generation => {
            found(0.6, evidence, "it died while generating: the cache grows with sequences and their length")
        }
        _ => Verdict::Absent,
    }
}
