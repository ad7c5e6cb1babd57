//! Made-up `/proc` trees: what a launcher and its ranks look like, and what is found of them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::*;

/// A process to be put into the tree.
#[derive(Default)]
struct Made<'a> {
    pid: u32,
    parent: u32,
    command: &'a [&'a str],
    environment: &'a [&'a str],
    files: &'a [(u32, &'a str)],
    folder: &'a str,
    pid_namespace: Option<&'a str>,
}

struct Proc {
    folder: tempfile::TempDir,
}

const FIRST: &str = "pid:[4026531836]";

impl Proc {
    fn new(own_namespace: &str) -> Self {
        let proc = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(proc.path().join("self/ns")).unwrap();
        symlink(own_namespace, proc.path().join("self/ns/pid")).unwrap();
        // Jobs began in 1970: every file is younger.
        fs::write(proc.path().join("stat"), "cpu 1 2 3\nbtime 1000000\n").unwrap();
        fs::create_dir(proc.work()).unwrap();
        proc
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder in which the jobs run.
    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn file(&self, name: &str) -> String {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        path.to_str().unwrap().to_string()
    }

    fn put(&self, made: &Made) {
        let folder = self.path().join(made.pid.to_string());
        fs::create_dir_all(folder.join("fd")).unwrap();
        fs::create_dir_all(folder.join("fdinfo")).unwrap();
        fs::create_dir_all(folder.join("ns")).unwrap();
        let name = made.command.first().copied().unwrap_or("x").rsplit('/').next().unwrap();
        let start = made.pid * 10;
        let between = "1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0";
        let stat = format!("{} ({name} (1)) S {} {between} {start} 0 0\n", made.pid, made.parent);
        fs::write(folder.join("stat"), stat).unwrap();
        let join = |words: &[&str]| words.iter().flat_map(|w| w.bytes().chain([0])).collect::<Vec<u8>>();
        fs::write(folder.join("cmdline"), join(made.command)).unwrap();
        fs::write(folder.join("environ"), join(made.environment)).unwrap();
        symlink(self.work().join(made.folder), folder.join("cwd")).unwrap();
        symlink(made.pid_namespace.unwrap_or(FIRST), folder.join("ns/pid")).unwrap();
        for (number, target) in made.files {
            symlink(target, folder.join("fd").join(number.to_string())).unwrap();
            fs::write(folder.join("fdinfo").join(number.to_string()), "pos:\t0\nflags:\t0100001\n").unwrap();
        }
    }

    fn jobs(&self) -> (Table, Vec<Job>) {
        let table = Table::read(self.path());
        let jobs = jobs(&table, 999);
        (table, jobs)
    }
}

/// `launcher: pid role rank, …` of a job.
fn shape(job: &Job) -> String {
    let members: Vec<String> = job
        .members
        .iter()
        .map(|m| format!("{} {}{}", m.process.pid, m.role.as_str(), m.rank.map_or(String::new(), |r| format!(" {r}"))))
        .collect();
    format!("{}: {}", job.launcher.map_or("none", Launcher::as_str), members.join(", "))
}

fn names(proc: &Proc, files: &[Written]) -> Vec<(String, Why)> {
    let short = |path: &Path| path.strip_prefix(proc.work()).unwrap_or(path).to_str().unwrap().to_string();
    files.iter().map(|f| (short(&f.path), f.why)).collect()
}

#[test]
fn torchrun_its_ranks_and_their_loaders_are_one_job() {
    let proc = Proc::new(FIRST);
    let log = proc.file("train.log");
    let events = proc.file("runs/a/events.out.tfevents.1.host");
    proc.put(&Made { pid: 1, command: &["/sbin/init"], ..Made::default() });
    proc.put(&Made { pid: 10, parent: 1, command: &["bash", "go.sh"], files: &[(1, &log)], ..Made::default() });
    let torchrun = ["/opt/venv/bin/python3.12", "/opt/venv/bin/torchrun", "--nproc_per_node", "2", "train.py"];
    proc.put(&Made { pid: 11, parent: 10, command: &torchrun, files: &[(1, &log)], ..Made::default() });
    let rank = ["/opt/venv/bin/python3.12", "-u", "train.py", "--lr", "1e-5"];
    for (pid, number) in [(21, "1"), (20, "0")] {
        let environment =
            [format!("RANK={number}"), format!("LOCAL_RANK={number}"), "WORLD_SIZE=2".into(), "HF_TOKEN=x".into()];
        let environment: Vec<&str> = environment.iter().map(String::as_str).collect();
        let files = [(1, log.as_str()), (2, log.as_str()), (9, events.as_str()), (12, "/dev/nvidia0")];
        let files = if number == "0" { &files[..] } else { &files[..2] };
        proc.put(&Made { pid, parent: 11, command: &rank, environment: &environment, files, ..Made::default() });
        proc.put(&Made { pid: pid + 10, parent: pid, command: &rank, environment: &environment, ..Made::default() });
    }
    proc.put(&Made { pid: 50, parent: 1, command: &["python3", "-m", "http.server"], ..Made::default() });
    let (table, jobs) = proc.jobs();
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
    assert_eq!(shape(&jobs[0]), "torchrun: 11 launcher, 20 rank 0, 21 rank 1, 30 worker, 31 worker");
    assert_eq!(jobs[0].title(), "train.py");
    assert_eq!(
        jobs[0].main().environment.as_ref().unwrap().keys().collect::<Vec<_>>(),
        ["LOCAL_RANK", "RANK", "WORLD_SIZE"]
    );
    let want = [("train.log", Why::Output), ("runs/a/events.out.tfevents.1.host", Why::Open)];
    assert_eq!(names(&proc, &jobs[0].files(&table).files), want.map(|(name, why)| (name.to_string(), why)));
}

#[test]
fn launchers_of_every_kind_are_known() {
    let check = |command: &[&str], want: Option<&str>| {
        let proc = Proc::new(FIRST);
        proc.put(&Made { pid: 10, command, ..Made::default() });
        let (_, jobs) = proc.jobs();
        let found = jobs.first().map(|job| job.launcher.map_or("none", Launcher::as_str));
        assert_eq!(found, want, "{command:?}");
    };
    check(&["python", "-m", "torch.distributed.run", "a.py"], Some("torchrun"));
    check(&["python", "/x/bin/accelerate", "launch", "a.py"], Some("accelerate"));
    check(&["python", "-m", "accelerate.commands.launch", "a.py"], Some("accelerate"));
    check(&["python", "/x/bin/accelerate", "config"], None);
    check(&["python", "/x/bin/deepspeed", "a.py"], Some("deepspeed"));
    check(&["python", "-u", "-m", "deepspeed.launcher.launch", "a.py"], Some("deepspeed"));
    check(&["mpirun", "-np", "2", "python", "a.py"], Some("mpi"));
    check(&["python", "/x/bin/llamafactory-cli", "train", "a.yaml"], Some("none"));
    check(&["python", "-m", "axolotl.cli.train", "a.yaml"], Some("none"));
    check(&["python", "finetune_qwen.py"], Some("none"));
    check(&["python", "-m", "verl.trainer.main_ppo", "a=b"], Some("none"));
    check(&["python", "manage.py", "train"], None);
    check(&["python", "-c", "import train"], None);
    check(&["vim", "train.py"], None);
    check(&["grep", "-r", "torchrun"], None);
}

#[test]
fn whoever_holds_a_gpu_is_a_job_but_not_the_onlookers() {
    let proc = Proc::new(FIRST);
    let gpu = [(5, "/dev/nvidiactl"), (6, "/dev/nvidia3")];
    proc.put(&Made { pid: 10, command: &["/usr/bin/julia", "fit.jl"], files: &gpu, ..Made::default() });
    proc.put(&Made { pid: 11, command: &["nvtop"], files: &gpu, ..Made::default() });
    proc.put(&Made { pid: 12, command: &["python3", "/usr/bin/nvitop"], files: &gpu, ..Made::default() });
    proc.put(&Made { pid: 13, command: &["/usr/lib/xorg/Xorg"], files: &gpu, ..Made::default() });
    proc.put(&Made { pid: 14, command: &["cat"], files: &[(5, "/dev/nvidiactl")], ..Made::default() });
    let (_, jobs) = proc.jobs();
    assert_eq!(jobs.iter().map(shape).collect::<Vec<_>>(), ["none: 10 main"]);
}

#[test]
fn ranks_that_slurm_started_side_by_side_are_one_job() {
    let proc = Proc::new(FIRST);
    proc.put(&Made { pid: 5, command: &["slurmstepd: [7.0]"], ..Made::default() });
    for (pid, rank) in [(20, "1"), (21, "0")] {
        let environment = [
            format!("SLURM_PROCID={rank}"),
            format!("SLURM_LOCALID={rank}"),
            "SLURM_JOB_ID=7".into(),
            "SLURM_STEP_ID=0".into(),
        ];
        let environment: Vec<&str> = environment.iter().map(String::as_str).collect();
        proc.put(&Made {
            pid,
            parent: 5,
            command: &["python", "train.py"],
            environment: &environment,
            ..Made::default()
        });
    }
    // Another step of the same job is another training.
    let other = ["SLURM_PROCID=0", "SLURM_JOB_ID=7", "SLURM_STEP_ID=1"];
    proc.put(&Made { pid: 30, parent: 5, command: &["python", "train.py"], environment: &other, ..Made::default() });
    let (_, jobs) = proc.jobs();
    assert_eq!(jobs.iter().map(shape).collect::<Vec<_>>(), ["slurm: 30 rank 0", "slurm: 21 rank 0, 20 rank 1"]);
}

#[test]
fn oomph_and_what_started_it_are_no_job() {
    let proc = Proc::new(FIRST);
    proc.put(&Made { pid: 10, command: &["python", "train_everything.py"], ..Made::default() });
    proc.put(&Made { pid: 999, parent: 10, command: &["oomph"], ..Made::default() });
    proc.put(&Made { pid: 12, parent: 999, command: &["python", "train.py"], ..Made::default() });
    let (_, jobs) = proc.jobs();
    assert_eq!(jobs.iter().map(shape).collect::<Vec<_>>(), ["none: 12 main"]);
}

#[test]
fn a_pid_names_its_whole_job() {
    let proc = Proc::new(FIRST);
    proc.put(&Made { pid: 10, command: &["python", "/x/torchrun", "a.py"], ..Made::default() });
    proc.put(&Made { pid: 11, parent: 10, command: &["python", "a.py"], environment: &["RANK=0"], ..Made::default() });
    proc.put(&Made { pid: 20, command: &["./custom"], ..Made::default() });
    proc.put(&Made { pid: 21, parent: 20, command: &["./helper"], ..Made::default() });
    let table = Table::read(proc.path());
    let of = |pid| of_pid(&table, 999, pid).map(|job| shape(&job));
    assert_eq!(of(11).unwrap(), "torchrun: 10 launcher, 11 rank 0");
    assert_eq!(of(20).unwrap(), "none: 20 main, 21 worker");
    assert_eq!(of(77), None);
    assert_eq!(table::start_of(proc.path(), 20), Some(200));
    assert_eq!(table::start_of(proc.path(), 77), None);
}

#[test]
fn what_a_job_writes_is_found_wherever_it_is_named() {
    let files_of = |command: &[&str], files: &[(u32, &str)], proc: &Proc| {
        proc.put(&Made { pid: 10, command, files, folder: "", ..Made::default() });
        let (table, jobs) = proc.jobs();
        let found = jobs[0].files(&table);
        (names(proc, &found.files), found.note)
    };
    let one = |name: &str, why: Why| vec![(name.to_string(), why)];

    let proc = Proc::new(FIRST);
    proc.file("out/exp/train.log");
    let (found, note) = files_of(&["python", "train.py", "--output-dir", "out/exp"], &[(1, "/dev/pts/3")], &proc);
    assert_eq!(found, one("out/exp/train.log", Why::Folder));
    assert!(note.unwrap().contains("a terminal"));

    let proc = Proc::new(FIRST);
    proc.file("out/metrics.jsonl");
    fs::write(proc.work().join("sft.yaml"), "model: x\noutput_dir: \"out\"  # here\n").unwrap();
    let (found, note) = files_of(&["python", "train.py", "sft.yaml"], &[(1, "pipe:[7]")], &proc);
    assert_eq!(found, one("out/metrics.jsonl", Why::Folder));
    assert!(note.unwrap().contains("a pipe"));

    let proc = Proc::new(FIRST);
    proc.file("out/metrics.csv");
    let (found, _) = files_of(&["python", "train.py", "trainer.default_local_dir=out"], &[(1, "/dev/null")], &proc);
    assert_eq!(found, one("out/metrics.csv", Why::Folder));

    // A configuration is opened for reading: only what may be written counts, and only metrics.
    let proc = Proc::new(FIRST);
    let (history, data) = (proc.file("history.jsonl"), proc.file("data.jsonl"));
    let deleted = format!("{history} (deleted)");
    let (found, _) = files_of(&["python", "train.py"], &[(4, &history), (5, &data), (6, &deleted)], &proc);
    assert_eq!(found, one("history.jsonl", Why::Open));

    let proc = Proc::new(FIRST);
    let log = proc.file("tee.log");
    proc.put(&Made {
        pid: 11,
        command: &["tee", "tee.log"],
        files: &[(0, "pipe:[7]"), (1, "/dev/pts/1"), (3, &log)],
        ..Made::default()
    });
    let (found, note) = files_of(&["python", "train.py"], &[(1, "pipe:[7]")], &proc);
    assert_eq!((found, note), (one("tee.log", Why::Tee), None));

    let proc = Proc::new(FIRST);
    proc.file("train.log");
    let (found, _) = files_of(&["python", "train.py"], &[(1, "/dev/pts/1")], &proc);
    assert_eq!(found, one("train.log", Why::Here));
}

#[test]
fn containers_are_told_apart() {
    let proc = Proc::new(FIRST);
    proc.put(&Made {
        pid: 10,
        command: &["python", "train.py"],
        pid_namespace: Some("pid:[4026532999]"),
        ..Made::default()
    });
    proc.put(&Made { pid: 11, command: &["python", "train.py"], ..Made::default() });
    let (table, jobs) = proc.jobs();
    assert!(!table.in_container);
    assert_eq!(jobs.iter().map(|j| (j.root.pid, j.root.in_container)).collect::<Vec<_>>(), [(11, false), (10, true)]);
    // Inside one, where every process is of the same namespace.
    let inside = Proc::new("pid:[4026532999]");
    inside.put(&Made {
        pid: 10,
        command: &["python", "train.py"],
        pid_namespace: Some("pid:[4026532999]"),
        ..Made::default()
    });
    let (table, jobs) = inside.jobs();
    assert!(table.in_container && !jobs[0].root.in_container);
}

#[test]
fn hostile_processes_do_no_harm() {
    let proc = Proc::new(FIRST);
    for (pid, stat) in [(10, ""), (11, "11 (a"), (12, "12 (a) b) S"), (13, "13 () S 1"), (14, ")("), (15, "\u{0}\u{0}")]
    {
        let folder = proc.path().join(pid.to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("cmdline"), "x\0").unwrap();
    }
    // Each is the other's parent.
    proc.put(&Made { pid: 20, parent: 21, command: &["python", "train.py"], ..Made::default() });
    proc.put(&Made { pid: 21, parent: 20, command: &["python", "train.py"], ..Made::default() });
    let (table, _) = proc.jobs();
    assert_eq!(table.processes.keys().copied().collect::<Vec<_>>(), [20, 21]);
}
