//! What every estimate obeys, whatever the job.

use proptest::prelude::*;

use crate::model::{
    estimate::Estimate,
    failure::PhaseId,
    knobs::{Knob, Knobs, Origin, Value},
};

use super::{estimate, models};

const MODELS: &[&str] = &[
    "Qwen/Qwen2.5-0.5B",
    "Qwen/Qwen3-1.7B",
    "meta-llama/Llama-3.2-1B",
    "meta-llama/Llama-3.1-8B",
    "google/gemma-2-2b",
    "openai-community/gpt2-medium",
    "mistralai/Mixtral-8x7B-v0.1",
];
const TRAINERS: &[(&str, &str)] =
    &[("trl", "1.16.0"), ("trl", "1.3.0"), ("trl", "0.20.0"), ("trl", "0.14.0"), ("transformers", "1.16.0")];
const METHODS: &[&str] = &["sft", "dpo", "kto", "reward", "grpo", "rloo"];
/// From what needs least to what needs most.
const OPTIMIZERS: &[&str] = &["sgd", "adamw_8bit", "adamw_torch_fused", "adamw_torch"];

#[derive(Clone, Debug)]
struct Settings(Vec<(Knob, String)>);

impl Settings {
    fn with(&self, knob: Knob, value: &impl ToString) -> Estimate {
        let mut knobs = Knobs::default();
        for (knob, value) in self.0.iter().filter(|(k, _)| *k != knob).chain([&(knob, value.to_string())]) {
            let version = matches!(knob, Knob::TrlVersion | Knob::TransformersVersion);
            let value = if version { Value::Text(value.as_str().into()) } else { Value::guess(value) };
            knobs.put(*knob, value, Origin::Set);
        }
        estimate(&models::find(knobs.str(Knob::Model).unwrap()).unwrap(), &knobs, None)
    }
}

prop_compose! {
    fn settings()(
        model in prop::sample::select(MODELS),
        (trainer, version) in prop::sample::select(TRAINERS),
        method in prop::sample::select(METHODS),
        batch in 1..9u64,
        length in 64..3000u64,
        accumulation in 1..5u64,
        rank in prop::sample::select(&[0u64, 4, 16, 64][..]),
        checkpointing in any::<bool>(),
        fused in any::<bool>(),
        optimizer in prop::sample::select(OPTIMIZERS),
        attention in prop::sample::select(&["sdpa", "eager"][..]),
    ) -> Settings {
        let method = if trainer == "transformers" { "sft" } else { method };
        let settings = [
            (Knob::Model, model.to_string()),
            (Knob::Trainer, trainer.to_string()),
            (Knob::TrlVersion, version.to_string()),
            (Knob::Method, method.to_string()),
            (Knob::Dtype, "bfloat16".to_string()),
            (Knob::PerDeviceTrainBatchSize, (batch * 4).to_string()),
            (Knob::NumGenerations, "4".to_string()),
            (Knob::SequenceLength, length.to_string()),
            (Knob::PromptLength, (length / 2).to_string()),
            (Knob::MaxCompletionLength, (length / 2).to_string()),
            (Knob::GradientAccumulationSteps, accumulation.to_string()),
            (Knob::LoraRank, rank.to_string()),
            (Knob::GradientCheckpointing, checkpointing.to_string()),
            (Knob::FusedLoss, fused.to_string()),
            (Knob::Optimizer, optimizer.to_string()),
            (Knob::Attention, attention.to_string()),
            (Knob::Beta, "0".to_string()),
        ];
        Settings(settings.to_vec())
    }
}

/// Never less in use with more of a thing.
fn rises(settings: &Settings, knob: Knob, values: &[impl ToString]) -> Result<(), TestCaseError> {
    let peaks: Vec<u64> = values.iter().map(|v| settings.with(knob, v).peak.allocated_bytes).collect();
    prop_assert!(peaks.is_sorted(), "{}: {peaks:?}", knob.as_str());
    Ok(())
}

proptest! {
    #![proptest_config(crate::properties::config(192))]

    #[test]
    fn estimates_rise_with_what_is_made_larger(s in settings()) {
        rises(&s, Knob::PerDeviceTrainBatchSize, &[4, 8, 16, 64, 256])?;
        rises(&s, Knob::SequenceLength, &[64, 500, 512, 2048, 16_384])?;
        rises(&s, Knob::PromptLength, &[64, 500, 512, 2048, 16_384])?;
        rises(&s, Knob::MaxCompletionLength, &[64, 500, 512, 2048, 16_384])?;
        rises(&s, Knob::NumGenerations, &[2, 4, 8, 16])?;
        rises(&s, Knob::LoraRank, &[1, 4, 16, 64, 256])?;
    }

    #[test]
    fn estimates_never_fall_when_something_is_added(s in settings()) {
        rises(&s, Knob::Optimizer, OPTIMIZERS)?;
        rises(&s, Knob::Dtype, &["bfloat16", "float32"])?;
        rises(&s, Knob::Beta, &["0", "0.04"])?;
        rises(&s, Knob::GradientCheckpointing, &["true", "false"])?;
        rises(&s, Knob::EvalStrategy, &["no", "steps"])?;
        rises(&s, Knob::ReferenceModel, &["false", "true"])?;
    }

    /// Phases are the sums of their parts, the peak is the largest, and what is reserved, on the card and the interval's
    /// ends come in that order.
    #[test]
    fn figures_agree_with_each_other(s in settings()) {
        let e = s.with(Knob::Beta, &0);
        let p = &e.peak;
        prop_assert_eq!(e.phases.iter().map(|p| p.bytes).max(), Some(p.allocated_bytes));
        for phase in &e.phases {
            prop_assert_eq!(phase.bytes, phase.components.total());
            prop_assert!(phase.id != PhaseId::Unknown);
        }
        prop_assert!(p.allocated_bytes <= p.reserved_bytes && p.reserved_bytes < p.device_bytes, "{:?}", p);
        prop_assert!(p.low_bytes <= p.device_bytes && p.device_bytes <= p.high_bytes, "{:?}", p);
    }
}
