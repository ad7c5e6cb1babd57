//! # What the message itself asks for
//!
//! ## What it changes
//! A setting of the program that failed, which no trainer has a name for.
//!
//! ## Why it helps
//! Each runtime has its own lever: a share of the card, layers on the GPU, a limit that somebody set.
//!
//! ## Cost
//! depends on the setting
//!
//! ## When not
//! somebody else starts that program, with settings of their own

use crate::model::failure::{Memory, PhaseId};

use super::{Case, NOTHING, Spec};

pub(super) const SPEC: Spec = Spec { id: "other", source: include_str!("other.rs"), ..NOTHING };

/// What the runtime's own setting is, by the message's kind.
pub(super) fn asked(case: &Case<'_>) -> Option<&'static str> {
    Some(match case.incident.kind.as_str() {
        "vllm.kv.no_blocks" | "vllm.kv.max_seq_len" | "vllm.kv.need_gib" => {
            "raise gpu_memory_utilization: at the start vLLM needs a larger share, not a smaller one"
        }
        "vllm.startup.sampler" => "lower --max-num-seqs (256 sequences at once is the default)",
        "sglang.mem_fraction" => "raise --mem-fraction-static at start-up; lower it for failures while serving",
        "ggml.cuda_alloc" | "ggml.device_alloc" => "fewer layers on the GPU (-ngl), a smaller quantisation, a shorter context (-c)",
        "jax.xla.resource_exhausted" => {
            "XLA_PYTHON_CLIENT_PREALLOCATE=false; jax.checkpoint (remat) on the layers; shard the batch"
        }
        "flashinfer.workspace" => {
            "a larger workspace: SGLANG_FLASHINFER_WORKSPACE_SIZE (older: FLASHINFER_WORKSPACE_SIZE), in bytes; or fewer requests at once"
        }
        "ggml.host_alloc" => "a smaller quantisation, a shorter context (-c), more layers on the GPU (-ngl)",
        "metal.out_of_memory" => {
            "sudo sysctl iogpu.wired_limit_mb=N lets the GPU hold more of the Mac's memory (until the next restart)"
        }
        "windows.pagefile" => {
            "a larger page file: System > About > Advanced system settings > Performance > Settings > Advanced > Virtual memory"
        }
        "notebook.ram" => "Colab: Runtime > Change runtime type > High-RAM; else read the data in parts, and delete what is read",
        "onnxruntime.bfc_arena" => "CUDAExecutionProvider: gpu_mem_limit, arena_extend_strategy: kSameAsRequested",
        _ if case.incident.memory == Memory::Host && case.incident.phase.id == PhaseId::ModelLoad && !is_ray(case) => {
            "load the weights in one process at a time, in their final dtype: low_cpu_mem_usage=True, device_map={\"\": local_rank}; FSDP: fsdp_cpu_ram_efficient_loading: true"
        }
        "ray.oom_task" | "ray.oom_raylet" => "fewer actors on the node, or RAY_memory_usage_threshold",
        "torch.mps" => "PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 lifts the cap, at the risk of swapping",
        _ if case.incident.numbers.allowed_bytes.is_some() => {
            "the limit is the process's own: torch.cuda.set_per_process_memory_fraction (or per_process_memory_fraction in the allocator's settings); raise or drop it if the rest of the card is yours"
        }
        _ => return None,
    })
}

fn is_ray(case: &Case<'_>) -> bool {
    case.incident.kind.as_str().starts_with("ray.")
}
