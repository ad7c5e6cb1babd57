//! Which fixes help against what, best first.

use std::collections::BTreeSet;

use crate::model::{
    failure::{Cause, Memory, PhaseId},
    knobs::Knob,
};

use super::{Case, Spec, spec};
use crate::diagnose::causes::{self, fragmentation::NEARLY_FULL};

/// Ids of the fixes for a case, best first.
pub(super) fn choose(case: &Case<'_>, causes: &[Cause]) -> Vec<&'static str> {
    let i = case.incident;
    let kind = i.kind.as_str();
    let found = |id: &str| causes.iter().any(|c| c.id == id && c.settled_by.is_none());
    // On a card that is full whatever the order of its blocks, the next levers come before the allocator's.
    let full = causes::filled(case).is_some_and(|f| f > NEARLY_FULL);
    let leads = |c: &&Cause| c.settled_by.is_none() && !(full && c.id == "fragmentation");
    let first = causes.iter().find(leads).map_or("unknown", |c| c.id);
    let dataloader =
        i.phase.id == PhaseId::Dataloader || i.context.iter().any(|l| l.text.as_str().contains("DataLoader"));
    match i.memory {
        Memory::None => return Vec::new(),
        Memory::Host if kind == "windows.pagefile" => {
            return vec!["other", "reduce_dataloader_workers", "more_host_ram"];
        }
        Memory::Host if kind == "ggml.host_alloc" => return vec!["other", "more_host_ram", "lower_max_model_len"],
        Memory::Host if dataloader => return vec!["reduce_dataloader_workers", "more_host_ram", "other"],
        // Each process of the host holds the weights while it loads them.
        Memory::Host if i.phase.id == PhaseId::ModelLoad => return vec!["more_host_ram", "other"],
        Memory::Host => return vec!["more_host_ram", "reduce_dataloader_workers", "reduce_batch", "other"],
        Memory::Shm => return vec!["raise_shm", "reduce_dataloader_workers", "other"],
        Memory::Gpu => {}
    }
    let mut ids: Vec<&'static str> = match kind {
        "vllm.kv.max_seq_len" | "vllm.kv.need_gib" => vec!["lower_max_model_len", "other", "more_gpus"],
        "vllm.startup.free_below_util" => vec!["kill_other_process", "lower_gpu_memory_utilization", "other"],
        "vllm.startup.sampler" => vec!["other", "lower_gpu_memory_utilization", "more_gpus"],
        "vllm.cumem" => vec!["lower_gpu_memory_utilization", "vllm_sleep", "reduce_batch", "cpu_offload"],
        "vllm.kv.no_blocks" | "sglang.mem_fraction" | "ggml.cuda_alloc" | "ggml.device_alloc" => {
            vec!["other", "lower_max_model_len", "more_gpus"]
        }
        "flashinfer.workspace" => vec!["other", "reduce_batch"],
        "metal.out_of_memory" => vec!["reduce_batch", "reduce_seq_len", "grad_checkpointing", "other", "qlora"],
        _ if kind.starts_with("jax.") => vec!["reduce_batch", "other", "more_gpus"],
        _ if kind.starts_with("tf.") => vec!["reduce_batch", "reduce_seq_len", "other"],
        _ => match first {
            "other_process" if engine(case) => {
                vec!["kill_other_process", "lower_gpu_memory_utilization", "reduce_batch", "grad_checkpointing"]
            }
            "other_process" => vec!["kill_other_process", "reduce_batch", "grad_checkpointing", "more_gpus"],
            "fragmentation" => vec![
                "expandable_segments",
                "reduce_batch",
                "other",
                "max_split_size",
                "empty_cache",
                "grad_checkpointing",
            ],
            "cap_limit" => {
                vec!["other", "reduce_batch", "grad_checkpointing", "reduce_seq_len", "fused_optimizer", "lora"]
            }
            "leak_growth" => vec!["stop_leak", "empty_cache", "reduce_batch", "torch_no_grad"],
            // Without an engine the cache is that of `generate`, and nobody sets its share.
            "kv_cache" if !engine(case) => {
                vec!["reduce_batch", "reduce_completion_len", "reduce_generations", "reduce_seq_len", "qlora"]
            }
            "kv_cache" => vec![
                "lower_gpu_memory_utilization",
                "reduce_batch",
                "reduce_completion_len",
                "vllm_sleep",
                "lower_max_model_len",
                "reduce_generations",
            ],
            "optimizer_state" => {
                vec!["fused_optimizer", "quantize_8bit_optim", "lora", "bf16", "cpu_offload", "zero_fsdp"]
            }
            "too_big_model" => vec!["qlora", "lora", "bf16", "zero_fsdp", "cpu_offload", "more_gpus"],
            "logits" => vec![
                "liger_or_chunked_loss",
                "reduce_batch",
                "grad_checkpointing",
                "reduce_seq_len",
                "reduce_completion_len",
            ],
            _ => vec![
                "reduce_batch",
                "grad_checkpointing",
                "reduce_seq_len",
                "fused_optimizer",
                "lora",
                "expandable_segments",
            ],
        },
    };
    if kind == "torch.cuda.bare" && first == "unknown" {
        ids.insert(1, "kill_other_process");
    }
    if found("fragmentation") && first != "fragmentation" && kind.starts_with("torch.") {
        ids.retain(|id| *id != "expandable_segments");
        ids.insert(2.min(ids.len()), "expandable_segments");
    }
    if i.phase.id == PhaseId::Eval {
        ids.insert(0, "eval_accumulation");
        ids.insert(2.min(ids.len()), "torch_no_grad");
    }
    if i.phase.id == PhaseId::DdpFsdpComm && !ids.contains(&"zero_fsdp") {
        ids.insert(1.min(ids.len()), "zero_fsdp");
    }
    if case.knobs.str(Knob::Attention) == Some("eager")
        || i.frames.iter().rev().take(6).any(|f| f.function.as_str().contains("eager_attention"))
    {
        ids.insert(0, "flash_attention");
    }
    let online = matches!(case.knobs.str(Knob::Method), Some("grpo" | "rloo" | "ppo"));
    for id in ["reduce_completion_len", "reduce_generations"] {
        if online && !ids.contains(&id) {
            ids.push(id);
        }
    }
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    settle(case, &ids)
}

/// An inference engine has a part in it: the text or the settings name one.
fn engine(case: &Case<'_>) -> bool {
    let names = |text: &str| text.contains("vllm") || text.contains("vLLM") || text.contains("sglang");
    case.knobs.bool(Knob::UseVllm) == Some(true)
        || case.knobs.str(Knob::Trainer) == Some("vllm")
        || case.knobs.f64(Knob::VllmGpuMemoryUtilization).is_some()
        || case.incident.frames.iter().any(|f| names(f.file.as_str()))
        || case.incident.context.iter().any(|l| names(l.text.as_str()))
}

/// Without what the settings leave no room for or what cannot stand beside them; what the framework has no setting for,
/// and what excludes a better fix, at the end.
fn settle(case: &Case<'_>, ids: &[&'static str]) -> Vec<&'static str> {
    let known: Vec<&'static Spec> = ids.iter().filter_map(|id| spec(id)).collect();
    let may = known.into_iter().filter(|s| (s.applies)(case) && !s.conflicts.iter().any(|c| (c.now)(case)));
    let (mut first, mut last): (Vec<&'static Spec>, Vec<&'static Spec>) = (Vec::new(), Vec::new());
    for fix in may {
        let excluded = first.iter().any(|better| better.excludes(fix.id) || fix.excludes(better.id));
        if excluded || fix.is_lacking(case.knobs) { last.push(fix) } else { first.push(fix) }
    }
    first.iter().chain(&last).map(|s| s.id).collect()
}
