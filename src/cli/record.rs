//! What every recording says of its run besides the events.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt, path::Path, process::ExitStatus, sync::Arc};

use jiff::Timestamp;

use crate::{
    model::{Clean, knobs::Knobs, redact},
    session::{Learnt, Listen, Session},
    source::processes::environment,
    store::{compact, recorder::Recorder, runs},
};

/// Notes what is known at the start: the command (empty for a run that is only watched), the settings given with it.
pub fn describe(recorder: &Recorder, place: &Path, words: &[Clean], given: &Knobs) {
    let id = place.file_name().unwrap_or_default().to_string_lossy();
    recorder.meta("id", Clean::new(&id));
    recorder.meta("oomph_version", env!("CARGO_PKG_VERSION").into());
    recorder.meta("started_at", Timestamp::now().to_string().into());
    let command = lines(redact::words(words).iter().map(Clean::as_str));
    if !command.as_str().is_empty() {
        recorder.meta("command", command.clone());
    }
    if let Some(given) = serde_json::to_string(given).ok().filter(|_| !given.is_empty()) {
        recorder.meta("given", given.as_str().into());
    }
    if let Ok(folder) = std::env::current_dir() {
        recorder.meta("folder", Clean::new(&folder.to_string_lossy()));
    }
    let mut variables: Vec<String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| environment::is_kept(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    variables.sort_unstable();
    let environment = lines(variables.iter().map(String::as_str));
    let configs = named_configs(words);
    recorder.settings(runs::settings(command.as_str(), environment.as_str(), &configs, &BTreeMap::new()));
    recorder.meta("environment", environment);
}

/// The largest configuration that is read, and the values of it that are kept.
const LARGEST: u64 = 1 << 20;
const MOST: usize = 400;
const DEEPEST: usize = 5;

/// Every value of the configurations that a command names, by its path in the file: `optimizer.lr`. Secrets are taken
/// out.
fn named_configs(words: &[Clean]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in words.iter().filter_map(|word| config_of(word.as_str())) {
        let small = std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= LARGEST);
        let Some(text) = small.then(|| std::fs::read_to_string(path).ok()).flatten() else { continue };
        // JSON is YAML as well.
        if let Ok(value) = serde_saphyr::from_str::<serde_json::Value>(&text) {
            flatten("", &value, DEEPEST, &mut found);
        }
    }
    found
}

/// The configuration that a word of a command names: `train.yaml`, `--config=train.yaml`.
pub fn config_of(word: &str) -> Option<&Path> {
    let path = Path::new(word.split_once('=').map_or(word, |(_, value)| value));
    path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known)).then_some(path)
}

fn flatten(name: &str, value: &serde_json::Value, depth: usize, found: &mut BTreeMap<String, String>) {
    use serde_json::Value;
    match value {
        Value::Object(all) if depth > 0 => {
            for (key, value) in all {
                let key = Clean::new(key);
                let name = if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
                flatten(&name, value, depth - 1, found);
            }
        }
        _ if found.len() >= MOST || name.is_empty() => {}
        value => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            let text: String = Clean::new(&text).as_str().chars().take(200).collect();
            // Whether it is a secret its name tells as well.
            let line = redact::line(&format!("{name}: {text}"));
            let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or("***");
            found.insert(name.to_string(), value.to_string());
        }
    }
}

/// Makes the recordings of old runs smaller, in a thread that nobody waits for.
pub fn compact_old_runs() {
    let _ = std::thread::Builder::new().name("compact".into()).spawn(|| compact::compact(Timestamp::now(), false));
}

/// Notes what is known at the end.
pub fn conclude(recorder: &Recorder, session: &Session, status: Option<ExitStatus>) {
    recorder.meta("ended_at", Timestamp::now().to_string().into());
    if let Some(status) = status {
        if let Some(code) = status.code() {
            recorder.meta("exit_code", code.to_string().into());
        }
        if let Some(signal) = status.signal() {
            recorder.meta("signal", signal.to_string().into());
        }
    }
    let knobs: serde_json::Map<String, serde_json::Value> = session
        .knobs()
        .iter()
        .filter_map(|(knob, setting)| Some((knob.as_str().to_string(), serde_json::to_value(&setting.value).ok()?)))
        .collect();
    let shown = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), redact::text);
    let settings = knobs.iter().map(|(name, value)| (name.clone(), shown(value))).collect();
    recorder.settings(runs::settings("", "", &BTreeMap::new(), &settings));
    recorder.meta("knobs", serde_json::Value::Object(knobs).to_string().into());
}

/// Ends the recording, and says what it lacks.
pub fn close(recorder: &Recorder) {
    for what in recorder.finish() {
        super::say(&format!("oomph: not recorded: {what}"));
    }
}

/// Passes on what a session learns to the recorder.
pub fn listener(recorder: &Arc<Recorder>) -> Listen {
    let recorder = Arc::clone(recorder);
    let mut told = 0;
    Box::new(move |at, what| match what {
        Learnt::Point(point) => recorder.points(vec![(at, point.clone())]),
        Learnt::Diagnosis(diagnosis) => {
            for failure in diagnosis.failures.iter().skip(told) {
                recorder.failure(at, failure);
            }
            told = told.max(diagnosis.failures.len());
        }
    })
}

/// One item a line, secrets taken out; the line breaks stand in clean text as `\\n`.
fn lines<'a>(items: impl Iterator<Item = &'a str>) -> Clean {
    let text: Vec<String> = items.map(redact::text).collect();
    Clean::new(&text.join("\n"))
}
