//! The options that describe a job: `--config`, `--model`, `--method`, `--gpu-memory`, `--gpu`, `--set`, `--command`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::{
    memory::models,
    model::{
        Bytes, Clean,
        architecture::Architecture,
        estimate::GpuCapacity,
        knobs::{Knob, Knobs, Origin, Value},
    },
    parse::config,
};

/// What the job is, where the log does not say. Strongest first: --set, --command, --config, the log, defaults.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The job")]
pub struct KnobArgs {
    /// A trainer's configuration (YAML, JSON, Python script, DeepSpeed, accelerate, adapter_config.json); repeatable
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// The model: a Hub name, a folder, or its config.json
    #[arg(long, value_name = "NAME|DIR|FILE")]
    pub model: Option<String>,
    /// sft, grpo, dpo, ppo, kto, rloo, reward or pretrain
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Memory that the job may use: 16GiB, 80GB
    #[arg(long, value_name = "SIZE")]
    pub gpu_memory: Option<Bytes>,
    /// The card, by name: "RTX 4090", H100
    #[arg(long, value_name = "NAME")]
    pub gpu: Option<String>,
    /// A setting by its canonical name, such as per_device_train_batch_size=4; repeatable
    #[arg(long, value_name = "KNOB=VALUE")]
    pub set: Vec<String>,
    /// The trainer's command line, to read settings from
    #[arg(long, value_name = "'CMD …'")]
    pub command: Option<String>,
}

/// Memory of well-known cards as CUDA reports it, in MiB, by a part of the name; longer names first.
/// Read off `nvidia-smi` outputs and out-of-memory messages.
const CARDS: &[(&str, u64)] = &[
    ("h100 nvl", 95_830),
    ("h200", 143_156),
    ("h100", 81_008),
    ("a100 40", 40_326),
    ("a100-sxm4-40", 40_326),
    ("a100", 81_038),
    ("l40s", 45_478),
    ("l4", 22_563),
    ("t4", 14_914),
    ("v100 16", 16_151),
    ("v100", 32_494),
    ("a10g", 22_502),
    ("a10", 22_502),
    ("rtx 5090", 32_109),
    ("rtx 4090 laptop", 16_102),
    ("4090", 24_082),
    ("4080", 16_072),
    ("4070 ti super", 16_072),
    ("4070", 11_994),
    ("4060 ti 16", 16_072),
    ("3090", 24_126),
    ("3080 laptop", 16_107),
    ("3080", 10_007),
    ("3060", 12_044),
    ("a6000", 48_669),
];

/// Settings that a command itself tells, before it runs: the configurations that it names, its options, the allocator's
/// variable of this environment. What cannot be read is passed over: the command will say so itself.
pub fn of_command(words: &[Clean]) -> Knobs {
    let mut knobs = Knobs::default();
    for path in words.iter().filter_map(|word| super::record::config_of(word.as_str())) {
        let name = Clean::new(&path.to_string_lossy());
        let small = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= 1 << 20);
        let text = small.then(|| std::fs::read_to_string(path).ok()).flatten();
        if let Some(Ok(read)) = text.filter(|text| !is_model(text)).map(|text| config::read(name.as_str(), &text)) {
            knobs.merge(&read);
        }
    }
    let line: Vec<&str> = words.iter().map(Clean::as_str).collect();
    knobs.merge(&config::command(&line.join(" ")));
    for name in ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"] {
        if let Ok(value) = std::env::var(name) {
            knobs.put(Knob::AllocConf, Value::Text(Clean::new(&value)), Origin::Command);
        }
    }
    knobs
}

impl KnobArgs {
    /// Every setting that the options give.
    ///
    /// # Errors
    /// When a file cannot be read or a setting is none.
    pub fn read(&self) -> Result<Knobs> {
        let mut knobs = Knobs::default();
        for path in &self.config {
            let name = Clean::new(&path.to_string_lossy());
            let bytes = std::fs::read(path).with_context(|| format!("--config {name}"))?;
            let text = String::from_utf8_lossy(&bytes);
            if is_model(&text) {
                knobs.put(Knob::Model, Value::Text(name.clone()), Origin::Config(name));
                continue;
            }
            knobs.merge(&config::read(name.as_str(), &text)?);
            for linked in config::linked(&text) {
                knobs.merge(&follow(path, &linked));
            }
        }
        if let Some(command) = &self.command {
            knobs.merge(&config::command(command));
        }
        for (knob, value) in [(Knob::Model, &self.model), (Knob::Method, &self.method)] {
            if let Some(value) = value {
                knobs.put(knob, Value::Text(Clean::new(value)), Origin::Set);
            }
        }
        for setting in &self.set {
            let (name, value) =
                setting.split_once('=').ok_or_else(|| anyhow!("--set {}: write KNOB=VALUE", Clean::new(setting)))?;
            let knob: Knob = name.trim().parse().map_err(|e| anyhow!("--set {}: {e}", Clean::new(setting)))?;
            // Versions stay text: 1.10 is not 1.1.
            let value = match knob {
                Knob::TrlVersion | Knob::TransformersVersion | Knob::TorchVersion => Value::Text(Clean::new(value)),
                _ => Value::guess(value),
            };
            knobs.put(knob, value, Origin::Set);
        }
        Ok(knobs)
    }

    /// What the job may use of its card.
    ///
    /// # Errors
    /// When the card's name is unknown and no size is given.
    pub fn capacity(&self) -> Result<Option<GpuCapacity>> {
        if let Some(size) = self.gpu_memory {
            return Ok(Some(GpuCapacity { capacity_bytes: size.0, from: "--gpu-memory".into() }));
        }
        let Some(name) = &self.gpu else { return Ok(None) };
        let wanted = name.to_ascii_lowercase().replace(['-', '_'], " ");
        let found = CARDS.iter().find(|(card, _)| wanted.contains(card)).ok_or_else(|| {
            anyhow!(
                "--gpu {}: oomph does not know this card; give its memory with --gpu-memory 24GiB",
                Clean::new(name)
            )
        })?;
        Ok(Some(GpuCapacity { capacity_bytes: found.1 << 20, from: Clean::new(&format!("--gpu {name}")) }))
    }
}

/// What a file says that a configuration names, looked for beside the configuration and from here; where it is not
/// there, what its name says.
fn follow(from: &Path, linked: &str) -> Knobs {
    let beside = from.parent().unwrap_or(Path::new(".")).join(linked);
    let found = [beside, PathBuf::from(linked)].into_iter().find(|path| path.is_file());
    let read = found.and_then(|path| config::read(linked, &std::fs::read_to_string(path).ok()?).ok());
    read.unwrap_or_else(|| {
        let mut knobs = Knobs::default();
        if let Some(stage) = config::named_stage(linked) {
            knobs.put(Knob::ZeroStage, Value::Int(stage.cast_signed()), Origin::Config(Clean::new(linked)));
        }
        knobs
    })
}

fn is_model(text: &str) -> bool {
    text.contains("\"model_type\"") && (text.contains("hidden_size") || text.contains("n_embd"))
}

/// The architecture of the model that the settings name: embedded, in a folder, in the local Hugging Face cache.
///
/// # Errors
/// When nobody named a model, or its `config.json` is wanted.
pub fn architecture(knobs: &Knobs) -> Result<Architecture> {
    let name = knobs
        .value(Knob::Model)
        .map(ToString::to_string)
        .ok_or_else(|| anyhow!("which model? give --model NAME (such as Qwen/Qwen2.5-1.5B) or its config.json"))?;
    if let Some(path) = config_of(Path::new(&name)) {
        let text = std::fs::read_to_string(&path).with_context(|| Clean::new(&path.to_string_lossy()).to_string())?;
        return Architecture::from_config_json(&name, &text)
            .with_context(|| Clean::new(&path.to_string_lossy()).to_string());
    }
    models::find(&name).ok_or_else(|| {
        anyhow!("the model {} is not known here: give --model with the path of its config.json", Clean::new(&name))
    })
}

/// The `config.json` that a path or a Hub name in the local cache leads to.
fn config_of(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_path_buf());
    }
    if path.join("config.json").is_file() {
        return Some(path.join("config.json"));
    }
    let cache = std::env::var_os("HF_HUB_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HF_HOME").map(PathBuf::from);
        home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/huggingface")))
            .map(|h| h.join("hub"))
    })?;
    let name = path.to_str()?;
    if name.starts_with('/') || name.contains("..") {
        return None;
    }
    let snapshots = cache.join(format!("models--{}", name.replace('/', "--"))).join("snapshots");
    let found = std::fs::read_dir(snapshots).ok()?.flatten().take(64).map(|e| e.path().join("config.json"));
    found.filter(|p| p.is_file()).max_by_key(|p| p.metadata().and_then(|m| m.modified()).ok())
}
