//! The phase that a traceback tells: signs in the names of files, functions and quoted lines, each where it belongs.

use std::sync::LazyLock;

use regex::Regex;

use crate::model::{
    Clean,
    failure::{Evidence, Phase, PhaseId},
    incident::Frame,
};

use super::pattern;

use PhaseId::{
    Backward, CheckpointSave, Dataloader, DdpFsdpComm, Eval, Forward, Generation, KvCacheInit, LogitsLoss, ModelLoad,
    OptimizerStep, Scoring, WeightSync,
};

/// How far from the innermost frame a sign counts. Loading, communication and the loss show in the names of frames that
/// are always there.
const ANYWHERE: usize = usize::MAX;
const NEAR: usize = 6;
const INNERMOST: usize = 4;

/// Phase, reach, and what file, function and quoted line must look like; an empty pattern asks for nothing.
type Row = (PhaseId, usize, &'static str, &'static str, &'static str);

/// The first row that a frame matches tells the phase. Phases that enclose others stand first: a forward inside
/// `generate` is generation, one inside `evaluate` is evaluation, a recomputed forward inside `backward` is backward.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    (WeightSync, ANYWHERE, "", r"^(?:wake_up|resume_memory_occupation|_move_model_to_vllm|sync_model_weights\w*|sync_weights\w*|_?broadcast_to_vllm|update_named_param|update_weights_from_\w+)$", ""),
    (WeightSync, ANYWHERE, r"rollout|sharding_manager|weight_sync|weight_transfer|vllm_client|megatron_vllm|fsdp_vllm", r"^(?:load_weights|update_weights\w*|update_params|__enter__)$", ""),
    (WeightSync, ANYWHERE, "", "", r"\b(?:wake_up|resume_memory_occupation|_move_model_to_vllm|sync_model_weights\w*|broadcast_to_vllm|update_weights_from_\w+)\("),
    (WeightSync, ANYWHERE, r"vllm|sglang|verl|openrlhf|trl/|rollout|slime", "", r"\.(?:update_weights?|sync_weights)\("),
    (KvCacheInit, ANYWHERE, "", r"^(?:_initialize_kv_caches?|initialize_cache|determine_num_available_blocks|determine_available_memory|init_memory_pool|_allocate_kv_cache\w*|initialize_kv_cache\w*|capture_model|profile_run|_dummy_run|init_cuda_graphs|capture_one_batch_size|warm_up_model|profile_cudagraph_memory)$", ""),
    (KvCacheInit, ANYWHERE, r"cuda_?graph_runner\.py", r"^(?:__init__|capture\w*)$", ""),
    (KvCacheInit, ANYWHERE, "", "", r"\b(?:_initialize_kv_caches?|determine_num_available_blocks|determine_available_memory|init_memory_pool|initialize_kv_cache\w*|capture_model|profile_run)\("),
    (CheckpointSave, ANYWHERE, "", r"^(?:save_pretrained|_?save_checkpoint\w*|save_model|_save_to_state_dict|_full_(?:post_)?state_dict\w*|_?optim_state_dict|full_optim_state_dict|get_state_dict|get_model_state_dict|_?consolidate\w*|_?_?zero3_consolidated\w*|save_16bit_model|save_fp16_model|save_state|_get_full_state_dict\w*)$", ""),
    (CheckpointSave, ANYWHERE, r"serialization\.py$|state_dict_saver|/distributed/checkpoint/", r"^_?(?:save|legacy_save|staged_save|async_save)$", ""),
    (CheckpointSave, ANYWHERE, "", "", r"\bsave_pretrained\(|save_checkpoint\(|\bsave_model\(|torch\.save\(|get_state_dict\(|\.state_dict\(\s*\)|full_state_dict"),
    (Eval, ANYWHERE, "", r"^(?:evaluation_loop|evaluation_step|_evaluation_step|prediction_step|prediction_loop|_?evaluate\w*|nested_concat|_?pad_across_processes|validation_step|_?run_validation|_?validate|validation|val_loop|eval_loop|eval_step|eval_epoch|val_epoch|_eval\w*_loop|run_eval\w*|predict_step|compute_metrics|_maybe_log_save_evaluate|_?run_sanity_check|do_eval|test_step)$", ""),
    (Eval, ANYWHERE, r"evaluation_loop\.py|eval_loop", "", ""),
    (Eval, ANYWHERE, "", "", r"\bnested_concat\(|pad_across_processes\(|\bevaluate\(|\bvalidate\(|\bvalidation_step\("),
    (ModelLoad, ANYWHERE, "", r"^(?:from_pretrained|_load_pretrained_model|load_checkpoint_and_dispatch|_load_state_dict_into_\w+|load_checkpoint_in_model|_load_shard_file\w*|load_diffusion_model\w*|load_checkpoint_guess_config\w*|load_models_gpu|partially_load|load_torch_file|load_unet\w*)$", ""),
    (OptimizerStep, ANYWHERE, r"torch/optim/\w+\.py|bitsandbytes/optim|torchao/optim|fused_adam|ops/adam|apex/optimizers|megatron/core/optimizer", "", ""),
    (OptimizerStep, ANYWHERE, r"stage_1_and_2\.py|stage3\.py|bf16_optimizer\.py|fused_optimizer\.py|fp16/\w+\.py", r"^(?:step|initialize_optimizer_states|_?optimizer_step|update_lp_params|unscale_and_clip_grads|_initialize_optimizer_states|get_grad_norm_direct|_setup_for_real_optimizer|_create_fp32_partitions|_create_fp32_groups?)$", ""),
    (OptimizerStep, ANYWHERE, "", r"^(?:_init_group|_take_model_step|clip_grad_norm_*|_?unscale_grads?_*|_?optim(?:izer)?_step|_multi_tensor_\w+|_fused_adam\w*|_single_tensor_\w+|initialize_optimizer_states)$", ""),
    (OptimizerStep, ANYWHERE, "", "", r"(?:^|[\s.=])(?:\w*optimi[sz]er\w*|optim|opt|scaler)\.step\(|exp_avg|clip_grad_norm"),
    (Generation, ANYWHERE, r"generation/utils\.py|generation/candidate_generator|llm_engine\.py|vllm/entrypoints/|vllm/v1/engine/llm_engine", "", ""),
    (Generation, ANYWHERE, r"vllm|sglang", r"^(?:execute_model|sample_tokens|_?model_forward|forward_batch_generation|run_batch|event_loop_\w+|forward_extend|forward_decode)$", ""),
    (Generation, ANYWHERE, "", r"^(?:generate|_?generate_(?:single_turn|completions?|text|samples?|sequences?|batch|vllm|rollouts?|with_\w+|hf|regular)|\w*_fast_generate|_sample|greedy_search|_?beam_search|_?greedy_search|contrastive_search|rollout|_?rollout_\w+|unwrap_model_for_generation|decode_one_token|generate_next_token|inference_step)$", ""),
    (Generation, ANYWHERE, "", "", r"\.generate\(|\bgenerate_sequences\(|unwrap_model_for_generation\("),
    (Backward, ANYWHERE, "", r"^_?(?:backward|run_backward|engine_run_backward|manual_backward|backward_step|unpack_hook|inner_unpack|recompute_fn|reduce_ipg_grads|_?reduce_and_partition\w*|reduce_independent\w*|average_tensor|backward_prologue|post_backward\w*)$", ""),
    (Backward, ANYWHERE, r"autograd/(?:__init__|graph)\.py|loss_scaler", "", ""),
    (Backward, ANYWHERE, "", "", r"\.(?:manual_)?backward\(|run_backward\("),
    (OptimizerStep, ANYWHERE, r"(?:^|/)optax/", r"^(?:update\w*|apply_updates)$", ""),
    (Backward, ANYWHERE, r"jax/_src/interpreters/ad\.py", r"^backward_pass\w*$", ""),
    (ModelLoad, ANYWHERE, r"(?:^|/)(?:flax|haiku|orbax|equinox|t5x|MaxText)/", r"^(?:init|init_with_output|restore\w*|lazy_init|create_train_state|setup_initial_state|from_pretrained)$", ""),
    (ModelLoad, ANYWHERE, "", "", r"\b(?:model|module|net)\.init\(|create_train_state\(|checkpoints?\.restore\w*\("),
    (DdpFsdpComm, NEAR, r"fsdp/\S*(?:_flat_param|unshard|_runtime_utils|_fsdp_param|_fsdp_collectives|_init_utils)|distributed_c10d\.py|partition_parameters\.py|partitioned_param", "", ""),
    (DdpFsdpComm, NEAR, "", r"^_?(?:all_?gather\w*|all_?reduce\w*|reduce_scatter\w*|unshard|alloc_padded_unsharded\w*|_?verify_param_shape\w*|sync_module_states|sync_params_and_buffers|ddp_init_helper|broadcast_coalesced|fetch_sub_module|pre_forward_unshard|all_to_all\w*)$", ""),
    (DdpFsdpComm, NEAR, "", "", r"all_gather|all_reduce|reduce_scatter|DistributedDataParallel\(|\bDDP\(|\bFSDP\(|FullyShardedDataParallel\(|broadcast_coalesced|_verify_param_shape|all_to_all"),
    (LogitsLoss, INNERMOST, "", r"(?:^|_)(?:cross_entropy\w*|log_softmax|logsumexp|log_?probs_from_logits\w*|entropy_from_logits\w*|entropy|vocab_parallel\w*|compute_token_logps)$|ForCausalLMLoss|^fixed_cross_entropy", ""),
    (LogitsLoss, INNERMOST, r"loss_utils\.py|fused_linear|cross_entropy|chunked_loss|liger_kernel/\S*loss", "", ""),
    (LogitsLoss, INNERMOST, "", "", r"cross_entropy\(|log_softmax\(|logsumexp\(|lm_head\(|\blm_logits\b|\blogits\b.*(?:float|softmax|div|/=|/ |contiguous|upcast|\.to\()|logits_to_keep.*float|\bentropy\w*\(|\bloss_fct\(|\bself\.loss_function\("),
    (Scoring, ANYWHERE, "", r"^(?:make_experience\w*|generate_experience|_?get_per_token_logps\w*|_?compute_log_probs?|_?compute_(?:ref|reference|rollout)_log_probs?\w*|_?compute_ref_log_probs?|compute_values|_?calculate_rewards|_?compute_rewards?|get_rewards?|batch_forward_logprobs|_?compute_reference_log_probs|compute_rm_score)$", ""),
    (Scoring, ANYWHERE, "", "", r"\bref_model\(|reference_model\(|reward_model\(|compute_log_prob\(|compute_ref_log_probs?\(|_get_per_token_logps\w*\(|compute_reference_log_probs\("),
    (Dataloader, NEAR, r"(?:^|/)data_?loader\.py|_utils/(?:worker|collate|pin_memory|fetch)\.py|data_collator\.py|multiprocessing/(?:context|queues|synchronize|reductions|connection)\.py", "", ""),
    (Dataloader, NEAR, "", r"collate\w*$", ""),
    (Dataloader, NEAR, "", "", r"\bDataLoader\(|collate_fn\(|\bnext\(\w*(?:loader|iter)"),
    (Generation, ANYWHERE, "", r"^_generate_and_score_completions$", ""),
    (ModelLoad, NEAR, "", r"^(?:load_model\w*|load_weights\w*|load_checkpoint\w*|load_state_dict|init_model\w*|initialize_model|create_model\w*|build_model|get_model\w*|from_config|set_module_tensor_to_device|dispatch_model|create_quantized_param|init_device|load_file|load_unet|load_vae|load_pipeline|init_model_from_pretrained)$", ""),
    (ModelLoad, NEAR, r"bitsandbytes/nn/modules\.py", r"^(?:to|cuda|_quantize)$", ""),
    (ModelLoad, NEAR, r"accelerate/utils/modeling\.py|safetensors|model_loader/|checkpoint_io", "", ""),
    (ModelLoad, NEAR, r"nn/modules/module\.py", r"^(?:to|cuda|half|float|bfloat16|_apply|convert|_load_from_state_dict|to_empty)$", ""),
    (ModelLoad, NEAR, r"model", r"^(?:__init__|quantize\w*)$", ""),
    (ModelLoad, NEAR, "", "", r"\b(?:\w*model\w*|net|network|unet|vae|text_encoder|transformer|pipe(?:line)?)\.(?:to|cuda|half)\(|load_state_dict\(|from_pretrained\(|load_model\(|(?:torch|paddle)\.load\(|load_diffusion_model\w*\(|safe_open\("),
    (Forward, ANYWHERE, "", r"^(?:forward\w*|_forward\w*|_call_impl|_wrapped_call_impl|_?compute_loss|training_step|train_step|forward_step|_?(?:run_)?construct|scaled_dot_product\w*|\w*attention\w*|checkpoint)$", ""),
    // A step that XLA compiled is one program.
    (Forward, ANYWHERE, "", "", r"\bp?_?(?:train|update)_step\("),
    (Forward, ANYWHERE, r"modeling_\w+\.py|nn/functional\.py|nn/modules/|parallel_apply\.py|xformers|flash_attn|einops|models/\S+\.py", "", ""),
    (Forward, ANYWHERE, "", "", r"\bF\.\w+\(|\b(?:\w*model\w*|net|network|unet|vae|transformer|encoder|decoder|self_attn|mlp|attn\w*)\(|torch\.(?:matmul|bmm|einsum|cat|softmax)\("),
];

struct Sign {
    phase: PhaseId,
    reach: usize,
    file: Option<Regex>,
    function: Option<Regex>,
    code: Option<Regex>,
}

impl Sign {
    fn matches(&self, frame: &Frame) -> bool {
        let is = |pattern: &Option<Regex>, text: &Clean| pattern.as_ref().is_none_or(|p| p.is_match(text.as_str()));
        // Methods may carry their class: `Linear.forward`.
        let function = frame.function.as_str();
        let bare = Clean::new(function.rsplit('.').next().unwrap_or(function));
        let file = Clean::new(&frame.file.as_str().replace('\\', "/"));
        is(&self.file, &file) && is(&self.function, &bare) && is(&self.code, &frame.code)
    }
}

static SIGNS: LazyLock<Vec<Sign>> = LazyLock::new(|| {
    let regex = |pattern: &str| (!pattern.is_empty()).then(|| pattern::ascii(pattern).expect("the table is tested"));
    let sign = |(phase, reach, file, function, code): &Row| Sign {
        phase: *phase,
        reach: *reach,
        file: regex(file),
        function: regex(function),
        code: regex(code),
    };
    ROWS.iter().map(sign).collect()
});

/// What the frames, outermost first, say the program was doing, with the frame that says so.
pub fn phase(frames: &[Frame]) -> Phase {
    // An optimizer that is given a closure calls the step's forward and backward: what stands around it says nothing.
    let closure = frames
        .iter()
        .rposition(|f| ["closure(", "_step_fn(", "_backward_fn("].iter().any(|call| f.code.as_str().contains(call)));
    let frames = match closure.and_then(|at| frames.get(at + 1..)) {
        Some(inside) if !inside.is_empty() => inside,
        _ => frames,
    };
    // The same functions give the log-probabilities of the loss, with gradients, and those of a reference, without.
    let trains =
        frames.iter().any(|f| matches!(f.function.as_str().rsplit('.').next(), Some("compute_loss" | "_compute_loss")));
    for sign in SIGNS.iter().filter(|s| !(trains && s.phase == Scoring)) {
        let from = frames.len().saturating_sub(sign.reach);
        if let Some(frame) = frames.iter().skip(from).rev().find(|f| sign.matches(f)) {
            return Phase { id: sign.phase, evidence: vec![evidence(frame)] };
        }
    }
    Phase::default()
}

fn evidence(frame: &Frame) -> Evidence {
    let text = if frame.code.is_empty() {
        format!("{}, in {}", frame.file, frame.function)
    } else {
        format!("{} ({})", frame.code, frame.function)
    };
    Evidence { line: Some(frame.line), text: Clean::new(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `file | function | code` a line, outermost first.
    fn check(want: PhaseId, frames: &str) {
        let field = |parts: &mut std::str::Split<'_, char>| Clean::new(parts.next().unwrap_or_default().trim());
        let frames: Vec<Frame> = frames
            .trim()
            .lines()
            .map(|line| {
                let mut parts = line.split('|');
                Frame { line: 1, file: field(&mut parts), function: field(&mut parts), code: field(&mut parts) }
            })
            .collect();
        let got = phase(&frames);
        assert_eq!(got.id, want, "{got:?}");
    }

    #[test]
    fn what_encloses_wins() {
        check(
            Generation,
            "trl/trainer/grpo_trainer.py|_generate_and_score_completions|x\ntransformers/generation/utils.py|_sample|outputs = self(**inputs)\nmodeling_qwen2.py|forward|x = self.mlp(x)",
        );
        check(
            Scoring,
            "trl/trainer/grpo_trainer.py|_generate_and_score_completions|ref = self._get_per_token_logps(\ntrl/trainer/grpo_trainer.py|_get_per_token_logps|logits = model(input_ids)\nmodeling_qwen2.py|forward|x = self.mlp(x)\nmodeling_qwen2.py|forward|down = self.down_proj(x)\ntorch/nn/modules/linear.py|forward|return F.linear(x)",
        );
        check(
            Forward,
            "transformers/trainer.py|training_step|loss = self.compute_loss(model, inputs)\ntrl/trainer/grpo_trainer.py|_compute_loss|logps = self._get_per_token_logps(\ntrl/trainer/grpo_trainer.py|_get_per_token_logps|logits = model(input_ids)\nmodeling_qwen2.py|forward|x = self.mlp(x)\nmodeling_qwen2.py|forward|y = self.act(x)\ntorch/nn/modules/activation.py|forward|return F.silu(x)\ntorch/nn/functional.py|silu|return torch._C._nn.silu(input)",
        );
        check(Eval, "transformers/trainer.py|evaluate|output = eval_loop(\nmodeling_llama.py|forward|x = self.mlp(x)");
        check(
            Backward,
            "torch/utils/checkpoint.py|backward|outputs = ctx.run_function(*detached_inputs)\nmodeling_llama.py|forward|x = self.mlp(x)",
        );
        check(
            ModelLoad,
            "train.py|main|model = AutoModel.from_pretrained(\ntransformers/modeling_utils.py|from_pretrained|x\ndeepspeed/runtime/zero/partition_parameters.py|_post_init_method|param.partition()",
        );
    }

    #[test]
    fn a_closure_is_no_optimizer_step() {
        let around = "lightning/pytorch/core/optimizer.py|step|step_output = self._strategy.optimizer_step(self._optimizer, closure)\ntorch/optim/adamw.py|step|loss = closure()\nlightning/pytorch/loops/optimization/automatic.py|closure|step_output = self._step_fn()\n";
        check(Forward, &format!("{around}m.py|training_step|y = self(x)\nm.py|forward|return self.net(x)"));
        check(Backward, &format!("{around}torch/_tensor.py|backward|torch.autograd.backward(self)"));
        check(
            OptimizerStep,
            "lightning/pytorch/core/optimizer.py|step|x\ntorch/optim/adamw.py|_init_group|state['exp_avg'] = torch.zeros_like(p)",
        );
    }

    #[test]
    fn a_name_counts_only_where_it_belongs() {
        // A user's own file, variable or argument that has the words in it.
        check(Forward, "update_weights_demo.py|main|y = model(x, save_model=False)");
        check(Forward, "/home/u/evaluate/train.py|main|out = model(batch)");
        check(PhaseId::Unknown, "/home/u/optimizer_step/generate.py|main|x = torch.zeros(4)");
        check(PhaseId::Unknown, "train.py|<module>|main()\ntrain.py|main|x = x.to(device)");
    }

    #[test]
    fn plain_loops() {
        check(Backward, "train.py|<module>|loss.backward()");
        check(OptimizerStep, "train.py|<module>|optimizer.step()");
        check(LogitsLoss, "train.py|main|loss = F.cross_entropy(logits.view(-1, V), y.view(-1))");
        check(ModelLoad, "train.py|<module>|model = model.to(device)");
        check(CheckpointSave, "train.py|main|torch.save(model.state_dict(), path)");
        check(DdpFsdpComm, "train.py|main|model = DDP(model, device_ids=[rank])");
        check(
            Forward,
            "train.py|main|out = model(x)\ntorch/nn/parallel/parallel_apply.py|_worker|output = module(*input, **kwargs)",
        );
    }
}
