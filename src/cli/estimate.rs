//! `oomph estimate`: the peak of a configuration before it runs, by phase and component.

use std::{fmt::Write, process::ExitCode};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    memory,
    model::{
        Bytes, Clean,
        estimate::{Estimate, GpuCapacity},
        failure::Verdict,
        knobs::{Knob, Knobs, Origin, Value},
    },
};

use super::knobs::{KnobArgs, architecture};

/// Predict the peak memory of a training job, by phase and component, and whether it fits.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph estimate --config grpo.yaml --gpu-memory 16GiB
  oomph estimate --model Qwen/Qwen2.5-1.5B --method sft --set dtype=bfloat16 --gpu 'RTX 4090'
  oomph estimate --config grpo.yaml --set per_device_train_batch_size=4 --json
  oomph estimate --table --method grpo --gpu-memory 16GiB

Exit status: 0 fits, 1 does not, 3 too close to call, 2 error.")]
pub struct EstimateArgs {
    #[command(flatten)]
    knobs: KnobArgs,
    /// JSON (schema oomph.estimate/1)
    #[arg(long)]
    json: bool,
    /// A table of model sizes and ways to train instead of one configuration
    #[arg(long)]
    table: bool,
}

/// # Errors
/// When the model is unknown or a setting cannot be read.
pub fn run(args: &EstimateArgs) -> Result<ExitCode> {
    let knobs = args.knobs.read()?;
    let capacity = args.knobs.capacity()?;
    if args.table {
        let Some(capacity) = capacity else { bail!("--table needs --gpu-memory SIZE or --gpu NAME") };
        return super::print(&table(&knobs, &capacity));
    }
    let model = architecture(&knobs)?;
    let mut estimate = memory::estimate(&model, &knobs, capacity.clone());
    if let Some(capacity) = &capacity {
        estimate.largest = memory::largest(&model, &knobs, capacity);
    }
    let text = if args.json { serde_json::to_string_pretty(&estimate)? + "\n" } else { text(&estimate) };
    super::print(&text)?;
    Ok(ExitCode::from(match estimate.verdict {
        Verdict::Fits => 0,
        Verdict::DoesNotFit => 1,
        Verdict::Unknown if estimate.gpu.is_none() => 0,
        // Asked whether it fits, and nobody can say.
        Verdict::Unknown | Verdict::Tight => 3,
    }))
}

/// Phases as bars, the peak, the verdict.
fn text(e: &Estimate) -> String {
    let mut out = String::new();
    let scale =
        e.phases.iter().map(|p| p.bytes).chain(e.gpu.as_ref().map(|g| g.capacity_bytes)).max().unwrap_or(1).max(1);
    for phase in &e.phases {
        let id = serde_json::to_value(phase.id).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default();
        let width = (phase.bytes as f64 / scale as f64 * 34.0).round() as usize;
        let _ = writeln!(out, "{id:<16} {:>10}  {}", Bytes(phase.bytes), "█".repeat(width));
        let parts: Vec<String> = phase
            .components
            .named()
            .iter()
            .filter(|(_, bytes)| *bytes > phase.bytes / 50)
            .map(|(name, bytes)| format!("{} {}", name.replace('_', " "), Bytes(*bytes)))
            .collect();
        let _ = writeln!(out, "{:<16}   {}", "", parts.join(", "));
    }
    let p = &e.peak;
    let _ = writeln!(
        out,
        "\npeak: {} allocated, {} reserved, {} on the card ({} to {} in four of five runs)",
        Bytes(p.allocated_bytes),
        Bytes(p.reserved_bytes),
        Bytes(p.device_bytes),
        Bytes(p.low_bytes),
        Bytes(p.high_bytes)
    );
    if let Some(gpu) = &e.gpu {
        let what = match e.verdict {
            Verdict::Fits => "fits",
            Verdict::Tight => "too close to call",
            Verdict::DoesNotFit => "does not fit",
            Verdict::Unknown => "unknown",
        };
        let _ = writeln!(out, "{what}: {} of {} ({})", Bytes(p.device_bytes), Bytes(gpu.capacity_bytes), gpu.from);
    }
    for (knob, value) in &e.largest {
        let _ = writeln!(out, "largest {} that fits: {value}", knob.as_str());
    }
    if !e.assumed.is_empty() {
        let assumed: Vec<&str> = e.assumed.iter().map(Clean::as_str).collect();
        let _ = writeln!(out, "assumed:\n  {}", assumed.join("\n  "));
    }
    for note in &e.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

/// Models by size and ways to train: the peak of each, and whether it fits.
fn table(knobs: &Knobs, capacity: &GpuCapacity) -> String {
    const MODELS: &[&str] = &[
        "Qwen/Qwen2.5-0.5B",
        "meta-llama/Llama-3.2-1B",
        "Qwen/Qwen2.5-1.5B",
        "meta-llama/Llama-3.2-3B",
        "Qwen/Qwen2.5-7B",
        "meta-llama/Llama-3.1-8B",
        "Qwen/Qwen2.5-14B",
    ];
    const WAYS: &[(&str, &[(Knob, &str)])] = &[
        ("full", &[(Knob::Optimizer, "adamw_torch"), (Knob::GradientCheckpointing, "false")]),
        ("8-bit Adam", &[(Knob::Optimizer, "adamw_8bit"), (Knob::GradientCheckpointing, "false")]),
        ("8-bit + ckpt", &[(Knob::Optimizer, "adamw_8bit"), (Knob::GradientCheckpointing, "true")]),
        ("LoRA", &[(Knob::LoraRank, "16"), (Knob::GradientCheckpointing, "false")]),
        ("LoRA + ckpt", &[(Knob::LoraRank, "16"), (Knob::GradientCheckpointing, "true")]),
        ("QLoRA + ckpt", &[(Knob::LoraRank, "16"), (Knob::Quantization, "nf4"), (Knob::GradientCheckpointing, "true")]),
    ];
    let mut base = Knobs::default();
    for (knob, value) in [
        (Knob::Dtype, "bfloat16"),
        (Knob::Autocast, "bfloat16"),
        (Knob::PerDeviceTrainBatchSize, "4"),
        (Knob::PromptLength, "256"),
        (Knob::MaxCompletionLength, "786"),
        (Knob::SequenceLength, "1024"),
        (Knob::Method, "grpo"),
        (Knob::LoraTargetModules, "all-linear"),
    ] {
        base.put(knob, Value::guess(value), Origin::Assumed("table".into()));
    }
    base.merge(knobs);
    let mut out = format!("{:<16}", "GiB on the card");
    for (name, _) in WAYS {
        let _ = write!(out, "{name:>14}");
    }
    out.push('\n');
    for name in MODELS {
        let Some(model) = memory::models::find(name) else { continue };
        let _ = write!(out, "{:<16}", name.rsplit('/').next().unwrap_or(name));
        for (_, settings) in WAYS {
            let mut knobs = base.clone();
            for (knob, value) in *settings {
                knobs.put(*knob, Value::guess(value), Origin::Set);
            }
            let e = memory::estimate(&model, &knobs, Some(capacity.clone()));
            let mark = match e.verdict {
                Verdict::Fits => ' ',
                Verdict::Tight => '~',
                _ => '✗',
            };
            let _ = write!(out, "{:>12.1} {mark}", Bytes(e.peak.device_bytes).gib());
        }
        out.push('\n');
    }
    let _ = writeln!(
        out,
        "\n✗ does not fit {}, ~ too close to call. {} weights, micro-batch {}; --set changes what is assumed.",
        Bytes(capacity.capacity_bytes),
        base.str(Knob::Dtype).unwrap_or("bfloat16"),
        base.u64(Knob::PerDeviceTrainBatchSize).unwrap_or(4),
    );
    out
}
