//! # QLoRA
//!
//! ## What it changes
//! The frozen weights under the adapters: four bits each.
//!
//! ## Why it helps
//! They take half a byte instead of two, and gradients and states exist for the adapters only.
//!
//! ## Cost
//! slower and noisier; a merging step
//!
//! ## When not
//! continued pre-training

use super::{Knob, NOTHING, Spec, none, on, text, whole};

pub(super) const SPEC: Spec = Spec {
    id: "qlora",
    source: include_str!("qlora.rs"),
    applies: |case| case.knobs.str(Knob::Quantization).is_none_or(|q| q == "none"),
    changes: |case| {
        let modules = case.knobs.str(Knob::LoraTargetModules).unwrap_or("all-linear");
        vec![
            (Knob::Quantization, text("nf4")),
            (Knob::LoraRank, whole(case.knobs.u64(Knob::LoraRank).unwrap_or(16))),
            (Knob::LoraTargetModules, text(modules)),
        ]
    },
    how: &[
        on(&["trl"], "load_in_4bit: true, use_bnb_nested_quant: true, use_peft: true, lora_r: {lora_rank|16}"),
        on(
            &["transformers", "pytorch", "lightning", "accelerate"],
            "from_pretrained(..., quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=\"nf4\", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16)), then LoRA",
        ),
        on(&["axolotl"], "adapter: qlora, load_in_4bit: true, lora_r: {lora_rank|16}"),
        on(&["llamafactory"], "quantization_bit: 4, quantization_method: bnb, finetuning_type: lora, lora_rank: {lora_rank|16}"),
        on(&["torchtune"], "a qlora_* model builder"),
        on(&["openrlhf"], "--ds.load_in_4bit --ds.lora.rank {lora_rank|16}").since("2026-04"),
        on(&["openrlhf"], "--load_in_4bit --lora_rank {lora_rank|16}").before("2026-04"),
        on(&["unsloth"], "FastLanguageModel.from_pretrained(..., load_in_4bit=True)"),
        none(&["verl"], "its FSDP workers load no 4-bit weights: LoRA over bf16 instead"),
        none(&["deepspeed"], "ZeRO-3 does not part 4-bit weights; stage 2 with transformers' BitsAndBytesConfig"),
        none(&["megatron", "jax"], "no 4-bit weights to train over"),
        on(&["vllm"], "a checkpoint quantised to 4 bits (AWQ, GPTQ), or --quantization bitsandbytes"),
    ],
    ..NOTHING
};
