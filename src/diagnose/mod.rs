//! Judges incidents: causes with evidence, fixes in the framework's words, a plan. Pure; no IO, no rendering.

pub mod allocations;
pub mod causes;
pub mod fixes;
mod levers;
mod measured;
pub mod phases;
mod plan;
pub mod prose;
pub mod spelling;

pub use plan::{changes, together, told};

use crate::{
    memory,
    model::{
        Bytes, Clean,
        failure::{Cause, Diagnosis, Failure, Memory, PhaseId},
        incident::Incident,
        knobs::Knobs,
    },
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
    let knobs = &memory::defaults::recognised(knobs);
    let failures: Vec<Failure> = incidents.iter().map(|incident| judge(Case { incident, knobs })).collect();
    let summary = match failures.first() {
        None => Clean::new("no out-of-memory failure found"),
        Some(first) => first.summary.clone(),
    };
    Diagnosis { schema: Diagnosis::SCHEMA, summary, failures }
}

fn judge(case: Case<'_>) -> Failure {
    conclude(&case, causes::judge(&case))
}

/// The fixes and the plan for the causes of a case.
fn conclude(case: &Case<'_>, causes: Vec<Cause>) -> Failure {
    let i = case.incident;
    let mut fixes = fixes::fixes(case, &causes);
    let (plan, basis) = plan::plan(case, None, &mut fixes);
    Failure {
        is_oom: i.is_oom,
        memory: i.memory,
        kind: i.kind.clone(),
        rank: i.rank,
        device: i.device,
        place: i.place.clone(),
        again: i.again,
        numbers: i.numbers.clone(),
        other_processes: i.other_processes.clone(),
        phase: i.phase.clone(),
        summary: summary(i, causes.first().filter(|c| c.settled_by.is_none()).map(|c| c.summary.as_str())),
        causes,
        fixes,
        plan,
        basis,
        message: i.message.clone(),
        echoes: i.echoes.clone(),
    }
}

/// What happened, in one sentence.
fn summary(i: &Incident, cause: Option<&str>) -> Clean {
    if !i.is_oom {
        return Clean::new(&format!("not out of memory: {}", i.refusal.as_ref().map_or("", Clean::as_str)));
    }
    let memory = match i.memory {
        Memory::Gpu => "GPU memory",
        Memory::Host => "host memory",
        Memory::Shm => "shared memory (/dev/shm)",
        Memory::None => "memory",
    };
    let phase = match i.phase.id {
        PhaseId::Unknown => "",
        PhaseId::ModelLoad => " while loading the model",
        PhaseId::Forward => " in the forward pass",
        PhaseId::LogitsLoss => " in the loss",
        PhaseId::Generation => " while generating",
        PhaseId::Scoring => " while scoring log-probabilities",
        PhaseId::Backward => " in the backward pass",
        PhaseId::OptimizerStep => " in the optimizer step",
        PhaseId::DdpFsdpComm => " while ranks exchanged tensors",
        PhaseId::Eval => " in evaluation",
        PhaseId::CheckpointSave => " while saving a checkpoint",
        PhaseId::KvCacheInit => " while setting up the KV cache",
        PhaseId::WeightSync => " while syncing weights to the engine",
        PhaseId::Dataloader => " in the data loader",
    };
    let rank = i.rank.map_or(String::new(), |r| format!(" on rank {r}"));
    let asked = i.numbers.requested_bytes.map_or(String::new(), |b| format!(" asking for {}", Bytes(b)));
    let cause = cause.map_or(String::new(), |c| format!(": {c}"));
    Clean::new(&format!("out of {memory}{phase}{rank}{asked}{cause}"))
}
