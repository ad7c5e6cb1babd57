//! # Memory that grows from step to step
//!
//! ## What it is
//! Something keeps what each step allocated: a loss that is added up with its graph, outputs in a list, a cache without a
//! limit, longer batches than before.
//!
//! ## What it looks for
//! The curve of the memory where it was watched; memory figures in the log's own lines that rise with the steps; words of
//! the log or the code (`retain_graph=True`, "memory keeps growing").
//!
//! ## What would settle it
//! The memory over some steps: `oomph` beside the run draws it; `torch.cuda.memory_allocated()` printed once a step shows it.
//!
//! ## What helps
//! `stop_leak`, `empty_cache`; a shorter longest batch.

use crate::model::failure::{Evidence, Memory, PhaseId};

use super::{Case, Verdict, found, limit};

pub(super) fn check(case: &Case<'_>) -> Verdict {
    let series = memory_in_lines(case);
    if series.len() >= 4 {
        let rises = series.windows(2).filter(|w| matches!(w, [a, b] if b.0 > a.0)).count();
        if let (Some(first), Some(last)) = (series.first(), series.last())
            && rises * 10 >= (series.len() - 1) * 8
            && last.0 > first.0 * 1.2
        {
            let summary =
                format!("memory rises with every step: {} to {} over {} lines", first.0, last.0, series.len());
            return found(0.9, vec![first.1.clone(), last.1.clone()], summary);
        }
    }
    if case.incident.memory != Memory::Gpu {
        return Verdict::Absent;
    }
    let words = ["memory keeps growing", "memory leak", "usage climbs", "retain_graph=True"];
    let line = case.incident.context.iter().find(|l| words.iter().any(|w| l.text.as_str().contains(w)));
    let frame = case.incident.frames.iter().find(|f| f.code.as_str().contains("retain_graph=True"));
    let seen = line.cloned().or_else(|| frame.map(|f| Evidence { line: Some(f.line), text: f.code.clone() }));
    if let Some(evidence) = seen {
        return found(0.7, vec![evidence], "something holds on to what each step allocated");
    }
    // Nothing speaks against it either, when a full card is all that the text shows.
    let n = &case.incident.numbers;
    let full = n.allocated_bytes.zip(limit(n)).is_some_and(|(held, limit)| held > limit / 100 * 80);
    if full && case.incident.phase.id == PhaseId::Unknown && case.incident.curve.is_none() {
        return Verdict::NotEnoughData {
            likely: 0.15,
            summary: "if earlier steps ran, memory may have grown from step to step",
            settled_by: "the memory over some steps: watch the run with oomph, or print torch.cuda.memory_allocated() once a step",
        };
    }
    Verdict::Absent
}

/// Memory figures of the log's own lines, in order: `mem 4.56GiB`, `allocated 12.1 GB`.
fn memory_in_lines(case: &Case<'_>) -> Vec<(f64, Evidence)> {
    let mut all = Vec::new();
    for line in &case.incident.context {
        let lower = line.text.as_str().to_ascii_lowercase();
        if line.line.is_some_and(|l| l > case.incident.place.line) || lower.contains("tried to allocate") {
            continue;
        }
        let Some(at) = ["mem", "allocated", "vram"].iter().find_map(|w| lower.find(w)) else { continue };
        let number: String = lower[at..]
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
