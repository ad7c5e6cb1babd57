//! A recording shows at every moment what the dashboard knew at that moment.

use std::{path::Path, process::Command};

use jiff::{SignedDuration, Timestamp};
use oomph::{
    cli::{frame, replay},
    model::{
        Bytes, Event, EventKind, SourceId,
        gpu::{GpuReading, GpuSample},
        knobs::{Knob, Knobs, Origin, Value},
    },
    session::Session,
    store::recorder::Recorder,
    ui::Replay,
};
use proptest::prelude::*;

fn given() -> Knobs {
    let mut knobs = Knobs::default();
    knobs.put(Knob::PerDeviceTrainBatchSize, Value::Int(8), Origin::Config("train.yaml".into()));
    knobs
}

/// Real logs cut into pieces of any size at any times, with what else happens to a source in between.
fn events(seed: &[(u16, u16, u8)]) -> Vec<Event> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let texts = [
        std::fs::read(folder.join("diagnosis/grpo-1.5b-16gib.log")).unwrap(),
        std::fs::read(folder.join("logs/trl1-grpo.tfevents")).unwrap(),
    ];
    let mut at = "2026-11-24T11:31:50.123456Z".parse::<Timestamp>().unwrap();
    let mut events = Vec::new();
    let mut put = |at: Timestamp, kind| events.push(Event { at, kind });
    for (n, name) in ["train.log", "events.out.tfevents.1"].into_iter().enumerate() {
        let source = SourceId(n as u16);
        put(at, EventKind::Opened { source, name: name.into(), path: Some(name.into()), size: Some(1) });
    }
    let mut offsets = [0usize; 2];
    for (bytes, wait, what) in seed {
        at += SignedDuration::from_micros(i64::from(*wait) * 37);
        let n = usize::from(what % 2);
        let source = SourceId(n as u16);
        match what {
            0..200 => {
                let end = (offsets[n] + usize::from(*bytes)).min(texts[n].len());
                let data = texts[n][offsets[n]..end].to_vec();
                put(at, EventKind::Output { source, offset: offsets[n] as u64, data });
                offsets[n] = end;
            }
            200..230 => {
                let used = Some(Bytes(u64::from(*bytes) << 20));
                let sample = GpuSample {
                    uuid: "GPU-1".into(),
                    memory_used: used,
                    power_w: Some(f32::from(*wait) / 7.0),
                    ..GpuSample::default()
                };
                put(at, EventKind::Gpu { reading: GpuReading::Samples(vec![sample]) });
            }
            230..240 => put(at, EventKind::CaughtUp { source }),
            240..250 => {
                put(at, EventKind::Skipped { source, offset: 0, bytes: u64::from(*bytes), reason: "a hole".into() });
            }
            250..253 => {
                offsets[n] = 0;
                put(at, EventKind::Truncated { source, unread: u64::from(*bytes) });
            }
            _ => put(at, EventKind::Ended { source }),
        }
    }
    events
}

proptest! {
    #![proptest_config(crate::properties::config(24))]

    #[test]
    fn a_replay_is_the_run_at_every_moment(
        seed in prop::collection::vec((1u16..900, 0u16..30_000, any::<u8>()), 1..80)
    ) {
        let events = events(&seed);
        let mut live = Session::new(given());
        let mut frames = Vec::new();
        for (n, event) in events.iter().enumerate() {
            live.apply(event.clone());
            if events.get(n + 1).is_none_or(|next| next.at > event.at) {
                live.tick(event.at);
                frames.push((event.at, frame::to_json(&live)));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.sqlite");
        let recorder = Recorder::start(&path).unwrap();
        recorder.meta("given", serde_json::to_string(&given()).unwrap().as_str().into());
        for event in &events {
            recorder.event(event);
        }
        recorder.finish();
        let (back, knobs) = replay::read(&path).unwrap();
        prop_assert_eq!(&knobs, &given());
        let mut replay = Replay::new(back, knobs).unwrap();
        let mut session = replay.session();
        // Forwards, then back and forth.
        let order = (0..frames.len()).chain((0..frames.len()).rev().step_by(7));
        for n in order {
            let (at, want) = &frames[n];
            replay.jump(&mut session, *at);
            prop_assert_eq!(&frame::to_json(&session), want);
        }
    }
}

fn oomph(state: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_oomph")).env("OOMPH_STATE", state).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_run_that_failed_is_replayed_from_the_command_line() {
    let state = tempfile::tempdir().unwrap();
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnosis/grpo-1.5b-16gib.log");
    let (code, ..) = oomph(state.path(), &["run", "--", "sh", "-c", &format!("cat {}; exit 3", log.display())]);
    assert_eq!(code, 3);
    let (code, json, _) = oomph(state.path(), &["replay", "last", "--once", "--json"]);
    assert_eq!(code, 0);
    let frame: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&frame["schema"], &frame["state"]), (&"oomph.frame/1".into(), &"failed".into()));
    assert_eq!(frame["diagnosis"]["failures"][0]["is_oom"], true);
    let (_, start, _) = oomph(state.path(), &["replay", "last", "--once", "--json", "--at", "0"]);
    let start: serde_json::Value = serde_json::from_str(&start).unwrap();
    assert_eq!((&start["state"], &start["diagnosis"]), (&"waiting".into(), &serde_json::Value::Null));
    let (_, text, _) = oomph(state.path(), &["replay", "last", "--once", "--size", "80x24"]);
    assert!(text.lines().count() == 24 && text.contains("CUDA out of memory") && text.contains("end "), "{text}");
}

#[test]
fn what_is_no_recording_is_refused_in_words() {
    let state = tempfile::tempdir().unwrap();
    let (code, _, err) = oomph(state.path(), &["replay", "none"]);
    assert!(code == 2 && err.contains("oomph history"), "{code} {err}");
    let log = state.path().join("train.log");
    std::fs::write(&log, "loss 1\n").unwrap();
    let (code, _, err) = oomph(state.path(), &["replay", log.to_str().unwrap()]);
    assert!(code == 2 && err.contains("not a recording") && err.contains("watches a log"), "{code} {err}");
}
