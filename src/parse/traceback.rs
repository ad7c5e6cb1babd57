//! Python tracebacks: the frames of the one that belongs to a message, and the phase that they tell.

use std::sync::LazyLock;

use regex::Regex;

use crate::model::{
    Clean,
    failure::{Evidence, Phase, PhaseId},
    incident::Frame,
};

use super::text::TextLine;

static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)File ['"]?(?<file>[^'",]+)['"]?, line (?<line>\d+)(?:, in (?<function>[^\s].*?))?\s*$"#)
        .expect("tested")
});
/// IPython's form: `/path/file.py in function(args)` and `File /path/file.py:12, in function(args)`.
static IPYTHON: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:File )?(?<file>(?:[~/<]|[A-Z]:\\)\S*?\.py)(?::(?<line>\d+))?,? in (?<function>[\w.<>]+)")
        .expect("tested")
});
static CARETS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[\s|]*[\^~]+[\s\^~]*$").expect("tested"));

static ERROR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*[\w.]*(?:Error|Exception|Exit|Interrupt)\b").expect("tested"));

/// Frames among `lines`, outermost first.
pub fn frames(lines: &[TextLine]) -> Vec<Frame> {
    let mut found = Vec::new();
    for (nth, line) in lines.iter().enumerate() {
        let Some(c) = FRAME.captures(&line.text).or_else(|| IPYTHON.captures(&line.text)) else { continue };
        let code = lines[nth + 1..]
            .iter()
            .find(|l| !CARETS.is_match(&l.text))
            // A stripped prefix may have taken the indentation of all lines with it.
            .filter(|l| l.text.starts_with(' ') || !line.text.starts_with(' ') && !ERROR.is_match(&l.text))
            .filter(|l| !FRAME.is_match(&l.text));
        found.push(Frame {
            line: line.number,
            file: Clean::new(c.name("file").map_or("", |m| m.as_str())),
            function: Clean::new(c.name("function").map_or("", |m| m.as_str()).trim_end_matches("()")),
            code: Clean::new(code.map_or("", |l| l.text.trim())),
        });
    }
    found
}

/// A sign of a phase: a word in the function, the file or the quoted source line.
struct Sign {
    phase: PhaseId,
    pattern: Regex,
}

/// Judged on `file function code`, from the innermost frame outwards within each rank of strength.
static SIGNS: LazyLock<Vec<Sign>> = LazyLock::new(|| {
    use PhaseId::{
        Backward, CheckpointSave, Dataloader, DdpFsdpComm, Eval, Forward, Generation, KvCacheInit, LogitsLoss,
        ModelLoad, OptimizerStep, Scoring, WeightSync,
    };
    [
        (WeightSync, r"wake_up|update_weights|sync_weights|_move_model_to_vllm|sync_model_weights|load_weights.*rollout|broadcast_to_vllm|resume_memory_occupation|cumem"),
        (KvCacheInit, r"_initialize_kv_caches|initialize_cache|determine_num_available_blocks|determine_available_memory|init_memory_pool|_allocate_kv_cache|initialize_kv_cache|capture_model|profile_run"),
        (CheckpointSave, r"save_pretrained|_save_checkpoint|save_model|save_checkpoint|torch/serialization.py save|state_dict\b.*(?:full|gather)|_full_state_dict|optim_state_dict|consolidate|_save_to_state_dict|get_state_dict|\bstate_dict\("),
        (Eval, r"\bevaluation_loop\b|\bprediction_step\b|\bevaluate\b|_evaluate\b|\bnested_concat\b|pad_across_processes|validation_step|run_validation|\bvalidate\b|_maybe_log_save_evaluate|compute_metrics|eval_loop|\bpredict_step\b"),
        (OptimizerStep, r"torch/optim/(?:adam|adamw|sgd|_functional|optimizer|rmsprop|lion|adagrad)\S*\.py|bitsandbytes/optim|\b_init_group\b|\boptimizer\.step\b|\bopt\.step\b|_take_model_step|stage_1_and_2\.py (?:step|initialize_optimizer_states)|stage3\.py (?:step|initialize_optimizer_states|_optimizer_step)|fused_adam|exp_avg|adafactor|clip_grad_norm|unscale_grads|optim_step|_multi_tensor_adam|_foreach"),
        (Generation, r"generation/utils\.py|\bgenerate\b|_generate\w*|_sample\b|generate_sequences|generate_experience|make_experience|\brollout\b|_generate_and_score_completions|unwrap_model_for_generation|greedy_search|beam_search|cache_utils|vllm/(?!.*worker.*init)\S*llm_engine|engine\.step|decode_one_token"),
        (Backward, r"\.backward\(|\bbackward\b|run_backward|autograd/__init__\.py|_engine_run_backward|accelerator\.py backward|loss_scaler|checkpoint\.py.*(?:unpack|recompute)|reduce_ipg_grads|__reduce_and_partition|GradBackward"),
        (DdpFsdpComm, r"all_gather|_all_gather|all_reduce|reduce_scatter|allreduce|fully_shard|fsdp/\S*(?:_flat_param|unshard|_runtime_utils|_fsdp_param)|_unshard|reducer|DistributedDataParallel\(|_sync_module_states|_verify_param_shape|broadcast_coalesced|partition_parameters|fetch_sub_module|distributed_c10d"),
        (LogitsLoss, r"cross_entropy|log_softmax|logsumexp|selective_log_softmax|lm_head|\blogits\b.*(?:float|softmax|div|/=|/ |contiguous|upcast)|entropy_from_logits|loss_function|ForCausalLMLoss|fused_linear|logprobs_from_logits|vocab_parallel|\.float\(\).*logits|logits\.float|get_batch_loss_metrics|compute_token_logps|entropy"),
        (Scoring, r"_get_per_token_logps|get_per_token_logps|compute_log_prob|compute_ref_log_prob|ref_log_probs|concatenated_forward|compute_reference_log_probs|ref_model|compute_values|reward_model|_calculate_rewards|batch_forward_logprobs|old_per_token_logps"),
        (Dataloader, r"dataloader\.py|_utils/(?:worker|collate|pin_memory|fetch)\.py|data_collator|collate_fn|DataLoader|multiprocessing/(?:context|queues|synchronize|reductions)\.py"),
        (ModelLoad, r"from_pretrained|_load_pretrained_model|load_state_dict|_load_state_dict_into|load_model\b|load_weights|load_checkpoint|modeling_utils\.py.*(?:load|init)|init_empty|get_model\b|safetensors|accelerate/utils/modeling\.py|set_module_tensor|dispatch_model|loader\.py|\.to\(device|\.cuda\(\)|model\.to\(|\b_apply\b|module\.py to\b|create_model|build_model|init_model|initialize_model|quantize|from_config|__init__\b.*(?:model|Model)"),
        (Forward, r"\bforward\b|_call_impl|F\.\w+\(|functional\.py|modeling_\w+\.py|compute_loss|training_step|train_step|decoder_layer|self_attn|\bmlp\b|scaled_dot_product|model\("),
    ]
    .into_iter()
    .map(|(phase, pattern)| Sign { phase, pattern: Regex::new(&pattern.replace("(?!.*worker.*init)", "")).expect("the list is tested") })
    .collect()
});

/// What the frames say the program was doing. Phases that enclose others win over what is innermost: a forward inside
/// `generate` is generation, one inside `evaluate` is evaluation, a recomputed forward inside `backward` is backward.
pub fn phase(frames: &[Frame]) -> Phase {
    let sign_of = |frame: &Frame| {
        let text = format!("{} {} {}", frame.file, frame.function, frame.code);
        SIGNS.iter().filter(|s| s.pattern.is_match(&text)).map(|s| s.phase).collect::<Vec<_>>()
    };
    let signs: Vec<(usize, Vec<PhaseId>)> = frames.iter().map(sign_of).enumerate().collect();
    for sign in SIGNS.iter() {
        // Loading shows in the names of frames that are always there; only what is near the end counts.
        let from = match sign.phase {
            PhaseId::ModelLoad | PhaseId::Dataloader | PhaseId::DdpFsdpComm => frames.len().saturating_sub(6),
            PhaseId::LogitsLoss => frames.len().saturating_sub(4),
            _ => 0,
        };
        if let Some((nth, _)) = signs.iter().rev().find(|(nth, phases)| *nth >= from && phases.contains(&sign.phase))
            && let Some(frame) = frames.get(*nth)
        {
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
