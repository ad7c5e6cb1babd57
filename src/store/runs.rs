//! The runs recorded on this machine, and what was changed between attempts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::model::Clean;

use super::{
    database::{Database, Gap, Setting, StoreError},
    folder::{self, FolderError},
};

/// Name of the recording inside a run's folder.
pub const RECORDING: &str = "run.sqlite";

/// What one recording says of its run. Unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Run {
    pub id: Clean,
    #[serde(skip)]
    pub path: PathBuf,
    pub started_at: Option<Clean>,
    pub seconds: Option<f64>,
    /// The command, one word a line; for a run that was only watched, the files.
    pub command: Option<Clean>,
    pub folder: Option<Clean>,
    pub state: State,
    pub exit_code: Option<i64>,
    pub signal: Option<i64>,
    pub last_step: Option<u64>,
    pub last_loss: Option<f64>,
    pub peak_memory_bytes: Option<u64>,
    /// Of the trainer's processes in the host's memory.
    pub peak_host_bytes: Option<u64>,
    pub failure: Option<Failed>,
    /// Canonical settings and options of the command line, by name.
    pub settings: BTreeMap<String, String>,
    /// The program and its folder: runs that share them are attempts of one thing.
    pub program: Clean,
    /// The attempt's number among those of the same program, from 1.
    pub attempt: u32,
    /// What its recording lacks, of each reason once.
    pub gaps: Vec<Gap>,
    /// What differs from the attempt before: name, before, now.
    pub changed: Vec<(Clean, Option<Clean>, Option<Clean>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Finished,
    Failed,
    /// It goes on; only who can look at the processes of the machine can tell.
    Running,
    /// Still going on, or oomph was killed before it could write the end.
    #[default]
    Open,
}

/// The first failure of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failed {
    pub kind: Clean,
    pub phase: Clean,
    pub cause: Option<Clean>,
    pub summary: Clean,
}

/// Every recorded run, the newest last, attempts of the same program numbered and compared. Recordings that cannot be
/// read stand beside with their reason.
///
/// # Errors
/// When no state folder is known.
pub fn list() -> Result<(Vec<Run>, Vec<StoreError>), FolderError> {
    let runs = folder::state()?.join("runs");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&runs)
        .map(|entries| entries.flatten().map(|e| e.path().join(RECORDING)).filter(|p| p.is_file()).collect())
        .unwrap_or_default();
    paths.sort();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for path in paths {
        match read(&path) {
            Ok(run) => good.push(run),
            Err(error) => bad.push(error),
        }
    }
    good.sort_by(|a, b| a.started_at.cmp(&b.started_at));
    number_attempts(&mut good);
    Ok((good, bad))
}

/// The recording that a person means: a path, a run's id, or `last`.
///
/// # Errors
/// When no state folder is known.
pub fn find(name: &str) -> Result<Option<PathBuf>, FolderError> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(Some(path.to_path_buf()));
    }
    if path.join(RECORDING).is_file() {
        return Ok(Some(path.join(RECORDING)));
    }
    if name == "last" {
        return Ok(list()?.0.pop().map(|run| run.path));
    }
    // An id is one plain name: nothing that leads out of the folder.
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let path = folder::state()?.join("runs").join(name).join(RECORDING);
    Ok((plain && path.is_file()).then_some(path))
}

/// Recordings that are opened in search of attempts.
const SEARCHED: usize = 300;

/// The earlier attempts of a command in a folder, the oldest first, numbered and compared; `but` is the one that asks.
///
/// # Errors
/// When no state folder is known.
pub fn attempts(command: &Clean, folder: &Clean, but: &Path, most: usize) -> Result<Vec<Run>, FolderError> {
    let wanted = program_of(Some(command), Some(folder));
    let mut found = Vec::new();
    for place in folders()?.into_iter().rev().filter(|place| place != but).take(SEARCHED) {
        let path = place.join(RECORDING);
        let is_same = |db: &Database| -> Result<bool, StoreError> {
            Ok(program_of(db.meta("command")?.as_ref(), db.meta("folder")?.as_ref()) == wanted)
        };
        if Database::open(&path).and_then(|db| is_same(&db)).unwrap_or(false)
            && let Ok(run) = read(&path)
        {
            found.push(run);
        }
        if found.len() > most {
            break;
        }
    }
    found.reverse();
    number_attempts(&mut found);
    Ok(found)
}

/// The folders of all runs, the oldest first.
///
/// # Errors
/// When no state folder is known.
pub fn folders() -> Result<Vec<PathBuf>, FolderError> {
    let runs = folder::state()?.join("runs");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(runs)
        .map(|entries| entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect())
        .unwrap_or_default();
    // Their names begin with the time.
    paths.sort();
    Ok(paths)
}

/// The folder of the run that a person means: a path, a run's id, or `last`.
///
/// # Errors
/// When no state folder is known.
pub fn folder_of(name: &str) -> Result<Option<PathBuf>, FolderError> {
    if name == "last" {
        return Ok(folders()?.pop());
    }
    if name.contains('/') && Path::new(name).is_dir() {
        return Ok(Some(Path::new(name).to_path_buf()));
    }
    Ok(folders()?.into_iter().find(|path| path.file_name().is_some_and(|n| n == name)))
}

/// Reads one recording's summary.
///
/// # Errors
/// When it is no readable recording.
pub fn read(path: &Path) -> Result<Run, StoreError> {
    let db = Database::open(path)?;
    let whole =
        |sql: &str| -> Result<Option<u64>, StoreError> { Ok(db.number(sql)?.filter(|n| *n >= 0.0).map(|n| n as u64)) };
    let exit_code = db.meta("exit_code")?.and_then(|c| c.as_str().parse().ok());
    let signal = db.meta("signal")?.and_then(|c| c.as_str().parse().ok());
    let failure = match db.text("SELECT kind FROM failure ORDER BY rowid LIMIT 1")? {
        None => None,
        Some(kind) => Some(Failed {
            kind,
            phase: db.text("SELECT phase FROM failure ORDER BY rowid LIMIT 1")?.unwrap_or_default(),
            cause: db.text("SELECT cause FROM failure ORDER BY rowid LIMIT 1")?,
            summary: db.text("SELECT summary FROM failure ORDER BY rowid LIMIT 1")?.unwrap_or_default(),
        }),
    };
    let ended = db.meta("ended_at")?;
    let state = if failure.is_some() || exit_code.is_some_and(|c| c != 0) || signal.is_some() {
        State::Failed
    } else if exit_code == Some(0) || db.number("SELECT 1 FROM point WHERE kind = 'final' LIMIT 1")?.is_some() {
        State::Finished
    } else {
        State::Open
    };
    let command = db.meta("command")?;
    let settings = if db.schema() < 2 { old_settings(&db)? } else { db.pairs(SETTINGS)?.into_iter().collect() };
    let peak = if db.schema() < 2 { "SELECT max(memory_used) FROM gpu" } else { "SELECT peak_gpu_memory FROM attempt" };
    let seconds = db.number("SELECT (max(at) - min(at)) / 1e6 FROM event")?;
    Ok(Run {
        id: path.parent().and_then(Path::file_name).map(|n| Clean::new(&n.to_string_lossy())).unwrap_or_default(),
        path: path.to_path_buf(),
        started_at: db.meta("started_at")?,
        seconds: if ended.is_some() || seconds.is_some() { seconds } else { None },
        command: command.or(db.meta("files")?),
        folder: db.meta("folder")?,
        state,
        exit_code,
        signal,
        last_step: whole("SELECT max(step) FROM point WHERE kind = 'train'")?,
        last_loss: db
            .number("SELECT value FROM point WHERE kind = 'train' AND key = 'loss' ORDER BY rowid DESC LIMIT 1")?,
        peak_memory_bytes: whole(peak)?,
        peak_host_bytes: if db.schema() < 2 { None } else { whole("SELECT max(trainer_rss) FROM host")? },
        failure,
        settings,
        gaps: by_reason(db.gaps()?),
        program: Clean::default(),
        attempt: 1,
        changed: Vec::new(),
    })
}

/// Gaps of one reason as one, at most so many.
fn by_reason(all: Vec<Gap>) -> Vec<Gap> {
    const MOST: usize = 8;
    let mut gaps: Vec<Gap> = Vec::new();
    for gap in all {
        match gaps.iter_mut().find(|known| known.reason == gap.reason) {
            Some(known) => {
                known.events = known.events.saturating_add(gap.events);
                known.bytes = known.bytes.saturating_add(gap.bytes);
            }
            None => gaps.push(gap),
        }
    }
    // The last one stands for those that follow.
    while gaps.len() > MOST
        && let Some(gap) = gaps.pop()
        && let Some(last) = gaps.last_mut()
    {
        last.events = last.events.saturating_add(gap.events);
        last.bytes = last.bytes.saturating_add(gap.bytes);
        last.reason = "and other reasons (table gap)".into();
    }
    gaps
}

/// What attempts are compared by. A knob that the command line gives is there under the command's own name too.
const SETTINGS: &str = "SELECT name, value FROM setting";

/// Settings as schema 1 kept them.
fn old_settings(db: &Database) -> Result<BTreeMap<String, String>, StoreError> {
    let mut settings = db
        .meta("knobs")?
        .and_then(|text| serde_json::from_str::<BTreeMap<String, serde_json::Value>>(text.as_str()).ok())
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_string)))
        .collect::<BTreeMap<_, _>>();
    for part in ["command", "environment"] {
        if let Some(text) = db.meta(part)? {
            for (name, value) in options(text.as_str()) {
                settings.entry(name).or_insert(value);
            }
        }
    }
    Ok(settings)
}

/// Every setting that a command, its environment (one a line), configurations and the knobs give.
pub fn settings(
    command: &str,
    environment: &str,
    configs: &BTreeMap<String, String>,
    knobs: &BTreeMap<String, String>,
) -> Vec<Setting> {
    let of = |text: &str, origin| {
        options(text).into_iter().map(move |(name, value)| Setting { name, value, origin }).collect::<Vec<_>>()
    };
    let mut all = of(environment, "environment");
    all.extend(configs.iter().map(|(name, value)| Setting {
        name: name.clone(),
        value: value.clone(),
        origin: "config",
    }));
    all.extend(of(command, "option"));
    all.extend(knobs.iter().map(|(name, value)| Setting { name: name.clone(), value: value.clone(), origin: "knob" }));
    all
}

/// `--name value`, `--name=value` and `name=value` of a command, which holds one word a line.
fn options(command: &str) -> Vec<(String, String)> {
    let words: Vec<&str> = command.split("\\n").collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let bare = word.trim_start_matches('-');
        if let Some((name, value)) = bare.split_once('=') {
            found.push((name.to_string(), value.to_string()));
        } else if word.starts_with("--") {
            match words.get(at).filter(|next| !next.starts_with("--")) {
                Some(value) => {
                    found.push((bare.to_string(), (*value).to_string()));
                    at += 1;
                }
                None => found.push((bare.to_string(), "true".to_string())),
            }
        }
    }
    found
}

/// Attempts are runs of the same program in the same folder: the words of the command that are no options.
fn program(run: &Run) -> String {
    program_of(run.command.as_ref(), run.folder.as_ref())
}

fn program_of(command: Option<&Clean>, folder: Option<&Clean>) -> String {
    let command = command.map_or("", Clean::as_str);
    let words = command.split("\\n").filter(|w| !w.starts_with('-') && !w.contains('='));
    let script = words.clone().find(|w| {
        let end = w.rsplit('.').next().unwrap_or_default();
        ["py", "sh", "yaml", "yml", "log", "json"].contains(&end)
    });
    let word = script.or_else(|| words.clone().next()).unwrap_or_default();
    format!("{}\0{word}", folder.map_or("", Clean::as_str))
}

fn number_attempts(runs: &mut [Run]) {
    let mut last: BTreeMap<String, (u32, BTreeMap<String, String>)> = BTreeMap::new();
    for run in runs {
        let program = program(run);
        run.program = Clean::new(&program.replace('\0', " "));
        let entry = last.entry(program).or_default();
        entry.0 += 1;
        run.attempt = entry.0;
        if run.attempt > 1 {
            run.changed = difference(&entry.1, &run.settings);
        }
        entry.1.clone_from(&run.settings);
    }
}

fn difference(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<(Clean, Option<Clean>, Option<Clean>)> {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let value = |map: &BTreeMap<String, String>, name: &str| map.get(name).map(|v| Clean::new(v));
    // An option whose canonical name changed with it is told once.
    let told_already = |name: &str| {
        let canonical = if name.ends_with("ALLOC_CONF") { "alloc_conf".to_string() } else { name.replace('-', "_") };
        canonical != name && before.get(&canonical) != now.get(&canonical)
    };
    names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name) && !told_already(name))
        .map(|name| (Clean::new(name), value(before, name), value(now, name)))
        .collect()
}

/// When a run was recorded, for the start of its clock.
pub fn started(run: &Run) -> Option<Timestamp> {
    run.started_at.as_ref()?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_every_form() {
        let command = "python\\ntrain.py\\n--batch\\n8\\n--lr=1e-5\\n--bf16\\n--packing\\nfalse\\nmodel.path=/x";
        let want = [("batch", "8"), ("lr", "1e-5"), ("bf16", "true"), ("packing", "false"), ("model.path", "/x")];
        assert_eq!(options(command), want.map(|(a, b)| (a.to_string(), b.to_string())));
    }

    #[test]
    fn attempts_of_one_program_are_compared() {
        let run = |command: &str| Run {
            command: Some(command.into()),
            settings: options(command).into_iter().collect(),
            ..Run::default()
        };
        let mut runs = [
            run("python\\ntrain.py\\n--batch\\n8"),
            run("python\\nother.py\\n--batch\\n1"),
            run("python\\ntrain.py\\n--batch\\n4\\n--gc"),
        ];
        number_attempts(&mut runs);
        assert_eq!(runs.each_ref().map(|r| r.attempt), [1, 1, 2]);
        assert_eq!(
            runs[2].changed,
            [("batch".into(), Some("8".into()), Some("4".into())), ("gc".into(), None, Some("true".into()))]
        );
    }
}
