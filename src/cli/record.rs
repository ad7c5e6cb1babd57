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
pub fn describe(recorder: &Recorder, place: &Path, command: &[Clean], given: &Knobs) {
    let id = place.file_name().unwrap_or_default().to_string_lossy();
    recorder.meta("id", Clean::new(&id));
    recorder.meta("oomph_version", env!("CARGO_PKG_VERSION").into());
    recorder.meta("started_at", Timestamp::now().to_string().into());
    let command = lines(redact::words(command).iter().map(Clean::as_str));
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
    recorder.settings(runs::settings(command.as_str(), environment.as_str(), &BTreeMap::new()));
    recorder.meta("environment", environment);
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
    recorder.settings(runs::settings("", "", &settings));
    recorder.meta("knobs", serde_json::Value::Object(knobs).to_string().into());
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
