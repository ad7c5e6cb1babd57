//! Fixes: what each changes, why it helps, what it costs, and how it is typed in each framework. A fix is one file.
//!
//! Names and versions are those of the frameworks' sources as read in November 2026 (TRL to 1.16, transformers 5.23,
//! axolotl, LLaMA-Factory, torchtune, verl, OpenRLHF, Unsloth, DeepSpeed, Megatron-LM, Lightning, vLLM).

mod choose;
mod how;

use std::collections::BTreeMap;

use crate::model::{
    Clean,
    failure::{Cause, Change, Fix, PhaseId, Verdict},
    knobs::{Knob, Knobs, Value},
};

pub use how::{FRAMEWORKS, How, TORCH, rows};
use how::{none, on};

use super::{Case, prose};

macro_rules! fixes {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*

        /// Every fix.
        pub const SPECS: &[Spec] = &[$($name::SPEC),*];
    };
}

fixes!(
    fused_optimizer,
    bf16,
    liger_or_chunked_loss,
    grad_checkpointing,
    quantize_8bit_optim,
    reduce_batch,
    grad_accum,
    reduce_seq_len,
    reduce_completion_len,
    reduce_generations,
    flash_attention,
    lora,
    qlora,
    expandable_segments,
    max_split_size,
    kill_other_process,
    lower_gpu_memory_utilization,
    vllm_sleep,
    lower_max_model_len,
    eval_accumulation,
    torch_no_grad,
    stop_leak,
    empty_cache,
    zero_fsdp,
    cpu_offload,
    more_gpus,
    reduce_dataloader_workers,
    raise_shm,
    more_host_ram,
    other,
);

/// A fix. What it changes, why it helps, what it costs and when not to use it stand in the header of its file.
pub struct Spec {
    pub id: &'static str,
    source: &'static str,
    /// False where a setting says that there is nothing left to gain.
    applies: fn(&Case<'_>) -> bool,
    /// The knobs that it changes, to what.
    changes: fn(&Case<'_>) -> Vec<(Knob, Value)>,
    /// What is typed, by framework and version; of one framework first what is shown where the version is not known.
    pub how: &'static [How],
    /// What is typed in a shell whatever the framework; `PID` becomes the other processes' ids.
    pub commands: &'static [&'static str],
    pub conflicts: &'static [Conflict],
}

/// What a fix cannot stand beside.
pub struct Conflict {
    /// Other fixes.
    pub fixes: &'static [&'static str],
    /// Whether the job is set so already.
    now: fn(&Case<'_>) -> bool,
    pub why: &'static str,
}

/// What a fix leaves out: it always applies, changes no knob, has no words.
const NOTHING: Spec =
    Spec { id: "", source: "", applies: |_| true, changes: |_| Vec::new(), how: &[], commands: &[], conflicts: &[] };

impl Spec {
    pub fn title(&self) -> String {
        prose::title(self.source)
    }

    /// What the header says under `What it changes`, `Why it helps`, `Cost` or `When not`.
    pub fn says(&self, heading: &str) -> String {
        prose::section(self.source, heading).unwrap_or_default()
    }

    fn excludes(&self, id: &str) -> bool {
        self.conflicts.iter().any(|c| c.fixes.contains(&id))
    }

    /// Whether the job's own framework has no such setting.
    fn is_lacking(&self, knobs: &Knobs) -> bool {
        let own = knobs.str(Knob::Trainer).filter(|trainer| !is_plain(trainer));
        let rows: Vec<&How> = own.map(|trainer| rows(self.how, trainer, knobs)).unwrap_or_default();
        !rows.is_empty() && rows.iter().all(|row| !row.has)
    }
}

/// A fix by its id.
pub fn spec(id: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|s| s.id == id)
}

/// Every fix for a case, best first; sizes are filled in by the plan.
pub fn fixes(case: &Case<'_>, causes: &[Cause]) -> Vec<Fix> {
    choose::choose(case, causes).into_iter().filter_map(|id| Some(fix(case, spec(id)?))).collect()
}

/// The knobs that a fix changes, from what they are.
pub fn changes(case: &Case<'_>, id: &str) -> Vec<(Knob, Value)> {
    spec(id).map(|s| (s.changes)(case)).unwrap_or_default()
}

fn fix(case: &Case<'_>, spec: &'static Spec) -> Fix {
    let changed = (spec.changes)(case);
    let how: BTreeMap<&'static str, Clean> = FRAMEWORKS
        .iter()
        .filter_map(|f| Some((*f, Clean::new(&how::typed(spec.how, f, case.knobs, &changed)?.ok()?))))
        .collect();
    let changes = changed
        .into_iter()
        .map(|(knob, to)| Change { knob, from: case.knobs.value(knob).cloned(), to, how: how.clone() })
        .collect();
    let pids = case.incident.other_processes.iter().map(|p| p.pid.to_string()).collect::<Vec<_>>().join(",");
    let of_pids = |c: &&str| Clean::new(&if pids.is_empty() { (*c).to_string() } else { c.replace("PID", &pids) });
    let belongs = |c: &&&str| spec.id != "more_host_ram" || more_host_ram::belongs(case, c);
    let mut commands: Vec<Clean> = spec.commands.iter().filter(belongs).map(of_pids).collect();
    if spec.id == "other" {
        commands.extend(other::asked(case).map(Clean::new));
    }
    Fix {
        id: spec.id,
        title: Clean::new(&spec.title()),
        changes,
        saves_bytes: None,
        predicted_peak_bytes: None,
        verdict: Verdict::Unknown,
        cost: Clean::new(&spec.says("Cost")),
        when_not: Clean::new(&spec.says("When not")),
        commands,
    }
}

/// Why two fixes cannot stand beside each other; `None` where they can.
pub fn clash(one: &str, other: &str) -> Option<&'static str> {
    let of = |a: &str, b: &str| spec(a)?.conflicts.iter().find(|c| c.fixes.contains(&b)).map(|c| c.why);
    of(one, other).or_else(|| of(other, one))
}

/// The framework whose words are shown for a fix, and what to type in it: the job's own, else one that it is built on.
/// Where it has no such setting, what it does instead.
pub fn how(fix: &Fix, knobs: &Knobs) -> Option<(&'static str, String)> {
    let spec = spec(fix.id)?;
    let changes: Vec<(Knob, Value)> = fix.changes.iter().map(|c| (c.knob, c.to.clone())).collect();
    let all = speaks(knobs).into_iter().chain(FRAMEWORKS.iter().copied());
    let typed: Vec<_> = all.filter_map(|f| Some((f, how::typed(spec.how, f, knobs, &changes)?))).collect();
    // That the job's own trainer has no such setting is an answer; that what it is built on has none is not.
    let own = typed.first().filter(|(f, _)| knobs.str(Knob::Trainer) == Some(f) && !is_plain(f));
    let found = own.or_else(|| typed.iter().find(|(_, typed)| typed.is_ok())).or(typed.first()).cloned();
    match found? {
        (framework, Ok(typed)) => Some((framework, typed)),
        (framework, Err(instead)) => Some((framework, format!("no such setting: {instead}"))),
    }
}

/// Frameworks in whose words the job is spoken to, the best first.
fn speaks(knobs: &Knobs) -> Vec<&'static str> {
    let trainer = knobs.str(Knob::Trainer).and_then(|t| FRAMEWORKS.iter().copied().find(|f| *f == t));
    let method = knobs.value(Knob::Method).is_some();
    match trainer {
        Some(own) if !is_plain(own) => vec![own, "transformers", "pytorch"],
        // Settings that name a method and no trainer are read as TRL's.
        _ if method => vec!["trl", "transformers", "pytorch"],
        Some("transformers") => vec!["transformers", "pytorch"],
        // Where no framework is known, what plain PyTorch types is true for all of them.
        _ => vec!["pytorch", "transformers"],
    }
}

/// What other trainers are built on: a log that names it may be of any of them.
fn is_plain(framework: &str) -> bool {
    matches!(framework, "transformers" | "pytorch")
}

/// The micro-batch halved `times`, the effective batch kept by accumulation. A GRPO batch stays divisible by its
/// generations, which TRL checks over batch x accumulation x ranks.
pub fn halve_batch(case: &Case<'_>, times: u32) -> Vec<(Knob, Value)> {
    let Some(batch) = case.knobs.u64(Knob::PerDeviceTrainBatchSize).filter(|b| *b > 1) else { return Vec::new() };
    let accumulation = case.knobs.u64(Knob::GradientAccumulationSteps).unwrap_or(1).max(1);
    let mut smaller = batch;
    for _ in 0..times {
        // Only a divisor keeps the effective batch exactly.
        let Some(next) = (1..smaller).rev().find(|b| batch % b == 0 && *b * 2 <= smaller) else { break };
        smaller = next;
    }
    if smaller == batch {
        return Vec::new();
    }
    vec![
        (Knob::PerDeviceTrainBatchSize, whole(smaller)),
        (Knob::GradientAccumulationSteps, whole(accumulation.saturating_mul(batch / smaller))),
    ]
}

/// Half of a knob that is known, but not less than `least`.
fn halved(case: &Case<'_>, knob: Knob, least: u64) -> Vec<(Knob, Value)> {
    case.knobs.u64(knob).map(|now| (knob, whole((now / 2).max(least)))).into_iter().collect()
}

fn text(text: &str) -> Value {
    Value::Text(Clean::new(text))
}

fn whole(number: u64) -> Value {
    Value::Int(number.cast_signed())
}

fn value(is: bool) -> Value {
    Value::Bool(is)
}

fn trains_adapters(case: &Case<'_>) -> bool {
    case.knobs.u64(Knob::LoraRank).unwrap_or(0) > 0
}

/// Evaluation keeps no activations, and has no optimizer's step.
fn evaluates(case: &Case<'_>) -> bool {
    case.incident.phase.id == PhaseId::Eval
}

fn offloaded(case: &Case<'_>) -> bool {
    case.knobs.bool(Knob::OffloadOptimizer) == Some(true)
}

/// vLLM is put to sleep beside the trainer: as the settings say, or as its allocator's failure shows.
fn engine_sleeps(case: &Case<'_>) -> bool {
    case.knobs.bool(Knob::VllmEnableSleepMode) == Some(true) && case.knobs.str(Knob::VllmMode) != Some("server")
        || case.incident.kind.as_str() == "vllm.cumem"
        || case.incident.frames.iter().any(|f| f.file.as_str().contains("cumem"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{failure::Memory, incident::Incident, knobs::Origin};

    /// The fixes of `docs/`' contract.
    const IDS: &str = "reduce_batch grad_accum grad_checkpointing reduce_generations reduce_seq_len \
        reduce_completion_len lora qlora quantize_8bit_optim fused_optimizer expandable_segments max_split_size zero_fsdp \
        cpu_offload kill_other_process flash_attention liger_or_chunked_loss lower_gpu_memory_utilization vllm_sleep \
        lower_max_model_len empty_cache eval_accumulation reduce_dataloader_workers raise_shm more_host_ram bf16 \
        torch_no_grad more_gpus stop_leak other";

    #[test]
    fn every_fix_has_a_file_and_says_what_it_is() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/diagnose/fixes");
        let mut there: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|name| !["mod", "how", "choose"].contains(&name.as_str()))
            .collect();
        let mut listed: Vec<_> = SPECS.iter().map(|s| s.id.to_string()).collect();
        let mut promised: Vec<_> = IDS.split_whitespace().map(str::to_string).collect();
        for all in [&mut there, &mut listed, &mut promised] {
            all.sort();
        }
        assert_eq!(there, listed);
        assert_eq!(promised, listed);
        for spec in SPECS {
            assert!(spec.title().len() > 3, "{}", spec.id);
            for heading in ["What it changes", "Why it helps", "Cost", "When not"] {
                assert!(!spec.says(heading).is_empty(), "{}: {heading}", spec.id);
            }
        }
    }

    /// Each framework has its words for each fix, or says that it has none; where versions differ, no version is left out
    /// twice or named twice.
    #[test]
    fn every_framework_has_a_row_for_every_fix() {
        for spec in SPECS.iter().filter(|s| s.commands.is_empty() && s.id != "other") {
            for framework in FRAMEWORKS {
                assert!(
                    !rows(spec.how, framework, &Knobs::default()).is_empty(),
                    "{} says nothing of {framework}",
                    spec.id
                );
                let versions: &[(Knob, &[&str])] = &[
                    (
                        Knob::TrlVersion,
                        &["0.14.0", "0.17.0", "0.19.1", "0.24.0", "0.26.2", "1.0.0", "1.10.0", "1.16.0"],
                    ),
                    (Knob::TransformersVersion, &["4.36.0", "4.57.1", "5.0.0", "5.23.0"]),
                    (Knob::TorchVersion, &["1.4.0", "1.13.1", "2.2.0", "2.8.0", "2.9.0", "2.15.0"]),
                ];
                for (knob, versions) in versions {
                    for version in *versions {
                        let mut knobs = Knobs::default();
                        knobs.put(*knob, text(version), Origin::Set);
                        let of_version = |row: &&&How| {
                            row.range(framework)
                                .split(' ')
                                .next()
                                .is_some_and(|p| p.eq_ignore_ascii_case(knob.as_str().trim_end_matches("_version")))
                        };
                        let rows = rows(spec.how, framework, &knobs);
                        assert!(
                            rows.iter().filter(of_version).count() <= 1,
                            "{} {framework} {version}: {rows:?}",
                            spec.id
                        );
                    }
                }
            }
            for row in spec.how {
                assert!(row.frameworks.iter().all(|f| FRAMEWORKS.contains(f)), "{}: {row:?}", spec.id);
            }
        }
    }

    fn ids(kind: &str, cause: &'static str, settings: &[&str]) -> Vec<&'static str> {
        let mut knobs = Knobs::default();
        for setting in settings {
            let (knob, value) = setting.split_once('=').unwrap();
            knobs.put(knob.parse().unwrap(), Value::guess(value), Origin::Set);
        }
        let incident = Incident { is_oom: true, memory: Memory::Gpu, kind: kind.into(), ..Incident::default() };
        let causes = [Cause { id: cause, score: 0.9, evidence: Vec::new(), summary: "".into(), settled_by: None }];
        choose::choose(&Case { incident: &incident, knobs: &knobs }, &causes)
    }

    #[test]
    fn what_cannot_stand_beside_the_settings_is_not_offered() {
        let torch = "torch.cuda.v2_capacity";
        assert_eq!(ids(torch, "fragmentation", &[])[0], "expandable_segments");
        // Sleep mode's pool refuses expandable segments, and is no pool of ours where vLLM is a server elsewhere.
        let asleep = ["vllm_enable_sleep_mode=true"];
        assert!(!ids(torch, "fragmentation", &asleep).contains(&"expandable_segments"));
        assert!(
            ids(torch, "fragmentation", &["vllm_enable_sleep_mode=true", "vllm_mode=server"])
                .contains(&"expandable_segments")
        );
        assert!(
            !ids(torch, "kv_cache", &["use_vllm=true", "alloc_conf=expandable_segments:True"]).contains(&"vllm_sleep")
        );
        assert!(ids(torch, "kv_cache", &["use_vllm=true"]).contains(&"vllm_sleep"));
        assert_eq!(ids(torch, "kv_cache", &[])[0], "reduce_batch");
        // Adapters on the head, and TRL's own chunks.
        assert!(
            !ids(torch, "logits", &["lora_rank=8", "lora_target_modules=q_proj,lm_head"])
                .contains(&"liger_or_chunked_loss")
        );
        assert!(!ids(torch, "logits", &["trainer=trl", "trl_version=1.16.0"]).contains(&"liger_or_chunked_loss"));
        assert_eq!(
            ids(torch, "logits", &["trainer=trl", "trl_version=0.20.0", "method=grpo"])[0],
            "liger_or_chunked_loss"
        );
        // An optimizer on the host is neither fused nor bitsandbytes'.
        let offloaded = ids(torch, "optimizer_state", &["offload_optimizer=true"]);
        assert!(
            !offloaded.contains(&"fused_optimizer") && !offloaded.contains(&"quantize_8bit_optim"),
            "{offloaded:?}"
        );
        // Of two that exclude each other the better one stays in front.
        let fragmented = ids(torch, "fragmentation", &[]);
        assert_eq!(fragmented.last(), Some(&"max_split_size"), "{fragmented:?}");
        // What the framework has no setting for comes last.
        assert_eq!(ids(torch, "optimizer_state", &["trainer=openrlhf"]).first(), Some(&"lora"));
    }
}
