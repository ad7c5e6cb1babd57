//! What was measured up to a failure weighs on the causes that its text suggests.

use crate::model::{
    Clean,
    curve::Shape,
    failure::{Cause, Evidence, Memory},
};

use super::Case;

/// Adds the measured evidence, and lets it raise or lower what it speaks for or against. The best comes first again.
pub fn weigh(case: &Case<'_>, causes: &mut Vec<Cause>) {
    let incident = case.incident;
    let mut evidence = incident.seen.clone();
    if let Some(curve) = &incident.curve {
        let text = Clean::new(&curve.text());
        let told = Evidence { line: None, text: text.clone() };
        match (incident.memory, curve.shape) {
            (Memory::Gpu, Shape::Growth { .. }) => {
                causes.retain(|cause| cause.id != "leak_growth" && cause.id != "unknown");
                causes.push(Cause {
                    id: "leak_growth",
                    score: 0.9,
                    evidence: vec![told],
                    summary: text,
                    settled_by: None,
                });
            }
            (Memory::Gpu, Shape::Spike { .. } | Shape::Level) => {
                // The guess that memory may have grown was for want of a curve.
                causes.retain(|cause| cause.id != "leak_growth" || cause.settled_by.is_none());
                evidence.push(told);
            }
            _ => evidence.push(told),
        }
        let full = curve.used.as_f64() / curve.total.as_f64().max(1.0);
        if incident.memory == Memory::Host
            && let Some(cause) = causes.iter_mut().find(|cause| cause.id == "host_ram")
        {
            if !incident.seen.is_empty() {
                cause.score = 0.97;
                cause.summary = Clean::new(&format!("the kernel killed it for want of host memory: {}", curve.text()));
            } else if full < 0.8 && cause.score < 0.9 {
                // Nothing but the word Killed, and room was left.
                cause.score = 0.3;
                cause.summary = Clean::new(&format!(
                    "it was killed from outside; whether for want of memory is doubtful: only {} of {} were in use",
                    curve.used, curve.total
                ));
            }
        }
    } else if incident.memory == Memory::Host
        && !incident.seen.is_empty()
        && let Some(cause) = causes.iter_mut().find(|cause| cause.id == "host_ram")
    {
        cause.score = 0.97;
        cause.summary = "the kernel killed it for want of host memory, as its own count and log say".into();
    }
    causes.sort_by(|a, b| b.score.total_cmp(&a.score));
    if let Some(first) = causes.first_mut() {
        first.evidence.extend(evidence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bytes, curve::Curve, incident::Incident, knobs::Knobs};

    fn causes(memory: Memory, shape: Option<Shape>, used: u64, seen: &[&str]) -> Vec<Cause> {
        let curve = shape.map(|shape| Curve {
            of: "GPU 0".into(),
            shape,
            used: Bytes(used << 30),
            total: Bytes(80 << 30),
            seconds: 600.0,
        });
        let seen = seen.iter().map(|text| Evidence { line: None, text: Clean::new(text) }).collect();
        let kind = if memory == Memory::Host { "shell.killed" } else { "torch.cuda.v2_capacity" };
        let incident = Incident { is_oom: true, memory, kind: kind.into(), curve, seen, ..Incident::default() };
        super::super::causes::judge(&Case { incident: &incident, knobs: &Knobs::default() })
    }

    #[test]
    fn growth_is_a_leak_and_a_spike_is_none() {
        let growth = Shape::Growth { from: Bytes(40 << 30), bytes_per_minute: 1e9 };
        let leak = causes(Memory::Gpu, Some(growth), 79, &[]);
        assert_eq!(leak[0].id, "leak_growth");
        assert!(leak[0].evidence[0].text.as_str().contains("grew from 40.00 GiB to 79.00 GiB"), "{leak:?}");
        let spike = Shape::Spike { from: Bytes(60 << 30), seconds: 0.4 };
        let spiked = causes(Memory::Gpu, Some(spike), 79, &[]);
        assert!(spiked.iter().all(|cause| cause.id != "leak_growth"));
        assert!(spiked[0].evidence.iter().any(|e| e.text.as_str().contains("a spike, no leak")), "{spiked:?}");
    }

    #[test]
    fn a_bare_kill_is_believed_as_far_as_memory_was_full() {
        let score = |used, seen: &[&str]| {
            let all = causes(Memory::Host, Some(Shape::Level), used, seen);
            (all[0].id, all[0].score)
        };
        assert_eq!(score(79, &[]), ("host_ram", 0.7));
        assert_eq!(score(20, &[]), ("host_ram", 0.3));
        assert_eq!(score(79, &["the cgroup counts 1 process"]), ("host_ram", 0.97));
    }
}
