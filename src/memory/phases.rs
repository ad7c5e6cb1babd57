//! What is alive in each phase of a step, in bytes.
//!
//! Constants without another source were measured on an H200 over 77 runs (14 models; transformers 5.17, TRL 1.16,
//! torch 2.11): bytes a token, found as the residue of the phases after weights, gradients and states.

use crate::model::{
    estimate::{Components, PhaseEstimate},
    failure::PhaseId,
};

use super::{
    constants::{
        ADAM_8BIT_BYTES, BACKWARD_TRANSIENT, FORWARD_TRANSIENT, MIB, NF4_BYTES, PREFILL_TRANSIENT, WORKSPACE,
        WORKSPACE_EARLY,
    },
    job::{Job, Loss, Method, Optimizer, Quantization},
};

/// Sizes that all phases share.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub weights: f64,
    pub adapters: f64,
    pub gradients: f64,
    pub states: f64,
    pub reference: f64,
    pub trainable: f64,
    /// What one layer keeps for its backward.
    pub layer: f64,
    /// What all layers keep from forward to backward, with what their ends keep: the embedding's output and the last
    /// norm in float32.
    pub kept: f64,
    pub ends: f64,
}

/// What the caching allocator really takes for a tensor: from 10 MiB on a segment in steps of 2 MiB, whose rest is
/// given to nobody else when it is 1 MiB or less (PyTorch `CUDACachingAllocator`).
fn block(bytes: f64) -> f64 {
    if bytes >= 10.0 * MIB {
        let segment = (bytes / (2.0 * MIB)).ceil() * 2.0 * MIB;
        if segment - bytes <= MIB { segment } else { bytes }
    } else {
        (bytes / 512.0).ceil() * 512.0
    }
}

/// Bytes of all layers' matrices and the embeddings at `w` bytes an element, as allocated.
fn whole_model(job: &Job, w: f64, linear_w: f64) -> f64 {
    let m = &job.model;
    let layers: f64 =
        m.matrices().iter().map(|(_, i, o)| block((i * o) as f64 * linear_w)).sum::<f64>() * m.layers as f64;
    // A reward model has one output in place of the head.
    let tables = block(m.embedding() as f64 * w) * if m.tied || job.loss == Loss::Value { 1.0 } else { 2.0 };
    layers + tables + m.small() as f64 * w
}

pub fn sizes(job: &Job) -> Sizes {
    let m = &job.model;
    let w = job.weight_bytes;
    let lora = job.lora_rank > 0;
    let weights = match job.quantization {
        Quantization::Nf4 => whole_model(job, 2.0, NF4_BYTES),
        Quantization::Int8 => whole_model(job, 2.0, 1.0),
        Quantization::None => whole_model(job, w, w),
    };
    let adapter_parameters = if lora {
        let widths: u64 = m.matrices().iter().filter(|(n, ..)| job.adapts(n)).map(|(_, i, o)| i + o).sum();
        (job.lora_rank * widths * m.layers) as f64
    } else {
        0.0
    };
    let adapter_bytes = job.adapter_bytes();
    let no_head = if job.loss == Loss::Value && !m.tied { m.embedding() } else { 0 };
    let whole = (m.parameters() - no_head) as f64;
    let (trainable, element) = if lora { (adapter_parameters, adapter_bytes) } else { (whole, w) };
    let gradients = if lora { trainable * element } else { weights };
    let embeddings = if lora { 0.0 } else { m.embedding() as f64 };
    let rest = trainable - embeddings;
    // transformers keeps 32-bit states for nn.Embedding under 8-bit optimizers (5.x; not in 4.48 with TRL 0.14).
    let wide = if job.repeats_keys { ADAM_8BIT_BYTES } else { 8.0 };
    let states = match job.optimizer {
        Optimizer::AdamForeach | Optimizer::AdamFused => 2.0 * gradients,
        Optimizer::Adam32bit => 8.0 * trainable,
        Optimizer::Adam8bit => embeddings * wide + rest * ADAM_8BIT_BYTES,
        // Half of both: one state.
        Optimizer::Lion8bit => 0.5 * (embeddings * wide + rest * ADAM_8BIT_BYTES),
        Optimizer::Lion => 4.0 * trainable,
        // Unified memory: neither in the pool nor in the process's share while the card is not full.
        Optimizer::Paged | Optimizer::Sgd => 0.0,
        Optimizer::Adafactor => 0.01 * trainable,
    };
    // DeepSpeed: states and a copy of the weights in float32, 12 bytes a parameter for Adam (its memory estimators).
    let states = match job.optimizer {
        Optimizer::AdamForeach | Optimizer::AdamFused if job.master_weights => 12.0 * trainable,
        _ if job.master_weights => states + 4.0 * trainable,
        _ => states,
    };
    let reference = if job.reference { weights } else { 0.0 };
    let layer = layer(job);
    let n = job.tokens();
    let ends = if job.early_trl {
        0.0
    } else {
        8.0 * m.hidden as f64 * n * if job.method == Method::Pairs && lora { 0.5 } else { 1.0 }
    };
    let residual = if job.float32 { 4.0 } else { 2.0 };
    let kept = if !job.checkpointing {
        m.layers as f64 * layer
    } else if job.offload_activations {
        0.0
    } else {
        m.layers as f64 * n * residual * m.hidden as f64
    };
    let data = job.ranks as f64;
    let shard = |stage: u64| if job.zero_stage >= stage { data } else { 1.0 };
    let tp = job.tensor_parallel as f64;
    Sizes {
        weights: if job.offload_parameters { 0.0 } else { weights / shard(3) / tp },
        adapters: adapter_parameters * adapter_bytes,
        gradients: gradients / shard(2) / tp,
        states: if job.offload_optimizer { 0.0 } else { states / shard(1) / tp },
        reference: reference / shard(3) / tp,
        trainable: trainable * element,
        layer: layer / tp,
        kept: kept / if job.checkpointing { 1.0 } else { tp } + ends,
        ends,
    }
}

/// What one layer keeps for its backward, in bytes: which tensors the backward of each operation needs, summed over the
/// decoder layers of transformers and checked against the storages that autograd keeps (eight layer shapes, residual
/// under 3.3 bytes a token) and on an H200 (within 1 % of the whole without checkpointing).
fn layer(job: &Job) -> f64 {
    let m = &job.model;
    let [h, q, kv, a] = [m.hidden, m.q(), m.kv(), m.heads].map(|x| x as f64);
    let mut bytes = if job.lora_rank > 0 { adapted(job) } else { trained(job) };
    if m.experts > 1 {
        let k = m.experts_per_token as f64;
        bytes += 4.0 * m.experts as f64 + 4.0 * h * k;
    }
    if job.eager {
        bytes += 4.0 * q - 4.0 * kv;
    }
    if job.repeats_keys && !job.eager {
        // K and V are repeated before SDPA, and Q is made contiguous.
        bytes += 4.0 * q - 4.0 * kv + 2.7 * q;
    }
    let t = job.sequence as f64;
    // Eager attention: float32 softmax and its bfloat16 copy.
    let square = if job.eager { 6.0 * a * t * t * job.micro_batch as f64 } else { 0.0 };
    job.tokens() * bytes + square
}

/// Bytes a token in a layer all of whose weights are trained: of each norm the float32 input and the two 16-bit tensors
/// that the weight's gradient and the next matrix need, of the MLP four tensors, of the attention Q, K, V and the output.
fn trained(job: &Job) -> f64 {
    let m = &job.model;
    let [h, i, q, kv, a] = [m.hidden, m.intermediate * m.experts_per_token, m.q(), m.kv(), m.heads].map(|x| x as f64);
    // With float32 weights the residual stream is float32.
    let hidden = if job.float32 && job.autocast { 26.0 } else { 16.0 };
    // Liger's norm keeps its 16-bit input and output; its MLP computes the activation again.
    let of_heads = if m.family.starts_with("qwen3") { 2.0 * (q + kv) } else { 0.0 };
    let fused = if job.fused_loss { 8.0 * h + 2.0 * i + of_heads } else { 0.0 };
    // Without autocast all of it is float32, and the norm's input needs no copy.
    let all_float32 = job.float32 && !job.autocast;
    let whole = match m.family.as_str() {
        "qwen3" | "qwen3_moe" => hidden * h + 8.0 * i + 10.0 * (q + kv) + 4.0 * a,
        "olmo2" => (hidden + 4.0) * h + 8.0 * i + 12.0 * (q + kv),
        "phi3" => hidden * h + 8.0 * i + 8.0 * q + 6.0 * kv,
        "gemma2" | "gemma3" | "gemma3_text" => (hidden + 20.0) * h + 8.0 * i + 12.0 * (q + kv),
        // The activation is written out in single operations, in float32 under autocast (`pow`), and so are the norms.
        "gpt2" if job.autocast => 14.0 * h + 16.0 * i + 8.0 * h,
        "gpt2" => 10.0 * h + 10.0 * i + 8.0 * h,
        _ => hidden * h + 8.0 * i + 4.0 * (q + kv) + 4.0 * a,
    };
    (whole - fused) * if all_float32 { 2.0 } else { 1.0 } - if all_float32 { 8.0 * h } else { 0.0 }
}

/// Bytes a token in a frozen layer with adapters. A frozen matrix keeps nothing; an adapter keeps its input: as a copy of
/// its own where autocast (2 bytes) or PEFT (4, without autocast) had to convert it, else the tensor itself, once.
fn adapted(job: &Job) -> f64 {
    let m = &job.model;
    let [h, i, q, kv] = [m.hidden, m.intermediate * m.experts_per_token, m.q(), m.kv()].map(|x| x as f64);
    let fused_matrices = m.family == "phi3";
    let own_copies = job.adapter_bytes() > 2.0;
    let element = if own_copies && !job.autocast { 4.0 } else { 2.0 };
    // Matrix, its input's width, and whether an earlier matrix has the same input (or the attention keeps it anyway).
    let inputs = [
        ("q_proj", h, false),
        ("k_proj", h, true),
        ("v_proj", h, true),
        ("o_proj", q, true),
        ("gate_proj", h, false),
        ("up_proj", h, true),
        ("down_proj", i, false),
    ];
    let mut bytes = 0.0;
    for (name, width, shared) in inputs.into_iter().filter(|(name, ..)| job.adapts(name)) {
        if fused_matrices && matches!(name, "k_proj" | "v_proj" | "up_proj") {
            continue;
        }
        // Dropout's mask is one byte; its output is a tensor of its own.
        let (copy, mask) = if job.lora_dropout { (true, width) } else { (own_copies || !shared, 0.0) };
        bytes += if copy { element * width } else { 0.0 } + mask + element * job.lora_rank as f64;
    }
    // Of each norm the float32 input: two a layer, four in Gemma.
    let norms = if m.family.starts_with("gemma") && m.family != "gemma" { 16.0 } else { 8.0 };
    bytes += norms * h + 6.0 * i + 4.0 * (q + kv);
    match m.family.as_str() {
        "qwen3" | "qwen3_moe" | "olmo2" | "gemma3" | "gemma3_text" => bytes += 4.0 * (q + kv),
        // V is a view that keeps the whole of Q, K and V.
        "phi3" => bytes += 2.0 * (q + kv),
        _ => {}
    }
    if job.fused_loss {
        // Liger's norm keeps its 16-bit input, its MLP computes the activation again.
        bytes -= 4.0 * h + 2.0 * i;
        if m.family.starts_with("qwen3") {
            bytes -= 2.0 * (q + kv);
        }
    }
    bytes
}

/// What a phase holds besides weights and what trains them.
#[derive(Default)]
struct Extra {
    gradients: f64,
    states: f64,
    activations: f64,
    logits: f64,
    kv_cache: f64,
    autocast: f64,
    workspace: f64,
}

/// What has tokens times vocabulary elements: left by the forward, at the forward's peak, at the backward's.
struct Logits {
    after: f64,
    forward: f64,
    backward: f64,
}

/// The sizes of the loss's tensors, as counted over the storages that each path keeps and confirmed on an H200 for the
/// model's own loss, TRL 0.14 and 1.16, and Liger's cross-entropy.
fn logits(job: &Job, tokens: f64, lora: bool) -> Logits {
    let (hidden, vocab, w) = (job.model.hidden as f64, job.model.vocab as f64, job.weight_bytes);
    let all = tokens * vocab;
    let head = if lora { 0.0 } else { vocab * hidden * w };
    let of = |after: f64, forward: f64, backward: f64| Logits { after, forward, backward };
    match job.loss {
        Loss::Value => of(0.0, 0.0, 0.0),
        Loss::Whole => of(4.0 * all, 10.0 * all, 12.0 * all),
        Loss::Early => of(4.0 * all, 10.3 * all, 8.1 * all),
        // One row of log_softmax beside all logits, float32 under autocast.
        Loss::Rows => match (job.autocast, job.float32) {
            (true, _) => {
                let (forward, backward) = match job.micro_batch {
                    1 => (10.1, 12.1),
                    2 => (8.8, 8.8),
                    3..=6 => (8.4, 8.4),
                    _ => (8.2, 8.2),
                };
                of(4.0 * all, forward * all, backward * all)
            }
            (false, true) => of(4.1 * all, 9.0 * all, 16.1 * all),
            (false, false) => of(2.0 * all, 6.5 * all, 8.1 * all),
        },
        // Gradients of head and hidden states kept from the forward, one chunk of logits.
        Loss::Chunks => {
            let chunk = 2f64.powf((tokens / (vocab / hidden).ceil()).max(1.0).log2().ceil());
            let kept = tokens * hidden * w + head;
            of(kept, kept + chunk * vocab * 4.0, kept + chunk * vocab * 4.0)
        }
        Loss::Sequences => {
            let one = if job.completion > 0 { job.completion } else { job.sequence } as f64 * vocab * 8.0;
            let kept = tokens * hidden * w + head;
            of(kept, kept + one, kept + one)
        }
        // Tiles of 4096 tokens by 16384 entries; a trainable head adds its float32 accumulator.
        Loss::Tiles => {
            let scored = if job.method == Method::Pairs { tokens / 2.0 } else { tokens };
            let tile = scored.min(4096.0) * 16384.0 * 4.0;
            let trained = if lora { 0.0 } else { vocab * hidden * (4.0 + w) };
            of(0.0, tile, tile + scored * hidden * 4.0 + trained)
        }
    }
}

/// What one layer holds for a moment.
pub struct Transients {
    /// Of its forward, and of the prompt's before generation, in bytes a token.
    pub forward: f64,
    pub prefill: f64,
    /// Of its backward, in bytes.
    pub backward: f64,
    /// What eager attention adds to the forward, in bytes.
    pub eager_forward: f64,
}

/// Transients of one layer: float32 adapters make autocast copies, bfloat16 ones do not.
pub fn transients(job: &Job) -> Transients {
    let m = &job.model;
    let [h, i] = [m.hidden, m.intermediate * m.experts_per_token].map(|x| x as f64);
    let way = match (job.lora_rank > 0, job.quantization != Quantization::None) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let (of_mlp, of_hidden) = BACKWARD_TRANSIENT[way];
    // GPT-2's activation under autocast: three float32 gradients of its single operations.
    let of_mlp = if m.family == "gpt2" && job.autocast { 12.0 } else { of_mlp };
    // Liger's MLP writes its gradients over its inputs.
    let of_mlp = if job.fused_loss { of_mlp - 2.0 } else { of_mlp };
    // Eager attention: the softmax's float32 copies in the forward, and their gradients in the backward.
    let t = job.sequence as f64;
    let scores = if job.eager { m.heads as f64 * t * t * job.micro_batch as f64 } else { 0.0 };
    // Before 5.x the transients of a layer were not found beside the larger logits.
    let modern = if job.early_trl { 0.0 } else { 1.0 };
    let n = job.tokens();
    // A layer's backward is largest in its MLP, when all of the layer is there still; with eager attention it can be in
    // the attention, when what the MLP kept has gone.
    let in_attention = 10.0 * scores - 8.0 * n * i;
    Transients {
        forward: FORWARD_TRANSIENT[way] * i * modern,
        prefill: PREFILL_TRANSIENT[way] * i * modern,
        backward: (n * (of_mlp * i + of_hidden * h) * modern).max(in_attention),
        eager_forward: 9.0 * scores,
    }
}

/// Every phase of the job, in the order of a step.
pub fn phases(job: &Job) -> Vec<PhaseEstimate> {
    let m = &job.model;
    let s = sizes(job);
    let n = job.tokens();
    let vocab = m.vocab as f64;
    let lora = job.lora_rank > 0;
    let w = job.weight_bytes;
    let states = if job.steps > 1 { s.states } else { 0.0 };
    let carried = if job.accumulation > 1 { s.gradients } else { 0.0 };
    let workspace = if job.steps > 1 || job.accumulation > 1 { WORKSPACE } else { WORKSPACE_EARLY };
    // bfloat16 copies of all linear weights live until the forward's autocast region ends.
    let copies = if job.float32 && job.autocast && !lora { 2.0 * (m.linear() + m.embedding()) as f64 } else { 0.0 };
    let copies_left = match (copies > 0.0, job.checkpointing) {
        (false, _) => 0.0,
        (true, true) if matches!(job.loss, Loss::Tiles | Loss::Value) => 0.0,
        (true, true) => 2.0 * m.embedding() as f64,
        (true, false) => 2.0 * (m.linear() + m.embedding()) as f64,
    };
    // Tokens that the loss looks at, and the three sizes of its logits: after the forward, at the forward's peak, with
    // the backward.
    let loss_tokens = if job.method == Method::Online { (job.micro_batch * job.completion) as f64 } else { n };
    let all_logits = loss_tokens * vocab;
    let logits = logits(job, loss_tokens, lora);
    let Transients { forward: forward_transient, prefill, backward: in_layer, eager_forward } = transients(job);
    let phase = |id: PhaseId, e: Extra| {
        let components = Components {
            weights: s.weights as u64,
            adapters: s.adapters as u64,
            gradients: e.gradients as u64,
            optimizer_states: e.states as u64,
            activations: e.activations as u64,
            logits: e.logits as u64,
            kv_cache: e.kv_cache as u64,
            reference_model: s.reference as u64,
            autocast_cache: e.autocast as u64,
            workspace: e.workspace as u64,
        };
        PhaseEstimate { id, bytes: components.total(), components }
    };
    let base = || Extra { gradients: carried, states, workspace, ..Extra::default() };
    let mut all = vec![phase(PhaseId::ModelLoad, Extra { workspace: 0.0, ..Extra::default() })];
    if job.method == Method::Online {
        if job.vllm_share == 0.0 {
            let sequences = job.generated as f64;
            let cache = 4.0 * (m.layers * m.kv()) as f64 * sequences * job.sequence as f64;
            // Gradients were set to None before the next batch is generated.
            all.push(phase(
                PhaseId::Generation,
                Extra {
                    gradients: 0.0,
                    kv_cache: cache,
                    logits: sequences * vocab * 4.0,
                    activations: prefill * sequences * job.prompt as f64,
                    autocast: copies,
                    ..base()
                },
            ));
        }
        let scored = if job.loss == Loss::Tiles { logits.forward } else { 4.0 * all_logits };
        all.push(phase(
            PhaseId::Scoring,
            Extra {
                activations: n * forward_transient,
                logits: if job.loss == Loss::Tiles { 0.0 } else { scored },
                autocast: copies,
                ..base()
            },
        ));
    }
    let transient = if job.checkpointing { n * forward_transient + eager_forward } else { 0.0 };
    all.push(phase(
        PhaseId::Forward,
        Extra {
            activations: s.kept + if transient > logits.forward { transient } else { 0.0 },
            logits: if transient > logits.forward { 0.0 } else { logits.forward },
            autocast: if job.checkpointing { copies.max(copies_left) } else { copies_left },
            ..base()
        },
    ));
    // The start of the backward: everything kept, and the loss's own gradients; or the fused head's.
    let start = logits.after.max(logits.backward);
    all.push(phase(PhaseId::LogitsLoss, Extra { activations: s.kept, logits: start, autocast: copies_left, ..base() }));
    // The first layers of the backward, before most gradients exist; and its end, when all do.
    let recomputed = if job.checkpointing { s.layer } else { 0.0 };
    let early = Extra { activations: s.kept - s.ends / 2.0 + recomputed + in_layer, autocast: copies_left, ..base() };
    let one_layer = if lora { 0.0 } else { m.linear() as f64 / m.layers as f64 * w };
    // The gradients of a tied embedding and head coexist before they are added; the plain head's is transposed, so that
    // the sum is a third tensor.
    let copies_of_tied = if matches!(job.loss, Loss::Whole | Loss::Rows) { 2.0 } else { 1.0 };
    let head_is_embedding = m.tied && job.loss != Loss::Value;
    let tied = if head_is_embedding && !lora { copies_of_tied * m.embedding() as f64 * w } else { 0.0 };
    // The embedding's own gradient comes last of all.
    let head_is_embedding = m.tied && job.loss != Loss::Value;
    let embedding = if head_is_embedding || lora { 0.0 } else { m.embedding() as f64 * w };
    let last = s.layer + in_layer - one_layer - embedding;
    let late = Extra { gradients: s.gradients, activations: last.max(tied).max(0.0), ..base() };
    let (early, late) = (phase(PhaseId::Backward, early), phase(PhaseId::Backward, late));
    all.push(if early.bytes > late.bytes { early } else { late });
    let step = match job.optimizer {
        Optimizer::AdamForeach if !job.offload_optimizer && !job.master_weights => s.gradients,
        // Gradient, parameter, update and square of the largest tensor in float32.
        Optimizer::Adafactor => {
            let largest = if lora { s.trainable / 4.0 } else { m.embedding().max(m.hidden * m.intermediate) as f64 };
            16.0 * largest
        }
        _ => 0.0,
    };
    all.push(phase(
        PhaseId::OptimizerStep,
        Extra { gradients: s.gradients, states: s.states + step, workspace, ..Extra::default() },
    ));
    if let Some(evaluation) = job.evaluation {
        let rows = (evaluation.micro_batch * job.sequences_per_row * job.sequence) as f64;
        let one = rows * vocab;
        // In evaluation Liger's loss builds the logits too: 16-bit ones, their float32 copy and its softmax.
        let batch = match job.loss {
            Loss::Value => 0.0,
            Loss::Tiles => rows.min(4096.0) * 16384.0 * 4.0,
            _ => 10.0 * one,
        };
        // Kept as float32, which accelerate makes of autocast's outputs; the concatenation holds old and new at once.
        let element = if job.autocast || job.float32 { 4.0 } else { 2.0 };
        let kept = evaluation.kept_rows.map_or(0.0, |rows| element * vocab * (rows * job.sequence) as f64);
        let logits = (2.0 * kept).max(kept + batch - element * one);
        let transient = rows * forward_transient + eager_forward;
        all.push(phase(
            PhaseId::Eval,
            Extra {
                gradients: 0.0,
                logits: logits.max(batch),
                activations: if transient > batch { transient } else { 0.0 },
                ..base()
            },
        ));
    }
    all
}
