//! What a model is made of, as its `config.json` says it.

use serde::Deserialize;

use super::Clean;

/// Shapes of a decoder. Names are those of `config.json`, GPT-2's older ones included.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    pub name: Clean,
    /// `model_type`.
    pub family: String,
    pub hidden: u64,
    pub layers: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_dim: u64,
    pub intermediate: u64,
    pub vocab: u64,
    pub tied: bool,
    /// Experts of each layer and how many a token goes through; 1 and 1 for a dense model.
    pub experts: u64,
    pub experts_per_token: u64,
    /// It has a tower for pictures or sound, which these figures leave out.
    pub tower: bool,
}

/// Why a `config.json` could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchitectureError {
    #[error("not a model's config.json: {0}")]
    Json(String),
    #[error("config.json lacks '{0}': oomph cannot tell this model's size")]
    Missing(&'static str),
    #[error("its {0} is not modelled: oomph cannot tell this model's memory")]
    NotModelled(&'static str),
}

#[derive(Deserialize, Default, Clone)]
struct Raw {
    name: Option<String>,
    model_type: Option<String>,
    #[serde(alias = "n_embd", alias = "d_model")]
    hidden_size: Option<u64>,
    #[serde(alias = "n_layer", alias = "num_layers", alias = "n_layers")]
    num_hidden_layers: Option<u64>,
    #[serde(alias = "n_head", alias = "n_heads")]
    num_attention_heads: Option<u64>,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    #[serde(alias = "n_inner", alias = "ffn_dim")]
    intermediate_size: Option<u64>,
    moe_intermediate_size: Option<u64>,
    vocab_size: Option<u64>,
    tie_word_embeddings: Option<bool>,
    #[serde(alias = "num_experts", alias = "n_routed_experts")]
    num_local_experts: Option<u64>,
    num_experts_per_tok: Option<u64>,
    text_config: Option<Box<Raw>>,
    vision_config: Option<serde::de::IgnoredAny>,
    audio_config: Option<serde::de::IgnoredAny>,
    kv_lora_rank: Option<u64>,
}

/// Families whose MLP has two matrices.
const UNGATED: &[&str] = &["gpt2", "gpt_neox", "opt", "bloom", "starcoder2", "phi", "falcon", "mpt"];

/// Families whose embeddings are tied when `config.json` does not say.
const TIED: &[&str] =
    &["gpt2", "gemma", "gemma2", "gemma3", "gemma3_text", "bloom", "opt", "falcon", "mpt", "starcoder2", "granite"];

impl Architecture {
    /// Reads a `config.json`; of a vision-language model its text part.
    ///
    /// # Errors
    /// When it is no JSON object or lacks a size.
    pub fn from_config_json(name: &str, text: &str) -> Result<Self, ArchitectureError> {
        let outer: Raw = serde_json::from_str(text).map_err(|e| ArchitectureError::Json(e.to_string()))?;
        let tied = outer.tie_word_embeddings;
        let tower = outer.vision_config.is_some() || outer.audio_config.is_some();
        let own_name = outer.name.clone();
        let outer_type = outer.model_type.clone();
        let raw = match outer.text_config.clone() {
            Some(inner) => *inner,
            None => outer,
        };
        if raw.kv_lora_rank.is_some() {
            return Err(ArchitectureError::NotModelled("multi-head latent attention"));
        }
        let hidden = raw.hidden_size.ok_or(ArchitectureError::Missing("hidden_size"))?;
        let heads =
            raw.num_attention_heads.filter(|h| *h > 0).ok_or(ArchitectureError::Missing("num_attention_heads"))?;
        let family = raw.model_type.or(outer_type).unwrap_or_default();
        let experts = raw.num_local_experts.unwrap_or(1).max(1);
        let dense = raw.intermediate_size.unwrap_or(4 * hidden);
        Ok(Self {
            name: Clean::new(own_name.as_deref().unwrap_or(name)),
            hidden,
            layers: raw.num_hidden_layers.ok_or(ArchitectureError::Missing("num_hidden_layers"))?,
            heads,
            kv_heads: raw.num_key_value_heads.unwrap_or(heads),
            head_dim: raw.head_dim.unwrap_or(hidden / heads),
            intermediate: if experts > 1 { raw.moe_intermediate_size.unwrap_or(dense) } else { dense },
            vocab: raw.vocab_size.ok_or(ArchitectureError::Missing("vocab_size"))?,
            tied: raw.tie_word_embeddings.or(tied).unwrap_or(TIED.contains(&family.as_str())),
            experts,
            experts_per_token: raw.num_experts_per_tok.unwrap_or(1).max(1),
            tower,
            family,
        })
    }

    /// Width of all query heads.
    pub fn q(&self) -> u64 {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads.
    pub fn kv(&self) -> u64 {
        self.kv_heads * self.head_dim
    }

    /// Whether the MLP has a gate beside its two matrices.
    fn gated(&self) -> bool {
        !UNGATED.contains(&self.family.as_str())
    }

    /// Every weight matrix of one layer: its inputs and outputs.
    pub fn matrices(&self) -> Vec<(&'static str, u64, u64)> {
        let (h, q, kv, i) = (self.hidden, self.q(), self.kv(), self.intermediate);
        let mut all = vec![("q_proj", h, q), ("k_proj", h, kv), ("v_proj", h, kv), ("o_proj", q, h)];
        for _ in 0..self.experts {
            if self.gated() {
                all.push(("gate_proj", h, i));
            }
            all.push(("up_proj", h, i));
            all.push(("down_proj", i, h));
        }
        if self.experts > 1 {
            all.push(("router", h, self.experts));
        }
        all
    }

    /// Parameters of the linear layers of all blocks.
    pub fn linear(&self) -> u64 {
        self.layers * self.matrices().iter().map(|(_, i, o)| i * o).sum::<u64>()
    }

    /// Parameters of biases and norms, and of learned positions.
    pub fn small(&self) -> u64 {
        let (h, q, kv, d, i, e) = (self.hidden, self.q(), self.kv(), self.head_dim, self.intermediate, self.experts);
        // Biases of all matrices.
        let biases = q + 2 * kv + h + i + h;
        let layer = match self.family.as_str() {
            "qwen2" => q + 2 * kv + 2 * h,
            "qwen3" | "qwen3_moe" => 2 * d + 2 * h,
            "gemma2" => 4 * h,
            "gemma3" | "gemma3_text" => 4 * h + 2 * d,
            "olmo" => 0,
            "olmo2" | "olmoe" => q + kv + 2 * h,
            "glm4" | "stablelm" => q + 2 * kv + 4 * h,
            "gpt2" | "gpt_neox" | "opt" | "bloom" | "starcoder2" => biases + 4 * h,
            "phi" => biases + 2 * h,
            // Biases of attention, router and experts, and one sink a head.
            "gpt_oss" => q + 2 * kv + h + self.heads + e + e * (2 * i + h) + 2 * h,
            _ => 2 * h,
        };
        let last = match self.family.as_str() {
            "olmo" => 0,
            "gpt2" => 2 * h + 1024 * h,
            "opt" => 2 * h + 2050 * h,
            "bloom" => 4 * h,
            "phi" => 2 * h + self.vocab,
            "gpt_neox" | "starcoder2" | "stablelm" | "falcon" => 2 * h,
            _ => h,
        };
        self.layers * layer + last
    }

    /// Parameters of the input embedding.
    pub fn embedding(&self) -> u64 {
        self.vocab * self.hidden
    }

    /// All parameters; tied embeddings count once.
    pub fn parameters(&self) -> u64 {
        self.linear() + self.small() + self.embedding() * if self.tied { 1 } else { 2 }
    }
}
