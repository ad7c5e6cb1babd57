//! From processes to jobs: launchers, ranks and their workers belong together.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    environment,
    table::{Process, Table, base},
};

/// What started the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Launcher {
    Torchrun,
    Accelerate,
    DeepSpeed,
    Ray,
    Slurm,
    Mpi,
    Other,
}

impl Launcher {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Torchrun => "torchrun",
            Self::Accelerate => "accelerate",
            Self::DeepSpeed => "deepspeed",
            Self::Ray => "ray",
            Self::Slurm => "slurm",
            Self::Mpi => "mpi",
            Self::Other => "launcher",
        }
    }
}

/// What a process does in its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Launcher,
    /// The training itself, where there is but one process of it.
    Main,
    Rank,
    /// A data loader or another helper that a rank started.
    Worker,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Launcher => "launcher",
            Self::Main => "main",
            Self::Rank => "rank",
            Self::Worker => "worker",
        }
    }
}

/// A process of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub process: Process,
    pub role: Role,
    pub rank: Option<u32>,
    pub local_rank: Option<u32>,
}

/// One training job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The launcher, or the training process where it has none: its command is the job's.
    pub root: Process,
    pub launcher: Option<Launcher>,
    /// Every process of it, the root first, ranks in their order.
    pub members: Vec<Member>,
}

impl Job {
    /// The processes that train, in the order of their ranks.
    pub fn ranks(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| matches!(m.role, Role::Main | Role::Rank))
    }

    /// The process that logs: rank 0.
    pub fn main(&self) -> &Process {
        self.ranks().next().map_or(&self.root, |member| &member.process)
    }

    /// The script or program by which a person knows the job.
    pub fn title(&self) -> String {
        let command = &self.main().command;
        let script = command.iter().skip(1).find(|w| is_script(w)).map(|w| base(w).to_string());
        let module = || {
            let at = command.iter().position(|w| w == "-m")?;
            command.get(at + 1).cloned()
        };
        script.or_else(module).unwrap_or_else(|| self.main().program().to_string())
    }
}

/// Programs that start trainings, and the modules that do the same under `python -m`.
const LAUNCHERS: &[(&str, Launcher)] = &[
    ("torchrun", Launcher::Torchrun),
    ("torch.distributed.run", Launcher::Torchrun),
    ("torch.distributed.launch", Launcher::Torchrun),
    ("accelerate", Launcher::Accelerate),
    ("accelerate-launch", Launcher::Accelerate),
    ("accelerate.commands.launch", Launcher::Accelerate),
    ("deepspeed", Launcher::DeepSpeed),
    ("deepspeed.launcher.launch", Launcher::DeepSpeed),
    ("deepspeed.launcher.runner", Launcher::DeepSpeed),
    ("raylet", Launcher::Ray),
    ("gcs_server", Launcher::Ray),
    ("srun", Launcher::Slurm),
    ("mpirun", Launcher::Mpi),
    ("mpiexec", Launcher::Mpi),
    ("orted", Launcher::Mpi),
    ("horovodrun", Launcher::Mpi),
    ("colossalai", Launcher::Other),
    ("composer", Launcher::Other),
];

/// Programs that are trainers themselves, or start one in the same way.
const TRAINERS: &[&str] = &[
    "llamafactory-cli",
    "axolotl",
    "axolotl.cli.train",
    "tune",
    "trl",
    "litgpt",
    "xtuner",
    "swift",
    "yolo",
    "fairseq-train",
    "fairseq-hydra-train",
    "mlx_lm.lora",
    "mlx_lm_lora.train",
    "verl.trainer.main_ppo",
    "openrlhf.cli.train_ppo_ray",
    "lightning",
    "autotrain",
    "unsloth",
];

/// Parts of a script's name that say training.
const WORDS: &[&str] = &[
    "train",
    "finetune",
    "fine_tune",
    "fine-tune",
    "sft",
    "grpo",
    "dpo",
    "ppo",
    "kto",
    "orpo",
    "rlhf",
    "lora",
    "rloo",
];

/// Programs that hold a GPU and train nothing.
const ONLOOKERS: &[&str] = &[
    "oomph",
    "nvidia-smi",
    "nvtop",
    "nvitop",
    "gpustat",
    "nvidia-persistenced",
    "nvidia-powerd",
    "nv-hostengine",
    "dcgm-exporter",
    "dcgmi",
    "btop",
    "Xorg",
    "Xwayland",
    "gnome-shell",
    "kwin_wayland",
    "prometheus",
    "node_exporter",
    "telegraf",
];

/// Every training job, the one that started last first. `own` is oomph's pid: it and what started it are none.
pub fn jobs(table: &Table, own: u32) -> Vec<Job> {
    let mut not: BTreeSet<u32> = table.parents(own).map(|p| p.pid).collect();
    not.insert(own);
    let trains: BTreeSet<u32> =
        table.processes.values().filter(|p| !not.contains(&p.pid) && trains(p)).map(|p| p.pid).collect();
    let mut groups: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for pid in table.processes.keys().filter(|pid| !not.contains(pid)) {
        // The highest of the processes above it that train: shells and supervisors between are passed over.
        let above =
            table.parents(*pid).take_while(|p| !not.contains(&p.pid)).filter(|p| trains.contains(&p.pid)).last();
        if above.is_some() || trains.contains(pid) {
            groups.entry(above.map_or(*pid, |p| p.pid)).or_default().insert(*pid);
        }
    }
    let mut jobs: Vec<Job> = join(table, groups).into_iter().filter_map(|group| job(table, &group)).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse((job.root.start, job.root.pid)));
    jobs
}

/// The job that a process belongs to, whatever it looks like; `None` when there is no such process.
pub fn of_pid(table: &Table, own: u32, pid: u32) -> Option<Job> {
    let known = jobs(table, own).into_iter().find(|job| job.members.iter().any(|m| m.process.pid == pid));
    known.or_else(|| {
        let below = table.processes.keys().filter(|other| table.parents(**other).any(|p| p.pid == pid));
        job(table, &std::iter::once(&pid).chain(below).copied().collect())
    })
}

/// Whether a process is of a training job, by what it is called, holds or was told.
fn trains(process: &Process) -> bool {
    if process.command.iter().take(2).any(|word| ONLOOKERS.contains(&base(word))) {
        return false;
    }
    if launcher(process).is_some() || process.holds_gpu() {
        return true;
    }
    let names = names(process);
    if names.iter().any(|name| TRAINERS.contains(name)) {
        return true;
    }
    let python = process.program() == "python"
        || process.name.starts_with("pt_main_thread")
        || process.name.starts_with("ray::");
    if !python {
        return false;
    }
    let is_rank = process.variable("RANK").is_some() && process.variable("WORLD_SIZE").is_some();
    let says = names.iter().any(|name| {
        let lower = name.to_ascii_lowercase();
        WORDS.iter().any(|word| lower.contains(word))
    });
    is_rank || says || super::files::writes_metrics(process)
}

/// The names that a command goes by: the program, the script, the module after `-m`.
fn names(process: &Process) -> Vec<&str> {
    let mut found = vec![process.program()];
    let mut words = process.command.iter().skip(1);
    while let Some(word) = words.next() {
        if word == "-m" {
            found.extend(words.next().map(String::as_str));
            break;
        }
        if word == "-c" {
            break;
        }
        if !word.starts_with('-') {
            if process.program() == "python" || is_script(word) {
                found.push(base(word));
            }
            break;
        }
    }
    found
}

fn launcher(process: &Process) -> Option<Launcher> {
    let names = names(process);
    let known = |name: &&str| LAUNCHERS.iter().find(|(launcher, _)| launcher == name).map(|(_, kind)| *kind);
    names.iter().find_map(known).filter(|kind| {
        // `accelerate config` and its like start nothing.
        *kind != Launcher::Accelerate
            || process
                .command
                .iter()
                .any(|w| w == "launch" || w.contains("accelerate-launch") || w.contains("commands.launch"))
    })
}

/// Puts together groups whose ranks are of one world: Slurm, MPI and people start each rank by itself.
fn join(table: &Table, groups: BTreeMap<u32, BTreeSet<u32>>) -> Vec<BTreeSet<u32>> {
    let mut joined: Vec<(Vec<String>, BTreeSet<u32>)> = Vec::new();
    for (_, pids) in groups {
        let mut worlds: Vec<String> = Vec::new();
        for process in pids.iter().filter_map(|pid| table.processes.get(pid)) {
            let of = |names: &[&str]| -> Option<String> {
                let values: Option<Vec<&str>> = names.iter().map(|name| process.variable(name)).collect();
                Some(format!("{names:?}{}", values?.join(" ")))
            };
            let is_rank = process.variable("RANK").is_some() || process.variable("SLURM_PROCID").is_some();
            let world = of(&["MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"]);
            let step = of(&["SLURM_JOB_ID", "SLURM_STEP_ID"]);
            worlds.extend([world, step].into_iter().flatten().filter(|_| is_rank));
        }
        worlds.sort_unstable();
        worlds.dedup();
        match joined.iter_mut().find(|(known, _)| known.iter().any(|world| worlds.contains(world))) {
            Some((known, all)) => {
                known.extend(worlds);
                all.extend(pids);
            }
            None => joined.push((worlds, pids)),
        }
    }
    joined.into_iter().map(|(_, pids)| pids).collect()
}

fn job(table: &Table, pids: &BTreeSet<u32>) -> Option<Job> {
    let of_job = |pid: &u32| pids.contains(pid);
    let processes: Vec<&Process> = pids.iter().filter_map(|pid| table.processes.get(pid)).collect();
    let tops = processes.iter().filter(|p| !table.parents(p.pid).any(|parent| of_job(&parent.pid)));
    // Of several that were started side by side the one with the lowest rank speaks for all.
    let root = *tops.min_by_key(|p| (rank_of(p).unwrap_or(u32::MAX), p.start, p.pid))?;
    let kinds: BTreeMap<u32, Launcher> = processes.iter().filter_map(|p| Some((p.pid, launcher(p)?))).collect();
    let mut members: Vec<Member> = Vec::new();
    let mut trainers: BTreeSet<u32> = BTreeSet::new();
    // Parents come first, so that a child can be told from a rank.
    let mut ordered = processes.clone();
    ordered.sort_by_key(|p| (table.parents(p.pid).filter(|parent| of_job(&parent.pid)).count(), p.pid));
    for process in ordered {
        let below_trainer = table.parents(process.pid).any(|p| trainers.contains(&p.pid));
        let parent_rank = table.processes.get(&process.parent).and_then(rank_of);
        let rank = rank_of(process);
        let python =
            process.program() == "python" || process.holds_gpu() || names(process).iter().any(|n| TRAINERS.contains(n));
        let role = if kinds.contains_key(&process.pid) {
            Role::Launcher
        } else if below_trainer && (rank.is_none() || rank == parent_rank) || !python {
            Role::Worker
        } else {
            trainers.insert(process.pid);
            if rank.is_some() { Role::Rank } else { Role::Main }
        };
        let rank = rank.filter(|_| role == Role::Rank);
        let local_rank = process
            .variable("LOCAL_RANK")
            .or_else(|| process.variable("SLURM_LOCALID"))
            .or_else(|| process.variable("OMPI_COMM_WORLD_LOCAL_RANK"))
            .and_then(|r| r.parse().ok())
            .filter(|_| role == Role::Rank);
        members.push(Member { process: process.clone(), role, rank, local_rank });
    }
    // A trainer's command line tool that started the ranks is their launcher.
    if members.iter().any(|m| m.role == Role::Rank) {
        for member in members.iter_mut().filter(|m| m.role == Role::Main) {
            member.role = Role::Launcher;
        }
    }
    // Whatever a person pointed at is the training.
    if let Some(first) = members.iter_mut().find(|m| m.process.pid == root.pid && m.role == Role::Worker) {
        first.role = Role::Main;
    }
    members.sort_by_key(|m| (m.process.pid != root.pid, m.role, m.rank, m.process.pid));
    let slurm = || processes.iter().any(|p| p.variable("SLURM_PROCID").is_some()).then_some(Launcher::Slurm);
    let mpi = || processes.iter().any(|p| p.variable("OMPI_COMM_WORLD_RANK").is_some()).then_some(Launcher::Mpi);
    // The outermost is what the person typed, but Slurm only where nothing else started the ranks.
    let mut known: Vec<Launcher> = members.iter().filter_map(|m| kinds.get(&m.process.pid).copied()).collect();
    known.sort_by_key(|kind| matches!(kind, Launcher::Slurm | Launcher::Other));
    let outer = kinds.get(&root.pid).copied().filter(|kind| !matches!(kind, Launcher::Slurm | Launcher::Other));
    let started = members.iter().any(|m| m.role == Role::Launcher).then_some(Launcher::Other);
    let launcher = outer.or_else(|| known.first().copied()).or_else(slurm).or_else(mpi).or(started);
    Some(Job { root: root.clone(), launcher, members })
}

fn is_script(word: &str) -> bool {
    std::path::Path::new(word).extension().is_some_and(|end| end == "py")
}

fn rank_of(process: &Process) -> Option<u32> {
    environment::rank(&|name| process.variable(name))
}
