//! Captured output of real tools (`tests/logs`): what `oomph metrics` gives of each, and that the files of one run agree.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

const LOGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/logs");

fn metrics(path: &str) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_oomph")).args(["metrics", "--json", path]).current_dir(LOGS).output().unwrap();
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Canonical values by kind and step.
fn by_step(file: &str) -> BTreeMap<(String, u64), BTreeMap<String, f64>> {
    let mut out: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for line in metrics(file).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (Some("point"), Some(step)) = (line["type"].as_str(), line["step"].as_u64()) else { continue };
        let kind = line["kind"].as_str().unwrap();
        if kind == "final" {
            continue;
        }
        let values = line["canonical"].as_object().unwrap().iter().filter_map(|(k, v)| Some((k.clone(), v.as_f64()?)));
        out.entry((kind.to_string(), step)).or_default().extend(values);
    }
    out
}

#[test]
fn files_for_machines() {
    for name in [
        "transformers5.tfevents",
        "transformers5.wandb",
        "transformers5-trainer_state.json",
        "trackio.db",
        "trl1-grpo.tfevents",
        "lightning.tfevents",
        "summarywriter.tfevents",
        "tensorboardx.tfevents",
        "wandb-nested.wandb",
    ] {
        insta::assert_snapshot!(name, metrics(name));
    }
}

/// One run, four trackers: they must tell the same.
#[test]
fn the_files_of_one_run_agree() {
    let state = by_step("transformers5-trainer_state.json");
    assert_eq!(state.len(), 12);
    for (file, precision) in [("transformers5.tfevents", 1e-6), ("transformers5.wandb", 1e-12), ("trackio.db", 1e-12)] {
        let other = by_step(file);
        assert_eq!(other.keys().collect::<Vec<_>>(), state.keys().collect::<Vec<_>>(), "{file}");
        for (at, values) in &state {
            for (key, value) in values {
                let theirs = other[at][key];
                assert!((theirs - value).abs() <= precision * value.abs(), "{file} {at:?} {key}: {theirs} and {value}");
            }
        }
    }
}

/// The console prints four digits and no step: the steps are those of the bar that is drawn after each line.
#[test]
fn the_console_tells_what_the_files_tell() {
    let state = by_step("transformers5-trainer_state.json");
    let console = by_step("transformers5-trainer.log");
    assert_eq!(console.keys().collect::<Vec<_>>(), state.keys().collect::<Vec<_>>());
    for (at, values) in &state {
        for (key, value) in values {
            let printed = console[at][key];
            assert!((printed - value).abs() <= 5e-4 * value.abs(), "{at:?} {key}: {printed} and {value}");
        }
    }
    assert_eq!(
        by_step("trl1-grpo.log").keys().collect::<Vec<_>>(),
        by_step("trl1-grpo.tfevents").keys().collect::<Vec<_>>()
    );
}

#[test]
fn consoles_of_trainers() {
    for name in [
        "transformers4-trainer.log",
        "transformers5-trainer.log",
        "transformers5-resume.log",
        "trl0-sft.log",
        "trl0-grpo.log",
        "trl1-sft.log",
        "trl1-grpo.log",
        "sentence-transformers.log",
    ] {
        insta::assert_snapshot!(name, metrics(name));
    }
}

#[test]
fn a_folder_is_read_without_doubling() {
    let folder = tempfile::tempdir().unwrap();
    let put = |from: &str, to: &str| {
        let to = folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(Path::new(LOGS).join(from), to).unwrap();
    };
    put("transformers5-trainer.log", "train.log");
    put("transformers5-trainer_state.json", "checkpoint-20/trainer_state.json");
    put("transformers5.tfevents", "runs/Nov24_11-48-48_vm/events.out.tfevents.1795520928.vm.1.0");
    put("transformers5.wandb", "wandb/offline-run-20261124_114848-j190ucxa/run-j190ucxa.wandb");
    let lines = metrics(folder.path().to_str().unwrap());
    let kinds: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let count = |kind: &str| kinds.iter().filter(|v| v["kind"] == kind).count();
    assert_eq!((count("train"), count("eval"), count("final")), (10, 2, 1));
    let summary = kinds.last().unwrap();
    assert_eq!((summary["total_steps"].as_u64(), summary["segments"].as_u64()), (Some(20), Some(1)));
}

#[test]
fn every_cut_of_a_file_is_read_without_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["transformers5.tfevents", "wandb-nested.wandb", "transformers5-trainer_state.json", "trackio.db"] {
        let whole = std::fs::read(Path::new(LOGS).join(name)).unwrap();
        for part in 1..8 {
            let path = folder.path().join(name);
            std::fs::write(&path, &whole[..whole.len() * part / 8]).unwrap();
            let output =
                Command::new(env!("CARGO_BIN_EXE_oomph")).args(["metrics", "--json"]).arg(&path).output().unwrap();
            // A database that was cut is an error; everything else gives what it has.
            let wanted = if name == "trackio.db" { vec![0, 2] } else { vec![0] };
            assert!(wanted.contains(&output.status.code().unwrap()), "{name} {part}: {output:?}");
        }
    }
}

/// Long enough to be looked through in pieces by several threads.
#[test]
fn a_long_log_in_pieces_gives_what_it_gives_as_a_stream() {
    let mut names: Vec<_> = std::fs::read_dir(LOGS).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "log"));
    names.sort();
    let logs: Vec<(bool, Vec<u8>)> = names
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            (name.starts_with("tr") && !name.contains("torchrun"), std::fs::read(path).unwrap())
        })
        .collect();
    let mut long = Vec::new();
    for round in 0.. {
        // The trainer's logs over and over, from time to time all others, each cut at another place.
        for (often, log) in &logs {
            if *often || round % 100 == 0 {
                long.extend_from_slice(&log[..log.len() - round % log.len().min(97)]);
            }
        }
        if long.len() > 9 << 20 {
            break;
        }
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &long).unwrap();
    let path = file.path().to_str().unwrap();
    for json in [&["metrics"][..], &["metrics", "--json"]] {
        let oomph = |path: &str| {
            let input = std::fs::File::open(file.path()).unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_oomph")).args(json).arg(path).stdin(input).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().replace(path, "-")
        };
        let (pieces, stream) = (oomph(path), oomph("-"));
        let differs = pieces.lines().zip(stream.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None);
        assert_eq!(pieces.len(), stream.len());
        assert!(pieces.len() > 500);
    }
}
