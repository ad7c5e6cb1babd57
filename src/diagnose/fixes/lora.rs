//! # LoRA
//!
//! ## What it changes
//! What is trained: small adapters beside frozen weights.
//!
//! ## Why it helps
//! Gradients and optimizer states exist for the adapters only; in DPO and GRPO the reference is the same model without them.
//!
//! ## Cost
//! a quality gap on large shifts
//!
//! ## When not
//! continued pre-training; lora_dropout above 0 and whole embeddings among the trained modules cost much of it again

use super::{Knob, NOTHING, Spec, none, on, text, trains_adapters, whole};

pub(super) const SPEC: Spec = Spec {
    id: "lora",
    source: include_str!("lora.rs"),
    applies: |case| !trains_adapters(case),
    changes: |_| vec![(Knob::LoraRank, whole(16)), (Knob::LoraTargetModules, text("all-linear"))],
    how: &[
        on(&["trl"], "use_peft: true, lora_r: 16, lora_alpha: 32, lora_target_modules: all-linear"),
        on(
            &["transformers", "pytorch", "lightning", "accelerate", "deepspeed"],
            "peft.get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=\"all-linear\"))",
        ),
        on(&["axolotl"], "adapter: lora, lora_r: 16, lora_alpha: 32, lora_target_linear: true"),
        on(&["llamafactory"], "finetuning_type: lora, lora_rank: 16, lora_target: all"),
        on(&["torchtune"], "a lora_* recipe with a lora_* model builder"),
        on(&["verl"], "actor_rollout_ref.model.lora_rank=16 actor_rollout_ref.model.target_modules=all-linear actor_rollout_ref.rollout.load_format=safetensors"),
        on(&["openrlhf"], "--ds.lora.rank 16 --ds.lora.alpha 32").since("2026-04"),
        on(&["openrlhf"], "--lora_rank 16 --lora_alpha 32").before("2026-04"),
        on(&["unsloth"], "FastLanguageModel.get_peft_model(model, r=16)"),
        none(&["megatron"], "no adapters in Megatron-LM itself; NeMo and Megatron Bridge have them"),
        none(&["vllm"], "it trains nothing"),
        none(&["jax"], "a library of its own for the model at hand"),
    ],
    ..NOTHING
};
