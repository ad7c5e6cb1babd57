//! What every recording says of its run besides the events.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc};

use jiff::Timestamp;

use crate::{
    model::{Clean, knobs::Knobs, redact},
    session::{Learnt, Listen, Session},
    source::processes::environment,
    store::recorder::Recorder,
};

/// Notes what is known at the start: the command (empty for a run that is only watched), the settings given with it.
pub fn describe(recorder: &Recorder, command: &[Clean], given: &Knobs) {
    recorder.meta("oomph_version", env!("CARGO_PKG_VERSION").into());
    recorder.meta("started_at", Timestamp::now().to_string().into());
    if !command.is_empty() {
        recorder.meta("command", lines(redact::words(command).iter().map(Clean::as_str)));
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
    recorder.meta("environment", lines(variables.iter().map(String::as_str)));
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
