//! Causes: each a small judge that says what it saw, or that it saw nothing.

use crate::model::{
    Bytes, Clean,
    failure::{Cause, Evidence, Memory, PhaseId},
    knobs::Knob,
};

use super::Case;

/// What a judge says: how sure it is, why, and in one sentence.
struct Found {
    score: f64,
    evidence: Vec<Evidence>,
    summary: String,
}

type Judge = fn(&Case<'_>) -> Option<Found>;

/// Every judge, by the id of its cause.
const JUDGES: &[(&str, Judge)] = &[
    ("host_ram", host_ram),
    ("tiny_shm", tiny_shm),
    ("other_process", other_process),
    ("fragmentation", fragmentation),
    ("leak_growth", leak_growth),
    ("kv_cache", kv_cache),
    ("logits", logits),
    ("optimizer_state", optimizer_state),
    ("too_big_model", too_big_model),
    ("cap_limit", cap_limit),
    ("activations", activations),
];

/// Every cause that its judge found, best first.
pub fn judge(case: &Case<'_>) -> Vec<Cause> {
    if !case.incident.is_oom {
        let summary = case.incident.refusal.clone().unwrap_or_else(|| "not out of memory".into());
        return vec![Cause { id: "none", score: 1.0, evidence: vec![message(case)], summary }];
    }
    let mut causes: Vec<Cause> = JUDGES
        .iter()
        .filter_map(|(id, judge)| {
            let found = judge(case)?;
            Some(Cause { id, score: found.score, evidence: found.evidence, summary: Clean::new(&found.summary) })
        })
        .collect();
    causes.sort_by(|a, b| b.score.total_cmp(&a.score));
    if causes.is_empty() {
        causes.push(Cause {
            id: "unknown",
            score: 0.0,
            evidence: vec![message(case)],
            summary: "the text does not tell: the traceback above the message, or the settings (--config), would"
                .into(),
        });
    }
    super::measured::weigh(case, &mut causes);
    causes
}

fn message(case: &Case<'_>) -> Evidence {
    Evidence { line: Some(case.incident.place.line), text: case.incident.message.clone() }
}

#[expect(clippy::unnecessary_wraps, reason = "every judge ends with it")]
fn found(score: f64, evidence: Vec<Evidence>, summary: String) -> Option<Found> {
    Some(Found { score, evidence, summary })
}

fn kind<'a>(case: &Case<'a>) -> &'a str {
    case.incident.kind.as_str()
}

fn host_ram(case: &Case<'_>) -> Option<Found> {
    (case.incident.memory == Memory::Host).then_some(())?;
    let sure = !matches!(kind(case), "shell.killed" | "elastic.sigkill" | "deepspeed.sigkill");
    let summary = if sure {
        "the host's memory ran out, not the card's"
    } else {
        "the process was killed by SIGKILL: most likely the kernel, because the host's memory ran out (dmesg would prove it)"
    };
    found(if sure { 0.95 } else { 0.7 }, vec![message(case)], summary.into())
}

fn tiny_shm(case: &Case<'_>) -> Option<Found> {
    (case.incident.memory == Memory::Shm).then_some(())?;
    found(0.95, vec![message(case)], "/dev/shm is full: in Docker it has 64 MB unless told otherwise".into())
}

fn other_process(case: &Case<'_>) -> Option<Found> {
    let n = &case.incident.numbers;
    if kind(case) == "vllm.startup.free_below_util" {
        let summary = "something else holds memory of this card: less is free at start than vLLM was told to take";
        return found(0.9, vec![message(case)], summary.into());
    }
    if kind(case) == "torch.cuda.bare" && n.requested_bytes.is_none() && case.incident.phase.id == PhaseId::ModelLoad {
        // PyTorch's own message comes from its allocator; the driver's comes where not even a context found room.
        let summary = "the driver itself refused before PyTorch held anything: most likely the card is full of somebody else's memory (nvidia-smi tells)";
        return found(0.6, vec![message(case)], summary.into());
    }
    let theirs: u64 = case.incident.other_processes.iter().filter_map(|p| p.bytes).sum();
    let capacity = n.allowed_bytes.is_none().then_some(n.capacity_bytes).flatten()?;
    // A context without tensors is no reason.
    if theirs > capacity / 20 && theirs > 1 << 30 {
        let pids: Vec<String> = case.incident.other_processes.iter().map(|p| p.pid.to_string()).collect();
        let needed = n.requested_bytes.unwrap_or(0).saturating_sub(n.free_bytes.unwrap_or(0));
        let score = if theirs >= needed && theirs > capacity / 8 { 0.88 } else { 0.55 };
        return found(
            score,
            vec![message(case)],
            format!(
                "other processes hold {} of the card's {} (pid {})",
                Bytes(theirs),
                Bytes(capacity),
                pids.join(", ")
            ),
        );
    }
    None
}

fn fragmentation(case: &Case<'_>) -> Option<Found> {
    let n = &case.incident.numbers;
    let requested = n.requested_bytes?;
    let reserved = case.incident.details.get("reserved_total_bytes").map(|r| *r as u64);
    let unused = n.reserved_unallocated_bytes.or_else(|| Some(reserved?.saturating_sub(n.allocated_bytes?)))?;
    let limit = n.allowed_bytes.or(n.capacity_bytes)?;
    let held = n.allocated_bytes.unwrap_or(0) + unused;
    // Under a limit only what is left of it is free, whatever the card has.
    let free = if n.allowed_bytes.is_some() { limit.saturating_sub(held) } else { n.free_bytes.unwrap_or(0) };
    if unused < requested.saturating_sub(free) || unused < limit / 50 {
        return None;
    }
    let full = n.in_use_bytes.unwrap_or(held).min(limit) as f64 / limit as f64;
    let tail = if full > 0.85 {
        format!("; and the card is {:.0} % full anyway, so the next levers matter too", full * 100.0)
    } else {
        String::new()
    };
    let alone = unused >= requested;
    let score = match (alone, unused > limit / 4) {
        (true, true) => 0.85,
        (true, false) => 0.72,
        (false, _) => 0.6,
    };
    found(
        score,
        vec![message(case)],
        format!(
            "{} are free or reserved and unused, more than the {} asked for, but not in one piece ({} of {} held){tail}",
            Bytes(unused + free),
            Bytes(requested),
            Bytes(held),
            Bytes(limit)
        ),
    )
}

/// Memory figures of the log's own lines, in order: `mem 4.56GiB`, `allocated 12.1 GB`.
fn memory_in_lines(case: &Case<'_>) -> Vec<(f64, Evidence)> {
    let mut all = Vec::new();
    for line in &case.incident.context {
        let text = line.text.as_str();
        let lower = text.to_ascii_lowercase();
        if line.line.is_some_and(|l| l > case.incident.place.line) || lower.contains("tried to allocate") {
            continue;
        }
        let Some(at) = ["mem", "allocated", "vram"].iter().find_map(|w| lower.find(w)) else { continue };
        let number: String = text[at..]
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        if let Ok(value) = number.parse::<f64>() {
            all.push((value, line.clone()));
        }
    }
    all
}

fn leak_growth(case: &Case<'_>) -> Option<Found> {
    let series = memory_in_lines(case);
    if series.len() >= 4 {
        let rises = series.windows(2).filter(|w| w[1].0 > w[0].0).count();
        let (first, last) = (series.first()?, series.last()?);
        if rises * 10 >= (series.len() - 1) * 8 && last.0 > first.0 * 1.2 {
            return found(
                0.9,
                vec![first.1.clone(), last.1.clone()],
                format!("memory rises with every step: {} to {} over {} lines", first.0, last.0, series.len()),
            );
        }
    }
    let words = ["memory keeps growing", "memory leak", "usage climbs", "retain_graph=True"];
    let line = case.incident.context.iter().find(|l| words.iter().any(|w| l.text.as_str().contains(w)));
    let frame = case.incident.frames.iter().find(|f| f.code.as_str().contains("retain_graph=True"));
    let seen = line.cloned().or_else(|| frame.map(|f| Evidence { line: Some(f.line), text: f.code.clone() }));
    let Some(evidence) = seen else {
        // Nothing speaks against it either, when a full card is all that the text shows.
        let n = &case.incident.numbers;
        let full = n.allocated_bytes? > n.allowed_bytes.or(n.capacity_bytes)? / 100 * 80;
        return (full && case.incident.phase.id == PhaseId::Unknown).then(|| Found {
            score: 0.15,
            evidence: vec![message(case)],
            summary: "if earlier steps ran: memory may have grown step by step (watch it over some steps to tell)"
                .into(),
        });
    };
    found(0.7, vec![evidence], "something holds on to what each step allocated".into())
}

fn kv_cache(case: &Case<'_>) -> Option<Found> {
    let k = kind(case);
    if k.starts_with("vllm.kv") {
        return found(
            0.95,
            vec![message(case)],
            "the KV cache that the model's length asks for does not fit beside the weights".into(),
        );
    }
    if k == "vllm.cumem" || k.starts_with("sglang") {
        return found(
            0.75,
            vec![message(case)],
            "the inference engine could not take its memory (back) beside the trainer".into(),
        );
    }
    match case.incident.phase.id {
        PhaseId::KvCacheInit => {
            found(0.85, case.incident.phase.evidence.clone(), "the engine died while it set up its KV cache".into())
        }
        PhaseId::WeightSync => found(
            0.7,
            case.incident.phase.evidence.clone(),
            "trainer and engine share the card; both were awake".into(),
        ),
        PhaseId::Generation => found(
            0.6,
            case.incident.phase.evidence.clone(),
            "it died while generating: the cache grows with sequences and their length".into(),
        ),
        _ => None,
    }
}

fn logits(case: &Case<'_>) -> Option<Found> {
    let n = &case.incident.numbers;
    if case.incident.phase.id == PhaseId::LogitsLoss {
        return found(
            0.86,
            case.incident.phase.evidence.clone(),
            "it died in the loss: logits of every token and vocabulary entry".into(),
        );
    }
    // tokens x vocabulary x 2 or 4 bytes, as near as the message prints it (two decimals, segments of 2 MiB).
    let model = crate::memory::models::find(case.knobs.str(Knob::Model)?)?;
    let vocab = model.vocab;
    let requested = n.requested_bytes.filter(|r| *r > 64 << 20)?;
    // The optimizer asks for the embedding's size, which has the vocabulary in it as well.
    if !matches!(
        case.incident.phase.id,
        PhaseId::Unknown | PhaseId::Forward | PhaseId::Backward | PhaseId::Scoring | PhaseId::Eval
    ) {
        return None;
    }
    let printed = if requested >= 1 << 30 { 5 << 20 } else { 5 << 10 };
    let matches = |tokens: u64, width: u64| {
        let exact = tokens * vocab * width;
        exact <= requested + printed && requested <= exact + printed + (2 << 20)
    };
    let k = case.knobs;
    let lengths = [
        k.u64(Knob::SequenceLength),
        k.u64(Knob::MaxCompletionLength),
        k.u64(Knob::MaxCompletionLength).map(|l| l + 1),
        k.u64(Knob::MaxCompletionLength).zip(k.u64(Knob::PromptLength)).map(|(a, b)| a + b),
    ];
    let batch = k.u64(Knob::PerDeviceTrainBatchSize);
    let of_the_job = batch.into_iter().flat_map(|b| lengths.into_iter().flatten().map(move |l| b * l));
    let proof = |score: f64, tokens: u64, width: u64| {
        found(
            score,
            vec![message(case)],
            format!("the request is {tokens} tokens x {vocab} vocabulary entries x {width} bytes: logits"),
        )
    };
    for tokens in of_the_job {
        if let Some(width) = [4, 2].into_iter().find(|width| matches(tokens, *width)) {
            return proof(0.8, tokens, width);
        }
    }
    // A round number of tokens is a hint and no more.
    for width in [4, 2] {
        let near = requested / (vocab * width);
        let round = (near + 64) / 128 * 128;
        if round >= 256 && round != model.hidden && matches(round, width) {
            return proof(0.5, round, width);
        }
    }
    None
}

fn optimizer_state(case: &Case<'_>) -> Option<Found> {
    (case.incident.phase.id == PhaseId::OptimizerStep).then_some(())?;
    found(
        0.9,
        case.incident.phase.evidence.clone(),
        "it died in the optimizer's step: its states are made in the first one, and the default AdamW holds one more copy of the parameters meanwhile".into(),
    )
}

fn too_big_model(case: &Case<'_>) -> Option<Found> {
    let n = &case.incident.numbers;
    let k = kind(case);
    if let (Some(requested), Some(capacity)) = (n.requested_bytes, n.capacity_bytes)
        && requested > capacity
        && case.incident.phase.id == PhaseId::ModelLoad
    {
        return found(0.95, vec![message(case)], format!("{} at once are more than the card has", Bytes(requested)));
    }
    if k == "ggml.cuda_alloc" && case.incident.phase.id == PhaseId::ModelLoad {
        return found(0.9, vec![message(case)], "the weights alone do not fit".into());
    }
    if k.starts_with("jax.") {
        return found(0.6, vec![message(case)], "the program's buffers do not fit as compiled".into());
    }
    if case.incident.phase.id == PhaseId::ModelLoad {
        return found(
            if k == "torch.cuda.bare" { 0.5 } else { 0.85 },
            case.incident.phase.evidence.clone(),
            "it died while the weights were loaded: they do not fit beside what is there".into(),
        );
    }
    // Nearly everything is live tensors and even a small request fails: what is there does not leave room for a step.
    if let (Some(allocated), Some(limit), Some(requested)) =
        (n.allocated_bytes, n.allowed_bytes.or(n.capacity_bytes), n.requested_bytes)
        && case.incident.phase.id == PhaseId::Unknown
        && allocated > limit / 100 * 85
        && requested < limit / 50
    {
        return found(
            0.4,
            vec![message(case)],
            format!(
                "{} of {} are live tensors and even {} more do not fit: weights, states and activations together are too much",
                Bytes(allocated),
                Bytes(limit),
                Bytes(requested)
            ),
        );
    }
    // Weights in two bytes against the card.
    let model = crate::memory::models::find(case.knobs.str(Knob::Model)?)?;
    let limit = n.allowed_bytes.or(n.capacity_bytes)?;
    let lora = case.knobs.u64(Knob::LoraRank).unwrap_or(0) > 0;
    let width = if lora { 2 } else { 8 };
    (model.parameters() * width > limit).then_some(())?;
    found(
        0.7,
        vec![message(case)],
        format!(
            "{} parameters need {} for weights{} alone",
            model.parameters(),
            Bytes(model.parameters() * width),
            if lora { "" } else { ", gradients and optimizer states" }
        ),
    )
}

fn cap_limit(case: &Case<'_>) -> Option<Found> {
    let n = &case.incident.numbers;
    if kind(case) == "torch.mps" {
        let allowed = n.allowed_bytes?;
        return found(0.6, vec![message(case)], format!("macOS lets this process have {}", Bytes(allowed)));
    }
    let (allowed, capacity) = (n.allowed_bytes?, n.capacity_bytes?);
    (allowed < capacity).then_some(())?;
    // A limit that somebody set on purpose is the frame, not the fault, where most of the card is free.
    let free = n.free_bytes.unwrap_or(0);
    let score = if free > n.requested_bytes.unwrap_or(u64::MAX) { 0.58 } else { 0.4 };
    found(score, vec![message(case)], format!("a limit of {} was set on a card of {}", Bytes(allowed), Bytes(capacity)))
}

fn activations(case: &Case<'_>) -> Option<Found> {
    let n = &case.incident.numbers;
    if kind(case) == "tf.resource_exhausted" || kind(case) == "tf.bfc" {
        return found(0.7, vec![message(case)], "a layer's output does not fit: it grows with the batch".into());
    }
    match case.incident.phase.id {
        PhaseId::Forward | PhaseId::Backward | PhaseId::Scoring | PhaseId::Eval => found(
            0.75,
            case.incident.phase.evidence.clone(),
            "it died while layers kept their outputs for the backward pass".into(),
        ),
        PhaseId::LogitsLoss => {
            found(0.5, case.incident.phase.evidence.clone(), "what the layers keep leaves no room for the loss".into())
        }
        PhaseId::Unknown if n.requested_bytes.is_some_and(|r| r > 256 << 20) => found(
            0.35,
            vec![message(case)],
            "a single large request: activations, most likely; the traceback would tell".into(),
        ),
        _ => None,
    }
}
