//! Judges incidents: causes with evidence, fixes in the framework's words, a plan. Pure; no IO, no rendering.

use crate::model::{
    Clean,
    failure::{Diagnosis, Failure},
    incident::Incident,
    knobs::Knobs,
};

/// Everything known when a failure is judged.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub incident: &'a Incident,
    /// Settings of the job from every origin.
    pub knobs: &'a Knobs,
}

/// Judges all incidents of one text or session.
pub fn diagnose(incidents: &[Incident], knobs: &Knobs) -> Diagnosis {
    let failures: Vec<Failure> = incidents.iter().map(|incident| judge(Case { incident, knobs })).collect();
    let summary = match failures.first() {
        None => Clean::new("no out-of-memory failure found"),
        Some(first) => first.summary.clone(),
    };
    Diagnosis { schema: Diagnosis::SCHEMA, summary, failures }
}

fn judge(case: Case<'_>) -> Failure {
    let i = case.incident;
    Failure {
        is_oom: i.is_oom,
        memory: i.memory,
        kind: i.kind.clone(),
        rank: i.rank,
        device: i.device,
        place: i.place.clone(),
        numbers: i.numbers.clone(),
        other_processes: i.other_processes.clone(),
        phase: i.phase.clone(),
        causes: Vec::new(),
        fixes: Vec::new(),
        plan: None,
        message: i.message.clone(),
        summary: i.message.clone(),
        echoes: i.echoes.clone(),
    }
}
