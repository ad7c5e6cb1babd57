//! The phase that a message tells without a traceback: by its kind, by the graph's node that it names, or in the words
//! of whoever pasted it.

use std::sync::LazyLock;

use regex::Regex;

use crate::model::{
    Clean,
    failure::{Evidence, Phase, PhaseId},
    incident::Incident,
};

use crate::parse::pattern;

/// The node of a TensorFlow graph that asked: `[[{{node a/b}}]]`, and before 1.12 `[[Node: a/b = …`.
static NODE: LazyLock<Regex> =
    LazyLock::new(|| pattern::ascii(r"\[\[(?:\{\{node |Node: )(?<name>[\w/.-]+)").expect("tested"));
/// Rows of a node's name, the first that fits tells.
static NODES: LazyLock<Vec<(PhaseId, Regex)>> = LazyLock::new(|| {
    [
        (PhaseId::Backward, r"(?:^|/)(?:gradients?|gradient_tape)(?:_\d+)?/|_grad/|/Grad|Backprop"),
        (
            PhaseId::OptimizerStep,
            r"(?i)(?:^|/)(?:\w*adam\w*|adagrad|adadelta|rmsprop|momentum|sgd|\w*optimizer)(?:_\d+)?/",
        ),
        (PhaseId::LogitsLoss, r"(?i)cross_?entropy|log_?softmax"),
    ]
    .into_iter()
    .map(|(id, pattern)| (id, pattern::ascii(pattern).expect("tested")))
    .collect()
});
/// Rows of what people write before or after the message.
static SAYINGS: LazyLock<Vec<(PhaseId, Regex)>> = LazyLock::new(|| {
    let when = r"(?i)\b(?:at|in|on|during|while|when|upon|before|after)\b (?:the |a |my |it (?:is |was )?)?(?:start(?:ing)? of |beginning of )?";
    [
        (PhaseId::CheckpointSave, r"sav(?:e|ing) (?:the |a )?(?:model|checkpoint|weights)s?\b|checkpoint(?:ing)? sav"),
        (
            PhaseId::Eval,
            r"(?:first )?(?:eval(?:uat(?:ion|e|ing))?|validat(?:ion|e|ing))(?: (?:stage|step|phase|loop|epoch)s?)?\b",
        ),
        (PhaseId::OptimizerStep, r"optimizer(?:'s)?[. ]step\b"),
        (PhaseId::Backward, r"(?:the )?(?:loss\.)?backward(?:\(\))?(?: pass)?\b"),
        (PhaseId::ModelLoad, r"load(?:ing)? (?:the |a |up |of )*(?:\S+ )?(?:model|checkpoint|weights)s?\b"),
    ]
    .into_iter()
    .map(|(id, pattern)| (id, pattern::ascii(&format!("{when}(?:{pattern})")).expect("tested")))
    .collect()
});
/// Lines from the message, which a terminal may have broken into several, within which a node is its own.
const NODE_NEAR: u64 = 6;
/// Lines within which words are about the message.
const SAID_NEAR: u64 = 3;

fn node(incident: &Incident) -> Option<Phase> {
    if !incident.kind.as_str().starts_with("tf.") {
        return None;
    }
    let near = |e: &&Evidence| e.line.is_some_and(|l| l >= incident.place.line && l - incident.place.line <= NODE_NEAR);
    let line = incident.context.iter().filter(near).find(|e| NODE.is_match(e.text.as_str()))?;
    let name = NODE.captures(line.text.as_str())?.name("name")?;
    let (id, _) = NODES.iter().find(|(_, pattern)| pattern.is_match(name.as_str()))?;
    Some(Phase { id: *id, evidence: vec![line.clone()] })
}

/// What somebody says of it, where the paste has no traceback.
fn said(incident: &Incident, own: &str) -> Option<Phase> {
    if !incident.frames.is_empty() || !incident.is_oom {
        return None;
    }
    let at = incident.place.line;
    let own = Evidence { line: Some(at), text: Clean::new(own.trim()) };
    let near = incident.context.iter().filter(|e| e.line.is_some_and(|l| l.abs_diff(at) <= SAID_NEAR));
    let lines: Vec<&Evidence> = std::iter::once(&own).chain(near).collect();
    SAYINGS.iter().find_map(|(id, pattern)| {
        let line = lines.iter().find(|e| pattern.is_match(e.text.as_str()))?;
        Some(Phase { id: *id, evidence: vec![(*line).clone()] })
    })
}

/// Where the message itself says the phase, or the text beside it does; `own` is its first line.
pub fn phase(incident: &Incident, own: &str) -> Phase {
    let text = incident.message.as_str();
    let near = || incident.context.iter().filter(|e| e.line.is_some_and(|l| l.abs_diff(incident.place.line) <= 12));
    let id = match incident.kind.as_str() {
        "ray.oom_task" if text.replace(' ', "").contains("__init__") || text.contains("init_model") => {
            PhaseId::ModelLoad
        }
        "ray.oom_task" if near().any(|e| e.text.as_str().contains("init_model_from_pretrained")) => PhaseId::ModelLoad,
        "vllm.kv.no_blocks" | "vllm.kv.max_seq_len" | "vllm.kv.need_gib" | "vllm.startup.sampler" => {
            PhaseId::KvCacheInit
        }
        "vllm.startup.free_below_util" => PhaseId::ModelLoad,
        "vllm.cumem" => PhaseId::WeightSync,
        "shm.bus_error" | "shm.unable_to_write" => PhaseId::Dataloader,
        _ if text.to_ascii_lowercase().contains("dataloader worker") => PhaseId::Dataloader,
        "notoom.nccl_timeout" | "shm.nccl" | "nccl.oom" => PhaseId::DdpFsdpComm,
        "ggml.cuda_alloc" | "ggml.device_alloc" | "ggml.host_alloc" => {
            // A wrap may have parted the word.
            let around: String = incident.context.iter().map(|e| e.text.as_str()).collect();
            let says = |words: &[&str]| words.iter().any(|w| around.contains(w));
            if says(&["kv_cache", "KV", "kv cache"]) {
                PhaseId::KvCacheInit
            } else if incident.kind.as_str() == "ggml.cuda_alloc" || says(&["load_tensors", "alloc_tensor_range"]) {
                PhaseId::ModelLoad
            } else if says(&["compute buffers", "compute pp buffers", "gallocr"]) {
                PhaseId::KvCacheInit
            } else {
                PhaseId::Unknown
            }
        }
        _ => {
            let dataloader =
                incident.context.iter().find(|e| e.text.as_str().to_ascii_lowercase().contains("dataloader worker"));
            match dataloader {
                Some(line) => return Phase { id: PhaseId::Dataloader, evidence: vec![line.clone()] },
                None => return node(incident).or_else(|| said(incident, own)).unwrap_or_default(),
            }
        }
    };
    let evidence = Evidence { line: Some(incident.place.line), text: incident.message.clone() };
    Phase { id, evidence: if id == PhaseId::Unknown { Vec::new() } else { vec![evidence] } }
}
