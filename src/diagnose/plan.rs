//! The least costly set of changes that is predicted to fit.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    memory::{self, models},
    model::{
        Bytes, Clean,
        architecture::Architecture,
        failure::{Fix, Memory, PhaseId, Plan, Verdict},
        knobs::{Knob, Knobs, Origin, Value},
    },
};

use super::{Case, fixes};

/// Predicted use must stay this far below the limit: what one run in ten exceeds.
const MARGIN: f64 = 0.03;

/// One thing that may be changed, and what it costs in speed, quality and trouble.
struct Lever {
    cost: f64,
    changes: Vec<(Knob, Value)>,
}

/// What the job may use, and how its predicted use is corrected by what the message measured.
struct Limit {
    bytes: f64,
    /// The limit is of PyTorch's pool, not of the card.
    pool: bool,
    /// Measured by predicted, where the message says more than the model does.
    correction: f64,
}

/// Fills in what each fix saves, and plans.
pub fn plan(case: &Case<'_>, model: Option<&Architecture>, found: &mut [Fix]) -> Option<Plan> {
    if case.incident.memory != Memory::Gpu || !case.incident.is_oom {
        return None;
    }
    let known = model.cloned().or_else(|| models::find(case.knobs.str(Knob::Model)?));
    let Some(model) = known else { return without_model(case, found) };
    if case.knobs.u64(Knob::PerDeviceTrainBatchSize).is_none() {
        return without_model(case, found);
    }
    let evaluating = evaluating(case, &model);
    let case = &Case { incident: case.incident, knobs: evaluating.as_ref().unwrap_or(case.knobs) };
    let limit = limit(case, &model)?;
    let before = used(&model, case.knobs, &limit);
    for fix in found.iter_mut() {
        let mut knobs = case.knobs.clone();
        for change in &fix.changes {
            knobs.put(change.knob, change.to.clone(), Origin::Set);
        }
        if fix.changes.is_empty() {
            continue;
        }
        let after = used(&model, &knobs, &limit);
        fix.saves_bytes = Some((before - after).max(0.0) as u64);
        fix.predicted_peak_bytes = Some(after as u64);
        fix.verdict = verdict(after, &limit);
    }
    let chosen = search(case, &model, &limit)?;
    let mut knobs = case.knobs.clone();
    let mut changes = BTreeMap::new();
    for (knob, value) in &chosen {
        knobs.put(*knob, value.clone(), Origin::Set);
        changes.insert(knob.as_str(), value.clone());
    }
    let after = used(&model, &knobs, &limit);
    Some(Plan {
        changes,
        predicted_peak_bytes: Some(after as u64),
        verdict: verdict(after, &limit),
        command: Some(flags(&chosen)),
        config_patch: Some(patch(case.knobs, &chosen)),
        note: Clean::new(&format!(
            "predicted {} of {}{}",
            Bytes(after as u64),
            Bytes(limit.bytes as u64),
            if limit.correction > 1.001 { ", corrected by what the message measured" } else { "" }
        )),
    })
}

/// The settings of a job that failed in its evaluation, with what the failure itself proves: that it evaluates, and how
/// many rows it had kept the logits of where one batch cannot explain what was in use.
fn evaluating(case: &Case<'_>, model: &Architecture) -> Option<Knobs> {
    if case.incident.phase.id != PhaseId::Eval {
        return None;
    }
    let mut knobs = case.knobs.clone();
    let proof = |what: &str| Origin::Assumed(Clean::new(what));
    knobs.put(Knob::EvalStrategy, Value::Text("steps".into()), proof("it failed in evaluation"));
    if case.knobs.bool(Knob::ComputeMetrics) == Some(false) || case.knobs.u64(Knob::EvalSamples).is_some() {
        return Some(knobs);
    }
    let needed = needed(case)?;
    let one_batch = memory::estimate(model, &knobs, None);
    let batch = one_batch.phases.iter().find(|p| p.id == PhaseId::Eval)?.bytes as f64;
    if needed > 1.15 * batch || case.knobs.bool(Knob::ComputeMetrics) == Some(true) {
        let job = memory::Job::new(model.clone(), &knobs);
        let row = 2.0 * 4.0 * (model.vocab * job.sequence) as f64;
        let rows = ((needed - batch).max(0.0) / row).ceil().max(1.0);
        knobs.put(Knob::ComputeMetrics, Value::Bool(true), proof("more is in use than one batch needs"));
        knobs.put(Knob::EvalSamples, Value::Int(rows as i64), proof("what was in use when it failed"));
    }
    Some(knobs)
}

/// What the job had and asked for: it needs at least this.
fn needed(case: &Case<'_>) -> Option<f64> {
    let n = &case.incident.numbers;
    Some((n.allocated_bytes? + n.requested_bytes.unwrap_or(0)) as f64)
}

fn limit(case: &Case<'_>, model: &Architecture) -> Option<Limit> {
    let n = &case.incident.numbers;
    let pool = n.allowed_bytes.is_some();
    let others: u64 = if pool { 0 } else { case.incident.other_processes.iter().filter_map(|p| p.bytes).sum() };
    let bytes = n.allowed_bytes.or(n.capacity_bytes)?.saturating_sub(others) as f64;
    // A prediction below what the job needed is wrong by so much.
    let needed = needed(case)?;
    let plain = memory::estimate(model, case.knobs, None).peak;
    let correction = (needed / (plain.allocated_bytes as f64).max(1.0)).clamp(1.0, 1.6);
    Some(Limit { bytes, pool, correction })
}

/// Predicted use of what is limited.
fn used(model: &Architecture, knobs: &Knobs, limit: &Limit) -> f64 {
    let peak = memory::estimate(model, knobs, None).peak;
    let bytes = if limit.pool { peak.reserved_bytes } else { peak.device_bytes };
    bytes as f64 * limit.correction
}

fn verdict(used: f64, limit: &Limit) -> Verdict {
    if used * (1.0 + MARGIN) <= limit.bytes {
        Verdict::Fits
    } else if used <= limit.bytes {
        Verdict::Tight
    } else {
        Verdict::DoesNotFit
    }
}

/// Goes through the sets of levers by cost and takes the first that fits; the closest one when none does.
fn search(case: &Case<'_>, model: &Architecture, limit: &Limit) -> Option<Vec<(Knob, Value)>> {
    let levers = levers(case);
    let count = levers.len().min(14);
    let mut sets: Vec<(f64, u32)> = (1..1u32 << count)
        .map(|set| {
            let cost: f64 =
                levers.iter().take(count).enumerate().filter(|(n, _)| set & (1 << n) != 0).map(|(_, l)| l.cost).sum();
            // Fewer changes are easier to follow and to judge.
            (cost + 0.05 * f64::from(set.count_ones()), set)
        })
        .collect();
    sets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut closest: Option<(f64, Vec<(Knob, Value)>)> = None;
    for (_, set) in sets {
        let mut changes: BTreeMap<Knob, Value> = BTreeMap::new();
        let mut clash = false;
        for (_, lever) in levers.iter().take(count).enumerate().filter(|(n, _)| set & (1 << n) != 0) {
            for (knob, value) in &lever.changes {
                clash |= changes.insert(*knob, value.clone()).is_some_and(|old| old != *value);
            }
        }
        if clash {
            continue;
        }
        let mut knobs = case.knobs.clone();
        for (knob, value) in &changes {
            knobs.put(*knob, value.clone(), Origin::Set);
        }
        let after = used(model, &knobs, limit);
        let changes: Vec<_> = changes.into_iter().collect();
        if verdict(after, limit) == Verdict::Fits {
            return Some(changes);
        }
        if closest.as_ref().is_none_or(|(best, _)| after < *best) {
            closest = Some((after, changes));
        }
    }
    closest.map(|(_, changes)| changes)
}

/// What may be changed, with its cost: free levers first, then what costs speed, then what changes the training.
fn levers(case: &Case<'_>) -> Vec<Lever> {
    let mut all = Vec::new();
    let mut add = |cost: f64, changes: Vec<(Knob, Value)>| {
        if !changes.is_empty() {
            all.push(Lever { cost, changes });
        }
    };
    let k = case.knobs;
    let lora = k.u64(Knob::LoraRank).unwrap_or(0) > 0;
    let of = |id: &str| fixes::changes(case, id);
    if case.incident.phase.id == PhaseId::Eval {
        // Neither changes what is learnt.
        if k.bool(Knob::ComputeMetrics) == Some(true) && k.u64(Knob::EvalAccumulationSteps) != Some(1) {
            add(0.05, of("eval_accumulation"));
        }
        let batch = k.u64(Knob::PerDeviceEvalBatchSize).unwrap_or(8);
        for (nth, smaller) in [batch / 2, batch / 4, 1].into_iter().filter(|b| *b > 0 && *b < batch).enumerate() {
            add(0.05 + 0.02 * nth as f64, vec![(Knob::PerDeviceEvalBatchSize, Value::Int(smaller.cast_signed()))]);
        }
    }
    let optimizer = k.str(Knob::Optimizer);
    if !lora && optimizer.is_none_or(|o| o == "adamw_torch" || o == "adamw_hf") {
        add(0.1, of("fused_optimizer"));
    }
    if k.str(Knob::Attention) == Some("eager") {
        add(0.1, of("flash_attention"));
    }
    let plain = matches!(k.str(Knob::Trainer), Some("transformers" | "pytorch"));
    if plain && k.bool(Knob::FusedLoss) != Some(true) {
        add(0.3, of("liger_or_chunked_loss"));
    }
    if k.bool(Knob::GradientCheckpointing) == Some(false) {
        add(1.2, of("grad_checkpointing"));
    }
    if !lora && optimizer.is_none_or(|o| !o.contains('8')) && optimizer.is_none_or(|o| o.starts_with("adam")) {
        add(1.0, of("quantize_8bit_optim"));
    }
    if k.str(Knob::Dtype).is_none_or(|d| d == "float32") {
        add(0.9, of("bf16"));
    }
    for times in 1..=4 {
        let changes = fixes::halve_batch(case, times);
        if times == 1 || changes != fixes::halve_batch(case, times - 1) {
            add(0.5 + 0.35 * f64::from(times), changes);
        }
    }
    if !lora {
        add(4.0, of("lora"));
    }
    if k.str(Knob::Quantization).is_none_or(|q| q == "none") {
        add(if lora { 3.0 } else { 6.0 }, of("qlora"));
    }
    add(5.0, of("reduce_completion_len"));
    add(5.0, of("reduce_seq_len"));
    all
}

/// Without the model's shape the message itself is all there is: what would give back at least what was missing.
fn without_model(case: &Case<'_>, found: &[Fix]) -> Option<Plan> {
    let first = found.iter().find(|f| !f.changes.is_empty())?;
    let n = &case.incident.numbers;
    let missing = n.requested_bytes?.saturating_sub(n.free_bytes.unwrap_or(0));
    Some(Plan {
        changes: first.changes.iter().map(|c| (c.knob.as_str(), c.to.clone())).collect(),
        predicted_peak_bytes: None,
        verdict: Verdict::Unknown,
        command: None,
        config_patch: None,
        note: Clean::new(&format!(
            "from the message alone, which lacks {}: name the model and the settings (--model, --config) for a plan with figures",
            Bytes(missing)
        )),
    })
}

/// The changes as flags of transformers and TRL.
fn flags(changes: &[(Knob, Value)]) -> Clean {
    let words: Vec<String> = changes.iter().map(|(knob, value)| format!("--{} {value}", key(*knob))).collect();
    Clean::new(&words.join(" "))
}

/// The changes as lines of a TRL or transformers YAML file.
fn patch(knobs: &Knobs, changes: &[(Knob, Value)]) -> String {
    let mut lines = String::new();
    for (knob, value) in changes {
        if let Some(old) = knobs.value(*knob) {
            let _ = writeln!(lines, "-{}: {old}", key(*knob));
        }
        let _ = writeln!(lines, "+{}: {value}", key(*knob));
    }
    lines
}

/// A knob's name in TRL and transformers.
fn key(knob: Knob) -> &'static str {
    match knob {
        Knob::Optimizer => "optim",
        Knob::FusedLoss => "use_liger_kernel",
        Knob::LoraRank => "lora_r",
        Knob::SequenceLength => "max_length",
        Knob::Quantization => "load_in_4bit",
        Knob::Attention => "attn_implementation",
        other => other.as_str(),
    }
}
