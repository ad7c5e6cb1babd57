//! The training jobs of this machine, for `oomph` without a file and `oomph watch --pid`.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    model::{
        Clean, EventKind,
        gpu::{GpuReading, GpuSample},
        knobs::{self, Knob, Knobs, Origin},
        redact,
    },
    parse::config,
    source::processes::{self, Card, Files, Job, Process, Table},
    ui::Choice,
};

/// How long the driver is waited for: the list is worth more than its GPUs.
const GPUS: Duration = Duration::from_millis(1500);

/// What `oomph` looks for, in words.
const LOOKED_FOR: &[&str] = &[
    "torchrun, accelerate, deepspeed, mpirun, srun, Ray and the processes that they started",
    "trainers such as llamafactory-cli, axolotl, tune, trl, litgpt, verl",
    "Python scripts whose name says training (train, finetune, sft, grpo, dpo, …), or that write TensorBoard or W&B files",
    "any process that holds an NVIDIA GPU",
];

/// A job, what it writes, and the GPUs that it sees.
#[derive(Debug)]
pub struct Found {
    pub job: Job,
    pub files: Files,
    /// UUIDs and how they are known; `None` where no driver tells which GPUs there are.
    pub gpus: Option<(Vec<String>, String)>,
}

/// Everything that was found.
#[derive(Debug)]
pub struct Survey {
    pub jobs: Vec<Found>,
    in_container: bool,
    unreadable: usize,
    /// Processes on the GPUs whose pids are of another namespace.
    outside: usize,
}

/// The folder in which the system shows its processes. Tests put another one in its place.
pub fn proc_folder() -> PathBuf {
    std::env::var_os("OOMPH_TEST_PROC").map_or_else(|| PathBuf::from("/proc"), PathBuf::from)
}

/// Looks at this machine: every training job, or the one that `pid` belongs to.
pub fn survey(pid: Option<u32>, ask_gpus: bool) -> Survey {
    let table = Table::read(&proc_folder());
    let own = std::process::id();
    let jobs = match pid {
        Some(pid) => processes::of_pid(&table, own, pid).into_iter().collect(),
        None => processes::jobs(&table, own),
    };
    let samples = if jobs.is_empty() || !ask_gpus { Vec::new() } else { gpus() };
    known(&table, jobs, &samples)
}

/// The same among GPUs that are known already.
pub fn survey_among(samples: &[GpuSample]) -> Survey {
    let table = Table::read(&proc_folder());
    let jobs = processes::jobs(&table, std::process::id());
    known(&table, jobs, samples)
}

fn known(table: &Table, jobs: Vec<Job>, samples: &[GpuSample]) -> Survey {
    let outside = samples.iter().flat_map(|gpu| &gpu.processes).filter(|p| p.foreign).map(|p| p.pid);
    let mut outside: Vec<u32> = outside.collect();
    outside.sort_unstable();
    outside.dedup();
    let jobs =
        jobs.into_iter().map(|job| Found { files: job.files(table), gpus: gpus_of(&job, samples), job }).collect();
    Survey { jobs, in_container: table.in_container, unreadable: table.unreadable, outside: outside.len() }
}

/// One reading of the GPUs, if the driver answers soon.
fn gpus() -> Vec<GpuSample> {
    let (events, inbox) = sync_channel(4);
    let _sampling = crate::source::gpu::spawn(Duration::from_secs(1), events);
    let start = Instant::now();
    while let Ok(event) = inbox.recv_timeout(GPUS.saturating_sub(start.elapsed())) {
        match event.kind {
            EventKind::Gpu { reading: GpuReading::Samples(samples) } => return samples,
            EventKind::Gpu { .. } => break,
            _ => {}
        }
    }
    Vec::new()
}

/// The GPUs of a job: those on which the driver sees its processes, else those that its environment lets it see.
fn gpus_of(job: &Job, samples: &[GpuSample]) -> Option<(Vec<String>, String)> {
    if samples.is_empty() {
        return None;
    }
    let is_member = |pid: u32| job.members.iter().any(|m| m.process.pid == pid);
    let used: Vec<String> = samples
        .iter()
        .filter(|gpu| gpu.processes.iter().any(|p| !p.foreign && is_member(p.pid)))
        .map(|gpu| gpu.uuid.clone())
        .collect();
    if !used.is_empty() {
        return Some((used, "the driver sees its processes there".into()));
    }
    let cards: Vec<Card> = samples.iter().map(Card::of).collect();
    let mut uuids = Vec::new();
    let mut assumed = None;
    for member in job.ranks() {
        let process = &member.process;
        // Without its environment nothing is known.
        process.environment.as_ref()?;
        let seen =
            processes::visible(process.variable("CUDA_VISIBLE_DEVICES"), process.variable("CUDA_DEVICE_ORDER"), &cards);
        assumed = assumed.or(seen.assumed);
        uuids.extend(seen.uuids);
    }
    uuids.sort_unstable();
    uuids.dedup();
    let how = assumed.map_or("its CUDA_VISIBLE_DEVICES".to_string(), |why| format!("assumed: {why}"));
    Some((uuids, how))
}

impl Found {
    pub fn title(&self) -> String {
        self.job.title()
    }

    /// The job's command, secrets taken out.
    pub fn command(&self) -> Clean {
        Clean::new(&command_of(&self.job.root))
    }

    /// Settings that its command line and its environment give, beside those `given`, which are stronger.
    pub fn knobs(&self, given: &Knobs) -> Knobs {
        let mut knobs = config::command(&command_of(&self.job.root));
        for name in ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"] {
            if let Some(value) = self.job.main().variable(name) {
                knobs.put(Knob::AllocConf, knobs::Value::Text(Clean::new(value)), Origin::Command);
            }
        }
        knobs.merge(given);
        knobs
    }

    /// Whether its pid still means the process that was found.
    pub fn is_still_there(&self) -> bool {
        processes::table::start_of(&proc_folder(), self.job.root.pid) == Some(self.job.root.start)
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.files.iter().map(|f| f.path.clone()).collect()
    }

    /// Why nothing of it can be read.
    pub fn why_nothing(&self) -> String {
        let why = self.files.note.unwrap_or("no log or metric file of it was found");
        format!("{} (pid {}): {why}", Clean::new(&self.title()), self.job.root.pid)
    }

    fn ranks(&self) -> usize {
        self.job.ranks().count()
    }

    /// What a line of a list says of it, without its name.
    fn facts(&self, now: Timestamp) -> String {
        let mut facts = vec![format!("pid {}", self.job.root.pid)];
        facts.extend(self.job.launcher.map(|l| l.as_str().to_string()));
        if self.ranks() > 1 {
            facts.push(format!("{} ranks", self.ranks()));
        }
        if let Some(started) = self.job.root.started_at {
            let age = now.duration_since(started).as_secs_f64();
            facts.push(format!("for {}", super::history::duration(age)));
        }
        if let Some((uuids, how)) = &self.gpus {
            let assumed = if how.starts_with("assumed") { " (assumed)" } else { "" };
            facts.push(format!("{} GPU{}{assumed}", uuids.len(), if uuids.len() == 1 { "" } else { "s" }));
        }
        if self.job.root.in_container {
            facts.push("in a container".into());
        }
        facts.join(", ")
    }

    fn files_line(&self) -> String {
        let shown = |path: &Path| redact::text(Clean::new(&path.to_string_lossy()).as_str());
        match self.files.files.split_first() {
            None => self.files.note.unwrap_or("no log or metric file of it was found").to_string(),
            Some((first, [])) => format!("{}: {}", shown(&first.path), first.why.as_str()),
            Some((first, rest)) => format!("{} and {} more", shown(&first.path), rest.len()),
        }
    }

    /// A row of the list on the screen.
    pub fn choice(&self, now: Timestamp) -> Choice {
        Choice {
            title: Clean::new(&self.title()),
            facts: Clean::new(&self.facts(now)),
            lines: vec![Clean::new(&redact::text(self.command().as_str())), Clean::new(&self.files_line())],
            usable: !self.files.files.is_empty(),
        }
    }

    fn to_json(&self) -> Value {
        let path = |path: &Path| Clean::new(&path.to_string_lossy()).to_string();
        let root = &self.job.root;
        let environment: BTreeMap<String, String> = self
            .job
            .main()
            .environment
            .iter()
            .flatten()
            .map(|(name, value)| (Clean::new(name).to_string(), redact::line(Clean::new(value).as_str())))
            .collect();
        json!({
            "pid": root.pid,
            "title": Clean::new(&self.title()).as_str(),
            "launcher": self.job.launcher.map(processes::Launcher::as_str),
            "command": redact::words(&root.command.iter().map(|w| Clean::new(w)).collect::<Vec<_>>()),
            "folder": root.folder.as_deref().map(path),
            "user_id": root.uid,
            "started_at": root.started_at.map(|at| at.to_string()),
            "in_container": root.in_container,
            "processes": self.job.members.iter().map(|m| json!({
                "pid": m.process.pid,
                "parent": m.process.parent,
                "role": m.role.as_str(),
                "rank": m.rank,
                "local_rank": m.local_rank,
                "name": Clean::new(&m.process.name).as_str(),
            })).collect::<Vec<_>>(),
            "environment": environment,
            "gpus": self.gpus.as_ref().map(|(uuids, _)| uuids.iter().map(|u| Clean::new(u)).collect::<Vec<_>>()),
            "gpus_from": self.gpus.as_ref().map(|(_, how)| how),
            "files": self.files.files.iter().map(|f| json!({ "path": path(&f.path), "why": f.why.as_str() })).collect::<Vec<_>>(),
            "note": self.files.note,
        })
    }
}

impl Survey {
    /// The list for scripts (schema `oomph.jobs/1`).
    pub fn to_json(&self) -> Value {
        json!({
            "schema": "oomph.jobs/1",
            "jobs": self.jobs.iter().map(Found::to_json).collect::<Vec<_>>(),
            "looked_for": LOOKED_FOR,
            "in_container": self.in_container,
            "unreadable_processes": self.unreadable,
            "gpu_processes_outside": self.outside,
        })
    }

    /// The list for people.
    pub fn to_text(&self, now: Timestamp) -> String {
        let mut text = String::new();
        for found in &self.jobs {
            let choice = found.choice(now);
            let _ = writeln!(text, "{} ({})", choice.title, choice.facts);
            for line in &choice.lines {
                let _ = writeln!(text, "  {line}");
            }
        }
        if !self.jobs.is_empty() {
            let _ = writeln!(text, "\n`oomph watch --pid PID` opens the dashboard on one of them.");
        }
        for note in self.notes() {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    /// What could not be seen.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.in_container {
            notes.push("oomph runs in a container: it sees only the processes of this container".to_string());
        }
        if self.outside > 0 {
            let n = self.outside;
            let es = if n == 1 { "" } else { "es" };
            notes.push(format!(
                "{n} process{es} outside this container hold memory on its GPUs; who they are cannot be told from here"
            ));
        }
        if self.unreadable > 0 {
            let n = self.unreadable;
            let es = if n == 1 { "" } else { "es" };
            notes.push(format!(
                "{n} process{es} of other users could not be looked into: run oomph as their user, or as root"
            ));
        }
        notes
    }

    /// What is said when there is none.
    pub fn nothing(&self) -> String {
        let mut text = String::from("no training job was found on this machine. oomph looked for\n");
        for what in LOOKED_FOR {
            let _ = writeln!(text, "  - {what}");
        }
        for note in self.notes() {
            let _ = writeln!(text, "  ({note})");
        }
        text.push_str(
            "\nTry\n  oomph FILE                the dashboard beside a log, a metrics file or a run's folder\n  oomph run -- CMD          start a training with the dashboard\n  oomph diagnose -          paste the text of a dead run\n  oomph demo                see it without a GPU and without a log\n",
        );
        text
    }
}

/// The words of a process's command, secrets taken out, quoted where a shell needs it.
pub fn command_of(process: &Process) -> String {
    let words: Vec<Clean> = process.command.iter().map(|w| Clean::new(w)).collect();
    let plain = |word: &str| {
        word == "***" || !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./=:,+@%".contains(c))
    };
    let quoted = |word: &Clean| {
        if plain(word.as_str()) { word.to_string() } else { format!("'{}'", word.as_str().replace('\'', "'\\''")) }
    };
    redact::words(&words).iter().map(quoted).collect::<Vec<_>>().join(" ")
}
