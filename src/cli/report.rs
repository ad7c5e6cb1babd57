//! A diagnosis as text for a terminal: the picture of the card, what, why, and what to change.

use std::fmt::Write;

use crate::{
    diagnose::{fixes, spelling},
    model::{
        Bytes, Clean,
        failure::{Diagnosis, Failure, Fix, Memory, PhaseId, Verdict},
        knobs::{Knob, Knobs},
    },
    ui::report::{phase_words, verdict_words},
};

/// Colours, where the terminal has them and nobody said NO_COLOR.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }
}

/// The whole answer in lines of at most `width` columns.
pub fn text(diagnosis: &Diagnosis, knobs: &Knobs, width: usize, paint: Paint) -> String {
    let width = width.clamp(40, 110);
    let mut out = String::new();
    if diagnosis.failures.is_empty() {
        out.push_str("No out-of-memory failure found in this text.\n");
        return out;
    }
    for (nth, failure) in diagnosis.failures.iter().enumerate() {
        if nth > 0 {
            out.push('\n');
        }
        one(&mut out, failure, knobs, width, paint);
    }
    out
}

fn one(out: &mut String, f: &Failure, knobs: &Knobs, width: usize, paint: Paint) {
    if !f.is_oom {
        let reason = f.causes.first().map_or("", |c| c.summary.as_str());
        wrap(out, &format!("{} ", paint.bold("Not out of memory:")), reason, width, 2);
        let _ = writeln!(out, "  {}", paint.dim(&place(f)));
        return;
    }
    let memory = match f.memory {
        Memory::Host => "Host memory ran out",
        Memory::Shm => "Shared memory (/dev/shm) ran out",
        Memory::Gpu | Memory::None => "GPU memory ran out",
    };
    let on = match (f.rank, f.device) {
        (Some(rank), Some(device)) => format!(" on rank {rank}, GPU {device}"),
        (Some(rank), None) => format!(" on rank {rank}"),
        (None, Some(device)) => format!(" on GPU {device}"),
        (None, None) => String::new(),
    };
    let phase = match f.phase.id {
        PhaseId::Unknown => "; the text does not tell in which phase".to_string(),
        phase => format!(" {}", phase_words(phase)),
    };
    let _ = writeln!(out, "{}{on}{phase}", paint.bad(memory));
    let _ = writeln!(out, "  {}", paint.dim(&place(f)));
    card(out, f, width, paint);
    let _ = writeln!(out, "\n{}", paint.bold("Why"));
    let (found, open): (Vec<_>, Vec<_>) = f.causes.iter().partition(|cause| cause.settled_by.is_none());
    for cause in found.iter().take(3) {
        let sure = match cause.score {
            s if s >= 0.8 => "",
            s if s >= 0.5 => "likely: ",
            _ => "perhaps: ",
        };
        wrap(out, "  ", &format!("{sure}{}", cause.summary), width, 4);
    }
    if found.is_empty() {
        let _ = writeln!(out, "  Not enough data to tell. What cannot be excluded, and what would settle it:");
    } else if !open.is_empty() {
        let _ = writeln!(out, "  {}", paint.dim("Not enough data to exclude:"));
    }
    for cause in open.iter().take(2) {
        let settled_by = cause.settled_by.as_ref().map_or("", Clean::as_str);
        wrap(out, "    ", &format!("{} ({settled_by} would tell)", cause.summary), width, 6);
    }
    for evidence in f.phase.evidence.iter().take(1) {
        let line = evidence.line.map_or(String::new(), |l| format!("line {l}: "));
        let _ = writeln!(out, "  {}", paint.dim(&cut(&format!("{line}{}", evidence.text), width - 2)));
    }
    if !f.echoes.is_empty() {
        let _ = writeln!(
            out,
            "  {}",
            paint.dim(&format!("{} further lines only echo it (other ranks, the launcher)", f.echoes.len()))
        );
    }
    plan(out, f, knobs, width, paint);
    let planned = f.plan.as_ref().is_some_and(|p| p.predicted_peak_bytes.is_some());
    let heading = if planned { "What each change would do alone" } else { "What to change" };
    let _ = writeln!(out, "\n{}", paint.bold(heading));
    let told = |fix: &&Fix| {
        let nothing = fix.predicted_peak_bytes.is_some() && fix.saves_bytes == Some(0) && fix.verdict != Verdict::Fits;
        !nothing && (fix.id != "other" || !fix.commands.is_empty())
    };
    let mut fixes: Vec<&Fix> = f.fixes.iter().filter(told).collect();
    // The plan's own first, then what is enough by itself.
    fixes.sort_by_key(|fix| {
        let of_plan = f.plan.as_ref().filter(|_| planned && !fix.changes.is_empty());
        let of_plan = of_plan.is_some_and(|p| fix.changes.iter().all(|c| p.changes.contains_key(c.knob.as_str())));
        (!of_plan, planned && !matches!(fix.verdict, Verdict::Fits | Verdict::Tight))
    });
    for (nth, fix) in fixes.into_iter().take(5).enumerate() {
        list(out, nth + 1, fix, knobs, width, paint);
    }
}

fn place(f: &Failure) -> String {
    let source = if f.place.source.is_empty() { "the text" } else { f.place.source.as_str() };
    // What the end of the process told stands on no line.
    if f.place.line == 0 {
        format!("{source} ({})", f.kind)
    } else {
        format!("{source}, line {} ({})", f.place.line, f.kind)
    }
}

/// The card to scale: what is in it, and the request that did not fit.
fn card(out: &mut String, f: &Failure, width: usize, paint: Paint) {
    let n = &f.numbers;
    let Some(capacity) = n.allowed_bytes.or(n.capacity_bytes).filter(|c| *c > 0) else { return };
    let Some(allocated) = n.allocated_bytes else { return };
    let unused = n.reserved_unallocated_bytes.unwrap_or(0);
    let others: u64 =
        if n.allowed_bytes.is_some() { 0 } else { f.other_processes.iter().filter_map(|p| p.bytes).sum() };
    let free =
        if n.allowed_bytes.is_some() { capacity.saturating_sub(allocated + unused) } else { n.free_bytes.unwrap_or(0) };
    let rest = capacity.saturating_sub(allocated + unused + others + free);
    let parts = [
        ('█', allocated, "allocated by PyTorch"),
        ('▓', unused, "reserved, unused"),
        ('▒', others, "other processes"),
        ('░', rest, "context, libraries and what is not told"),
        ('·', free, "free"),
    ];
    let columns = width.saturating_sub(4).clamp(20, 72);
    let total: u64 = parts.iter().map(|(_, b, _)| b).sum::<u64>().max(1);
    let mut bar = String::new();
    for (glyph, bytes, _) in parts {
        let cells = (bytes as f64 / total as f64 * columns as f64).round() as usize;
        let cells = if bytes > 0 { cells.max(1) } else { 0 };
        bar.extend(std::iter::repeat_n(glyph, cells));
    }
    let bar: String = bar.chars().take(columns).collect();
    let limit = if n.allowed_bytes.is_some() { "allowed" } else { "on the card" };
    let _ = writeln!(out, "\n  {bar}  {} {limit}", paint.bold(&Bytes(capacity).to_string()));
    if let Some(requested) = n.requested_bytes {
        let cells = ((requested as f64 / total as f64 * columns as f64).round() as usize).clamp(1, columns);
        let ask: String = std::iter::repeat_n('▚', cells).collect();
        let _ = writeln!(out, "  {}  {} asked for", paint.bad(&ask), paint.bold(&Bytes(requested).to_string()));
    }
    for (glyph, bytes, what) in parts.iter().filter(|(_, b, _)| *b > 0) {
        let _ = writeln!(out, "  {glyph} {:>10}  {what}", Bytes(*bytes).to_string());
    }
    for process in f.other_processes.iter().take(4) {
        if let Some(bytes) = process.bytes {
            let _ = writeln!(out, "    {:>10}  pid {}", Bytes(bytes).to_string(), process.pid);
        }
    }
}

pub fn plan(out: &mut String, f: &Failure, knobs: &Knobs, width: usize, paint: Paint) {
    let Some(plan) = f.plan.as_ref().filter(|p| p.predicted_peak_bytes.is_some()) else {
        if f.memory == Memory::Gpu && knobs.value(Knob::Model).is_none() {
            wrap(
                out,
                "\n  ",
                "For figures and a plan, say what ran: --config train.yaml, or --model and --set.",
                width,
                2,
            );
        }
        return;
    };
    let _ = writeln!(out, "\n{} {}", paint.bold("The plan:"), paint.good(verdict_words(plan.verdict)));
    match &plan.config_patch {
        Some(patch) => {
            let place = spelling::file(knobs).map_or("the configuration".into(), |name| name.to_string());
            let _ = writeln!(out, "  in {place}:");
            for line in patch.lines() {
                let (sign, setting) = line.split_at(1);
                let paint = if sign == "-" { paint.dim(setting) } else { paint.bold(setting) };
                let _ = writeln!(out, "    {sign} {paint}");
            }
        }
        None => {
            for (knob, value) in &plan.changes {
                let from = knob.parse::<Knob>().ok().and_then(|k| knobs.value(k).cloned());
                let from = from.map_or(String::new(), |v| format!(" (was {v})"));
                let _ = writeln!(out, "  {}{}", paint.bold(&format!("{knob}: {value}")), paint.dim(&from));
            }
        }
    }
    if let Some(command) = &plan.command {
        let lead = if plan.config_patch.is_some() { "or" } else { "that is," };
        wrap(out, "  ", &format!("{lead} on the command line: {command}"), width, 4);
    }
    wrap(out, "  ", plan.note.as_str(), width, 2);
}

pub fn list(out: &mut String, number: usize, fix: &Fix, knobs: &Knobs, width: usize, paint: Paint) {
    let predicted = match (fix.predicted_peak_bytes, fix.verdict) {
        (Some(bytes), verdict) if verdict != Verdict::Unknown => {
            format!("  {} {}", Bytes(bytes), verdict_words(verdict))
        }
        _ => String::new(),
    };
    let _ = writeln!(out, "  {number}. {}{}", paint.bold(fix.title.as_str()), predicted);
    if let Some((framework, how)) = fixes::how(fix, knobs) {
        wrap(out, "     ", &format!("{framework}: {how}"), width, 7);
    }
    if let [first, second] = fix.changes.as_slice()
        && first.knob == Knob::PerDeviceTrainBatchSize
        && let (Some(from), Some(before)) =
            (&first.from, second.from.as_ref().or(Some(&crate::model::knobs::Value::Int(1))))
    {
        let _ = writeln!(out, "     {from} x {before} -> {} x {}: the same effective batch", first.to, second.to);
    }
    for command in &fix.commands {
        wrap(out, "     ", command.as_str(), width, 7);
    }
    if !fix.cost.is_empty() {
        let cost = format!("cost: {}", fix.cost);
        let not = if fix.when_not.is_empty() { String::new() } else { format!("; not when: {}", fix.when_not) };
        wrap(out, "     ", &paint.dim(&format!("{cost}{not}")), width, 5);
    }
}

/// Puts words into lines of `width` columns; the first begins with `lead`, the others are indented.
pub fn wrap(out: &mut String, lead: &str, text: &str, width: usize, indent: usize) {
    let mut line = lead.to_string();
    let mut column = columns(lead.trim_start_matches('\n'));
    let mut fresh = true;
    for word in text.split(' ') {
        let length = columns(word);
        if !fresh && column + 1 + length > width {
            let _ = writeln!(out, "{line}");
            line = " ".repeat(indent);
            column = indent;
            fresh = true;
        }
        if !fresh {
            line.push(' ');
            column += 1;
        }
        line.push_str(word);
        column += length;
        fresh = false;
    }
    let _ = writeln!(out, "{line}");
}

/// Characters that are seen: those of a colour's sequence are not.
fn columns(text: &str) -> usize {
    let painted = text.split('\x1b').skip(1).filter_map(|part| Some(part.find('m')? + 2));
    text.chars().count() - painted.sum::<usize>()
}

pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        text.to_string()
    } else {
        text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
    }
}

/// The report for an issue tracker: secrets, user names and home folders taken out.
pub fn markdown(diagnosis: &Diagnosis, knobs: &Knobs) -> String {
    crate::model::redact::block(&crate::ui::report::markdown(diagnosis, knobs))
}
