//! A diagnosis in words: names of phases and causes, what to type, the report as Markdown.

use std::fmt::Write as _;

use crate::{
    diagnose::{changes, fixes, spelling},
    model::{
        Bytes, Clean,
        failure::{Diagnosis, Failure, Fix, PhaseId, Plan, Verdict},
        knobs::{Knob, Knobs, Value},
    },
};

/// What the job was doing, to stand after "died".
pub fn phase_words(phase: PhaseId) -> &'static str {
    match phase {
        PhaseId::ModelLoad => "while the model was loaded",
        PhaseId::Forward => "in the forward pass",
        PhaseId::LogitsLoss => "at the logits and the loss",
        PhaseId::Generation => "while generating",
        PhaseId::Scoring => "while scoring completions",
        PhaseId::Backward => "in the backward pass",
        PhaseId::OptimizerStep => "at the optimizer's step",
        PhaseId::DdpFsdpComm => "while ranks exchanged tensors",
        PhaseId::Eval => "in the evaluation",
        PhaseId::CheckpointSave => "while a checkpoint was saved",
        PhaseId::KvCacheInit => "when the KV cache was set up",
        PhaseId::WeightSync => "while weights were synchronised",
        PhaseId::Dataloader => "in the data loader",
        PhaseId::Unknown => "in a phase that the log does not tell",
    }
}

/// A cause by its id, for people.
pub fn cause_words(id: &str) -> &str {
    match id {
        "too_big_model" => "the model itself is too big",
        "activations" => "activations kept for the backward pass",
        "logits" => "the logits of the whole vocabulary",
        "kv_cache" => "the cache of keys and values",
        "optimizer_state" => "the optimizer's states",
        "fragmentation" => "fragmentation: free memory in pieces too small",
        "other_process" => "another process on the card",
        "leak_growth" => "memory that grows from step to step",
        "cap_limit" => "a limit below the card's capacity",
        "tiny_shm" => "/dev/shm is too small",
        "host_ram" => "the host's memory",
        "none" => "not out of memory",
        "unknown" => "not known from this text",
        other => other,
    }
}

/// Everything that a fix wants typed, a line each: in the user's framework, else in plain PyTorch's words.
pub fn words_of(fix: &Fix, knobs: &Knobs) -> Vec<String> {
    fixes::how(fix, knobs).map(|(_, how)| how).into_iter().chain(fix.commands.iter().map(ToString::to_string)).collect()
}

/// The same with what stands there now: `per_device_train_batch_size: 8 → 4`.
pub fn words_with_values(fix: &Fix, failure: &Failure, knobs: &Knobs) -> Vec<Clean> {
    let mut words = words_of(fix, knobs);
    if let Some(first) = words.first_mut() {
        let mut from = 0;
        for change in &fix.changes {
            let basis = failure.basis.as_ref().and_then(|b| b.knobs.value(change.knob));
            let Some(before) = change.from.as_ref().or(basis).filter(|before| **before != change.to) else { continue };
            from = put_before(first, from, &change.to.to_string(), &before.to_string());
        }
    }
    words.iter().map(|words| Clean::new(words)).collect()
}

/// Puts `before` and an arrow in front of the value `to` in `words`, from a place on; gives the place after it. Where the
/// value does not stand there as it is, the end says what it was.
fn put_before(words: &mut String, from: usize, to: &str, before: &str) -> usize {
    let lower = words.to_ascii_lowercase();
    let is_value = |at: &usize| {
        let ends = lower[at + to.len()..].chars().next().is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '.'));
        let head = lower[..*at].trim_end_matches([' ', '"', '\'']);
        ends && (head.ends_with([':', '=']) || head.len() < *at && lower[..*at].ends_with(' ') && head.contains("--"))
    };
    let only = || {
        let at = lower.find(": ").map(|at| at + 2).or_else(|| lower.find('=').map(|at| at + 1))?;
        (from == 0 && !lower[at..].contains([' ', ',', '(', '[', '{'])).then_some(at)
    };
    let found = lower.match_indices(&to.to_ascii_lowercase()).map(|(at, _)| at).filter(|at| *at >= from).find(is_value);
    // What stands there alone is the value, by the framework's name for it.
    let Some(at) = found.or_else(only) else {
        let _ = write!(words, " (was {before})");
        return from;
    };
    let text = format!("{before} → ");
    words.insert_str(at, &text);
    at + text.len() + if found.is_some() { to.len() } else { 0 }
}

/// What a plan changes, with what stands there now.
pub fn changed_words(plan: &Plan, failure: &Failure) -> String {
    let change = |(knob, to): (&&str, &Value)| {
        let knobs = failure.basis.as_ref().map(|b| &b.knobs);
        let before = knob.parse().ok().and_then(|knob: Knob| knobs?.value(knob));
        before.map_or_else(|| format!("{knob}: {to}"), |before| format!("{knob}: {before} → {to}"))
    };
    plan.changes.iter().map(change).collect::<Vec<_>>().join(", ")
}

/// What the chosen fixes want typed; without a choice, the plan's command, else the first fix.
pub fn command(failure: &Failure, chosen: &[&Fix], knobs: &Knobs) -> String {
    if chosen.is_empty()
        && let Some(command) = failure.plan.as_ref().and_then(|p| p.command.as_ref())
    {
        return format!("{command}\n");
    }
    let fixes: Vec<&Fix> = if chosen.is_empty() { failure.fixes.iter().take(1).collect() } else { chosen.to_vec() };
    // Several settings are one command line, each once; what is no setting follows.
    let line = spelling::command(knobs, &changes(&fixes)).filter(|_| fixes.len() > 1);
    let rest = fixes.iter().filter(|fix| line.is_none() || fix.changes.is_empty());
    let lines: Vec<String> =
        line.iter().map(Clean::to_string).chain(rest.flat_map(|fix| words_of(fix, knobs))).collect();
    if lines.is_empty() { String::new() } else { lines.join("\n") + "\n" }
}

/// The plan's configuration patch, or the chosen fixes as settings.
pub fn patch(failure: &Failure, chosen: &[&Fix], knobs: &Knobs) -> String {
    if chosen.is_empty()
        && let Some(patch) = failure.plan.as_ref().and_then(|p| p.config_patch.as_ref())
    {
        return patch.clone();
    }
    if let Some(patch) = spelling::patch(knobs, &changes(chosen)) {
        return patch;
    }
    command(failure, chosen, knobs)
}

/// `fits`, `tight`, … for people.
pub fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fits => "fits",
        Verdict::Tight => "tight",
        Verdict::DoesNotFit => "too much",
        Verdict::Unknown => "not known",
    }
}

/// The whole diagnosis for an issue or a chat.
pub fn markdown(diagnosis: &Diagnosis, knobs: &Knobs) -> String {
    let mut out = String::new();
    if diagnosis.failures.is_empty() {
        out.push_str("No out-of-memory failure was found in this text.\n");
    }
    for failure in &diagnosis.failures {
        one(&mut out, failure, knobs);
        out.push('\n');
    }
    out
}

fn one(out: &mut String, failure: &Failure, knobs: &Knobs) {
    let _ = writeln!(out, "## {}\n\n```text\n{}\n```\n", sentence(failure.summary.as_str()), failure.message);
    let place = &failure.place;
    let source = if place.source.is_empty() { "the text" } else { place.source.as_str() };
    let _ = write!(out, "Where: {source}");
    // What the end of the process told stands on no line.
    if place.line > 0 {
        let _ = write!(out, " line {}", place.line);
    }
    for (name, number) in [("rank", failure.rank), ("GPU", failure.device)] {
        if let Some(number) = number {
            let _ = write!(out, ", {name} {number}");
        }
    }
    if failure.phase.id != PhaseId::Unknown {
        let _ = write!(out, ", {}", phase_words(failure.phase.id));
    }
    let _ = writeln!(out, " ({}).\n", failure.kind);
    let numbers = &failure.numbers;
    let sizes = [
        ("requested", numbers.requested_bytes),
        ("allowed to this process", numbers.allowed_bytes),
        ("capacity", numbers.capacity_bytes),
        ("free", numbers.free_bytes),
        ("in use by the process", numbers.in_use_bytes),
        ("allocated", numbers.allocated_bytes),
        ("reserved, not allocated", numbers.reserved_unallocated_bytes),
        ("of it in private pools", numbers.private_pools_bytes),
    ];
    let own = sizes.iter().filter_map(|(name, bytes)| Some(((*name).to_string(), (*bytes)?)));
    let others = failure.other_processes.iter().filter_map(|p| Some((format!("held by process {}", p.pid), p.bytes?)));
    let rows: Vec<Vec<String>> = own.chain(others).map(|(name, bytes)| vec![name, Bytes(bytes).to_string()]).collect();
    if !rows.is_empty() {
        table(out, &["memory", "size"], &rows);
        out.push('\n');
    }
    for cause in &failure.causes {
        if let Some(settled_by) = &cause.settled_by {
            let _ = writeln!(
                out,
                "* not enough data to tell: **{}** ({}). What would settle it: {settled_by}.",
                cause_words(cause.id),
                cause.summary
            );
            continue;
        }
        let _ = writeln!(out, "* **{}**: {}", cause_words(cause.id), cause.summary);
        for evidence in &cause.evidence {
            let line = evidence.line.map(|l| format!("line {l}: ")).unwrap_or_default();
            let _ = writeln!(out, "  * {line}`{}`", evidence.text.as_str().replace('`', "'"));
        }
    }
    // What the message itself asks for is worth a row only where something is to be typed.
    let fixes: Vec<&Fix> = failure.fixes.iter().filter(|f| f.id != "other" || !f.commands.is_empty()).collect();
    if fixes.is_empty() {
        return;
    }
    // Figures have a column where there are any.
    let counted = fixes.iter().any(|f| f.predicted_peak_bytes.is_some());
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "not known".to_string(), |b| Bytes(b).to_string());
    let row = |fix: &&Fix| {
        let typed = words_of(fix, knobs).iter().map(|w| format!("`{}`", w.replace('`', "'"))).collect::<Vec<_>>();
        let typed = if typed.is_empty() { "nothing to type".to_string() } else { typed.join("<br>") };
        let mut cells = vec![fix.title.to_string(), typed];
        if counted {
            let figures =
                [size(fix.saves_bytes), size(fix.predicted_peak_bytes), verdict_words(fix.verdict).to_string()];
            cells.extend(figures);
        }
        cells.push(if fix.cost.is_empty() { "none".to_string() } else { fix.cost.to_string() });
        cells
    };
    let rows: Vec<Vec<String>> = fixes.iter().map(row).collect();
    out.push('\n');
    let heads: &[&str] =
        if counted { &["fix", "type", "saves", "predicted peak", "fits?", "cost"] } else { &["fix", "type", "cost"] };
    table(out, heads, &rows);
}

/// A table, in which no cell is empty or ends early.
fn table(out: &mut String, heads: &[&str], rows: &[Vec<String>]) {
    let _ = writeln!(out, "| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
}

/// Begins with a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, changes: &[(&str, &str)], want: &str) {
        let mut shown = words.to_string();
        let mut from = 0;
        for (before, to) in changes {
            from = put_before(&mut shown, from, to, before);
        }
        assert_eq!(shown, want);
    }

    #[test]
    fn values_stand_where_they_are_typed() {
        check(
            "per_device_train_batch_size: 4, gradient_accumulation_steps: 2",
            &[("8", "4"), ("1", "2")],
            "per_device_train_batch_size: 8 → 4, gradient_accumulation_steps: 1 → 2",
        );
        check(
            "batch_size=2 gradient_accumulation_steps=2",
            &[("4", "2"), ("1", "2")],
            "batch_size=4 → 2 gradient_accumulation_steps=1 → 2",
        );
        check(
            "optim: adamw_torch_fused",
            &[("adamw_torch", "adamw_torch_fused")],
            "optim: adamw_torch → adamw_torch_fused",
        );
        check("gradient_checkpointing=True", &[("false", "true")], "gradient_checkpointing=false → True");
        check("--train.micro_batch_size 4", &[("8", "4")], "--train.micro_batch_size 8 → 4");
        check("{\"micro\": 4}", &[("8", "4")], "{\"micro\": 8 → 4}");
        check("optim: adamw_bnb_8bit", &[("adamw_torch", "adamw_8bit")], "optim: adamw_torch → adamw_bnb_8bit");
        // 40 is not 4.
        check("--x 40 --y", &[("8", "4")], "--x 40 --y (was 8)");
        check("load(dtype=torch.bfloat16)", &[("float32", "bfloat16")], "load(dtype=float32 → torch.bfloat16)");
    }
}
