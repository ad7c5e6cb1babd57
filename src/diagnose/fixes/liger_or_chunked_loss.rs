//! # Chunked loss
//!
//! ## What it changes
//! How the loss is computed: a chunk of tokens after the other, straight from the last hidden states.
//!
//! ## Why it helps
//! The logits of all tokens (8 to 14 bytes for each token and word of the vocabulary) never exist at once.
//!
//! ## Cost
//! none
//!
//! ## When not
//! LoRA on lm_head, prompt tuning, models that the kernels lack; TRL 1.15 and newer does it already

use crate::memory;

use super::{Conflict, Knob, NOTHING, Spec, none, on, value};

pub(super) const SPEC: Spec = Spec {
    id: "liger_or_chunked_loss",
    source: include_str!("liger_or_chunked_loss.rs"),
    applies: |case| {
        let known = case.knobs.str(Knob::Trainer) == Some("trl") && case.knobs.value(Knob::TrlVersion).is_some();
        case.knobs.bool(Knob::FusedLoss) != Some(true) && !(known && memory::computes_tiles(case.knobs))
    },
    changes: |_| vec![(Knob::FusedLoss, value(true))],
    how: &[
        none(&["trl"], "its losses are chunked already").since("1.15"),
        on(&["trl"], "use_liger_kernel: true").since("0.25").before("1.15"),
        on(&["trl"], "use_liger_loss: true").since("0.17").before("0.25"),
        none(&["trl"], "it came with 0.17").before("0.17"),
        on(&["transformers"], "use_liger_kernel=True"),
        on(&["axolotl"], "plugins: [axolotl.integrations.liger.LigerPlugin], liger_fused_linear_cross_entropy: true"),
        on(&["llamafactory"], "enable_liger_kernel: true"),
        on(&["torchtune"], "loss._component_=torchtune.modules.loss.LinearCrossEntropyLoss"),
        on(&["verl"], "actor_rollout_ref.model.use_fused_kernels=True"),
        on(&["openrlhf"], "--ds.use_liger_kernel"),
        on(&["unsloth"], "GRPOConfig(unsloth_logit_chunk_multiplier=...): more chunks are smaller ones (older: unsloth_num_chunks); its SFT loss is chunked already"),
        on(&["megatron"], "--cross-entropy-loss-fusion"),
        on(
            &["pytorch", "lightning", "accelerate", "deepspeed"],
            "liger_kernel.transformers.AutoLigerKernelForCausalLM.from_pretrained(...) in place of AutoModelForCausalLM",
        ),
        none(&["jax"], "go through the tokens with jax.lax.map, each chunk under jax.checkpoint"),
        none(&["vllm"], "it computes no loss"),
    ],
    conflicts: &[Conflict {
        fixes: &[],
        now: |case| case.knobs.str(Knob::LoraTargetModules).is_some_and(|modules| modules.contains("lm_head")),
        why: "adapters on lm_head: the kernels read its weight and would leave them out",
    }],
    ..NOTHING
};
