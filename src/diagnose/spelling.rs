//! A plan as it is typed: the flags of a command line, the lines of a configuration file, each trainer's own.

use std::fmt::Write;

use crate::model::{
    Clean,
    knobs::{Knob, Knobs, Origin, Value},
};

/// How a trainer is told its settings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `--name value`
    Flags,
    /// `name=value`
    Overrides,
    /// A file alone.
    File,
}

fn style(trainer: &str) -> Style {
    match trainer {
        "torchtune" | "verl" => Style::Overrides,
        "axolotl" => Style::File,
        _ => Style::Flags,
    }
}

/// Names and values that a trainer has for a setting; `None` where it has no such setting.
fn words(trainer: &str, knob: Knob, value: &Value) -> Option<Vec<(&'static str, String)>> {
    let text = value.to_string();
    let one = |key: &'static str| vec![(key, text.clone())];
    let on = |key: &'static str| vec![(key, "true".to_string())];
    Some(match (trainer, knob) {
        ("axolotl", Knob::PerDeviceTrainBatchSize) => one("micro_batch_size"),
        ("axolotl", Knob::SequenceLength) => one("sequence_len"),
        ("axolotl", Knob::Optimizer) => one("optimizer"),
        ("axolotl", Knob::LoraRank) => vec![("adapter", "lora".into()), ("lora_r", text)],
        ("axolotl", Knob::LoraTargetModules) if text == "all-linear" => on("lora_target_linear"),
        ("axolotl", Knob::Dtype) => on("bfloat16"),
        ("axolotl", Knob::FusedLoss) => on("liger_fused_linear_cross_entropy"),
        ("axolotl", Knob::Quantization) => vec![("load_in_4bit", "true".into()), ("adapter", "qlora".into())],
        ("axolotl", Knob::PerDeviceEvalBatchSize) => one("eval_batch_size"),
        ("axolotl", Knob::MaxCompletionLength) => one("trl.max_completion_length"),
        ("llamafactory", Knob::SequenceLength) => one("cutoff_len"),
        ("llamafactory", Knob::LoraRank) => vec![("finetuning_type", "lora".into()), ("lora_rank", text)],
        ("llamafactory", Knob::LoraTargetModules) => vec![("lora_target", text.replace("all-linear", "all"))],
        ("llamafactory", Knob::Dtype) => on("pure_bf16"),
        ("llamafactory", Knob::FusedLoss) => on("enable_liger_kernel"),
        ("llamafactory", Knob::Quantization) => vec![("quantization_bit", "4".into())],
        ("llamafactory", Knob::Attention) => vec![("flash_attn", "sdpa".into())],
        ("llamafactory", Knob::GradientCheckpointing) => vec![("disable_gradient_checkpointing", "false".into())],
        ("torchtune", Knob::PerDeviceTrainBatchSize) => one("batch_size"),
        ("torchtune", Knob::SequenceLength) => one("tokenizer.max_seq_len"),
        ("torchtune", Knob::GradientCheckpointing) => one("enable_activation_checkpointing"),
        ("torchtune", Knob::ActivationOffloading) => one("enable_activation_offloading"),
        ("torchtune", Knob::Optimizer) if text.contains("8bit") => {
            vec![("optimizer._component_", "bitsandbytes.optim.PagedAdamW8bit".into())]
        }
        ("torchtune", Knob::Optimizer) => vec![("optimizer.fused", "True".into())],
        ("torchtune", Knob::Dtype) => vec![("dtype", "bf16".into())],
        ("torchtune", Knob::GradientAccumulationSteps) => one("gradient_accumulation_steps"),
        ("verl", Knob::PerDeviceTrainBatchSize) => one("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu"),
        ("verl", Knob::GradientCheckpointing) => one("actor_rollout_ref.model.enable_gradient_checkpointing"),
        ("verl", Knob::LoraRank) => one("actor_rollout_ref.model.lora_rank"),
        ("verl", Knob::MaxCompletionLength) => one("data.max_response_length"),
        ("verl", Knob::FusedLoss) => one("actor_rollout_ref.model.use_fused_kernels"),
        ("verl", Knob::Dtype) => vec![("actor_rollout_ref.actor.fsdp_config.model_dtype", "bf16".into())],
        ("verl", Knob::OffloadOptimizer) => one("actor_rollout_ref.actor.fsdp_config.optimizer_offload"),
        // verl divides its mini-batch by itself.
        ("verl", Knob::GradientAccumulationSteps) => Vec::new(),
        // Not a setting of the trainer: the environment's, the launcher's, the recipe's.
        ("verl" | "torchtune", _)
        // Of a script that are objects, not settings; and what only online methods have.
        | ("transformers", Knob::LoraRank | Knob::LoraTargetModules | Knob::Quantization)
        | ("transformers" | "llamafactory", Knob::MaxCompletionLength | Knob::NumGenerations)
        | (_, Knob::AllocConf | Knob::ZeroStage | Knob::OffloadOptimizer | Knob::OffloadParam) => {
            return None;
        }
        (_, Knob::Optimizer) => one("optim"),
        (_, Knob::FusedLoss) => one("use_liger_kernel"),
        (_, Knob::LoraRank) => vec![("use_peft", "true".into()), ("lora_r", text)],
        (_, Knob::SequenceLength) => one("max_length"),
        (_, Knob::Quantization) if text == "nf4" => {
            vec![
                ("load_in_4bit", "true".into()),
                ("use_bnb_nested_quant", "true".into()),
            ]
        }
        (_, Knob::Quantization) => on("load_in_8bit"),
        (_, Knob::Attention) => one("attn_implementation"),
        (_, Knob::ReferenceModel) => on("precompute_ref_log_probs"),
        (_, other) => vec![(other.as_str(), text)],
    })
}

/// The trainer, where something said which it is and its words are known.
fn trainer(knobs: &Knobs) -> Option<String> {
    let trainer = knobs.str(Knob::Trainer)?.to_ascii_lowercase();
    let known = ["trl", "transformers", "axolotl", "llamafactory", "torchtune", "verl"];
    known.contains(&trainer.as_str()).then_some(trainer)
}

/// The variable of the environment that sets the allocator; what is left for the trainer.
fn environment(changes: &[(Knob, Value)]) -> (Option<String>, Vec<&(Knob, Value)>) {
    let variable = changes.iter().find(|(knob, _)| *knob == Knob::AllocConf);
    let variable = variable.map(|(_, value)| format!("PYTORCH_CUDA_ALLOC_CONF={value}"));
    (variable, changes.iter().filter(|(knob, _)| *knob != Knob::AllocConf).collect())
}

/// The changes as words of a command line; `None` where they are told by a file alone, or not all of them can be said.
pub fn command(knobs: &Knobs, changes: &[(Knob, Value)]) -> Option<Clean> {
    let (variable, settings) = environment(changes);
    let mut typed: Vec<String> = variable.into_iter().collect();
    if !settings.is_empty() {
        let trainer = trainer(knobs)?;
        let style = style(&trainer);
        for (knob, value) in settings {
            let own = words(&trainer, *knob, value)?;
            match style {
                Style::Flags => typed.extend(own.into_iter().map(|(name, value)| format!("--{name} {value}"))),
                Style::Overrides => typed.extend(own.into_iter().map(|(name, value)| format!("{name}={value}"))),
                Style::File => return None,
            }
        }
    }
    (!typed.is_empty()).then(|| Clean::new(&typed.join(" ")))
}

/// The configuration file that the settings came from.
pub fn file(knobs: &Knobs) -> Option<Clean> {
    knobs.iter().find_map(|(_, setting)| match &setting.origin {
        Origin::Config(name) => Some(name.clone()),
        _ => None,
    })
}

/// How a kind of file writes one setting.
#[derive(Clone, Copy)]
enum Form {
    Yaml,
    Json,
    Python,
}

impl Form {
    fn of(name: &str) -> Self {
        match std::path::Path::new(name).extension().and_then(|e| e.to_str()) {
            Some("py") => Self::Python,
            Some("json") => Self::Json,
            _ => Self::Yaml,
        }
    }

    fn line(self, name: &str, value: &str) -> String {
        let bare = value.parse::<f64>().is_ok() || matches!(value, "true" | "false");
        match (self, bare) {
            (Self::Yaml, _) => format!("{name}: {value}"),
            (Self::Json, true) => format!("\"{name}\": {value},"),
            (Self::Json, false) => format!("\"{name}\": \"{value}\","),
            (Self::Python, true) => {
                let value = match value {
                    "true" => "True",
                    "false" => "False",
                    number => number,
                };
                format!("{name}={value},")
            }
            (Self::Python, false) => format!("{name}=\"{value}\","),
        }
    }
}

/// The changes as lines to take out of a configuration file and to put in; `None` where not all of them stand in one.
pub fn patch(knobs: &Knobs, changes: &[(Knob, Value)]) -> Option<String> {
    let (_, settings) = environment(changes);
    let trainer = trainer(knobs)?;
    let form = Form::of(file(knobs).as_ref().map_or("", Clean::as_str));
    let mut lines = String::new();
    for (knob, value) in settings {
        // In a script these are not arguments of the trainer's configuration but objects of their own.
        let apart = matches!(knob, Knob::LoraRank | Knob::LoraTargetModules | Knob::Quantization)
            || trainer == "trl" && matches!(knob, Knob::Dtype | Knob::Attention);
        if matches!(form, Form::Python) && apart {
            return None;
        }
        // What the file does not say cannot be taken out of it.
        let before = knobs.setting(*knob).filter(|s| !matches!(s.origin, Origin::Default(_) | Origin::Assumed(_)));
        if let Some((name, old)) = before.and_then(|b| words(&trainer, *knob, &b.value)?.pop()) {
            let _ = writeln!(lines, "-{}", form.line(name, &old));
        }
        for (name, new) in words(&trainer, *knob, value)? {
            let _ = writeln!(lines, "+{}", form.line(name, &new));
        }
    }
    (!lines.is_empty()).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::fixes::spec;

    fn check(trainer: &str, changes: &[(Knob, &str)], want: Option<&str>) {
        let mut knobs = Knobs::default();
        knobs.put(Knob::Trainer, Value::Text(trainer.into()), Origin::Set);
        let changes: Vec<(Knob, Value)> = changes.iter().map(|(k, v)| (*k, Value::guess(v))).collect();
        assert_eq!(command(&knobs, &changes).as_ref().map(Clean::as_str), want, "{trainer}");
    }

    #[test]
    fn each_trainer_is_told_in_its_own_words() {
        let half = [(Knob::PerDeviceTrainBatchSize, "4"), (Knob::GradientAccumulationSteps, "2")];
        check("trl", &half, Some("--per_device_train_batch_size 4 --gradient_accumulation_steps 2"));
        check("torchtune", &half, Some("batch_size=4 gradient_accumulation_steps=2"));
        check("verl", &half, Some("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4"));
        check("axolotl", &half, None);
        // What is no trainer of ours is told nothing; nor is half of a change.
        check("vllm", &half, None);
        check("trl", &[(Knob::ZeroStage, "3")], None);
        let segments = [(Knob::AllocConf, "expandable_segments:True")];
        check("vllm", &segments, Some("PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"));
        let qlora = [(Knob::Quantization, "nf4"), (Knob::LoraRank, "16")];
        check("llamafactory", &qlora, Some("--quantization_bit 4 --finetuning_type lora --lora_rank 16"));
        check("trl", &qlora, Some("--load_in_4bit true --use_bnb_nested_quant true --use_peft true --lora_r 16"));
    }

    #[test]
    fn a_patch_takes_out_what_the_file_says() {
        let mut knobs = Knobs::default();
        knobs.put(Knob::Trainer, Value::Text("axolotl".into()), Origin::Set);
        knobs.put(Knob::PerDeviceTrainBatchSize, Value::Int(8), Origin::Config("a.yaml".into()));
        knobs.put(Knob::GradientAccumulationSteps, Value::Int(1), Origin::Default("transformers".into()));
        let changes =
            [(Knob::PerDeviceTrainBatchSize, Value::Int(4)), (Knob::GradientAccumulationSteps, Value::Int(2))];
        let want = "-micro_batch_size: 8\n+micro_batch_size: 4\n+gradient_accumulation_steps: 2\n";
        assert_eq!(patch(&knobs, &changes).as_deref(), Some(want));
        let python = "-micro_batch_size=8,\n+micro_batch_size=4,\n";
        knobs.put(Knob::PerDeviceTrainBatchSize, Value::Int(8), Origin::Config("a.py".into()));
        assert_eq!(patch(&knobs, &changes[..1]).as_deref(), Some(python));
        knobs.put(Knob::Trainer, Value::Text("trl".into()), Origin::Set);
        knobs.put(Knob::PerDeviceTrainBatchSize, Value::Int(8), Origin::Config("a.json".into()));
        let json = "+\"optim\": \"adamw_8bit\",\n+\"gradient_checkpointing\": true,\n";
        let changes =
            [(Knob::Optimizer, Value::Text("adamw_8bit".into())), (Knob::GradientCheckpointing, Value::Bool(true))];
        assert_eq!(patch(&knobs, &changes).as_deref(), Some(json));
    }

    /// What a plan types and what the fix beside it says are the same words.
    #[test]
    fn a_plan_and_its_fixes_use_the_same_words() {
        let pairs = [
            ("reduce_batch", Knob::PerDeviceTrainBatchSize, "4"),
            ("grad_checkpointing", Knob::GradientCheckpointing, "true"),
            ("reduce_seq_len", Knob::SequenceLength, "512"),
            ("reduce_completion_len", Knob::MaxCompletionLength, "256"),
            ("reduce_generations", Knob::NumGenerations, "4"),
            ("fused_optimizer", Knob::Optimizer, "adamw_torch_fused"),
            ("quantize_8bit_optim", Knob::Optimizer, "adamw_8bit"),
            ("lora", Knob::LoraRank, "16"),
            ("qlora", Knob::Quantization, "nf4"),
            ("bf16", Knob::Dtype, "bfloat16"),
            ("liger_or_chunked_loss", Knob::FusedLoss, "true"),
            ("flash_attention", Knob::Attention, "flash_attention_2"),
        ];
        let mut apart = Vec::new();
        for (id, knob, value) in pairs {
            for trainer in ["trl", "transformers", "axolotl", "llamafactory", "torchtune", "verl"] {
                let rows = spec(id).unwrap().how.iter().filter(|row| row.frameworks.contains(&trainer));
                let said: String = rows.filter(|row| row.has).map(|row| row.text).collect::<Vec<_>>().join(" / ");
                for (name, _) in words(trainer, knob, &Value::guess(value)).unwrap_or_default() {
                    let last = name.rsplit('.').next().unwrap();
                    if !said.contains(last) {
                        apart.push(format!("{id}, {trainer}: {name} is not in {said:?}"));
                    }
                }
            }
        }
        assert!(apart.is_empty(), "{}", apart.join("\n"));
    }
}
