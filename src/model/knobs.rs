//! Knobs: the settings of a training job that decide its memory, each with where its value came from.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::Clean;

/// Where a value came from. Later variants are stronger and win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody said: a guess, listed as assumed.
    Assumed(Clean),
    /// The framework's default for its version.
    Default(Clean),
    /// The log itself; the line is 1-based.
    Log { line: u64 },
    /// A configuration file.
    Config(Clean),
    /// The command line of the trainer.
    Command,
    /// `--set`, `--model`, `--method`.
    Set,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assumed(why) => write!(f, "assumed: {why}"),
            Self::Default(what) => write!(f, "default of {what}"),
            Self::Log { line } => write!(f, "log line {line}"),
            Self::Config(file) => write!(f, "{file}"),
            Self::Command => f.write_str("--command"),
            Self::Set => f.write_str("--set"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Clean),
}

impl Value {
    /// Reads a value as a person or a command line writes it.
    pub fn guess(text: &str) -> Self {
        let text = text.trim();
        match text {
            "true" | "True" | "yes" | "on" => return Self::Bool(true),
            "false" | "False" | "no" | "off" => return Self::Bool(false),
            _ => {}
        }
        if let Ok(n) = text.parse::<i64>() {
            return Self::Int(n);
        }
        if let Ok(x) = text.parse::<f64>() {
            return Self::Float(x);
        }
        Self::Text(Clean::new(text.trim_matches(['"', '\''])))
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            Self::Int(n) => Some(*n != 0),
            Self::Text(_) | Self::Float(_) => None,
        }
    }

    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(n) => u64::try_from(*n).ok(),
            Self::Float(x) if x.fract() == 0.0 && *x >= 0.0 => Some(*x as u64),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Float(x) => write!(f, "{x}"),
            Self::Text(text) => write!(f, "{text}"),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::Float(x) => serializer.serialize_f64(*x),
            Self::Text(text) => text.serialize(serializer),
        }
    }
}

macro_rules! knobs {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A canonical setting. The names are the keys of `--set` and of every fix.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub enum Knob { $($(#[$doc])* $name,)* }

        impl Knob {
            pub const ALL: &'static [Knob] = &[$(Knob::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Knob::$name => $text,)* }
            }
        }

        impl FromStr for Knob {
            type Err = UnknownKnob;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($text => Ok(Knob::$name),)* _ => Err(UnknownKnob(Clean::new(text))) }
            }
        }
    };
}

knobs! {
    Model = "model",
    Method = "method",
    Trainer = "trainer",
    TrlVersion = "trl_version",
    TransformersVersion = "transformers_version",
    TorchVersion = "torch_version",
    PerDeviceTrainBatchSize = "per_device_train_batch_size",
    PerDeviceEvalBatchSize = "per_device_eval_batch_size",
    GradientAccumulationSteps = "gradient_accumulation_steps",
    NumGenerations = "num_generations",
    PromptLength = "prompt_length",
    MaxCompletionLength = "max_completion_length",
    SequenceLength = "sequence_length",
    Packing = "packing",
    GradientCheckpointing = "gradient_checkpointing",
    ActivationOffloading = "activation_offloading",
    /// Data type of the weights: float32, bfloat16, float16.
    Dtype = "dtype",
    /// none, bfloat16, float16.
    Autocast = "autocast",
    Optimizer = "optimizer",
    LoraRank = "lora_rank",
    LoraTargetModules = "lora_target_modules",
    LoraDropout = "lora_dropout",
    /// none, nf4, int8.
    Quantization = "quantization",
    /// eager, sdpa, flash_attention_2.
    Attention = "attention",
    /// Liger or chunked loss.
    FusedLoss = "fused_loss",
    Beta = "beta",
    ReferenceModel = "reference_model",
    UseVllm = "use_vllm",
    VllmMode = "vllm_mode",
    VllmGpuMemoryUtilization = "vllm_gpu_memory_utilization",
    VllmEnableSleepMode = "vllm_enable_sleep_mode",
    VllmMaxModelLength = "vllm_max_model_length",
    ZeroStage = "zero_stage",
    OffloadOptimizer = "offload_optimizer",
    OffloadParam = "offload_param",
    ShardingStrategy = "sharding_strategy",
    WorldSize = "world_size",
    TensorParallel = "tensor_parallel",
    AllocConf = "alloc_conf",
    EvalAccumulationSteps = "eval_accumulation_steps",
    /// no, steps, epoch.
    EvalStrategy = "eval_strategy",
    /// Rows of the evaluation's data.
    EvalSamples = "eval_samples",
    /// Whether metrics are computed from all predictions, which are then kept to the end of the evaluation.
    ComputeMetrics = "compute_metrics",
    DataloaderNumWorkers = "dataloader_num_workers",
    MaxSteps = "max_steps",
    StepsPerGeneration = "steps_per_generation",
    NumIterations = "num_iterations",
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a knob; `oomph explain knobs` lists them")]
pub struct UnknownKnob(pub Clean);

impl TryFrom<String> for Knob {
    type Error = UnknownKnob;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for Knob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub value: Value,
    pub origin: Origin,
}

/// What is known about a job's settings. A stronger origin replaces a weaker one, whatever the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Knobs {
    settings: BTreeMap<Knob, Setting>,
}

impl Knobs {
    /// Takes a value unless a stronger origin has spoken; of two equal ones the later wins.
    pub fn put(&mut self, knob: Knob, value: Value, origin: Origin) {
        if self.settings.get(&knob).is_none_or(|old| rank(&origin) >= rank(&old.origin)) {
            self.settings.insert(knob, Setting { value, origin });
        }
    }

    /// The same settings but one.
    #[must_use]
    pub fn without(&self, knob: Knob) -> Self {
        let mut settings = self.settings.clone();
        settings.remove(&knob);
        Self { settings }
    }

    /// Puts everything of `other` in.
    pub fn merge(&mut self, other: &Knobs) {
        for (knob, setting) in &other.settings {
            self.put(*knob, setting.value.clone(), setting.origin.clone());
        }
    }

    pub fn setting(&self, knob: Knob) -> Option<&Setting> {
        self.settings.get(&knob)
    }

    pub fn value(&self, knob: Knob) -> Option<&Value> {
        self.setting(knob).map(|s| &s.value)
    }

    pub fn u64(&self, knob: Knob) -> Option<u64> {
        self.value(knob)?.as_u64()
    }

    pub fn f64(&self, knob: Knob) -> Option<f64> {
        self.value(knob)?.as_f64()
    }

    pub fn bool(&self, knob: Knob) -> Option<bool> {
        self.value(knob)?.as_bool()
    }

    pub fn str(&self, knob: Knob) -> Option<&str> {
        self.value(knob)?.as_str()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Knob, &Setting)> {
        self.settings.iter().map(|(k, s)| (*k, s))
    }

    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }
}

fn rank(origin: &Origin) -> u8 {
    match origin {
        Origin::Assumed(_) => 0,
        Origin::Default(_) => 1,
        Origin::Log { .. } => 2,
        Origin::Config(_) => 3,
        Origin::Command => 4,
        Origin::Set => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_origin_wins_in_any_order() {
        let mut knobs = Knobs::default();
        knobs.put(Knob::NumGenerations, Value::Int(4), Origin::Set);
        knobs.put(Knob::NumGenerations, Value::Int(8), Origin::Config("a.yaml".into()));
        assert_eq!(knobs.u64(Knob::NumGenerations), Some(4));
        knobs.put(Knob::NumGenerations, Value::Int(2), Origin::Set);
        assert_eq!(knobs.u64(Knob::NumGenerations), Some(2));
    }

    #[test]
    fn settings_read_back_from_json() {
        let mut knobs = Knobs::default();
        knobs.put(Knob::NumGenerations, Value::Int(4), Origin::Set);
        knobs.put(Knob::Packing, Value::Bool(true), Origin::Config("a.yaml".into()));
        knobs.put(Knob::Beta, Value::Float(0.25), Origin::Log { line: 3 });
        knobs.put(Knob::Model, Value::Text("a/b".into()), Origin::Assumed("the size".into()));
        let text = serde_json::to_string(&knobs).unwrap();
        assert_eq!(serde_json::from_str::<Knobs>(&text).unwrap(), knobs);
    }

    #[test]
    fn every_name_reads_back() {
        for knob in Knob::ALL {
            assert_eq!(knob.as_str().parse(), Ok(*knob));
        }
    }
}
