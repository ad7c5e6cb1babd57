//! Causes: each a small judge in a file of its own, which says what it saw, that it saw nothing, or what would tell.
//!
//! The header of a judge's file is what `oomph explain ID` prints.

mod activations;
mod cap_limit;
pub(super) mod fragmentation;
mod host_ram;
mod kv_cache;
mod leak_growth;
mod logits;
mod none;
mod optimizer_state;
mod other_process;
mod tiny_shm;
mod too_big_model;
mod unknown;

use crate::model::{
    Clean,
    failure::{Cause, Evidence, Numbers},
};

use super::Case;

/// What a judge says.
pub enum Verdict {
    /// How sure it is from 0 to 1, why, and in one sentence.
    Found {
        score: f64,
        evidence: Vec<Evidence>,
        summary: String,
    },
    Absent,
    /// It may be; how likely it is for want of anything better (below [`FOUND`]), and what would settle it.
    NotEnoughData {
        likely: f64,
        summary: &'static str,
        settled_by: &'static str,
    },
}

/// Below this score a cause was not found: it only cannot be excluded.
pub const FOUND: f64 = 0.4;

/// A cause and its judge.
pub struct Judge {
    /// Stable: the contract's id.
    pub id: &'static str,
    /// The source of its file, whose header explains it.
    pub source: &'static str,
    check: fn(&Case<'_>) -> Verdict,
}

/// Every judge.
pub const JUDGES: &[Judge] = &[
    Judge { id: "host_ram", source: include_str!("host_ram.rs"), check: host_ram::check },
    Judge { id: "tiny_shm", source: include_str!("tiny_shm.rs"), check: tiny_shm::check },
    Judge { id: "other_process", source: include_str!("other_process.rs"), check: other_process::check },
    Judge { id: "cap_limit", source: include_str!("cap_limit.rs"), check: cap_limit::check },
    Judge { id: "fragmentation", source: include_str!("fragmentation.rs"), check: fragmentation::check },
    Judge { id: "leak_growth", source: include_str!("leak_growth.rs"), check: leak_growth::check },
    Judge { id: "kv_cache", source: include_str!("kv_cache.rs"), check: kv_cache::check },
    Judge { id: "logits", source: include_str!("logits.rs"), check: logits::check },
    Judge { id: "optimizer_state", source: include_str!("optimizer_state.rs"), check: optimizer_state::check },
    Judge { id: "too_big_model", source: include_str!("too_big_model.rs"), check: too_big_model::check },
    Judge { id: "activations", source: include_str!("activations.rs"), check: activations::check },
    Judge { id: "none", source: include_str!("none.rs"), check: none::check },
    Judge { id: "unknown", source: include_str!("unknown.rs"), check: unknown::check },
];

/// Every cause that its judge found, best first, and after them those that the text cannot exclude.
pub fn judge(case: &Case<'_>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = JUDGES.iter().filter_map(|judge| cause(judge, case)).collect();
    causes.sort_by(|a, b| b.score.total_cmp(&a.score));
    if causes.len() > 1 {
        causes.retain(|c| c.id != "unknown");
    }
    super::measured::weigh(case, &mut causes);
    causes
}

fn cause(judge: &Judge, case: &Case<'_>) -> Option<Cause> {
    let alone = judge.id == "none";
    if alone == case.incident.is_oom {
        return None;
    }
    match (judge.check)(case) {
        Verdict::Absent => None,
        Verdict::Found { score, evidence, summary } => {
            Some(Cause { id: judge.id, score, evidence, summary: Clean::new(&summary), settled_by: None })
        }
        Verdict::NotEnoughData { likely, summary, settled_by } => Some(Cause {
            id: judge.id,
            score: likely.min(FOUND - 0.01),
            evidence: vec![message(case)],
            summary: summary.into(),
            settled_by: Some(settled_by.into()),
        }),
    }
}

fn found(score: f64, evidence: Vec<Evidence>, summary: impl Into<String>) -> Verdict {
    Verdict::Found { score, evidence, summary: summary.into() }
}

fn message(case: &Case<'_>) -> Evidence {
    Evidence { line: Some(case.incident.place.line), text: case.incident.message.clone() }
}

fn kind<'a>(case: &Case<'a>) -> &'a str {
    case.incident.kind.as_str()
}

/// What the process may take of the card: a limit of its own, else the card.
fn limit(numbers: &Numbers) -> Option<u64> {
    numbers.allowed_bytes.or(numbers.capacity_bytes)
}

/// What PyTorch holds and does not use. Older messages give it together with what is in use.
fn unused(case: &Case<'_>) -> Option<u64> {
    let n = &case.incident.numbers;
    let reserved = || case.incident.details.get("reserved_total_bytes").map(|r| *r as u64);
    n.reserved_unallocated_bytes.or_else(|| Some(reserved()?.saturating_sub(n.allocated_bytes?)))
}

/// The share of the limit that would be in use if the request had been granted: what no order of blocks can make less.
pub fn filled(case: &Case<'_>) -> Option<f64> {
    let n = &case.incident.numbers;
    let (limit, allocated, requested) = (limit(n)?, n.allocated_bytes?, n.requested_bytes?);
    let held = allocated + unused(case).unwrap_or(0);
    let outside = n.in_use_bytes.map_or(0, |b| b.saturating_sub(held));
    Some((allocated + requested + outside) as f64 / limit.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_and_explains_itself() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/diagnose/causes");
        let mut there: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|name| name != "mod")
            .collect();
        let mut listed: Vec<_> = JUDGES.iter().map(|j| j.id.to_string()).collect();
        there.sort();
        listed.sort();
        assert_eq!(there, listed);
        for judge in JUDGES {
            for heading in ["What it is", "What it looks for", "What would settle it", "What helps"] {
                let text = super::super::prose::section(judge.source, heading);
                assert!(text.is_some_and(|t| t.len() > 20), "{}: {heading}", judge.id);
            }
        }
    }
}
