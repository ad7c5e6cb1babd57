//! Fixes: what each changes, why it helps, what it costs, and how it is typed in each framework.
//!
//! Names and versions are those of the frameworks' sources as read in November 2026 (TRL to 1.16, transformers 5.23,
//! axolotl, LLaMA-Factory, torchtune, verl, OpenRLHF, Unsloth, DeepSpeed, vLLM).

use std::collections::BTreeMap;

use crate::model::{
    Clean,
    failure::{Cause, Change, Fix, Memory, PhaseId, Verdict},
    knobs::{Knob, Value},
};

use super::{Case, causes::fragmentation::NEARLY_FULL};

/// A fix as a person would explain it.
pub struct Spec {
    pub id: &'static str,
    pub title: &'static str,
    pub why: &'static str,
    pub cost: &'static str,
    pub when_not: &'static str,
    /// Framework and what to type.
    pub how: &'static [(&'static str, &'static str)],
    pub commands: &'static [&'static str],
}

macro_rules! spec {
    ($id:literal, $title:literal, $why:literal, $cost:literal, $not:literal, [$($f:literal: $h:literal),* $(,)?], [$($c:literal),* $(,)?]) => {
        Spec { id: $id, title: $title, why: $why, cost: $cost, when_not: $not, how: &[$(($f, $h)),*], commands: &[$($c),*] }
    };
}

/// Every fix.
pub const SPECS: &[Spec] = &[
    spec!("fused_optimizer", "Fused optimizer step", "adamw_torch steps over lists of tensors and holds one more copy of all trainable parameters meanwhile; the fused step does not", "none: usually faster", "with CPU offload, or when the optimizer is no AdamW",
        ["trl": "optim: adamw_torch_fused", "transformers": "optim=\"adamw_torch_fused\"", "axolotl": "optimizer: adamw_torch_fused", "llamafactory": "optim: adamw_torch_fused", "pytorch": "torch.optim.AdamW(params, fused=True)"], []),
    spec!("bf16", "bfloat16 weights", "weights, gradients and optimizer states halve; bf16=True alone is autocast and changes none of them", "small updates get lost at learning rates below about 1e-5 in full fine-tuning", "the weights are in 16 bits already",
        ["trl": "model_init_kwargs: {dtype: bfloat16}", "transformers": "from_pretrained(..., dtype=torch.bfloat16)", "axolotl": "bfloat16: true", "torchtune": "dtype: bf16", "llamafactory": "pure_bf16: true", "verl": "actor_rollout_ref.actor.fsdp_config.model_dtype=bf16", "lightning": "Trainer(precision=\"bf16-true\")", "openrlhf": "--ds.param_dtype bf16"], []),
    spec!("liger_or_chunked_loss", "Chunked loss", "the logits of all tokens never exist at once", "none", "LoRA on lm_head, models the kernels lack; TRL 1.15 and newer does it already",
        ["trl": "use_liger_kernel: true", "transformers": "use_liger_kernel=True", "axolotl": "liger_fused_linear_cross_entropy: true", "llamafactory": "enable_liger_kernel: true", "torchtune": "loss._component_: torchtune.modules.loss.LinearCrossEntropyLoss", "verl": "actor_rollout_ref.model.use_fused_kernels=True", "openrlhf": "--ds.use_liger_kernel", "megatron": "--cross-entropy-loss-fusion"], []),
    spec!("grad_checkpointing", "Gradient checkpointing", "layers keep only their inputs and compute the rest again in the backward pass", "20-30 % slower", "it is on already, or logits or the optimizer are the peak",
        ["trl": "gradient_checkpointing: true", "transformers": "gradient_checkpointing=True", "axolotl": "gradient_checkpointing: true", "llamafactory": "disable_gradient_checkpointing: false", "torchtune": "enable_activation_checkpointing: True", "verl": "actor_rollout_ref.model.enable_gradient_checkpointing=True", "openrlhf": "--actor.gradient_checkpointing_enable", "unsloth": "use_gradient_checkpointing=\"unsloth\"", "megatron": "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1", "pytorch": "model.gradient_checkpointing_enable() or torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)"], []),
    spec!("quantize_8bit_optim", "8-bit optimizer", "AdamW's two states take two bytes a parameter instead of eight (or four)", "slightly noisier steps", "LoRA: there is next to nothing to save",
        ["trl": "optim: adamw_bnb_8bit", "transformers": "optim=\"adamw_bnb_8bit\"", "axolotl": "optimizer: adamw_bnb_8bit", "llamafactory": "optim: adamw_8bit", "torchtune": "optimizer._component_: bitsandbytes.optim.PagedAdamW8bit", "pytorch": "bitsandbytes.optim.AdamW8bit(params)"], []),
    spec!("reduce_batch", "Smaller micro-batch, same effective batch", "activations and logits shrink with the sequences of one forward; accumulation keeps the batch that the optimizer sees", "slower: smaller matrices", "the micro-batch is 1 already, or the optimizer's step is the peak",
        ["trl": "per_device_train_batch_size / gradient_accumulation_steps", "transformers": "per_device_train_batch_size / gradient_accumulation_steps", "axolotl": "micro_batch_size / gradient_accumulation_steps", "llamafactory": "per_device_train_batch_size / gradient_accumulation_steps", "torchtune": "batch_size / gradient_accumulation_steps", "verl": "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu", "openrlhf": "--train.micro_batch_size", "lightning": "DataLoader(batch_size=) / Trainer(accumulate_grad_batches=)", "megatron": "--micro-batch-size", "pytorch": "slice the batch and divide the loss", "jax": "a smaller batch in each step", "tensorflow": "batch_size in fit() or the dataset"], []),
    spec!("reduce_seq_len", "Shorter sequences", "activations, logits and caches shrink with every token", "what is cut is not learnt", "the longest samples are what you train for",
        ["trl": "max_length", "transformers": "truncate in the tokenizer", "axolotl": "sequence_len", "llamafactory": "cutoff_len", "torchtune": "tokenizer.max_seq_len", "verl": "data.max_prompt_length", "megatron": "--seq-length"], []),
    spec!("reduce_completion_len", "Shorter completions", "logits, activations and the KV cache shrink with the completion's length", "longer answers get no reward", "under the 95th percentile of the completions you see",
        ["trl": "max_completion_length", "axolotl": "trl.max_completion_length", "verl": "data.max_response_length", "openrlhf": "--rollout.max_new_tokens"], []),
    spec!("reduce_generations", "Fewer generations a prompt", "fewer sequences are generated (and in TRL 0.14 trained on) at once", "noisier advantages; below four poor, two is the least", "TRL 0.15 and newer, unless the batch is lowered with it",
        ["trl": "num_generations", "axolotl": "trl.num_generations", "verl": "actor_rollout_ref.rollout.n", "openrlhf": "--rollout.n_samples_per_prompt"], []),
    spec!("flash_attention", "Flash or SDPA attention", "eager attention keeps a matrix of tokens by tokens for every head and layer", "none", "it is SDPA or flash already; T4 and V100 lack flash-attention 2",
        ["trl": "attn_implementation: sdpa", "transformers": "from_pretrained(..., attn_implementation=\"sdpa\")", "axolotl": "attn_implementation: flash_attention_2", "llamafactory": "flash_attn: fa2", "openrlhf": "--ds.attn_implementation flash_attention_2", "megatron": "--attention-backend flash"], []),
    spec!("lora", "LoRA", "gradients and optimizer states exist for small adapters only", "a quality gap on large shifts", "continued pre-training",
        ["trl": "use_peft: true, lora_r: 16, lora_target_modules: all-linear", "transformers": "get_peft_model(model, LoraConfig(r=16, target_modules=\"all-linear\"))", "axolotl": "adapter: lora, lora_r: 16, lora_target_linear: true", "llamafactory": "finetuning_type: lora, lora_rank: 16, lora_target: all", "torchtune": "a lora_* recipe", "verl": "actor_rollout_ref.model.lora_rank=16", "openrlhf": "--ds.lora.rank 16", "unsloth": "FastLanguageModel.get_peft_model(model, r=16)"], []),
    spec!("qlora", "QLoRA", "the frozen weights take half a byte instead of two", "slower and noisier; a merging step", "continued pre-training",
        ["trl": "load_in_4bit: true, use_bnb_nested_quant: true, use_peft: true", "transformers": "BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=\"nf4\", bnb_4bit_use_double_quant=True)", "axolotl": "adapter: qlora, load_in_4bit: true", "llamafactory": "quantization_bit: 4, finetuning_type: lora", "torchtune": "a qlora_* recipe", "unsloth": "load_in_4bit=True", "openrlhf": "--ds.load_in_4bit"], []),
    spec!("expandable_segments", "Expandable segments", "blocks of different sizes can share pages, so that what is free is usable", "none", "the card is simply full: it then changes nothing; not with vLLM's sleep mode",
        ["pytorch": "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True (PYTORCH_ALLOC_CONF from torch 2.9 on)"], []),
    spec!("max_split_size", "Limit the splitting of blocks", "large blocks stay whole for large requests", "some memory lies idle", "expandable segments are available",
        ["pytorch": "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:512"], []),
    spec!(
        "kill_other_process",
        "Free the card of other processes",
        "what they hold is what is missing",
        "the other job",
        "it is yours and wanted",
        [],
        [
            "nvidia-smi --query-compute-apps=pid,used_memory,name --format=csv",
            "ps -fp PID   # then kill PID, if it is yours"
        ]
    ),
    spec!("lower_gpu_memory_utilization", "Give vLLM a smaller share", "the share is of the whole card and is taken before the trainer", "fewer sequences at once", "vLLM fails at its start for lack of cache: then it needs more",
        ["trl": "vllm_gpu_memory_utilization: 0.2", "verl": "actor_rollout_ref.rollout.gpu_memory_utilization=0.4", "openrlhf": "--vllm.gpu_memory_utilization 0.4", "unsloth": "gpu_memory_utilization=0.4", "vllm": "--gpu-memory-utilization 0.8"], []),
    spec!("vllm_sleep", "Let vLLM sleep while the trainer works", "weights and cache of the engine leave the card during the update", "a wake-up each step", "expandable_segments is set",
        ["trl": "vllm_enable_sleep_mode: true", "verl": "actor_rollout_ref.rollout.free_cache_engine=True", "openrlhf": "--vllm.enable_sleep", "unsloth": "UNSLOTH_VLLM_STANDBY=1"], []),
    spec!("lower_max_model_len", "Shorter model length for the engine", "the cache must hold one sequence of that length", "longer prompts are refused", "you need the length",
        ["vllm": "--max-model-len 8192", "trl": "vllm_max_model_length: 8192", "verl": "actor_rollout_ref.rollout.max_model_len=8192", "axolotl": "vllm.max_model_len: 8192"], []),
    spec!("eval_accumulation", "Move evaluation outputs to the CPU", "logits of every evaluation batch are kept on the card until the end", "a little slower", "prediction_loss_only is set already",
        ["transformers": "eval_accumulation_steps=1 (or prediction_loss_only=True), per_device_eval_batch_size=1", "trl": "eval_accumulation_steps: 1, per_device_eval_batch_size: 1", "lightning": "do not return outputs from validation_step"], []),
    spec!("torch_no_grad", "No gradients where none are used", "without it every forward keeps its activations", "none", "in training itself", ["pytorch": "with torch.inference_mode(): …"], []),
    spec!("stop_leak", "Let go of what a step made", "a graph or a loss that is kept keeps all its activations", "none", "memory does not grow", ["pytorch": "total += loss.item() instead of loss; no retain_graph=True; optimizer.zero_grad(set_to_none=True)"], []),
    spec!("empty_cache", "Return cached blocks between phases", "generation and training leave blocks that the other cannot use", "about 10 % slower", "allocated memory alone fills the card", ["transformers": "torch_empty_cache_steps=1", "trl": "torch_empty_cache_steps: 1", "pytorch": "torch.cuda.empty_cache()"], []),
    spec!("zero_fsdp", "Shard over the GPUs", "optimizer states, gradients and (stage 3) weights are divided by the number of GPUs", "communication", "one GPU: only the offload half helps",
        ["transformers": "deepspeed: {\"zero_optimization\": {\"stage\": 3}}", "trl": "accelerate launch --config_file zero3.yaml", "axolotl": "deepspeed: deepspeed_configs/zero3.json", "llamafactory": "deepspeed: examples/deepspeed/ds_z3_config.json", "lightning": "Trainer(strategy=\"fsdp\")", "verl": "actor_rollout_ref.actor.strategy=fsdp2", "openrlhf": "--ds.zero_stage 3"], []),
    spec!("cpu_offload", "Offload to the host", "optimizer states (or weights) live in the host's memory", "several times slower; 16-18 bytes of RAM a parameter", "the host is short of memory too",
        ["transformers": "deepspeed: {\"zero_optimization\": {\"stage\": 2, \"offload_optimizer\": {\"device\": \"cpu\"}}}", "axolotl": "deepspeed: deepspeed_configs/zero3_bf16_cpuoffload_all.json", "torchtune": "fsdp_cpu_offload: True", "verl": "actor_rollout_ref.actor.fsdp_config.optimizer_offload=True", "openrlhf": "--ds.adam_offload"], []),
    spec!("more_gpus", "More or larger GPUs", "what does not fit on one can be divided", "money", "", ["vllm": "--tensor-parallel-size 2"], []),
    spec!("reduce_dataloader_workers", "Fewer DataLoader workers", "each worker is a process with its own copies and prefetched batches", "slower loading", "there is one worker", ["transformers": "dataloader_num_workers=0", "trl": "dataloader_num_workers: 0", "pytorch": "DataLoader(num_workers=0, prefetch_factor=None)"], []),
    spec!(
        "raise_shm",
        "Larger /dev/shm",
        "workers hand over batches through it; Docker gives 64 MB",
        "none",
        "",
        [],
        [
            "docker run --shm-size=16g …   (or --ipc=host)",
            "Kubernetes: an emptyDir with medium: Memory mounted at /dev/shm"
        ]
    ),
    spec!(
        "more_host_ram",
        "More host memory for the job",
        "the limit is the host's or the cgroup's, not the card's",
        "none",
        "",
        [],
        [
            "Slurm: #SBATCH --mem=128G",
            "Kubernetes: resources.limits.memory",
            "docker run --memory=128g …",
            "dmesg -T | grep -i -E 'oom|killed process'   # proves it"
        ]
    ),
    spec!("other", "What the message itself asks for", "", "", "", [], []),
];

/// A fix by its id.
pub fn spec(id: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|s| s.id == id)
}

/// Ids of the fixes for a case, best first.
fn choose(case: &Case<'_>, causes: &[Cause]) -> Vec<&'static str> {
    let i = case.incident;
    let kind = i.kind.as_str();
    let found = |id: &str| causes.iter().any(|c| c.id == id && c.settled_by.is_none());
    // On a card that is full whatever the order of its blocks, the next levers come before the allocator's.
    let full = super::causes::filled(case).is_some_and(|f| f > NEARLY_FULL);
    let leads = |c: &&Cause| c.settled_by.is_none() && !(full && c.id == "fragmentation");
    let first = causes.iter().find(leads).map_or("unknown", |c| c.id);
    let dataloader =
        i.phase.id == PhaseId::Dataloader || i.context.iter().any(|l| l.text.as_str().contains("DataLoader"));
    match i.memory {
        Memory::None => return Vec::new(),
        Memory::Host if dataloader => return vec!["reduce_dataloader_workers", "more_host_ram", "other"],
        Memory::Host if i.phase.id == PhaseId::ModelLoad => {
            return vec!["more_host_ram", "cpu_offload", "reduce_dataloader_workers", "other"];
        }
        Memory::Host => return vec!["more_host_ram", "reduce_dataloader_workers", "reduce_batch", "other"],
        Memory::Shm => return vec!["raise_shm", "reduce_dataloader_workers", "other"],
        Memory::Gpu => {}
    }
    let mut ids: Vec<&'static str> = match kind {
        "vllm.kv.max_seq_len" | "vllm.kv.need_gib" => vec!["lower_max_model_len", "other", "more_gpus"],
        "vllm.startup.free_below_util" => vec!["kill_other_process", "lower_gpu_memory_utilization", "other"],
        "vllm.startup.sampler" => vec!["other", "lower_gpu_memory_utilization", "more_gpus"],
        "vllm.cumem" => vec!["lower_gpu_memory_utilization", "vllm_sleep", "reduce_batch", "cpu_offload"],
        "vllm.kv.no_blocks" | "sglang.mem_fraction" => vec!["other", "lower_max_model_len", "more_gpus"],
        "ggml.cuda_alloc" => vec!["other", "qlora", "lower_max_model_len", "more_gpus"],
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
    ids.retain(|id| applies(case, id));
    let mut seen = Vec::new();
    ids.retain(|id| {
        !seen.contains(id) && {
            seen.push(*id);
            true
        }
    });
    ids
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

/// False where a setting says that there is nothing left to gain.
fn applies(case: &Case<'_>, id: &str) -> bool {
    let k = case.knobs;
    let lora = k.u64(Knob::LoraRank).unwrap_or(0) > 0;
    match id {
        // Evaluation keeps no activations, and has no optimizer's step.
        "grad_checkpointing" | "fused_optimizer" | "quantize_8bit_optim" | "grad_accum"
            if case.incident.phase.id == PhaseId::Eval =>
        {
            false
        }
        "grad_checkpointing" => k.bool(Knob::GradientCheckpointing) != Some(true),
        "fused_optimizer" => {
            !lora
                && k.str(Knob::Optimizer)
                    .is_none_or(|o| o.starts_with("adamw_torch") && !o.contains("fused") || o == "adamw_hf")
        }
        "quantize_8bit_optim" => !lora && k.str(Knob::Optimizer).is_none_or(|o| !o.contains('8')),
        "bf16" => k.str(Knob::Dtype).is_none_or(|d| d == "float32"),
        "lora" => !lora,
        "qlora" => k.str(Knob::Quantization).is_none_or(|q| q == "none"),
        "reduce_batch" => k.u64(Knob::PerDeviceTrainBatchSize) != Some(1),
        "flash_attention" => k.str(Knob::Attention).is_none_or(|a| a == "eager"),
        "liger_or_chunked_loss" => k.bool(Knob::FusedLoss) != Some(true),
        _ => true,
    }
}

/// The knobs that a fix changes, from what they are.
pub fn changes(case: &Case<'_>, id: &str) -> Vec<(Knob, Value)> {
    let k = case.knobs;
    let text = |t: &str| Value::Text(Clean::new(t));
    match id {
        "fused_optimizer" => vec![(Knob::Optimizer, text("adamw_torch_fused"))],
        "quantize_8bit_optim" => vec![(Knob::Optimizer, text("adamw_8bit"))],
        "bf16" => vec![(Knob::Dtype, text("bfloat16"))],
        "liger_or_chunked_loss" => vec![(Knob::FusedLoss, Value::Bool(true))],
        "grad_checkpointing" => vec![(Knob::GradientCheckpointing, Value::Bool(true))],
        "flash_attention" => vec![(Knob::Attention, text("sdpa"))],
        "lora" => vec![(Knob::LoraRank, Value::Int(16)), (Knob::LoraTargetModules, text("all-linear"))],
        "qlora" => vec![
            (Knob::Quantization, text("nf4")),
            (Knob::LoraRank, Value::Int(k.u64(Knob::LoraRank).unwrap_or(16).cast_signed())),
            (Knob::LoraTargetModules, text(k.str(Knob::LoraTargetModules).unwrap_or("all-linear"))),
        ],
        "reduce_batch" => halve_batch(case, 1),
        "reduce_seq_len" => k
            .u64(Knob::SequenceLength)
            .map(|s| (Knob::SequenceLength, Value::Int((s / 2).max(64).cast_signed())))
            .into_iter()
            .collect(),
        "reduce_completion_len" => k
            .u64(Knob::MaxCompletionLength)
            .map(|s| (Knob::MaxCompletionLength, Value::Int((s / 2).max(32).cast_signed())))
            .into_iter()
            .collect(),
        "reduce_generations" => k
            .u64(Knob::NumGenerations)
            .filter(|g| *g >= 4)
            .map(|g| (Knob::NumGenerations, Value::Int((g / 2).cast_signed())))
            .into_iter()
            .collect(),
        "expandable_segments" => vec![(Knob::AllocConf, text("expandable_segments:True"))],
        "max_split_size" => vec![(Knob::AllocConf, text("max_split_size_mb:512"))],
        "vllm_sleep" => vec![(Knob::VllmEnableSleepMode, Value::Bool(true))],
        "lower_gpu_memory_utilization" => k
            .f64(Knob::VllmGpuMemoryUtilization)
            .map(|u| (Knob::VllmGpuMemoryUtilization, Value::Float((u * 0.7 * 100.0).round() / 100.0)))
            .into_iter()
            .collect(),
        "eval_accumulation" => vec![(Knob::EvalAccumulationSteps, Value::Int(1))],
        "reduce_dataloader_workers" => vec![(Knob::DataloaderNumWorkers, Value::Int(0))],
        "zero_fsdp" => vec![(Knob::ZeroStage, Value::Int(3))],
        "cpu_offload" => vec![(Knob::OffloadOptimizer, Value::Bool(true))],
        _ => Vec::new(),
    }
}

/// The micro-batch halved `times`, the effective batch kept by accumulation. A GRPO batch stays divisible by its
/// generations, which TRL checks over batch x accumulation x ranks.
pub fn halve_batch(case: &Case<'_>, times: u32) -> Vec<(Knob, Value)> {
    let Some(batch) = case.knobs.u64(Knob::PerDeviceTrainBatchSize).filter(|b| *b > 1) else { return Vec::new() };
    let accumulation = case.knobs.u64(Knob::GradientAccumulationSteps).unwrap_or(1).max(1);
    let mut smaller = batch;
    for _ in 0..times {
        // Only a divisor keeps the effective batch exactly.
        let Some(next) = (1..smaller).rev().find(|b| batch % b == 0 && *b * 2 <= smaller) else { break };
        smaller = next;
    }
    if smaller == batch {
        return Vec::new();
    }
    vec![
        (Knob::PerDeviceTrainBatchSize, Value::Int(smaller.cast_signed())),
        (Knob::GradientAccumulationSteps, Value::Int((accumulation * (batch / smaller)).cast_signed())),
    ]
}

/// Every fix for a case, best first; sizes are filled in by the plan.
pub fn fixes(case: &Case<'_>, causes: &[Cause]) -> Vec<Fix> {
    choose(case, causes).into_iter().filter_map(|id| Some(fix(case, spec(id)?))).collect()
}

fn fix(case: &Case<'_>, spec: &'static Spec) -> Fix {
    let how: BTreeMap<&'static str, Clean> = spec.how.iter().map(|(f, h)| (*f, Clean::new(h))).collect();
    let changes = changes(case, spec.id)
        .into_iter()
        .map(|(knob, to)| Change { knob, from: case.knobs.value(knob).cloned(), to, how: how.clone() })
        .collect();
    let pids = case.incident.other_processes.iter().map(|p| p.pid.to_string()).collect::<Vec<_>>().join(",");
    let mut commands: Vec<Clean> = spec
        .commands
        .iter()
        .map(|c| Clean::new(&if pids.is_empty() { (*c).to_string() } else { c.replace("PID", &pids) }))
        .collect();
    if spec.id == "other" {
        commands.extend(other(case).map(Clean::new));
    }
    Fix {
        id: spec.id,
        title: spec.title.into(),
        changes,
        saves_bytes: None,
        predicted_peak_bytes: None,
        verdict: Verdict::Unknown,
        cost: spec.cost.into(),
        when_not: spec.when_not.into(),
        commands,
    }
}

/// What no setting of a trainer says.
fn other(case: &Case<'_>) -> Option<&'static str> {
    Some(match case.incident.kind.as_str() {
        "vllm.kv.no_blocks" | "vllm.kv.max_seq_len" | "vllm.kv.need_gib" => {
            "raise gpu_memory_utilization: at the start vLLM needs a larger share, not a smaller one"
        }
        "vllm.startup.sampler" => "lower --max-num-seqs (256 sequences at once is the default)",
        "sglang.mem_fraction" => "raise --mem-fraction-static at start-up; lower it for failures while serving",
        "ggml.cuda_alloc" => "fewer layers on the GPU (-ngl), a smaller quantisation, a shorter context (-c)",
        "jax.xla.resource_exhausted" => {
            "XLA_PYTHON_CLIENT_PREALLOCATE=false; jax.checkpoint (remat) on the layers; shard the batch"
        }
        "ray.oom_task" | "ray.oom_raylet" => "fewer actors on the node, or RAY_memory_usage_threshold",
        "torch.mps" => "PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 lifts the cap, at the risk of swapping",
        _ if case.incident.numbers.allowed_bytes.is_some() => {
            "the limit is the process's own: torch.cuda.set_per_process_memory_fraction (or per_process_memory_fraction in the allocator's settings); raise or drop it if the rest of the card is yours"
        }
        _ => return None,
    })
}

/// What to type for a fix in the framework that the job uses.
pub fn how<'a>(spec: &'a Spec, trainer: Option<&str>) -> Option<(&'a str, &'a str)> {
    let find = |name: &str| spec.how.iter().find(|(f, _)| *f == name).copied();
    trainer
        .and_then(find)
        // Where no framework is known, what plain PyTorch types is true for all of them.
        .or_else(|| find("pytorch").filter(|_| trainer.is_none()))
        .or_else(|| find("transformers"))
        .or_else(|| find("pytorch"))
        .or_else(|| spec.how.first().copied())
}
