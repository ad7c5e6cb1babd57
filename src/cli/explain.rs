//! `oomph explain`: what an id of a diagnosis means, from the headers and data files beside the code.

use std::{fmt::Write, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{
    diagnose::{
        causes,
        fixes::{self, Spec},
        phases, prose,
    },
    model::{Clean, knobs::Knob},
    parse::oom,
};

/// Explain an id of a diagnosis in prose: a kind of message, a cause, a phase or a fix. Without one, list them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph explain                     every id
  oomph explain fragmentation       a cause
  oomph explain fused_optimizer     a fix, and how it is typed in each framework and version
  oomph explain knobs               the names for --set

Exit status: 0; 2 when nothing has that id.")]
pub struct ExplainArgs {
    /// Id, such as torch.cuda.v2_capacity, logits, backward or reduce_batch
    id: Option<String>,
}

/// # Errors
/// When nothing has that id.
pub fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let Some(id) = &args.id else { return super::print(&list()) };
    let found = explanations(id.trim());
    if !found.is_empty() {
        return super::print(&found.join("\n"));
    }
    let shown = Clean::new(id);
    match nearest(id.trim()) {
        Some(near) => anyhow::bail!("nothing is known by the id '{shown}'; did you mean '{near}'?"),
        None => anyhow::bail!("nothing is known by the id '{shown}'; `oomph explain` lists the ids"),
    }
}

/// Every id with its title, group by group.
fn groups() -> Vec<(&'static str, Vec<(String, String)>)> {
    let mut kinds: Vec<(String, String)> = Vec::new();
    for about in oom::known().kinds() {
        match kinds.iter_mut().find(|(id, _)| *id == about.id) {
            // A kind that several patterns tell.
            Some(_) => {}
            None => kinds.push((about.id, about.title)),
        }
    }
    kinds.sort();
    let causes = causes::JUDGES.iter().map(|j| (j.id.to_string(), prose::title(j.source))).collect();
    let phases = phases::all().into_iter().map(|p| (p.id, p.title)).collect();
    let fixes = fixes::SPECS.iter().map(|s| (s.id.to_string(), s.title())).collect();
    vec![("Kinds of messages", kinds), ("Causes", causes), ("Phases", phases), ("Fixes", fixes)]
}

fn list() -> String {
    let mut out = String::new();
    for (group, ids) in groups() {
        let _ = writeln!(out, "{}{group}", if out.is_empty() { "" } else { "\n" });
        for (id, title) in ids {
            let _ = writeln!(out, "  {:<32} {}", Clean::new(&id), Clean::new(&title));
        }
    }
    out + "\n`oomph explain ID` tells more; `oomph explain knobs` lists the names for --set.\n"
}

/// Everything that has this id: `unknown` is a cause and a phase.
fn explanations(id: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut kind = String::new();
    for about in oom::known().kinds().iter().filter(|about| about.id == id) {
        if kind.is_empty() {
            let _ = writeln!(kind, "{} ({id}): a kind of message", about.title);
        } else {
            let _ = writeln!(kind, "\n{}", about.title);
        }
        let _ = write!(kind, "\nWhat it is\n  {}\n", about.about);
        let families = oom::known();
        let same = families.own().iter().chain(families.built_in()).filter(|f| f.about.title == about.title);
        for sample in same.filter(|f| f.id() == id).flat_map(|f| &f.samples) {
            let text = sample.text.lines().map(|l| Clean::new(l).to_string()).collect::<Vec<_>>().join("\n  ");
            let _ = write!(kind, "\nSuch as\n  {text}\n");
        }
    }
    all.extend(Some(kind).filter(|text| !text.is_empty()));
    for judge in causes::JUDGES.iter().filter(|judge| judge.id == id) {
        let mut text = format!("{} ({id}): a cause\n", prose::title(judge.source));
        for heading in ["What it is", "What it looks for", "What would settle it", "What helps"] {
            let _ = write!(text, "\n{heading}\n  {}\n", prose::section(judge.source, heading).unwrap_or_default());
        }
        all.push(text);
    }
    for phase in phases::all().iter().filter(|phase| phase.id == id) {
        let mut text = format!("{} ({id}): a phase\n", phase.title);
        for (heading, says) in
            [("What it is", &phase.about), ("What tells it", &phase.told_by), ("What helps", &phase.helps)]
        {
            let _ = write!(text, "\n{heading}\n  {says}\n");
        }
        all.push(text);
    }
    all.extend(fixes::spec(id).map(of_fix));
    if id == "knobs" {
        let names = Knob::ALL.iter().map(|knob| format!("  {}", knob.as_str())).collect::<Vec<_>>().join("\n");
        all.push(format!("The names for --set NAME=VALUE\n{names}\n"));
    }
    all
}

fn of_fix(spec: &Spec) -> String {
    let mut out = format!("{} ({}): a fix\n", spec.title(), spec.id);
    for heading in ["What it changes", "Why it helps", "Cost", "When not"] {
        let _ = write!(out, "\n{heading}\n  {}\n", spec.says(heading));
    }
    if !spec.conflicts.is_empty() {
        out += "\nNot beside\n";
        for conflict in spec.conflicts {
            let with =
                if conflict.fixes.is_empty() { String::new() } else { format!("{}: ", conflict.fixes.join(", ")) };
            let _ = writeln!(out, "  {with}{}", conflict.why);
        }
    }
    out += "\nHow\n";
    for row in spec.how {
        let all = row.frameworks == fixes::TORCH;
        let names = if all { "all on PyTorch".to_string() } else { row.frameworks.join(", ") };
        let range = row.frameworks.first().map(|f| row.range(f)).unwrap_or_default();
        let range = if range.is_empty() { range } else { format!(" ({range})") };
        let none = if row.has { "" } else { "no such setting: " };
        let _ = writeln!(out, "  {names}{range}\n    {none}{}", row.shown());
    }
    for command in spec.commands {
        let _ = writeln!(out, "  {command}");
    }
    if spec.id == "other" {
        out += "  as the message's kind wants it; `oomph diagnose` says it\n";
    }
    out
}

/// The id that somebody may have meant.
fn nearest(id: &str) -> Option<String> {
    let id = id.to_ascii_lowercase().replace('-', "_");
    let ids = groups().into_iter().flat_map(|(_, ids)| ids).map(|(known, _)| known);
    let near = ids.map(|known| {
        let last = known.rsplit('.').next().unwrap_or_default();
        let part = id.len() >= 4 && known.contains(&id);
        (if part { 1 } else { distance(&id, &known).min(distance(&id, last) + 1) }, known)
    });
    near.min().filter(|(far, _)| *far <= id.len() / 3 + 1).map(|(_, known)| known)
}

/// Letters to change, drop or add that make one word of another.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut left = i + 1;
        let mut corner = i;
        for (j, y) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or_default();
            let best = (corner + usize::from(x != *y)).min(left + 1).min(above + 1);
            corner = above;
            if let Some(cell) = row.get_mut(j) {
                *cell = left;
            }
            left = best;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids that the JSON of a diagnosis promises.
    const PROMISED: &[&str] = &[
        "model_load forward logits_loss generation scoring backward optimizer_step ddp_fsdp_comm eval checkpoint_save \
         kv_cache_init weight_sync dataloader unknown",
        "too_big_model activations logits kv_cache optimizer_state fragmentation other_process leak_growth cap_limit \
         tiny_shm host_ram none unknown",
        "torch.cuda.v1_cached torch.cuda.v1_reserved torch.cuda.v1_hint torch.cuda.v2_capacty torch.cuda.v2_capacity \
         torch.cuda.v3_alloc_conf torch.cuda.one_exabyte torch.cuda.retry_warning torch.cuda.bare torch.cuda.wrapped \
         torch.hip.v2 torch.xpu torch.mps torch.cpu.alloc cublas.alloc_failed nccl.oom tf.pinned_host \
         jax.xla.resource_exhausted tf.resource_exhausted tf.bfc vllm.kv.no_blocks vllm.kv.max_seq_len vllm.kv.need_gib \
         vllm.startup.free_below_util vllm.cumem ggml.cuda_alloc bnb.csrc cupy.oom paddle.oom linux.oom_killer \
         linux.memcg_oom elastic.sigkill deepspeed.sigkill slurm.oom_kill k8s.oomkilled ray.oom_task ray.oom_raylet \
         shm.bus_error shm.unable_to_write shm.errno28 shm.nccl notoom.triton_smem notoom.device_assert \
         notoom.illegal_access notoom.nccl_timeout notoom.disk_full notoom.segfault notoom.warning notoom.mention \
         torch.cuda.snapshot",
    ];

    #[test]
    fn every_id_is_explained() {
        let listed = list();
        let of_fixes: Vec<&str> = fixes::SPECS.iter().map(|s| s.id).collect();
        let families = oom::known();
        let of_families = families.built_in().iter().map(oom::Family::id);
        let mut tried = 0;
        for id in PROMISED.iter().flat_map(|ids| ids.split_whitespace()).chain(of_fixes).chain(of_families) {
            let told = explanations(id);
            assert!(!told.is_empty(), "{id} is not explained");
            assert!(
                told.iter().all(|text| text.len() > 80
                    && text.starts_with(|c: char| c.is_uppercase() || c.is_ascii_alphanumeric() || c == '/')),
                "{id}: {told:?}"
            );
            assert!(listed.contains(&format!("  {id} ")), "{id} is not listed");
            tried += 1;
        }
        assert!(tried > 150, "only {tried}");
        // And nothing is listed that is not explained.
        for (_, ids) in groups() {
            for (id, _) in ids {
                assert!(!explanations(&id).is_empty(), "{id}");
            }
        }
    }

    #[test]
    fn a_slip_is_met_with_the_nearest_id() {
        let check = |id: &str, want: Option<&str>| assert_eq!(nearest(id).as_deref(), want, "{id}");
        check("fragmentatoin", Some("fragmentation"));
        check("reduce-batch", Some("reduce_batch"));
        check("v2_capacity", Some("torch.cuda.v2_capacity"));
        check("bus_err", Some("shm.bus_error"));
        check("zzzzzzzz", None);
        check("", None);
    }
}
