//! Finds in a run's folder what is worth reading: logs, event files, offline runs, the newest checkpoint's state.
//!
//! Looks at names and times alone, and opens nothing.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Folders deeper than this, and entries beyond this number, are not looked at.
const MAX_DEPTH: usize = 6;
const MAX_ENTRIES: usize = 20_000;
/// Files of one sort that are read.
const MAX_LOGS: usize = 4;
const MAX_EVENT_FILES: usize = 8;
/// A log older than the newest by more than this is of another day's attempt.
const SAME_RUN: Duration = Duration::from_hours(12);

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// The console of the run.
    Log,
    /// Metrics as JSON lines or CSV.
    Table,
    /// TensorBoard.
    Events,
    /// W&B, offline.
    Wandb,
    /// `trainer_state.json`.
    State,
    /// trackio.
    Database,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Worth reading, logs first.
    pub files: Vec<(Sort, PathBuf)>,
    /// The folder holds more than was looked at.
    pub is_cut: bool,
}

#[derive(Debug)]
struct Candidate {
    sort: Sort,
    path: PathBuf,
    modified: SystemTime,
    /// The run it is of, where a folder holds several: the first folder that is no known part of a run.
    run: Option<PathBuf>,
}

/// Looks through a folder.
pub fn find(folder: &Path) -> Found {
    let (candidates, is_cut) = walk(folder);
    let Some(newest) = candidates.iter().max_by_key(|c| c.modified) else { return Found { files: Vec::new(), is_cut } };
    let (newest, run) = (newest.modified, newest.run.clone());
    let of_run: Vec<&Candidate> = candidates.iter().filter(|c| c.run == run).collect();
    let mut files = Vec::new();
    for sort in [Sort::Log, Sort::Table, Sort::Events, Sort::Wandb, Sort::State, Sort::Database] {
        let mut of_sort: Vec<&Candidate> = of_run.iter().copied().filter(|c| c.sort == sort).collect();
        of_sort.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| b.path.cmp(&a.path)));
        match sort {
            Sort::Log => {
                of_sort.retain(|c| newest.duration_since(c.modified).is_ok_and(|age| age < SAME_RUN));
                of_sort.truncate(MAX_LOGS);
            }
            Sort::Events => {
                // Each folder is a run of its own; a restart puts another file into the same folder.
                let cluster = of_sort.first().map(|c| events_run(&c.path));
                of_sort.retain(|c| Some(events_run(&c.path)) == cluster);
                of_sort.truncate(MAX_EVENT_FILES);
            }
            Sort::Table => {
                // version_0, version_1: of each name the newest.
                let mut names: Vec<&std::ffi::OsStr> = Vec::new();
                of_sort.retain(|c| {
                    let name = c.path.file_name().unwrap_or_default();
                    let is_new = !names.contains(&name);
                    names.push(name);
                    is_new
                });
            }
            Sort::Wandb | Sort::State | Sort::Database => of_sort.truncate(1),
        }
        // The oldest first, as they were written.
        files.extend(of_sort.into_iter().rev().map(|c| (sort, c.path.clone())));
    }
    Found { files, is_cut }
}

fn walk(folder: &Path) -> (Vec<Candidate>, bool) {
    let mut candidates = Vec::new();
    let mut folders = VecDeque::from([(folder.to_path_buf(), 0, None::<PathBuf>)]);
    let mut seen = 0;
    while let Some((folder, depth, run)) = folders.pop_front() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MAX_ENTRIES {
                return (candidates, true);
            }
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Links (wandb/latest-run) name what is found anyway, or lead out of the folder.
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < MAX_DEPTH && !is_foreign(&name) {
                let run = run.clone().or_else(|| (!is_part(&name)).then(|| entry.path()));
                folders.push_back((entry.path(), depth + 1, run));
            } else if kind.is_file()
                && let Some(sort) = sort_of(&name)
                && !(sort == Sort::Log && folder.ends_with("logs") && name.starts_with("debug"))
                && let Ok(metadata) = entry.metadata()
                && metadata.len() > 0
            {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                candidates.push(Candidate { sort, path: entry.path(), modified, run: run.clone() });
            }
        }
    }
    (candidates, false)
}

/// Folders that hold no run.
fn is_foreign(name: &str) -> bool {
    name.starts_with('.')
        || matches!(
            name,
            "__pycache__" | "node_modules" | "site-packages" | "venv" | "env" | "target" | "code" | "artifacts"
        )
}

/// Folders that trainers and trackers make inside of a run's folder.
fn is_part(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "runs",
        "logs",
        "log",
        "wandb",
        "files",
        "tensorboard",
        "tb",
        "tb_logs",
        "lightning_logs",
        "csv_logs",
        "trackio",
        "train",
        "validation",
        "eval",
        "val",
        "test",
        "vis_data",
        "checkpoints",
        "output",
        "outputs",
    ];
    const BEGINNINGS: &[&str] =
        &["checkpoint-", "version_", "run-", "offline-run-", "attempt_", "rank", "events", "global_step", "epoch"];
    NAMES.contains(&name)
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || name.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_' | b':'))
        || is_tensorboard_time(name)
}

/// `Nov24_11-35-57_host`, as SummaryWriter names its folders.
fn is_tensorboard_time(name: &str) -> bool {
    let shape: String = name.chars().take(12).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape.get(3..).is_some_and(|rest| rest == "00_00-00-")
}

/// What a file of this name is, where it is anything that is read.
pub fn sort_of(name: &str) -> Option<Sort> {
    let lower = name.to_ascii_lowercase();
    let end = lower.rsplit_once('.').map_or("", |(_, end)| end);
    if lower.contains("tfevents") {
        return Some(Sort::Events);
    }
    if lower.contains("debug-internal") || lower.contains("debug-core") || lower.starts_with("requirements") {
        return None;
    }
    match end {
        "wandb" => Some(Sort::Wandb),
        "db" => Some(Sort::Database),
        "log" | "out" | "err" => Some(Sort::Log),
        "txt" => {
            ["log", "out", "stdout", "stderr", "console"].iter().any(|word| lower.contains(word)).then_some(Sort::Log)
        }
        "json" if lower == "trainer_state.json" => Some(Sort::State),
        "json" => matches!(lower.as_str(), "metrics.json" | "scalars.json").then_some(Sort::Table),
        "jsonl" => {
            ["log", "metric", "history", "scalar"].iter().any(|word| lower.contains(word)).then_some(Sort::Table)
        }
        "csv" => matches!(
            lower.as_str(),
            "metrics.csv" | "results.csv" | "progress.csv" | "summary.csv" | "history.csv" | "log.csv"
        )
        .then_some(Sort::Table),
        _ => (lower == "stdout" || lower == "stderr" || lower == "nohup.out").then_some(Sort::Log),
    }
}

/// The folder of the run that an event file is of: TensorFlow puts training and validation beside each other, and
/// hyperparameters go into a folder named for the time.
fn events_run(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(path);
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let is_side = matches!(name.as_ref(), "train" | "validation" | "eval" | "val" | "test")
        || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    if is_side { folder.parent().unwrap_or(folder).to_path_buf() } else { folder.to_path_buf() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, u64)], want: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        for (name, seconds) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)).unwrap();
        }
        let found = find(folder.path());
        let found: Vec<_> = found
            .files
            .iter()
            .map(|(_, p)| p.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(found, want);
    }

    #[test]
    fn a_run_of_transformers() {
        check(
            &[
                ("train.log", 100),
                ("checkpoint-10/trainer_state.json", 50),
                ("checkpoint-20/trainer_state.json", 90),
                ("checkpoint-20/config.json", 90),
                ("runs/Nov24_11-35-57_vm/events.out.tfevents.1.vm.1.0", 99),
                ("runs/Nov23_11-35-57_vm/events.out.tfevents.0.vm.1.0", 2),
                ("wandb/offline-run-1/run-a.wandb", 10),
                ("wandb/offline-run-2/run-b.wandb", 98),
                ("wandb/offline-run-2/logs/debug-internal.log", 98),
                ("trainer_log.jsonl", 99),
                ("train.jsonl", 1),
                (".git/x.log", 101),
            ],
            &[
                "train.log",
                "trainer_log.jsonl",
                "runs/Nov24_11-35-57_vm/events.out.tfevents.1.vm.1.0",
                "wandb/offline-run-2/run-b.wandb",
                "checkpoint-20/trainer_state.json",
            ],
        );
    }

    #[test]
    fn of_several_runs_the_newest() {
        check(&[("a/train.log", 10), ("a/metrics.csv", 10), ("b/train.log", 20)], &["b/train.log"]);
        check(
            &[("lr1/lightning_logs/version_0/metrics.csv", 10), ("lr1/lightning_logs/version_1/metrics.csv", 20)],
            &["lr1/lightning_logs/version_1/metrics.csv"],
        );
    }

    #[test]
    fn restarts_and_validation_of_one_run_of_tensorboard() {
        check(
            &[("tb/events.out.tfevents.1", 10), ("tb/events.out.tfevents.2", 20), ("tb/3.5/events.out.tfevents.3", 5)],
            &["tb/3.5/events.out.tfevents.3", "tb/events.out.tfevents.1", "tb/events.out.tfevents.2"],
        );
        check(
            &[("logs/train/events.out.tfevents.1.v2", 10), ("logs/validation/events.out.tfevents.1.v2", 11)],
            &["logs/train/events.out.tfevents.1.v2", "logs/validation/events.out.tfevents.1.v2"],
        );
    }

    #[test]
    fn an_empty_folder_has_nothing() {
        check(&[("model.safetensors", 1)], &[]);
        assert!(find(Path::new("/nonexistent")).files.is_empty());
    }
}
