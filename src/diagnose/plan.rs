//! The least costly set of changes that is predicted to fit.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    memory::{self, models},
    model::{
        Bytes, Clean,
        architecture::Architecture,
        estimate::{Peak, PhaseEstimate},
        failure::{Basis, Fix, Limit, Memory, PhaseId, Plan, Verdict},
        knobs::{Knob, Knobs, Origin, Value},
    },
};

use super::{
    Case,
    levers::{Lever, levers},
    spelling,
};

/// Predicted use must stay this far below the limit, or so much of the interval's half width, whichever is more.
const MARGIN: f64 = 0.03;
const MARGIN_OF_SPREAD: f64 = 0.6;
/// A model that is wrong by more is of another job.
const MOST: f64 = 4.0;
/// Sets of changes are looked through up to this many levers.
const LEVERS: usize = 14;

/// Fills in what each fix saves, and plans. Gives what other sets of changes can be predicted from, too.
pub fn plan(case: &Case<'_>, model: Option<&Architecture>, found: &mut [Fix]) -> (Option<Plan>, Option<Box<Basis>>) {
    if case.incident.memory != Memory::Gpu || !case.incident.is_oom {
        return (None, None);
    }
    let known = model.cloned().or_else(|| models::find(case.knobs.str(Knob::Model)?)).filter(|m| !m.tower);
    let Some(model) = known else { return (without_model(case, found), None) };
    let (resolved, _) = memory::resolve(case.knobs);
    let resolved = evaluating(&Case { incident: case.incident, knobs: &resolved }, &model).unwrap_or(resolved);
    let resolved =
        lengthened(&Case { incident: case.incident, knobs: &resolved }, case.knobs, &model).unwrap_or(resolved);
    let settled = &Case { incident: case.incident, knobs: &resolved };
    let guessed = case.knobs.u64(Knob::PerDeviceTrainBatchSize).is_none();
    let Some(limit) = limit(settled, &model).filter(|_| !guessed || agrees(settled, &model)) else {
        return (without_model(case, found), None);
    };
    let before = used(&model, settled.knobs, &limit).0;
    // One GPU alone has nobody to share with.
    let alone = resolved.u64(Knob::WorldSize).unwrap_or(1) <= 1;
    for fix in found.iter_mut().filter(|fix| !fix.changes.is_empty() && (!alone || fix.id != "zero_fsdp")) {
        let mut knobs = resolved.clone();
        for change in &fix.changes {
            knobs.put(change.knob, change.to.clone(), Origin::Set);
        }
        let (after, verdict) = used(&model, &knobs, &limit);
        fix.saves_bytes = Some((before - after).max(0.0) as u64);
        fix.predicted_peak_bytes = Some(after as u64);
        fix.verdict = verdict;
    }
    // What is predicted to save nothing comes last, but for the answer to the cause itself.
    if let Some((_, others)) = found.split_first_mut() {
        others.sort_by_key(|fix| fix.saves_bytes == Some(0));
    }
    let told = told(&resolved);
    let chosen = search(settled, &model, &limit);
    let basis = Box::new(Basis { model: model.clone(), knobs: resolved.clone(), limit, peak_bytes: before as u64 });
    let Some(chosen) = chosen else { return (None, Some(basis)) };
    let mut knobs = resolved.clone();
    let mut changes = BTreeMap::new();
    for (knob, value) in &chosen {
        knobs.put(*knob, value.clone(), Origin::Set);
        changes.insert(knob.as_str(), value.clone());
    }
    let (after, verdict) = used(&model, &knobs, &limit);
    let (now, then, of) = (Bytes(before as u64), Bytes(after as u64), Bytes(limit.bytes as u64));
    let mut note = format!("predicted {then} of {of}; {now} as it is");
    if (limit.correction - 1.0).abs() > 0.001 {
        let _ = write!(note, ", times {:.2} for what the message measured", limit.correction);
    }
    let length = if resolved.value(Knob::PromptLength).is_some() { Knob::PromptLength } else { Knob::SequenceLength };
    if let Some(setting) = resolved.setting(length).filter(|s| matches!(s.origin, Origin::Assumed(_))) {
        let _ = write!(note, "; {} of about {} tokens explain what was in use", length.as_str(), setting.value);
    }
    if guessed {
        note += "; batch and lengths are the trainer's defaults, which agree with the message: --config makes it sure";
    }
    let plan = Plan {
        changes,
        predicted_peak_bytes: Some(after as u64),
        verdict,
        command: spelling::command(&told, &chosen),
        config_patch: spelling::patch(&told, &chosen),
        note: Clean::new(&note),
    };
    (Some(plan), Some(basis))
}

/// Settings that name no trainer are read as TRL's.
pub fn told(knobs: &Knobs) -> Knobs {
    let mut told = knobs.clone();
    told.put(Knob::Trainer, Value::Text("trl".into()), Origin::Assumed("no trainer is named".into()));
    told
}

/// What several fixes change, each setting once: the later one's word counts.
pub fn changes(fixes: &[&Fix]) -> Vec<(Knob, Value)> {
    let all = fixes.iter().flat_map(|fix| &fix.changes).map(|change| (change.knob, change.to.clone()));
    all.collect::<BTreeMap<Knob, Value>>().into_iter().collect()
}

/// The predicted peak of a failed job with all of these fixes at once, and what follows from it.
pub fn together(basis: &Basis, fixes: &[&Fix]) -> (u64, Verdict) {
    let mut knobs = basis.knobs.clone();
    for (knob, value) in changes(fixes) {
        knobs.put(knob, value, Origin::Set);
    }
    let (after, verdict) = used(&basis.model, &knobs, &basis.limit);
    (after as u64, verdict)
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
    let of_evaluation = |knobs: &Knobs| {
        let phases = memory::estimate(model, knobs, None).phases;
        phases.iter().find(|p| p.id == PhaseId::Eval).map(|p| p.bytes as f64)
    };
    let batch = of_evaluation(&knobs)?;
    if needed > 1.15 * batch || case.knobs.bool(Knob::ComputeMetrics) == Some(true) {
        knobs.put(Knob::ComputeMetrics, Value::Bool(true), proof("more is in use than one batch needs"));
        for rows in (0..40).map(|n| 1i64 << (n / 2) | (n % 2) << (n / 2) >> 1) {
            knobs.put(Knob::EvalSamples, Value::Int(rows), proof("what was in use when it failed"));
            if of_evaluation(&knobs)? >= needed {
                break;
            }
        }
    }
    Some(knobs)
}

/// The settings with the length that explains what was in use, where nobody gave one: prompts are as long as the data
/// has them, and what the failing phase held grows with their tokens.
fn lengthened(case: &Case<'_>, given: &Knobs, model: &Architecture) -> Option<Knobs> {
    let online = matches!(case.knobs.str(Knob::Method), Some("grpo" | "rloo" | "ppo"));
    let length = if online { Knob::PromptLength } else { Knob::SequenceLength };
    if given.value(length).is_some() {
        return None;
    }
    let needed = needed(case)?;
    let with = |tokens: u64| {
        // Stronger than the default that it replaces.
        let mut knobs = case.knobs.without(length);
        knobs.put(length, Value::Int(tokens.cast_signed()), Origin::Assumed("what was in use when it failed".into()));
        knobs
    };
    let held = |tokens: u64| of_phase(case.incident.phase.id, &memory::estimate(model, &with(tokens), None).phases);
    let (mut low, mut high) = (case.knobs.u64(length)?, 1 << 20);
    // Where the phase does not grow with the length, no length explains it.
    if held(low)? >= needed || held(high)? < needed {
        return None;
    }
    while low + 1 < high {
        let middle = low.midpoint(high);
        if held(middle)? < needed { low = middle } else { high = middle }
    }
    Some(with(high))
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
    let needed = needed(case)?;
    let phases = memory::estimate(model, case.knobs, None).phases;
    let failed = case.incident.phase.id;
    let correction = correction(failed, &phases, needed, bytes);
    let mut limit = Limit { bytes, pool, correction };
    // That it failed proves that as it was it does not fit.
    let before = used(model, case.knobs, &limit).0;
    if before < bytes && !matches!(failed, PhaseId::ModelLoad | PhaseId::Eval) {
        limit.correction = (limit.correction * 1.01 * bytes / before.max(1.0)).min(MOST);
    }
    Some(limit)
}

/// The failing run's own numbers against the model: the phase that failed needed at least what was in use and asked
/// for, and the phases before it fitted.
fn correction(failed: PhaseId, phases: &[PhaseEstimate], needed: f64, limit: f64) -> f64 {
    // While the model is built the formulas know one copy; what else is there they do not. How many rows an evaluation
    // had kept was found from these very numbers.
    if matches!(failed, PhaseId::ModelLoad | PhaseId::Eval) {
        return 1.0;
    }
    let most = phases.iter().map(|p| p.bytes as f64).fold(0.0, f64::max);
    let predicted = of_phase(failed, phases).unwrap_or(most);
    if needed > predicted {
        return (needed / predicted.max(1.0)).min(MOST);
    }
    // The optimizer's step comes last: forward and backward had passed, in a first step without any states.
    if failed == PhaseId::OptimizerStep {
        let passed = phases
            .iter()
            .filter(|p| matches!(p.id, PhaseId::Forward | PhaseId::LogitsLoss | PhaseId::Backward))
            .map(|p| p.bytes.saturating_sub(p.components.optimizer_states) as f64)
            .fold(0.0, f64::max);
        return (limit / passed.max(1.0)).clamp(0.7, 1.0);
    }
    1.0
}

/// What the formulas say of the phase that failed; `None` for a phase that they have not.
fn of_phase(failed: PhaseId, phases: &[PhaseEstimate]) -> Option<f64> {
    let ids: &[PhaseId] = match failed {
        PhaseId::Generation | PhaseId::KvCacheInit => &[PhaseId::Generation],
        PhaseId::Forward | PhaseId::Scoring | PhaseId::LogitsLoss => {
            &[PhaseId::Scoring, PhaseId::Forward, PhaseId::LogitsLoss]
        }
        PhaseId::Backward => &[PhaseId::LogitsLoss, PhaseId::Backward],
        PhaseId::OptimizerStep => &[PhaseId::OptimizerStep],
        _ => return None,
    };
    phases.iter().filter(|p| ids.contains(&p.id)).map(|p| p.bytes as f64).reduce(f64::max)
}

/// Whether settings that nobody gave explain what the message measured.
fn agrees(case: &Case<'_>, model: &Architecture) -> bool {
    let peak = memory::peak(model, case.knobs, None).allocated_bytes as f64;
    needed(case).is_some_and(|needed| (0.8..1.25).contains(&(needed / peak.max(1.0))))
}

/// Predicted use of what is limited, and what follows from it.
fn used(model: &Architecture, knobs: &Knobs, limit: &Limit) -> (f64, Verdict) {
    let Peak { reserved_bytes, device_bytes, high_bytes, .. } = memory::peak(model, knobs, None);
    let bytes = if limit.pool { reserved_bytes } else { device_bytes } as f64 * limit.correction;
    let spread = high_bytes.saturating_sub(device_bytes) as f64 / (device_bytes as f64).max(1.0);
    let verdict = if bytes * (1.0 + MARGIN.max(MARGIN_OF_SPREAD * spread)) <= limit.bytes {
        Verdict::Fits
    } else if bytes <= limit.bytes {
        Verdict::Tight
    } else {
        Verdict::DoesNotFit
    };
    (bytes, verdict)
}

/// Goes through the sets of levers by cost and takes the first that fits; the closest one when none does.
fn search(case: &Case<'_>, model: &Architecture, limit: &Limit) -> Option<Vec<(Knob, Value)>> {
    let levers: Vec<Lever> = levers(case).into_iter().take(LEVERS).collect();
    let members = |set: u32| levers.iter().enumerate().filter(move |(n, _)| set & (1 << n) != 0).map(|(_, l)| l);
    let mut sets: Vec<(f64, u32)> = (1..1u32 << levers.len())
        .map(|set| {
            // Fewer changes are easier to follow and to judge.
            (members(set).map(|l| l.cost + 0.05).sum(), set)
        })
        .collect();
    sets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut closest: Option<(f64, Vec<(Knob, Value)>)> = None;
    for (_, set) in sets {
        let mut changes: BTreeMap<Knob, Value> = BTreeMap::new();
        let mut clash = false;
        for (knob, value) in members(set).flat_map(|l| &l.changes) {
            clash |= changes.insert(*knob, value.clone()).is_some_and(|old| old != *value);
        }
        if clash {
            continue;
        }
        let mut knobs = case.knobs.clone();
        for (knob, value) in &changes {
            knobs.put(*knob, value.clone(), Origin::Set);
        }
        let (after, verdict) = used(model, &knobs, limit);
        let changes: Vec<_> = changes.into_iter().collect();
        if verdict == Verdict::Fits {
            return Some(changes);
        }
        if closest.as_ref().is_none_or(|(best, _)| after < *best) {
            closest = Some((after, changes));
        }
    }
    closest.map(|(_, changes)| changes)
}

/// Without the model's shape the message itself is all there is: the first change that helps what it tells of.
fn without_model(case: &Case<'_>, found: &[Fix]) -> Option<Plan> {
    let first = found.iter().find(|f| !f.changes.is_empty())?;
    let n = &case.incident.numbers;
    let requested = n.requested_bytes?;
    let chosen: Vec<(Knob, Value)> = first.changes.iter().map(|c| (c.knob, c.to.clone())).collect();
    let free = match n.allowed_bytes {
        Some(allowed) => {
            let pool = n.allocated_bytes.unwrap_or(0) + n.reserved_unallocated_bytes.unwrap_or(0);
            Some(allowed.saturating_sub(pool))
        }
        None => n.free_bytes,
    };
    let proves = match free.map(|free| requested.saturating_sub(free)) {
        Some(missing) if missing > 0 => format!("at least {} was missing for this request alone", Bytes(missing)),
        Some(_) => format!("{} was asked for and as much was free, but not in one piece", Bytes(requested)),
        None => format!("{} was asked for", Bytes(requested)),
    };
    Some(Plan {
        changes: chosen.iter().map(|(knob, to)| (knob.as_str(), to.clone())).collect(),
        predicted_peak_bytes: None,
        verdict: Verdict::Unknown,
        command: spelling::command(case.knobs, &chosen),
        config_patch: spelling::patch(case.knobs, &chosen),
        note: Clean::new(&format!(
            "from the message alone: {proves}; whether this gives back enough is not known without the model and its \
             settings (--model, --config)"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::estimate::Components;

    /// Prompts that grow with the data: a forward that holds far more than the default length explains. A cheaper step of
    /// the optimizer cannot help it.
    #[test]
    fn a_forward_that_fills_the_card_is_not_mended_at_the_optimizer() {
        let mut knobs = Knobs::default();
        for setting in [
            "trainer=trl",
            "model=Qwen/Qwen2.5-1.5B",
            "method=grpo",
            "per_device_train_batch_size=32",
            "num_generations=8",
            "max_completion_length=48",
            "gradient_checkpointing=false",
            "dtype=bfloat16",
            "optimizer=adamw_torch",
        ] {
            let (knob, value) = setting.split_once('=').unwrap();
            knobs.put(knob.parse().unwrap(), Value::guess(value), Origin::Set);
        }
        let mut incident = crate::model::incident::Incident {
            is_oom: true,
            memory: Memory::Gpu,
            kind: "torch.cuda.v2_capacity".into(),
            ..Default::default()
        };
        incident.phase.id = PhaseId::Forward;
        incident.numbers.requested_bytes = Some(134 << 20);
        incident.numbers.capacity_bytes = Some(143_156 << 20);
        incident.numbers.free_bytes = Some(125 << 20);
        incident.numbers.allocated_bytes = Some(134_216 << 20);
        let case = Case { incident: &incident, knobs: &knobs };
        let causes = crate::diagnose::causes::judge(&case);
        let mut fixes = crate::diagnose::fixes::fixes(&case, &causes);
        let (plan, basis) = plan(&case, None, &mut fixes);
        let plan = plan.unwrap();
        assert!(
            ["gradient_checkpointing", "per_device_train_batch_size"].iter().any(|k| plan.changes.contains_key(k)),
            "{plan:?}"
        );
        assert_eq!(plan.verdict, Verdict::Fits);
        // What changes nothing of the forward does not fit, and what halves it gives back about half.
        let of = |id: &str| fixes.iter().find(|f| f.id == id).unwrap_or_else(|| panic!("no {id}"));
        assert_ne!(of("fused_optimizer").verdict, Verdict::Fits);
        assert!(of("reduce_batch").saves_bytes.unwrap() > 50 << 30, "{:?}", of("reduce_batch"));
        // One fix predicted as a set is what it is alone; two save less than the sum of what each saves.
        let basis = basis.unwrap();
        let (alone, _) = together(&basis, &[of("reduce_batch")]);
        assert_eq!(Some(alone), of("reduce_batch").predicted_peak_bytes);
        assert_eq!(together(&basis, &[]).0, basis.peak_bytes);
        let both = [of("reduce_batch"), of("grad_checkpointing")];
        let (peak, _) = together(&basis, &both);
        let sum: u64 = both.iter().filter_map(|f| f.saves_bytes).sum();
        assert!(both.iter().all(|f| Some(peak) < f.predicted_peak_bytes), "{peak}");
        assert!(basis.peak_bytes - peak < sum, "{peak}, {sum}");
    }

    fn check(failed: PhaseId, needed: f64, limit: f64, want: f64) {
        let phase = |id, bytes: u64, optimizer_states| PhaseEstimate {
            id,
            bytes,
            components: Components { optimizer_states, ..Components::default() },
        };
        let phases = [
            phase(PhaseId::Forward, 90, 40),
            phase(PhaseId::Backward, 100, 40),
            phase(PhaseId::OptimizerStep, 120, 60),
        ];
        let got = correction(failed, &phases, needed, limit);
        assert!((got - want).abs() < 1e-9, "{failed:?} {needed} {limit}: {got}");
    }

    #[test]
    fn the_failing_run_corrects_the_model_by_its_phase() {
        // More than the forward was predicted to need, though less than the peak.
        check(PhaseId::Forward, 99.0, 110.0, 1.1);
        check(PhaseId::Forward, 80.0, 110.0, 1.0);
        // The backward of the first step fitted into 48, where 60 were predicted.
        check(PhaseId::OptimizerStep, 110.0, 48.0, 0.8);
        check(PhaseId::OptimizerStep, 132.0, 48.0, 1.1);
        check(PhaseId::ModelLoad, 500.0, 110.0, 1.0);
        check(PhaseId::Unknown, 240.0, 110.0, 2.0);
    }
}
