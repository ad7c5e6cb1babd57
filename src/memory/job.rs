//! A job as the formulas need it: every setting resolved to a number, with what had to be assumed.

use crate::model::{
    architecture::Architecture,
    knobs::{Knob, Knobs},
};

use super::defaults::{Assumption, resolve, version_of};

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
    /// bitsandbytes' 32-bit states, whatever the parameters' type.
    Adam32bit,
    Adam8bit,
    /// States in unified memory, outside the pool.
    Paged,
    Lion8bit,
    Lion,
    Adafactor,
    Sgd,
}

/// How the loss comes from the last hidden states: which tensors as long as tokens times vocabulary exist at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The model's own: all logits, their float32 copy, its softmax.
    Whole,
    /// TRL 0.14: logits of prompt and completion as float32.
    Early,
    /// TRL 0.15 to 1.14, verl, OpenRLHF: log-probabilities of one row after the other, of all logits.
    Rows,
    /// Liger's fused linear cross-entropy and its like: chunks of tokens.
    Chunks,
    /// Liger's GRPO loss: one sequence at a time.
    Sequences,
    /// TRL from 1.15 (SFT from 1.7): tiles of tokens and vocabulary.
    Tiles,
    /// A reward model's head has one output.
    Value,
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

/// A resolved job. Lengths are tokens, `micro_batch` sequences in one forward.
#[derive(Clone, Debug)]
pub struct Job {
    pub model: Architecture,
    pub method: Method,
    pub loss: Loss,
    /// TRL, which casts adapters on a quantised base to bfloat16.
    pub trl: bool,
    /// TRL 0.14: counts prompts, and lives on transformers 4.48.
    pub early_trl: bool,
    /// transformers before 4.54 repeats keys and values for every query head before SDPA.
    pub repeats_keys: bool,
    pub micro_batch: u64,
    /// Two where a row is a chosen and a rejected answer.
    pub sequences_per_row: u64,
    pub sequence: u64,
    pub prompt: u64,
    pub completion: u64,
    /// Sequences generated at once.
    pub generated: u64,
    pub accumulation: u64,
    pub steps: u64,
    /// Bytes of a weight, of a gradient and state element.
    pub weight_bytes: f64,
    pub float32: bool,
    pub autocast: bool,
    pub checkpointing: bool,
    pub offload_activations: bool,
    pub optimizer: Optimizer,
    /// DeepSpeed keeps a float32 copy of 16-bit weights with the optimizer's states.
    pub master_weights: bool,
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
    /// Settings that nobody gave.
    pub assumed: Vec<Assumption>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    None,
    Nf4,
    Int8,
}

impl Evaluation {
    /// Reads what the trainer does between steps; `None` where it does not evaluate, or nobody said that it does.
    fn new(knobs: &Knobs, trl: bool) -> Option<Self> {
        let strategy = knobs.str(Knob::EvalStrategy)?;
        if strategy == "no" {
            return None;
        }
        let micro_batch = knobs.u64(Knob::PerDeviceEvalBatchSize).unwrap_or(8).max(1);
        // transformers keeps logits only when metrics are computed from them; TRL's trainers return none.
        let keeps = knobs.bool(Knob::ComputeMetrics).unwrap_or(false) && !trl;
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

fn optimizer(name: &str) -> Optimizer {
    match name {
        o if o.starts_with("paged") => Optimizer::Paged,
        o if o.contains("lion") && o.contains('8') => Optimizer::Lion8bit,
        o if o.contains("lion") => Optimizer::Lion,
        o if o.contains("8bit") || o.contains("8_bit") || o.contains("adamw_bnb") => Optimizer::Adam8bit,
        o if o.contains("32bit") => Optimizer::Adam32bit,
        o if o.contains("adafactor") => Optimizer::Adafactor,
        o if o.contains("fused") => Optimizer::AdamFused,
        o if o.starts_with("sgd") => Optimizer::Sgd,
        _ => Optimizer::AdamForeach,
    }
}

/// Which loss a trainer's version computes (TRL's released sources; the other trainers' model code).
fn loss(trainer: &str, method: Method, named: &str, trl: f64, fused: bool) -> Loss {
    let of_trl = || match method {
        Method::Online if trl < 0.015 => Loss::Early,
        Method::Online if trl < 1.015 && fused && trl >= 0.017 => Loss::Sequences,
        Method::Online | Method::Pairs if trl < 1.015 => Loss::Rows,
        Method::Sft if trl < 1.007 && fused => Loss::Chunks,
        Method::Sft if trl < 1.007 => Loss::Whole,
        _ => Loss::Tiles,
    };
    match (trainer, method) {
        _ if named == "reward" => Loss::Value,
        ("trl", _) => of_trl(),
        ("unsloth", Method::Online) => Loss::Sequences,
        ("verl" | "openrlhf", _) if !fused => Loss::Rows,
        ("verl" | "openrlhf", _) => Loss::Chunks,
        (_, Method::Sft) if fused => Loss::Chunks,
        (_, Method::Sft) => Loss::Whole,
        // The others take these methods' trainers from TRL.
        _ => of_trl(),
    }
}

impl Job {
    /// Resolves settings; what nobody said takes the default of the trainer's version, and is listed.
    pub fn new(model: Architecture, given: &Knobs) -> Self {
        let (knobs, assumed) = resolve(given);
        let number = |knob: Knob| knobs.u64(knob).unwrap_or(0);
        let trainer = knobs.str(Knob::Trainer).unwrap_or("trl").to_ascii_lowercase();
        let trl = version_of(&knobs, Knob::TrlVersion).unwrap_or(1.016);
        let transformers = version_of(&knobs, Knob::TransformersVersion).unwrap_or(5.017);
        let named = knobs.str(Knob::Method).unwrap_or("sft").to_ascii_lowercase();
        let method = match named.as_str() {
            "grpo" | "rloo" | "ppo" => Method::Online,
            "dpo" | "kto" | "reward" | "orpo" | "cpo" => Method::Pairs,
            _ => Method::Sft,
        };
        // KTO's rows are single answers.
        let sequences_per_row = if method == Method::Pairs && named != "kto" { 2 } else { 1 };
        let is_trl = trainer == "trl";
        let early_trl = is_trl && method == Method::Online && trl < 0.015;
        let batch = number(Knob::PerDeviceTrainBatchSize).max(1);
        let (prompt, completion, sequence) = match method {
            Method::Online => {
                let (prompt, completion) = (number(Knob::PromptLength), number(Knob::MaxCompletionLength));
                (prompt, completion, prompt + completion)
            }
            _ => (0, 0, number(Knob::SequenceLength)),
        };
        let accumulation = number(Knob::GradientAccumulationSteps).max(1);
        // TRL from 0.17 on generates once for all micro-batches of a step.
        let micro_batch = batch * sequences_per_row * if early_trl { number(Knob::NumGenerations).max(1) } else { 1 };
        let at_once = if trl < 0.017 { 1 } else { knobs.u64(Knob::StepsPerGeneration).unwrap_or(accumulation) };
        let dtype = knobs.str(Knob::Dtype).unwrap_or("float32").to_ascii_lowercase();
        let float32 = matches!(dtype.as_str(), "float32" | "fp32" | "torch.float32");
        let lora_rank = number(Knob::LoraRank);
        let quantization = match knobs.str(Knob::Quantization) {
            Some("nf4" | "4bit" | "fp4") => Quantization::Nf4,
            Some("int8" | "8bit") => Quantization::Int8,
            _ => Quantization::None,
        };
        let beta = knobs.f64(Knob::Beta).unwrap_or(0.0);
        let reference = lora_rank == 0
            && knobs.bool(Knob::ReferenceModel).unwrap_or(match method {
                Method::Online => beta > 0.0,
                Method::Pairs => named == "dpo" || named == "kto",
                Method::Sft => false,
            });
        let vllm = knobs.bool(Knob::UseVllm).unwrap_or(false)
            && knobs.str(Knob::VllmMode) == Some("colocate")
            && method == Method::Online;
        let autocast = knobs.str(Knob::Autocast).is_some_and(|a| a != "none");
        let ranks = number(Knob::WorldSize).max(1);
        let sharding = knobs.str(Knob::ShardingStrategy).map(str::to_ascii_lowercase);
        let fsdp_stage = match sharding.as_deref() {
            Some("full_shard" | "hybrid_shard" | "fsdp" | "fsdp2") => 3,
            Some("shard_grad_op") => 2,
            _ => 0,
        };
        let deepspeed_stage = number(Knob::ZeroStage).min(3);
        // accelerate turns the weights of FSDP into float32 under mixed precision.
        let upcast = fsdp_stage > 0 && autocast && lora_rank == 0 && ranks > 1;
        let fused_loss = knobs.bool(Knob::FusedLoss).unwrap_or(false);
        let targets = knobs.str(Knob::LoraTargetModules).unwrap_or("all-linear");
        Self {
            evaluation: Evaluation::new(&knobs, is_trl),
            loss: loss(&trainer, method, &named, trl, fused_loss),
            trl: is_trl,
            early_trl,
            repeats_keys: transformers < 4.054,
            micro_batch,
            sequences_per_row,
            sequence,
            prompt,
            completion,
            generated: micro_batch * at_once.max(1),
            accumulation,
            steps: knobs.u64(Knob::MaxSteps).filter(|s| *s > 0).unwrap_or(1000),
            weight_bytes: if float32 || upcast { 4.0 } else { 2.0 },
            float32: float32 || upcast,
            autocast,
            checkpointing: knobs.bool(Knob::GradientCheckpointing).unwrap_or(false),
            offload_activations: knobs.bool(Knob::ActivationOffloading).unwrap_or(false),
            optimizer: optimizer(&knobs.str(Knob::Optimizer).unwrap_or("adamw_torch").to_ascii_lowercase()),
            master_weights: deepspeed_stage > 0 && !float32 && lora_rank == 0,
            lora_rank,
            lora_targets: targets.split([',', ' ']).filter(|t| !t.is_empty()).map(str::to_string).collect(),
            lora_dropout: knobs.f64(Knob::LoraDropout).unwrap_or(0.0) > 0.0,
            quantization,
            eager: knobs.str(Knob::Attention) == Some("eager"),
            fused_loss,
            reference,
            vllm_share: if vllm { knobs.f64(Knob::VllmGpuMemoryUtilization).unwrap_or(0.3) } else { 0.0 },
            vllm_sleeps: knobs.bool(Knob::VllmEnableSleepMode).unwrap_or(false),
            ranks,
            zero_stage: fsdp_stage.max(deepspeed_stage),
            tensor_parallel: number(Knob::TensorParallel).max(1),
            offload_optimizer: knobs.bool(Knob::OffloadOptimizer).unwrap_or(false),
            offload_parameters: knobs.bool(Knob::OffloadParam).unwrap_or(false),
            model,
            method,
            assumed,
        }
    }

    /// Bytes of an adapter's element: PEFT keeps adapters in float32; TRL casts those of a quantised base to bfloat16.
    pub fn adapter_bytes(&self) -> f64 {
        if self.quantization != Quantization::None && self.trl { 2.0 } else { 4.0 }
    }

    /// Tokens of one forward.
    pub fn tokens(&self) -> f64 {
        (self.micro_batch * self.sequence) as f64
    }

    /// Whether an adapted linear layer has this name.
    pub fn adapts(&self, matrix: &str) -> bool {
        matrix != "router" && self.lora_targets.iter().any(|t| t == "all-linear" || t == "all" || t == matrix)
    }
}
