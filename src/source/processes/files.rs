//! What a job writes: where its output goes, the metric files that it has open, the folders that its command names.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::source::run_folder::{self, Sort, sort_of};

use super::{
    Job, Role, Table,
    table::{Open, Process},
};

/// Files that are watched of one job.
const MAX_FILES: usize = 16;
/// The largest configuration that is looked through for the folder it names.
const MAX_CONFIG: u64 = 1 << 20;
/// A file may have been made a little before the process that goes on writing it.
const SLACK: Duration = Duration::from_mins(2);

/// Options and configuration keys that name the folder of a run. Words are joined by `_`, whatever the trainer uses.
const FOLDERS: &[&str] = &[
    "output_dir",
    "output_path",
    "output_folder",
    "out_dir",
    "outdir",
    "logging_dir",
    "log_dir",
    "logdir",
    "save_dir",
    "save_path",
    "save_folder",
    "work_dir",
    "run_dir",
    "checkpoint_dir",
    "ckpt_dir",
    "ckpt_path",
    "save",
    "tensorboard_dir",
    "default_root_dir",
    "default_local_dir",
    "trainer.default_local_dir",
    "trainer.default_root_dir",
    "hydra.run.dir",
    "exp_dir",
    "experiment_dir",
    "results_dir",
    "model_dir",
    "project",
];

/// Why a file is thought to be the job's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Standard output or standard error goes there.
    Output,
    /// `tee` writes what the job prints there.
    Tee,
    /// The job has it open.
    Open,
    /// It lies in a folder that the command or its configuration names.
    Folder,
    /// It lies in the folder in which the job was started, and is no older than the job.
    Here,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Output => "its output goes there",
            Self::Tee => "tee writes its output there",
            Self::Open => "it has the file open",
            Self::Folder => "in the folder that its command names",
            Self::Here => "in its working folder, written since it started",
        }
    }
}

/// A file that a job writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// As oomph reaches it.
    pub path: PathBuf,
    pub why: Why,
}

/// What a job writes, the surest first, and what is to be said of its output where no file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub files: Vec<Written>,
    pub note: Option<&'static str>,
}

const TO_PIPE: &str = "its output goes into a pipe, which oomph cannot read: start it with `oomph run -- …`, or with `2>&1 | tee train.log`";
const TO_TERMINAL: &str = "its output goes to a terminal, which oomph cannot read: start it with `oomph run -- …`, or with `2>&1 | tee train.log`";
const TO_NOWHERE: &str = "its output is thrown away (/dev/null)";
const TO_SOCKET: &str = "its output goes to a service (systemd's journal, a container's engine): read it there with `journalctl -f` or `docker logs -f` and pipe it into `oomph -`";
const UNREADABLE: &str = "its files may not be read: run oomph as the same user, or as root";

impl Job {
    /// What the job writes.
    pub fn files(&self, table: &Table) -> Files {
        let mut found = Found::default();
        let mut note = None;
        for member in &self.members {
            for number in [1, 2] {
                let Some(open) = member.process.files.as_ref().and_then(|files| files.get(&number)) else { continue };
                output(&member.process, open, table, &mut found);
            }
        }
        if found.files.is_empty() {
            let main = self.main();
            note = match main.files.as_ref().map(|files| files.get(&1)) {
                None => Some(UNREADABLE),
                Some(Some(open)) => what_else(&open.target),
                Some(None) => None,
            };
        }
        for member in &self.members {
            for open in member.process.files.iter().flat_map(|files| files.values()) {
                if is_metrics(open) {
                    found.put(&member.process, Path::new(&open.target), Why::Open);
                }
            }
        }
        let since = self.root.started_at.and_then(|at| {
            let since_epoch = Duration::from_micros(u64::try_from(at.as_microsecond()).ok()?);
            (SystemTime::UNIX_EPOCH + since_epoch).checked_sub(SLACK)
        });
        for member in self.members.iter().filter(|m| m.role != Role::Worker) {
            for folder in folders(&member.process) {
                found.folder(&folder, since, Why::Folder);
            }
        }
        if found.files.is_empty()
            && let (Some(folder), Some(since)) = (&self.main().folder, since)
        {
            found.folder(&self.main().reach(folder), Some(since), Why::Here);
        }
        found.files.truncate(MAX_FILES);
        Files { files: found.files, note }
    }
}

#[derive(Default)]
struct Found {
    files: Vec<Written>,
    seen: BTreeSet<PathBuf>,
}

impl Found {
    fn put(&mut self, process: &Process, path: &Path, why: Why) {
        let path = process.reach(path);
        let is_file = std::fs::metadata(&path).is_ok_and(|m| m.is_file());
        let known = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if is_file && self.seen.insert(known) {
            self.files.push(Written { path, why });
        }
    }

    fn folder(&mut self, folder: &Path, since: Option<SystemTime>, why: Why) {
        for (_, path) in run_folder::find(folder).files {
            let modified = std::fs::metadata(&path).and_then(|m| m.modified()).ok();
            let fresh = since.is_none_or(|since| modified.is_some_and(|at| at >= since));
            let known = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
            if fresh && self.seen.insert(known) {
                self.files.push(Written { path, why });
            }
        }
    }
}

/// Whether a process has a file open that only trainings write.
pub fn writes_metrics(process: &Process) -> bool {
    process.files.iter().flat_map(|files| files.values()).any(|open| {
        is_metrics(open) && matches!(sort_of(name(&open.target)), Some(Sort::Events | Sort::Wandb | Sort::State))
    })
}

/// Whether an open file is one of metrics that the process writes.
fn is_metrics(open: &Open) -> bool {
    if open.writes == Some(false) || !open.target.starts_with('/') || open.target.ends_with(" (deleted)") {
        return false;
    }
    sort_of(name(&open.target)).is_some()
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Where standard output or standard error goes.
fn output(process: &Process, open: &Open, table: &Table, found: &mut Found) {
    if open.target.starts_with('/') {
        if !open.target.starts_with("/dev/") && !open.target.ends_with(" (deleted)") {
            found.put(process, Path::new(&open.target), Why::Output);
        }
    } else if open.target.starts_with("pipe:") {
        let reads = |other: &&Process| {
            let input = other.files.as_ref().and_then(|files| files.get(&0));
            other.program() == "tee" && input.is_some_and(|input| input.target == open.target)
        };
        for tee in table.processes.values().filter(reads) {
            for written in tee.files.iter().flat_map(|files| files.iter().filter(|(number, _)| **number > 2)) {
                if written.1.writes != Some(false) && written.1.target.starts_with('/') {
                    found.put(tee, Path::new(&written.1.target), Why::Tee);
                }
            }
        }
    }
}

fn what_else(target: &str) -> Option<&'static str> {
    if target.starts_with("pipe:") {
        Some(TO_PIPE)
    } else if target.starts_with("/dev/pts/") || target.starts_with("/dev/tty") || target == "/dev/console" {
        Some(TO_TERMINAL)
    } else if target == "/dev/null" {
        Some(TO_NOWHERE)
    } else if target.starts_with("socket:") {
        Some(TO_SOCKET)
    } else {
        None
    }
}

/// The folders that a command line names, by itself or in a configuration file.
fn folders(process: &Process) -> Vec<PathBuf> {
    let mut named: Vec<String> = Vec::new();
    let mut words = process.command.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        let bare = word.trim_start_matches(['-', '+']);
        if let Some((key, value)) = bare.split_once('=') {
            if is_folder(key) {
                named.push(value.to_string());
            }
        } else if word.starts_with("--") && is_folder(bare) {
            named.extend(words.next_if(|next| !next.starts_with('-')).cloned());
        }
        let value = bare.split_once('=').map_or(word.as_str(), |(_, value)| value);
        let end = value.rsplit('.').next().unwrap_or_default();
        if ["yaml", "yml", "json", "toml"].contains(&end) {
            named.extend(in_config(&process.reach(Path::new(value))));
        }
    }
    let mut folders: Vec<PathBuf> =
        named.iter().filter(|n| !n.is_empty()).map(|n| process.reach(Path::new(n))).filter(|p| p.is_dir()).collect();
    folders.dedup();
    folders
}

fn is_folder(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    FOLDERS.contains(&key.as_str())
}

/// Folders that a configuration names at its outermost level or deeper, as `key: value`, `"key": "value"`, `key = value`.
fn in_config(path: &Path) -> Vec<String> {
    let small = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MAX_CONFIG);
    let Some(text) = small.then(|| std::fs::read_to_string(path).ok()).flatten() else { return Vec::new() };
    let quotes = ['"', '\''];
    text.lines()
        .filter_map(|line| {
            let line = line.split(" #").next().unwrap_or_default().trim().trim_end_matches(',');
            let (key, value) = line.split_once([':', '='])?;
            let value = value.trim().trim_matches(quotes);
            (is_folder(key.trim().trim_matches(quotes)) && !value.is_empty() && value != "null")
                .then(|| value.to_string())
        })
        .collect()
}
