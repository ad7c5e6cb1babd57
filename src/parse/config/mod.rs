//! Reads trainers' configuration files and command lines into knobs.
//!
//! A key means the same wherever it stands, so the formats share one table of keys ([`keys`]); what differs is how keys
//! and values are written: YAML, JSON, Python literals, `--flags`, `dotted.overrides=…`.

mod keys;
mod python;

use crate::model::{
    Clean,
    knobs::{Knob, Knobs, Origin, Value},
};

/// Why a configuration could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{name}: {what}")]
    Syntax { name: String, what: String },
    #[error(
        "{name}: no setting that oomph knows (it reads TRL, transformers, axolotl, LLaMA-Factory, torchtune, verl, OpenRLHF, accelerate, DeepSpeed and PEFT files, and Python scripts)"
    )]
    Nothing { name: String },
}

/// The largest configuration that is read.
const LARGEST: usize = 4 << 20;

/// Reads a file's text; the format is recognised by the text.
///
/// # Errors
/// When it cannot be parsed or holds no setting.
pub fn read(name: &str, text: &str) -> Result<Knobs, ConfigError> {
    let shown = Clean::new(name.rsplit('/').next().unwrap_or(name));
    let fail = |what: String| ConfigError::Syntax { name: shown.to_string(), what: Clean::new(&what).to_string() };
    if text.len() > LARGEST {
        return Err(fail("larger than 4 MiB: not a configuration".into()));
    }
    let origin = Origin::Config(shown.clone());
    let mut knobs = Knobs::default();
    let looks_like_python = std::path::Path::new(name).extension().is_some_and(|e| e == "py")
        || text.contains("import ") && text.contains('(') && !text.trim_start().starts_with('{');
    if looks_like_python {
        for (key, value) in python::settings(text) {
            keys::put(&mut knobs, &key, &value, &origin);
        }
    } else {
        let value: serde_json::Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|e| fail(e.to_string()))?
        } else {
            serde_saphyr::from_str(text).map_err(|e| fail(e.to_string()))?
        };
        walk("", &value, 0, &mut |key, value| keys::put(&mut knobs, key, value, &origin));
    }
    if knobs.is_empty() {
        return Err(ConfigError::Nothing { name: shown.to_string() });
    }
    Ok(knobs)
}

/// Every scalar of a tree with its dotted path; lists of scalars are joined by commas.
fn walk(path: &str, value: &serde_json::Value, depth: usize, put: &mut dyn FnMut(&str, &Value)) {
    if depth > 32 {
        return;
    }
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                walk(&path, value, depth + 1, put);
            }
        }
        serde_json::Value::Array(items) => {
            let words: Vec<&str> = items.iter().filter_map(|i| i.as_str()).collect();
            if !words.is_empty() && words.len() == items.len() {
                put(path, &Value::Text(Clean::new(&words.join(","))));
            }
        }
        serde_json::Value::Bool(b) => put(path, &Value::Bool(*b)),
        serde_json::Value::Number(n) => {
            put(path, &n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(0.0)), Value::Int));
        }
        serde_json::Value::String(s) => put(path, &Value::guess(s)),
        serde_json::Value::Null => {}
    }
}

/// Reads a command line: `--name value`, `--name=value`, `--flag`, `a.b=value`, `NAME=value` before the program.
pub fn command(text: &str) -> Knobs {
    let mut knobs = Knobs::default();
    let words = words(text);
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        // `--module NAME` starts a program.
        if word == "--module" {
            continue;
        }
        if let Some(flag) = word.strip_prefix("--") {
            let (name, value) = if let Some((name, value)) = flag.split_once('=') {
                (name, Value::guess(value))
            } else if let Some(next) = words.get(at).filter(|n| !n.starts_with("--")) {
                at += 1;
                (flag, Value::guess(next))
            } else {
                (flag, Value::Bool(true))
            };
            keys::put(&mut knobs, &name.replace('-', "_"), &value, &Origin::Command);
        } else if let Some((name, value)) = word.split_once('=') {
            keys::put(&mut knobs, name.trim_start_matches('+'), &Value::guess(value), &Origin::Command);
        } else if let Some((trainer, method)) = launched(word, words.get(at).map(String::as_str)) {
            knobs.put(Knob::Trainer, Value::Text(trainer.into()), Origin::Command);
            if let Some(method) = method {
                knobs.put(Knob::Method, Value::Text(method.into()), Origin::Command);
            }
        } else if word == "trl" {
            knobs.put(Knob::Trainer, Value::Text("trl".into()), Origin::Command);
            if let Some(method) =
                words.get(at).filter(|m| matches!(m.as_str(), "sft" | "dpo" | "grpo" | "kto" | "rloo" | "reward"))
            {
                knobs.put(Knob::Method, Value::Text(method.as_str().into()), Origin::Command);
            }
        }
    }
    knobs
}

/// The trainer that a word of a command line starts, and its method where the word or the next one says it.
fn launched(word: &str, next: Option<&str>) -> Option<(&'static str, Option<&'static str>)> {
    let methods = |text: &str| {
        ["sft", "dpo", "kto", "grpo", "rloo", "ppo"].into_iter().find(|m| text.split(['_', '.', '/']).any(|p| p == *m))
    };
    if word.starts_with("openrlhf.") {
        return Some(("openrlhf", methods(word)));
    }
    if word.starts_with("verl.trainer") {
        return Some(("verl", methods(word)));
    }
    match word {
        "llamafactory-cli" => Some(("llamafactory", None)),
        "axolotl" | "axolotl.cli.train" => Some(("axolotl", None)),
        "tune" if next == Some("run") => Some(("torchtune", None)),
        _ => None,
    }
}

/// Files that a configuration names for further settings, as it writes them.
pub fn linked(text: &str) -> Vec<String> {
    const KEYS: &[&str] = &["deepspeed", "deepspeed_config", "deepspeed_config_file", "fsdp_config", "config_file"];
    text.lines()
        .take(10_000)
        .filter_map(|line| {
            let (key, value) = line.trim().trim_start_matches("--").split_once([':', '='])?;
            let key = key.trim().trim_matches(['"', '\'']);
            let value = value.split(" #").next()?.trim().trim_end_matches(',').trim_matches(['"', '\'']);
            let file = value.contains('.') && !value.contains(['{', '(', ' ']);
            (KEYS.contains(&key) && file).then(|| value.to_string())
        })
        .take(8)
        .collect()
}

/// What the name of a DeepSpeed configuration tells where the file cannot be read: `zero3.json`, `ds_z2_config.json`.
pub fn named_stage(file: &str) -> Option<u64> {
    let name = file.rsplit('/').next()?.to_ascii_lowercase();
    let after =
        ["zero_stage", "zero-", "zero_", "zero", "_z"].iter().find_map(|word| name.split_once(word)).map(|(_, a)| a)?;
    after.chars().next()?.to_digit(10).filter(|stage| *stage <= 3).map(u64::from)
}

/// Words of a command line; quotes hold blanks together.
fn words(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars().take(1 << 16) {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
            }
            (_, '\\') if quote.is_none() => {}
            (_, c) => word.push(c),
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(knobs: &Knobs, want: &[(Knob, &str)]) {
        for (knob, value) in want {
            assert_eq!(knobs.value(*knob).map(ToString::to_string).as_deref(), Some(*value), "{}", knob.as_str());
        }
    }

    #[test]
    fn a_trainer_is_given_the_name_of_its_model() {
        let named = "NAME = 'Qwen/Qwen2.5-0.5B'\ntrainer = GRPOTrainer(model=NAME, args=GRPOConfig(bf16=True))\n";
        check(&read("a.py", named).unwrap(), &[(Knob::Model, "Qwen/Qwen2.5-0.5B"), (Knob::Method, "grpo")]);
        let literal = "trainer = trl.SFTTrainer(model=\"Qwen/Qwen3-4B\", args=SFTConfig(max_length=512))\n";
        check(&read("a.py", literal).unwrap(), &[(Knob::Model, "Qwen/Qwen3-4B"), (Knob::SequenceLength, "512")]);
        let object = "trainer = GRPOTrainer(model=policy, args=GRPOConfig(bf16=True))\n";
        assert_eq!(read("a.py", object).unwrap().value(Knob::Model), None);
    }

    #[test]
    fn trl_yaml() {
        let text = "model_name_or_path: Qwen/Qwen2.5-1.5B\ndtype: bfloat16\nbf16: true\nper_device_train_batch_size: 8\nuse_peft: true\nlora_r: 16\nlora_target_modules: [q_proj, v_proj]\nload_in_4bit: true\noptim: adamw_torch\nmax_length: 1024\n";
        check(
            &read("a.yaml", text).unwrap(),
            &[
                (Knob::Model, "Qwen/Qwen2.5-1.5B"),
                (Knob::Dtype, "bfloat16"),
                (Knob::Autocast, "bfloat16"),
                (Knob::PerDeviceTrainBatchSize, "8"),
                (Knob::LoraRank, "16"),
                (Knob::LoraTargetModules, "q_proj,v_proj"),
                (Knob::Quantization, "nf4"),
                (Knob::SequenceLength, "1024"),
            ],
        );
    }

    #[test]
    fn command_lines() {
        let knobs = command(
            "PYTORCH_ALLOC_CONF=expandable_segments:True accelerate launch --num_processes 4 train.py --per_device_train_batch_size=2 --gradient-checkpointing --attn_implementation flash_attention_2",
        );
        check(
            &knobs,
            &[
                (Knob::AllocConf, "expandable_segments:True"),
                (Knob::WorldSize, "4"),
                (Knob::PerDeviceTrainBatchSize, "2"),
                (Knob::GradientCheckpointing, "true"),
                (Knob::Attention, "flash_attention_2"),
            ],
        );
        check(
            &command("python -m verl.trainer.main_ppo actor_rollout_ref.rollout.n=8 data.max_response_length=1024"),
            &[(Knob::NumGenerations, "8"), (Knob::MaxCompletionLength, "1024")],
        );
        check(&command("trl grpo --model_name_or_path x"), &[(Knob::Method, "grpo"), (Knob::Trainer, "trl")]);
    }

    #[test]
    fn python_scripts() {
        let text = "from trl import GRPOConfig\nBATCH = 4\nargs = GRPOConfig(\n    output_dir='x', per_device_train_batch_size=BATCH,\n    num_generations=8, bf16=True, # comment\n    model_init_kwargs={'torch_dtype': 'bfloat16'},\n)\nmodel = AutoModelForCausalLM.from_pretrained('Qwen/Qwen2.5-0.5B', torch_dtype=torch.bfloat16)\n";
        check(
            &read("train.py", text).unwrap(),
            &[
                (Knob::Method, "grpo"),
                (Knob::PerDeviceTrainBatchSize, "4"),
                (Knob::NumGenerations, "8"),
                (Knob::Dtype, "bfloat16"),
                (Knob::Model, "Qwen/Qwen2.5-0.5B"),
            ],
        );
    }

    #[test]
    fn deepspeed_and_accelerate() {
        let ds = r#"{"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}, "train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": true}}"#;
        check(
            &read("ds.json", ds).unwrap(),
            &[(Knob::ZeroStage, "3"), (Knob::OffloadOptimizer, "true"), (Knob::PerDeviceTrainBatchSize, "2")],
        );
    }

    #[test]
    fn torchtune_builds_by_name() {
        let text = "model:\n  _component_: torchtune.models.llama3_1.lora_llama3_1_8b\n  lora_attn_modules: ['q_proj', 'v_proj', 'output_proj']\n  apply_lora_to_mlp: True\n  lora_rank: 8\ntokenizer:\n  max_seq_len: 2048\noptimizer:\n  _component_: bitsandbytes.optim.PagedAdamW8bit\nloss:\n  _component_: torchtune.modules.loss.LinearCrossEntropyLoss\nbatch_size: 2\ndtype: bf16\n";
        check(
            &read("lora.yaml", text).unwrap(),
            &[
                (Knob::Trainer, "torchtune"),
                (Knob::Model, "torchtune.models.llama3_1.lora_llama3_1_8b"),
                (Knob::LoraRank, "8"),
                (Knob::LoraTargetModules, "q_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"),
                (Knob::Optimizer, "paged_adamw_8bit"),
                (Knob::FusedLoss, "true"),
                (Knob::SequenceLength, "2048"),
                (Knob::PerDeviceTrainBatchSize, "2"),
            ],
        );
    }

    #[test]
    fn trainers_are_known_by_their_own_keys_and_programs() {
        let axolotl = "base_model: Qwen/Qwen2.5-7B\nadapter: lora\nsequence_len: 4096\nmicro_batch_size: 2\nbf16: auto\ndeepspeed: deepspeed_configs/zero2.json\n";
        check(&read("a.yaml", axolotl).unwrap(), &[(Knob::Trainer, "axolotl"), (Knob::Autocast, "bfloat16")]);
        assert_eq!(linked(axolotl), ["deepspeed_configs/zero2.json"]);
        assert_eq!(named_stage("deepspeed_configs/zero2.json"), Some(2));
        assert_eq!(named_stage("examples/deepspeed/ds_z3_config.json"), Some(3));
        assert_eq!(named_stage("ds_config.json"), None);
        let factory =
            "model_name_or_path: x\nfinetuning_type: full\ncutoff_len: 2048\ndisable_gradient_checkpointing: true\n";
        check(
            &read("a.yaml", factory).unwrap(),
            &[(Knob::Trainer, "llamafactory"), (Knob::GradientCheckpointing, "false")],
        );
        check(
            &command(
                "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo trainer.n_gpus_per_node=8 actor_rollout_ref.model.path=Qwen/Qwen2.5-7B",
            ),
            &[
                (Knob::Trainer, "verl"),
                (Knob::Method, "grpo"),
                (Knob::WorldSize, "8"),
                (Knob::Model, "Qwen/Qwen2.5-7B"),
            ],
        );
        check(
            &command("deepspeed --module openrlhf.cli.train_dpo --pretrain x"),
            &[(Knob::Trainer, "openrlhf"), (Knob::Method, "dpo")],
        );
        check(&command("tune run full_finetune_single_device --config x.yaml"), &[(Knob::Trainer, "torchtune")]);
        let script = "from transformers import Trainer, TrainingArguments\nargs = TrainingArguments(output_dir='x', bf16=True)\ntrainer = Trainer(model=model, args=args, compute_metrics=metrics)\n";
        check(&read("a.py", script).unwrap(), &[(Knob::Trainer, "transformers"), (Knob::ComputeMetrics, "true")]);
        check(
            &read("a.yaml", "precision: bf16-mixed\n").unwrap(),
            &[(Knob::Dtype, "float32"), (Knob::Autocast, "bfloat16")],
        );
        check(&read("a.yaml", "dtype: auto\n").unwrap(), &[(Knob::Dtype, "bfloat16")]);
    }

    #[test]
    fn what_is_no_configuration_says_so() {
        assert!(matches!(read("x.yaml", "a: [1"), Err(ConfigError::Syntax { .. })));
        assert!(matches!(read("x.yaml", "colour: red\n"), Err(ConfigError::Nothing { .. })));
    }
}
