//! What a log says of its job by the way: framework, versions, method, model, batch sizes.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use memchr::memmem::Finder;
use regex::Regex;

use crate::model::{
    Clean,
    knobs::{Knob, Knobs, Origin, Value},
};

use super::{lines::Lines, pattern};

/// Words of which one stands in every line that tells something.
const WORDS: &[&str] = &[
    "site-packages/",
    "dist-packages/",
    "==",
    "Batch size per device",
    "Instantaneous batch size",
    "Gradient Accumulation steps",
    "Total optimization steps",
    "per_device_train_batch_size",
    "Running training",
    "model_name_or_path",
    "Config(",
    "TrainingArguments(",
    "Unsloth",
    "[axolotl",
    "axolotl.",
    "verl",
    "openrlhf",
    "torchtune",
    "world_size",
    "from_pretrained",
    "EngineCore",
    "when initializing the engine",
    "jaxlib",
    "RESOURCE_EXHAUSTED",
    "Megatron-LM",
    "megatron/",
    "Transformers:",
];

/// Metrics of which the first ones tell the method: they stand in every line of some logs.
const METRICS: &str = "rewards/";
static METRIC: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(METRICS));
const METRICS_TOLD: u64 = 1000;

static SEARCH: LazyLock<AhoCorasick> = LazyLock::new(|| search(WORDS.iter().copied()));
static FIRST: LazyLock<AhoCorasick> = LazyLock::new(|| search(WORDS.iter().copied().chain([METRICS])));

fn search(words: impl Iterator<Item = &'static str>) -> AhoCorasick {
    AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(words).expect("the list is tested")
}

/// What is searched with one list of words: after the first metrics fewer are.
const PART: usize = 64 << 10;

/// Pattern, knob, and the value where the pattern's presence is the fact.
type Fact = (Regex, Knob, Option<&'static str>);

static FACTS: LazyLock<Vec<Fact>> = LazyLock::new(|| {
    let fact = |pattern: &str, knob, value| (pattern::ascii(pattern).expect("the list is tested"), knob, value);
    vec![
        fact(r"\btrl==(?<v>\d+\.\d+[\w.]*)", Knob::TrlVersion, None),
        fact(r"\btransformers==(?<v>\d+\.\d+[\w.]*)", Knob::TransformersVersion, None),
        fact(r"Transformers: (?<v>\d+\.\d+[\w.]*)", Knob::TransformersVersion, None),
        fact(r"\btorch==(?<v>\d+\.\d+[\w.]*)", Knob::TorchVersion, None),
        fact(r"(?i)(?:Instantaneous )?batch size per device = (?<v>\d+)", Knob::PerDeviceTrainBatchSize, None),
        fact(r"per_device_train_batch_size[=:] ?(?<v>\d+)", Knob::PerDeviceTrainBatchSize, None),
        fact(r"Gradient [Aa]ccumulation steps = (?<v>\d+)", Knob::GradientAccumulationSteps, None),
        fact(r"gradient_accumulation_steps[=:] ?(?<v>\d+)", Knob::GradientAccumulationSteps, None),
        fact(r"num_generations[=:] ?(?<v>\d+)", Knob::NumGenerations, None),
        fact(r"max_completion_length[=:] ?(?<v>\d+)", Knob::MaxCompletionLength, None),
        fact(r"gradient_checkpointing[=:] ?(?<v>True|False|true|false)\b", Knob::GradientCheckpointing, None),
        fact(r"\boptim=(?:OptimizerNames\.\w+|'?(?<v>[a-z_0-9]+)'?)", Knob::Optimizer, None),
        fact(r#"model_name_or_path['"]?[=:] ?['"]?(?<v>[\w./-]+)"#, Knob::Model, None),
        fact(r"world_size[=:] ?(?<v>\d+)", Knob::WorldSize, None),
        fact(r"GRPOConfig\(|trl/trainer/grpo_|grpo_trainer\.py", Knob::Method, Some("grpo")),
        fact(r"DPOConfig\(|dpo_trainer\.py", Knob::Method, Some("dpo")),
        fact(r"SFTConfig\(|sft_trainer\.py", Knob::Method, Some("sft")),
        fact(r"kto_trainer\.py", Knob::Method, Some("kto")),
        fact(r"ppo_trainer\.py", Knob::Method, Some("ppo")),
        fact(r"packages/axolotl/|\[axolotl|axolotl\.(?:cli|train)", Knob::Trainer, Some("axolotl")),
        fact(r"packages/llamafactory/|/LLaMA-Factory/", Knob::Trainer, Some("llamafactory")),
        fact(r"packages/verl/|/verl/(?:trainer|workers)/", Knob::Trainer, Some("verl")),
        fact(r"packages/openrlhf/|/openrlhf/", Knob::Trainer, Some("openrlhf")),
        fact(r"packages/torchtune/|torchtune/recipes|recipes/(?:full|lora)_finetune", Knob::Trainer, Some("torchtune")),
        fact(r"packages/unsloth/|Unsloth \d", Knob::Trainer, Some("unsloth")),
        fact(r"packages/(?:lightning|pytorch_lightning)/", Knob::Trainer, Some("lightning")),
        fact(r"packages/trl/", Knob::Trainer, Some("trl")),
        fact(r"packages/vllm/|\(EngineCore|when initializing the engine", Knob::Trainer, Some("vllm")),
        fact(r"/Megatron-LM/|packages/megatron/|megatron/(?:core|training)/", Knob::Trainer, Some("megatron")),
        fact(
            r"packages/jax/|jaxlib\.|RESOURCE_EXHAUSTED: (?:XLA|Out of memory|Attempting)|memory space hbm",
            Knob::Trainer,
            Some("jax"),
        ),
        fact(r"packages/transformers/trainer\.py", Knob::Trainer, Some("transformers")),
        fact(r"packages/torch/", Knob::Trainer, Some("pytorch")),
    ]
});

/// How special a framework is: the one built on another names the job.
fn rank(trainer: &str) -> u8 {
    match trainer {
        "pytorch" | "jax" => 0,
        "transformers" => 1,
        "vllm" => 2,
        "trl" | "lightning" | "megatron" => 3,
        _ => 4,
    }
}

/// Collects facts from the bytes of one log, in order, in any chunking.
#[derive(Debug, Default)]
pub struct Facts {
    knobs: Knobs,
    lines: Lines,
    number: u64,
    /// Lines with metrics that were looked at.
    metrics: u64,
}

impl Facts {
    pub fn feed(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(PART) {
            self.part(part);
        }
    }

    fn part(&mut self, bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        let asks = self.metrics < METRICS_TOLD && self.knobs.value(Knob::Method).is_none();
        lines.feed(bytes, if asks { &FIRST } else { &SEARCH }, &mut |number, line| {
            self.number = number;
            self.line(line);
            false
        });
        self.lines = lines;
    }

    /// Counts the lines of the next bytes, which have so many line breaks, without learning from them.
    pub fn pass_over(&mut self, bytes: &[u8], breaks: u64) {
        self.lines.pass_over(bytes, breaks);
    }

    fn line(&mut self, line: &[u8]) {
        // A line of metrics tells the method, and holds no setting unless another word says so.
        let metrics = METRIC.find(line).is_some();
        self.metrics += u64::from(metrics);
        let words = !metrics || SEARCH.is_match(line);
        if !words && self.knobs.value(Knob::Method).is_some() {
            return;
        }
        let mut text = String::from_utf8_lossy(line);
        if text.contains('\u{a0}') {
            text = text.replace('\u{a0}', " ").into();
        }
        let origin = Origin::Log { line: self.number };
        for (pattern, knob, value) in FACTS.iter().filter(|_| words) {
            let Some(c) = pattern.captures(&text) else { continue };
            let value = match (value, c.name("v")) {
                (Some(value), _) => Value::Text((*value).into()),
                (None, Some(found)) => match knob {
                    Knob::TrlVersion | Knob::TransformersVersion | Knob::TorchVersion => {
                        Value::Text(Clean::new(found.as_str()))
                    }
                    _ => Value::guess(found.as_str()),
                },
                (None, None) => continue,
            };
            if *knob == Knob::Trainer
                && let (Some(new), Some(old)) = (value.as_str(), self.knobs.str(Knob::Trainer))
                && rank(new) <= rank(old)
            {
                continue;
            }
            self.knobs.put(*knob, value, origin.clone());
        }
        // Metric keys tell the method where nothing else does.
        if text.contains("rewards/chosen") && self.knobs.value(Knob::Method).is_none() {
            self.knobs.put(Knob::Method, Value::Text("dpo".into()), origin);
        } else if text.contains("'reward_std'") && text.contains("rewards/") && self.knobs.value(Knob::Method).is_none()
        {
            self.knobs.put(Knob::Method, Value::Text("grpo".into()), origin);
        }
    }

    /// What has been found so far; every origin is `Origin::Log`.
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(Knob, &str)]) {
        for size in [1, 7, text.len().max(1)] {
            let mut facts = Facts::default();
            for chunk in text.as_bytes().chunks(size) {
                facts.feed(chunk);
            }
            for (knob, value) in want {
                assert_eq!(
                    facts.knobs().value(*knob).map(ToString::to_string).as_deref(),
                    Some(*value),
                    "{} in chunks of {size}",
                    knob.as_str()
                );
            }
        }
    }

    #[test]
    fn banners_paths_and_lists_are_read() {
        check(
            "***** Running training *****\n  Instantaneous batch size per device = 8\n  Gradient Accumulation steps = 4\n",
            &[(Knob::PerDeviceTrainBatchSize, "8"), (Knob::GradientAccumulationSteps, "4")],
        );
        check(
            "torch==2.5.1\ntransformers==4.48.3\ntrl==0.14.0\n",
            &[(Knob::TrlVersion, "0.14.0"), (Knob::TorchVersion, "2.5.1")],
        );
        check(
            "  File \"/x/site-packages/torch/nn/a.py\", line 1, in f\n  File \"/x/site-packages/trl/trainer/grpo_trainer.py\", line 1, in g\n  File \"/x/site-packages/transformers/trainer.py\", line 2, in h\n",
            &[(Knob::Trainer, "trl"), (Knob::Method, "grpo")],
        );
        check("(EngineCore_DP0 pid=7) ValueError: x\n", &[(Knob::Trainer, "vllm")]);
        check("jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: x\n", &[(Knob::Trainer, "jax")]);
        check("{'loss': 0.1, 'rewards/format/mean': 0.5, 'reward_std': 0.2}\n", &[(Knob::Method, "grpo")]);
    }
}
