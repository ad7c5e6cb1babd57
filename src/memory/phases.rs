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
    job::{Job, Method, Optimizer, Quantization},
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
    /// What all layers keep from forward to backward.
    pub kept: f64,
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
    let tables = block(m.embedding() as f64 * w) * if m.tied { 1.0 } else { 2.0 };
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
    let (trainable, element) = if lora { (adapter_parameters, adapter_bytes) } else { (m.parameters() as f64, w) };
    let gradients = if lora { trainable * element } else { weights };
    let embeddings = if lora { 0.0 } else { m.embedding() as f64 };
    let rest = trainable - embeddings;
    // transformers keeps 32-bit states for nn.Embedding under 8-bit optimizers (5.x; not in 4.48 with TRL 0.14).
    let wide = if job.early_trl { ADAM_8BIT_BYTES } else { 8.0 };
    let states = match job.optimizer {
        Optimizer::AdamForeach | Optimizer::AdamFused => 2.0 * gradients,
        Optimizer::Adam8bit => embeddings * wide + rest * ADAM_8BIT_BYTES,
        // Half of both: one state.
        Optimizer::Lion8bit => 0.5 * (embeddings * wide + rest * ADAM_8BIT_BYTES),
        Optimizer::Lion => 4.0 * trainable,
        // Unified memory: neither in the pool nor in the process's share while the card is not full.
        Optimizer::Paged | Optimizer::Sgd => 0.0,
        Optimizer::Adafactor => 0.01 * trainable,
    };
    let reference = if job.reference { weights } else { 0.0 };
    let layer = layer(job);
    let n = job.tokens();
    // The embedding's output and the final norm in float32.
    let ends = if job.early_trl {
        0.0
    } else {
        8.0 * m.hidden as f64 * n * if job.method == Method::Pairs && lora { 0.5 } else { 1.0 }
    };
    let residual = if job.float32 && job.autocast { 4.0 } else { 2.0 };
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
    if job.early_trl && !job.eager {
        // transformers 4.48 repeats K and V before SDPA and makes Q contiguous.
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
    let fused = if job.fused_loss { 8.0 * h + 2.0 * i } else { 0.0 };
    let whole = match m.family.as_str() {
        "qwen3" | "qwen3_moe" => hidden * h + 8.0 * i + 10.0 * (q + kv) + 4.0 * a,
        "olmo2" => (hidden + 4.0) * h + 8.0 * i + 12.0 * (q + kv),
        "phi3" => hidden * h + 8.0 * i + 8.0 * q + 6.0 * kv,
        "gemma2" | "gemma3" | "gemma3_text" => (hidden + 20.0) * h + 8.0 * i + 12.0 * (q + kv),
        _ => hidden * h + 8.0 * i + 4.0 * (q + kv) + 4.0 * a,
    };
    whole - fused
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

/// Every phase of the job, in the order of a step.
pub fn phases(job: &Job) -> Vec<PhaseEstimate> {
    let m = &job.model;
    let s = sizes(job);
    let n = job.tokens();
    let [h, i] = [m.hidden, m.intermediate * m.experts_per_token].map(|x| x as f64);
    let vocab = m.vocab as f64;
    let lora = job.lora_rank > 0;
    let quantised = job.quantization != Quantization::None;
    let w = job.weight_bytes;
    let states = if job.steps > 1 { s.states } else { 0.0 };
    let carried = if job.accumulation > 1 { s.gradients } else { 0.0 };
    let workspace = if job.steps > 1 || job.accumulation > 1 { WORKSPACE } else { WORKSPACE_EARLY };
    // bfloat16 copies of all linear weights live until the forward's autocast region ends.
    let copies = if job.float32 && job.autocast && !lora { 2.0 * (m.linear() + m.embedding()) as f64 } else { 0.0 };
    let copies_left = match (copies > 0.0, job.checkpointing) {
        (false, _) => 0.0,
        (true, true) if job.fused_head() => 0.0,
        (true, true) => 2.0 * m.embedding() as f64,
        (true, false) => 2.0 * (m.linear() + m.embedding()) as f64,
    };
    // Tokens that the loss looks at, and the three sizes of its logits: after the forward, at the forward's peak, with
    // the backward.
    let loss_tokens = if job.method == Method::Online { (job.micro_batch * job.completion) as f64 } else { n };
    let all_logits = loss_tokens * vocab;
    let (after, forward_logits, backward_logits, head) = if job.plain_trainer && !job.fused_loss {
        (4.0 * all_logits, 10.0 * all_logits, 12.0 * all_logits, 0.0)
    } else if job.plain_trainer {
        // Liger's fused linear cross-entropy: gradients of head and hidden kept from the forward, one chunk of logits.
        let chunk = 2f64.powf((n / (vocab / h).ceil()).max(1.0).log2().ceil());
        let kept = n * h * w + if lora { 0.0 } else { vocab * h * w };
        (kept, kept + chunk * vocab * 4.0, kept + chunk * vocab * 4.0, 0.0)
    } else if job.early_trl {
        (4.0 * all_logits, 10.3 * all_logits, 8.1 * all_logits, 0.0)
    } else {
        // TRL from 1.15: tiles of 4096 tokens by 16384 entries; a trainable head adds its float32 accumulator.
        let scored = if job.method == Method::Pairs { loss_tokens / 2.0 } else { loss_tokens };
        let tile = scored.min(4096.0) * 16384.0 * 4.0;
        let trained = if lora { 0.0 } else { vocab * h * (4.0 + w) };
        (0.0, tile, 0.0, tile + scored * h * 4.0 + trained)
    };
    // Transients of one layer, per token: float32 adapters make autocast copies, bfloat16 ones do not.
    let way = match (lora, quantised) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let (of_mlp, of_hidden) = BACKWARD_TRANSIENT[way];
    // Liger's MLP writes its gradients over its inputs.
    let of_mlp = if job.fused_loss { of_mlp - 2.0 } else { of_mlp };
    let backward_transient = of_mlp * i + of_hidden * h;
    let (forward_transient, prefill) = (FORWARD_TRANSIENT[way] * i, PREFILL_TRANSIENT[way] * i);
    // Eager attention: the softmax's float32 copies in the forward, and their gradients in the backward.
    let t = job.sequence as f64;
    let scores = if job.eager { m.heads as f64 * t * t * job.micro_batch as f64 } else { 0.0 };
    let (eager_forward, eager_backward) = (9.0 * scores, 10.0 * scores);
    // Before 5.x the transients of a layer were not found beside the larger logits.
    let modern = if job.early_trl { 0.0 } else { 1.0 };
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
            let sequences = (job.micro_batch * if job.early_trl { 1 } else { job.accumulation }) as f64;
            let cache = 4.0 * (m.layers * m.kv()) as f64 * sequences * job.sequence as f64;
            // Gradients were set to None before the next batch is generated.
            all.push(phase(
                PhaseId::Generation,
                Extra {
                    gradients: 0.0,
                    kv_cache: cache,
                    logits: sequences * vocab * 4.0,
                    activations: prefill * modern * sequences * job.prompt as f64,
                    autocast: copies,
                    ..base()
                },
            ));
        }
        let scored = if job.fused_head() { forward_logits } else { 4.0 * all_logits };
        all.push(phase(
            PhaseId::Scoring,
            Extra {
                activations: n * forward_transient.max(0.0) * modern,
                logits: if job.fused_head() { 0.0 } else { scored },
                autocast: copies,
                ..base()
            },
        ));
    }
    let transient = if job.checkpointing { n * forward_transient * modern + eager_forward } else { 0.0 };
    all.push(phase(
        PhaseId::Forward,
        Extra {
            activations: s.kept + if transient > forward_logits { transient } else { 0.0 },
            logits: if transient > forward_logits { 0.0 } else { forward_logits },
            autocast: if job.checkpointing { copies.max(copies_left) } else { copies_left },
            ..base()
        },
    ));
    // The start of the backward: everything kept, and the loss's own gradients; or the fused head's.
    let start = after.max(backward_logits).max(head);
    all.push(phase(PhaseId::LogitsLoss, Extra { activations: s.kept, logits: start, autocast: copies_left, ..base() }));
    // A layer's backward is largest in its MLP, when all of the layer is there still; with eager attention it can be in
    // the attention, when what the MLP kept has gone.
    let in_attention = eager_backward - 8.0 * n * i;
    let in_layer = (n * backward_transient * modern).max(in_attention);
    // The first layers of the backward, before most gradients exist; and its end, when all do.
    let recomputed = if job.checkpointing { s.layer } else { 0.0 };
    let early = Extra { activations: s.kept + recomputed + in_layer, autocast: copies_left, ..base() };
    let one_layer = if lora { 0.0 } else { m.linear() as f64 / m.layers as f64 * w };
    // The gradients of a tied embedding and head coexist before they are added; the plain head's is transposed, so that
    // the sum is a third tensor.
    let copies_of_tied = if job.plain_trainer && !job.fused_loss { 2.0 } else { 1.0 };
    let tied = if m.tied && !lora { copies_of_tied * m.embedding() as f64 * w } else { 0.0 };
    // The embedding's own gradient comes last of all.
    let embedding = if m.tied || lora { 0.0 } else { m.embedding() as f64 * w };
    let last = s.layer + in_layer - one_layer - embedding;
    let late = Extra { gradients: s.gradients, activations: last.max(tied).max(0.0), ..base() };
    let (early, late) = (phase(PhaseId::Backward, early), phase(PhaseId::Backward, late));
    all.push(if early.bytes > late.bytes { early } else { late });
    let step = match job.optimizer {
        Optimizer::AdamForeach if !job.offload_optimizer => s.gradients,
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
        let batch = if job.plain_trainer { 10.0 * one } else { rows.min(4096.0) * 16384.0 * 4.0 };
        // Kept as float32, which accelerate makes of autocast's outputs; the concatenation holds old and new at once.
        let element = if job.autocast || job.float32 { 4.0 } else { 2.0 };
        let kept = evaluation.kept_rows.map_or(0.0, |rows| element * vocab * (rows * job.sequence) as f64);
        let logits = (2.0 * kept).max(kept + batch - element * one);
        let transient = rows * forward_transient * modern + eager_forward;
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
