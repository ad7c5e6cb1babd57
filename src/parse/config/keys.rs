//! Which key of which framework is which knob.

use crate::model::{
    Clean,
    knobs::{Knob, Knobs, Origin, Value},
};

/// The last part of a key, or its whole path where the last part says too little, and the knob that it sets.
const KEYS: &[(&str, Knob)] = &[
    ("model_name_or_path", Knob::Model),
    ("base_model", Knob::Model),
    ("model_id", Knob::Model),
    ("model_name", Knob::Model),
    ("pretrained_model_name_or_path", Knob::Model),
    ("base_model_name_or_path", Knob::Model),
    ("actor_rollout_ref.model.path", Knob::Model),
    ("pretrain", Knob::Model),
    ("actor.model_name_or_path", Knob::Model),
    ("per_device_train_batch_size", Knob::PerDeviceTrainBatchSize),
    ("per_gpu_train_batch_size", Knob::PerDeviceTrainBatchSize),
    ("micro_batch_size", Knob::PerDeviceTrainBatchSize),
    ("train_micro_batch_size_per_gpu", Knob::PerDeviceTrainBatchSize),
    ("micro_train_batch_size", Knob::PerDeviceTrainBatchSize),
    ("train.micro_batch_size", Knob::PerDeviceTrainBatchSize),
    ("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu", Knob::PerDeviceTrainBatchSize),
    ("batch_size", Knob::PerDeviceTrainBatchSize),
    ("per_device_eval_batch_size", Knob::PerDeviceEvalBatchSize),
    ("eval_batch_size", Knob::PerDeviceEvalBatchSize),
    ("gradient_accumulation_steps", Knob::GradientAccumulationSteps),
    ("accumulate_grad_batches", Knob::GradientAccumulationSteps),
    ("num_generations", Knob::NumGenerations),
    ("n_samples_per_prompt", Knob::NumGenerations),
    ("actor_rollout_ref.rollout.n", Knob::NumGenerations),
    ("max_prompt_length", Knob::PromptLength),
    ("prompt_max_len", Knob::PromptLength),
    ("max_completion_length", Knob::MaxCompletionLength),
    ("max_response_length", Knob::MaxCompletionLength),
    ("generate_max_len", Knob::MaxCompletionLength),
    ("max_new_tokens", Knob::MaxCompletionLength),
    ("response_length", Knob::MaxCompletionLength),
    ("max_length", Knob::SequenceLength),
    ("max_seq_length", Knob::SequenceLength),
    ("max_seq_len", Knob::SequenceLength),
    ("sequence_len", Knob::SequenceLength),
    ("cutoff_len", Knob::SequenceLength),
    ("seq_length", Knob::SequenceLength),
    ("block_size", Knob::SequenceLength),
    ("max_len", Knob::SequenceLength),
    ("packing", Knob::Packing),
    ("sample_packing", Knob::Packing),
    ("gradient_checkpointing", Knob::GradientCheckpointing),
    ("enable_gradient_checkpointing", Knob::GradientCheckpointing),
    ("enable_activation_checkpointing", Knob::GradientCheckpointing),
    ("gradient_checkpointing_enable", Knob::GradientCheckpointing),
    ("fsdp_activation_checkpointing", Knob::GradientCheckpointing),
    ("activation_offloading", Knob::ActivationOffloading),
    ("enable_activation_offloading", Knob::ActivationOffloading),
    ("enable_activation_offload", Knob::ActivationOffloading),
    ("dtype", Knob::Dtype),
    ("torch_dtype", Knob::Dtype),
    ("model_dtype", Knob::Dtype),
    ("optim", Knob::Optimizer),
    ("optimizer", Knob::Optimizer),
    ("lora_r", Knob::LoraRank),
    ("lora_rank", Knob::LoraRank),
    ("lora.rank", Knob::LoraRank),
    ("peft_lora_r", Knob::LoraRank),
    ("r", Knob::LoraRank),
    ("lora_target_modules", Knob::LoraTargetModules),
    ("target_modules", Knob::LoraTargetModules),
    ("lora_target", Knob::LoraTargetModules),
    ("lora_dropout", Knob::LoraDropout),
    ("attn_implementation", Knob::Attention),
    ("flash_attn", Knob::Attention),
    ("use_liger_kernel", Knob::FusedLoss),
    ("use_liger_loss", Knob::FusedLoss),
    ("enable_liger_kernel", Knob::FusedLoss),
    ("use_liger", Knob::FusedLoss),
    ("liger_fused_linear_cross_entropy", Knob::FusedLoss),
    ("cut_cross_entropy", Knob::FusedLoss),
    ("use_fused_kernels", Knob::FusedLoss),
    ("beta", Knob::Beta),
    ("use_vllm", Knob::UseVllm),
    ("vllm_mode", Knob::VllmMode),
    ("vllm_gpu_memory_utilization", Knob::VllmGpuMemoryUtilization),
    ("gpu_memory_utilization", Knob::VllmGpuMemoryUtilization),
    ("vllm_enable_sleep_mode", Knob::VllmEnableSleepMode),
    ("vllm_max_model_length", Knob::VllmMaxModelLength),
    ("vllm_max_model_len", Knob::VllmMaxModelLength),
    ("max_model_len", Knob::VllmMaxModelLength),
    ("zero_stage", Knob::ZeroStage),
    ("zero_optimization.stage", Knob::ZeroStage),
    ("offload_optimizer.device", Knob::OffloadOptimizer),
    ("offload_optimizer_device", Knob::OffloadOptimizer),
    ("adam_offload", Knob::OffloadOptimizer),
    ("optimizer_offload", Knob::OffloadOptimizer),
    ("offload_param.device", Knob::OffloadParam),
    ("offload_param_device", Knob::OffloadParam),
    ("fsdp_offload_params", Knob::OffloadParam),
    ("offload_params", Knob::OffloadParam),
    ("param_offload", Knob::OffloadParam),
    ("fsdp_sharding_strategy", Knob::ShardingStrategy),
    ("sharding_strategy", Knob::ShardingStrategy),
    ("num_processes", Knob::WorldSize),
    ("nproc_per_node", Knob::WorldSize),
    ("num_gpus", Knob::WorldSize),
    ("world_size", Knob::WorldSize),
    ("n_gpus_per_node", Knob::WorldSize),
    ("trainer.devices", Knob::WorldSize),
    ("tensor_parallel_size", Knob::TensorParallel),
    ("tensor_model_parallel_size", Knob::TensorParallel),
    ("pytorch_cuda_alloc_conf", Knob::AllocConf),
    ("pytorch_alloc_conf", Knob::AllocConf),
    ("eval_accumulation_steps", Knob::EvalAccumulationSteps),
    ("eval_strategy", Knob::EvalStrategy),
    ("evaluation_strategy", Knob::EvalStrategy),
    ("eval_samples", Knob::EvalSamples),
    ("max_eval_samples", Knob::EvalSamples),
    ("compute_metrics", Knob::ComputeMetrics),
    ("dataloader_num_workers", Knob::DataloaderNumWorkers),
    ("max_steps", Knob::MaxSteps),
    ("steps_per_generation", Knob::StepsPerGeneration),
    ("num_iterations", Knob::NumIterations),
    ("trl_version", Knob::TrlVersion),
    ("transformers_version", Knob::TransformersVersion),
    ("torch_version", Knob::TorchVersion),
    ("trainer", Knob::Trainer),
    ("method", Knob::Method),
];

/// The knob that a key sets: by its longest ending in the table.
fn find(key: &str) -> Option<Knob> {
    let key = key.to_ascii_lowercase();
    let ends = |known: &str| {
        key == known || key.ends_with(known) && key.as_bytes().get(key.len() - known.len() - 1) == Some(&b'.')
    };
    KEYS.iter().filter(|(known, _)| ends(known)).max_by_key(|(known, _)| known.len()).map(|(_, knob)| *knob)
}

/// Puts what a key says into `knobs`.
pub fn put(knobs: &mut Knobs, key: &str, value: &Value, origin: &Origin) {
    let last = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    let text = |t: &str| Value::Text(Clean::new(t));
    let truth = value.as_bool();
    match last.as_str() {
        "bf16" | "fp16" if truth.is_some() || value.as_str() == Some("auto") => {
            let kind = if last == "bf16" { "bfloat16" } else { "float16" };
            if truth != Some(false) {
                knobs.put(Knob::Autocast, text(kind), origin.clone());
            } else if knobs.value(Knob::Autocast).is_none() {
                knobs.put(Knob::Autocast, text("none"), origin.clone());
            }
            return;
        }
        // axolotl: weights in bfloat16 without autocast. LLaMA-Factory: the same.
        "bfloat16" | "pure_bf16" if truth == Some(true) => {
            knobs.put(Knob::Dtype, text("bfloat16"), origin.clone());
            knobs.put(Knob::Autocast, text("none"), origin.clone());
            return;
        }
        "load_in_4bit" if truth == Some(true) => return knobs.put(Knob::Quantization, text("nf4"), origin.clone()),
        "load_in_8bit" if truth == Some(true) => return knobs.put(Knob::Quantization, text("int8"), origin.clone()),
        "quantization_bit" => {
            let kind = if value.as_u64() == Some(8) { "int8" } else { "nf4" };
            return knobs.put(Knob::Quantization, text(kind), origin.clone());
        }
        // LLaMA-Factory says it the other way round.
        "disable_gradient_checkpointing" if truth.is_some() => {
            let on = Value::Bool(truth == Some(false));
            return knobs.put(Knob::GradientCheckpointing, on, origin.clone());
        }
        "_component_" => return component(knobs, key, value, origin),
        // torchtune lists what it adapts in the attention, and says of the MLP whether it does.
        "lora_attn_modules" => {
            let named = value.to_string().replace("output_proj", "o_proj");
            return knobs.put(Knob::LoraTargetModules, text(&named), origin.clone());
        }
        "apply_lora_to_mlp" if truth == Some(true) => {
            let attention = knobs.str(Knob::LoraTargetModules).unwrap_or("q_proj,v_proj");
            let all = text(&format!("{attention},gate_proj,up_proj,down_proj"));
            return knobs.put(Knob::LoraTargetModules, all, origin.clone());
        }
        // verl names its method by how it estimates advantages.
        "adv_estimator" => {
            let method = match value.as_str() {
                Some("gae") => "ppo",
                Some("rloo") => "rloo",
                _ => "grpo",
            };
            knobs.put(Knob::Trainer, text("verl"), origin.clone());
            return knobs.put(Knob::Method, text(method), origin.clone());
        }
        // Lightning: bf16-mixed, bf16-true, 16-mixed, 32-true.
        "precision" => return precision(knobs, value, origin),
        "adapter" | "finetuning_type" if matches!(value.as_str(), Some("lora" | "qlora")) => {
            if knobs.value(Knob::LoraRank).is_none() {
                knobs.put(Knob::LoraRank, Value::Int(8), Origin::Default("LoRA".into()));
            }
            return;
        }
        // A script names its function; what a file says is yes or no.
        "compute_metrics" if truth.is_none() => {
            let given = value.as_str() != Some("None");
            return knobs.put(Knob::ComputeMetrics, Value::Bool(given), origin.clone());
        }
        "precompute_ref_log_probs" if truth == Some(true) => {
            return knobs.put(Knob::ReferenceModel, Value::Bool(false), origin.clone());
        }
        "prediction_loss_only" if truth == Some(true) => {
            return knobs.put(Knob::ComputeMetrics, Value::Bool(false), origin.clone());
        }
        "do_eval" if truth == Some(true) && knobs.value(Knob::EvalStrategy).is_none() => {
            return knobs.put(Knob::EvalStrategy, text("steps"), origin.clone());
        }
        "use_peft" if truth == Some(true) => {
            if knobs.value(Knob::LoraRank).is_none() {
                knobs.put(Knob::LoraRank, Value::Int(16), Origin::Default("TRL".into()));
            }
            return;
        }
        "lora_target_linear" if truth == Some(true) => {
            return knobs.put(Knob::LoraTargetModules, text("all-linear"), origin.clone());
        }
        "stage" | "rl"
            if matches!(value.as_str(), Some("sft" | "dpo" | "kto" | "rm" | "ppo" | "grpo" | "pt" | "orpo")) =>
        {
            let method = match value.as_str() {
                Some("rm") => "reward",
                Some("pt") => "pretrain",
                Some(other) => other,
                None => return,
            };
            return knobs.put(Knob::Method, text(method), origin.clone());
        }
        _ => {}
    }
    if let Some(trainer) = trainer_of(key, &last)
        && knobs.value(Knob::Trainer).is_none()
    {
        knobs.put(Knob::Trainer, text(trainer), origin.clone());
    }
    let Some(knob) = find(key) else { return };
    let value = match knob {
        Knob::GradientCheckpointing | Knob::ActivationOffloading => match value.as_str() {
            // axolotl: gradient_checkpointing: offload
            Some(how) if how.starts_with("offload") => {
                knobs.put(Knob::ActivationOffloading, Value::Bool(true), origin.clone());
                Value::Bool(true)
            }
            Some("unsloth") => Value::Bool(true),
            _ => value.clone(),
        },
        Knob::Dtype => match value.as_str().map(|d| d.trim_start_matches("torch.").to_ascii_lowercase()).as_deref() {
            // `auto` is the type the weights were saved in: bfloat16 for nearly all models of today.
            Some("bf16" | "bfloat16" | "auto") => text("bfloat16"),
            Some("fp32" | "float32" | "float") => text("float32"),
            Some("fp16" | "float16" | "half") => text("float16"),
            _ => return,
        },
        Knob::Attention => match value.as_str() {
            Some("fa2" | "flash_attention_2" | "kernels-community/flash-attn2") => text("flash_attention_2"),
            Some("sdpa" | "eager") => value.clone(),
            _ => return,
        },
        Knob::OffloadOptimizer | Knob::OffloadParam => {
            Value::Bool(value.as_str().map_or(truth == Some(true), |d| d == "cpu" || d == "nvme"))
        }
        Knob::LoraRank
            if last == "r"
                && !key.to_ascii_lowercase().contains("lora")
                && value.as_u64().is_none_or(|r| r == 0 || r > 1024) =>
        {
            return;
        }
        // YAML reads a bare `no` as false.
        Knob::EvalStrategy => match (truth, value.as_str()) {
            (Some(false), _) | (_, Some("no" | "None")) => text("no"),
            (_, Some("steps" | "epoch")) => value.clone(),
            _ => return,
        },
        Knob::PerDeviceTrainBatchSize | Knob::GradientAccumulationSteps if value.as_u64().is_none() => return,
        _ => value.clone(),
    };
    knobs.put(knob, value, origin.clone());
}

/// The trainer that alone has such a key.
fn trainer_of(key: &str, last: &str) -> Option<&'static str> {
    Some(match last {
        _ if key.starts_with("actor_rollout_ref.") => "verl",
        "cutoff_len" | "finetuning_type" | "lora_target" => "llamafactory",
        "sequence_len" | "base_model" | "lora_target_linear" | "sample_packing" => "axolotl",
        "micro_train_batch_size" | "prompt_max_len" | "generate_max_len" | "adam_offload" => "openrlhf",
        _ => return None,
    })
}

/// torchtune builds models, optimizers and losses by the name of a function.
fn component(knobs: &mut Knobs, key: &str, value: &Value, origin: &Origin) {
    let Some(name) = value.as_str() else { return };
    let text = |t: &str| Value::Text(Clean::new(t));
    knobs.put(Knob::Trainer, text("torchtune"), origin.clone());
    match key.split('.').next() {
        Some("model") => {
            knobs.put(Knob::Model, value.clone(), origin.clone());
            if name.contains("lora_") && knobs.value(Knob::LoraRank).is_none() {
                knobs.put(Knob::LoraRank, Value::Int(8), Origin::Default("torchtune".into()));
            }
            if name.contains("qlora_") {
                knobs.put(Knob::Quantization, text("nf4"), origin.clone());
            }
        }
        Some("optimizer") => {
            let function = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
            let optimizer = match function.as_str() {
                "adamw" => "adamw_torch",
                "pagedadamw8bit" => "paged_adamw_8bit",
                "adamw8bit" => "adamw_8bit",
                other => other,
            };
            knobs.put(Knob::Optimizer, text(optimizer), origin.clone());
        }
        Some("loss") => {
            let chunked = name.contains("Chunked") || name.contains("Linear");
            knobs.put(Knob::FusedLoss, Value::Bool(chunked), origin.clone());
        }
        _ => {}
    }
}

/// Lightning's precision: of the weights where it is `true`, of the computation where it is `mixed`.
fn precision(knobs: &mut Knobs, value: &Value, origin: &Origin) {
    let said = value.to_string();
    let text = |t: &str| Value::Text(Clean::new(t));
    let kind = match said.split('-').next() {
        Some("bf16") => "bfloat16",
        Some("16") => "float16",
        _ => "float32",
    };
    let (weights, computed) = if said.ends_with("true") { (kind, "none") } else { ("float32", kind) };
    knobs.put(Knob::Dtype, text(weights), origin.clone());
    knobs.put(Knob::Autocast, text(if computed == "float32" { "none" } else { computed }), origin.clone());
}
