//! A job as the formulas need it: every setting resolved to a number, with what had to be assumed.

use crate::model::{
    Clean,
    architecture::Architecture,
    knobs::{Knob, Knobs},
};

/// What the trainer optimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Supervised fine-tuning and pre-training.
    Sft,
    /// DPO, KTO, reward modelling: answers compared, most with those of a reference model.
    Pairs,
    /// GRPO, RLOO, PPO: generates before it trains.
    Online,
}

/// How a step of the optimizer runs and what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimizer {
    /// AdamW over lists of tensors: its step holds one more copy of the trainable parameters.
    AdamForeach,
    AdamFused,
    Adam8bit,
    /// States in unified memory, outside the pool.
    Paged,
    Lion8bit,
    Lion,
    Adafactor,
    Sgd,
}

/// A resolved job. Lengths are tokens, `micro_batch` sequences in one forward.
#[derive(Clone, Debug)]
pub struct Job {
    pub model: Architecture,
    pub method: Method,
    /// The plain transformers Trainer, which computes the loss of the whole logits.
    pub plain_trainer: bool,
    /// TRL below 0.15 counts prompts, slices logits late, and keeps a reference model by default.
    pub early_trl: bool,
    pub micro_batch: u64,
    /// Two where a row is a chosen and a rejected answer.
    pub sequences_per_row: u64,
    pub sequence: u64,
    pub prompt: u64,
    pub completion: u64,
    pub accumulation: u64,
    pub steps: u64,
    /// Bytes of a weight, of a gradient and state element.
    pub weight_bytes: f64,
    pub float32: bool,
    pub autocast: bool,
    pub checkpointing: bool,
    pub offload_activations: bool,
    pub optimizer: Optimizer,
    pub lora_rank: u64,
    pub lora_targets: Vec<String>,
    pub lora_dropout: bool,
    pub quantization: Quantization,
    pub eager: bool,
    pub fused_loss: bool,
    pub reference: bool,
    pub vllm_share: f64,
    pub vllm_sleeps: bool,
    pub ranks: u64,
    pub zero_stage: u64,
    pub tensor_parallel: u64,
    pub offload_optimizer: bool,
    pub offload_parameters: bool,
    pub evaluation: Option<Evaluation>,
    /// Values that nobody gave.
    pub assumed: Vec<Clean>,
}

/// An evaluation between the steps of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation {
    pub micro_batch: u64,
    /// Rows whose logits are on the card at once, beside the batch that is computed; `None` where nothing is kept.
    pub kept_rows: Option<u64>,
    /// Logits are kept and nobody said for how many rows.
    pub unknown_rows: bool,
}

impl Evaluation {
    /// Reads what the trainer does between steps; `None` where it does not evaluate, or nobody said that it does.
    fn new(knobs: &Knobs, plain_trainer: bool) -> Option<Self> {
        let strategy = knobs.str(Knob::EvalStrategy)?;
        if strategy == "no" {
            return None;
        }
        // transformers' default, whatever the training's batch.
        let micro_batch = knobs.u64(Knob::PerDeviceEvalBatchSize).unwrap_or(8).max(1);
        // transformers keeps logits only when metrics are computed from them; TRL's trainers return none.
        let keeps = knobs.bool(Knob::ComputeMetrics).unwrap_or(false) && plain_trainer;
        let accumulated = knobs.u64(Knob::EvalAccumulationSteps).filter(|s| *s > 0).map(|s| s * micro_batch);
        let rows = match (accumulated, knobs.u64(Knob::EvalSamples)) {
            (Some(most), Some(rows)) => Some(most.min(rows)),
            (one, other) => one.or(other),
        };
        Some(Self {
            micro_batch,
            kept_rows: keeps.then_some(rows.unwrap_or(micro_batch)),
            unknown_rows: keeps && rows.is_none(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    None,
    Nf4,
    Int8,
}

/// `1.16.0` as 1.16; what cannot be read is new.
fn version(text: Option<&str>) -> Option<f64> {
    let mut parts = text?.split(['.', '+', '-']);
    let major: f64 = parts.next()?.parse().ok()?;
    let minor: f64 = parts.next().unwrap_or("0").trim_end_matches(char::is_alphabetic).parse().ok()?;
    Some(major + minor / 1000.0)
}

impl Job {
    /// Resolves settings; what nobody said takes the default of the framework's version, and is listed.
    pub fn new(model: Architecture, knobs: &Knobs) -> Self {
        let mut assumed = Vec::new();
        let mut number = |knob: Knob, default: u64| {
            knobs.u64(knob).unwrap_or_else(|| {
                assumed.push(Clean::new(&format!("{}={default}", knob.as_str())));
                default
            })
        };
        let trainer = knobs.str(Knob::Trainer).unwrap_or("trl").to_ascii_lowercase();
        let trl = version(knobs.str(Knob::TrlVersion)).unwrap_or(1.016);
        let torch = version(knobs.str(Knob::TorchVersion)).unwrap_or(2.011);
        let named = knobs.str(Knob::Method).unwrap_or("sft").to_ascii_lowercase();
        let method = match named.as_str() {
            "grpo" | "rloo" | "ppo" => Method::Online,
            "dpo" | "kto" | "reward" | "orpo" | "cpo" => Method::Pairs,
            _ => Method::Sft,
        };
        // KTO's rows are single answers.
        let sequences_per_row = if method == Method::Pairs && named != "kto" { 2 } else { 1 };
        let trl_like = !matches!(trainer.as_str(), "transformers" | "pytorch" | "lightning");
        let early_trl = trl_like && method == Method::Online && trl < 0.015;
        let batch = number(Knob::PerDeviceTrainBatchSize, 8);
        let (prompt, completion, sequence, generations) = match method {
            Method::Online => {
                let prompt = number(Knob::PromptLength, 512);
                let completion = number(Knob::MaxCompletionLength, if trl < 1.010 { 256 } else { 512 });
                let generations = if early_trl { number(Knob::NumGenerations, 8) } else { 1 };
                (prompt, completion, prompt + completion, generations)
            }
            _ => (0, 0, number(Knob::SequenceLength, if trl_like { 1024 } else { 512 }), 1),
        };
        let dtype = knobs.str(Knob::Dtype).unwrap_or("float32").to_ascii_lowercase();
        if knobs.str(Knob::Dtype).is_none() {
            assumed.push(Clean::new("dtype=float32 (what TRL and transformers 4 load when nothing is said)"));
        }
        let float32 = matches!(dtype.as_str(), "float32" | "fp32" | "torch.float32" | "auto32");
        let autocast = knobs.str(Knob::Autocast).is_some_and(|a| a != "none");
        let lora_rank = knobs.u64(Knob::LoraRank).unwrap_or(0);
        let quantization = match knobs.str(Knob::Quantization) {
            Some("nf4" | "4bit" | "fp4") => Quantization::Nf4,
            Some("int8" | "8bit") => Quantization::Int8,
            _ => Quantization::None,
        };
        let named_optimizer = knobs.str(Knob::Optimizer).map(str::to_ascii_lowercase);
        let optimizer = match named_optimizer.as_deref() {
            None if torch >= 2.008 => Optimizer::AdamFused,
            Some(o) if o.starts_with("paged") => Optimizer::Paged,
            Some(o) if o.contains("lion") && o.contains('8') => Optimizer::Lion8bit,
            Some(o) if o.contains("lion") => Optimizer::Lion,
            Some(o) if o.contains("8bit") || o.contains("bnb") => Optimizer::Adam8bit,
            Some(o) if o.contains("adafactor") => Optimizer::Adafactor,
            Some(o) if o.contains("fused") => Optimizer::AdamFused,
            Some(o) if o.starts_with("sgd") => Optimizer::Sgd,
            _ => Optimizer::AdamForeach,
        };
        let beta = knobs.f64(Knob::Beta).unwrap_or(if trl < 0.019 { 0.04 } else { 0.0 });
        let reference = lora_rank == 0
            && knobs.bool(Knob::ReferenceModel).unwrap_or(match method {
                Method::Online => beta > 0.0,
                Method::Pairs => named == "dpo" || named == "kto",
                Method::Sft => false,
            });
        let checkpointing = knobs.bool(Knob::GradientCheckpointing).unwrap_or(trl_like && trl >= 0.022);
        if knobs.value(Knob::GradientCheckpointing).is_none() {
            assumed.push(Clean::new(&format!("gradient_checkpointing={checkpointing}")));
        }
        let vllm = knobs.bool(Knob::UseVllm).unwrap_or(false)
            && knobs.str(Knob::VllmMode).unwrap_or(if trl >= 1.0 { "colocate" } else { "server" }) == "colocate";
        let targets = knobs.str(Knob::LoraTargetModules).unwrap_or("all-linear");
        Self {
            evaluation: Evaluation::new(knobs, !trl_like),
            plain_trainer: !trl_like,
            early_trl,
            micro_batch: batch * generations * sequences_per_row,
            sequences_per_row,
            sequence,
            prompt,
            completion,
            accumulation: knobs.u64(Knob::GradientAccumulationSteps).unwrap_or(1).max(1),
            steps: knobs.u64(Knob::MaxSteps).filter(|s| *s > 0).unwrap_or(1000),
            weight_bytes: if float32 { 4.0 } else { 2.0 },
            float32,
            autocast,
            checkpointing,
            offload_activations: knobs.bool(Knob::ActivationOffloading).unwrap_or(false),
            optimizer,
            lora_rank,
            lora_targets: targets.split([',', ' ']).filter(|t| !t.is_empty()).map(str::to_string).collect(),
            lora_dropout: knobs.f64(Knob::LoraDropout).unwrap_or(0.0) > 0.0,
            quantization,
            eager: knobs.str(Knob::Attention) == Some("eager"),
            fused_loss: knobs.bool(Knob::FusedLoss).unwrap_or(false),
            reference,
            vllm_share: if vllm { knobs.f64(Knob::VllmGpuMemoryUtilization).unwrap_or(0.3) } else { 0.0 },
            vllm_sleeps: knobs.bool(Knob::VllmEnableSleepMode).unwrap_or(false),
            ranks: knobs.u64(Knob::WorldSize).unwrap_or(1).max(1),
            zero_stage: match knobs.str(Knob::ShardingStrategy).map(str::to_ascii_lowercase).as_deref() {
                Some("full_shard" | "hybrid_shard" | "fsdp" | "fsdp2") => 3,
                Some("shard_grad_op") => 2,
                _ => knobs.u64(Knob::ZeroStage).unwrap_or(0).min(3),
            },
            tensor_parallel: knobs.u64(Knob::TensorParallel).unwrap_or(1).max(1),
            offload_optimizer: knobs.bool(Knob::OffloadOptimizer).unwrap_or(false),
            offload_parameters: knobs.bool(Knob::OffloadParam).unwrap_or(false),
            model,
            method,
            assumed,
        }
    }

    /// Bytes of an adapter's element: PEFT keeps adapters in float32; TRL casts those of a quantised base to bfloat16.
    pub fn adapter_bytes(&self) -> f64 {
        if self.quantization != Quantization::None && !self.plain_trainer { 2.0 } else { 4.0 }
    }

    /// Tokens of one forward.
    pub fn tokens(&self) -> f64 {
        (self.micro_batch * self.sequence) as f64
    }

    /// Whether an adapted linear layer has this name.
    pub fn adapts(&self, matrix: &str) -> bool {
        matrix != "router" && self.lora_targets.iter().any(|t| t == "all-linear" || t == "all" || t == matrix)
    }

    /// TRL from 1.15 on computes the loss without ever holding all logits.
    pub fn fused_head(&self) -> bool {
        !self.plain_trainer && !self.early_trl
    }
}
