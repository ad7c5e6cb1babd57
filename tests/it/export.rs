//! Recordings leave as JSON lines, CSV and Markdown; attempts are compared.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn oomph(state: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oomph")).env("OOMPH_STATE", state).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

const LOG: &str = "{'loss': 2.5, 'learning_rate': 1e-05, '=cmd': 1.0, 'epoch': 0.1}\n\
    {'loss': 2.0, 'learning_rate': 1e-05, 'epoch': 0.2}\n\
    token hf_Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0\n";

/// Records a run of `train.sh` with these words after it.
fn record(state: &Path, folder: &Path, more: &str, words: &[&str]) {
    fs::write(folder.join("log"), format!("{LOG}{more}")).unwrap();
    fs::write(folder.join("train.sh"), "cat log; exit 1\n").unwrap();
    let mut arguments = vec!["run", "--no-gpu", "--", "sh", "train.sh"];
    arguments.extend(words);
    let output = Command::new(env!("CARGO_BIN_EXE_oomph"))
        .env("OOMPH_STATE", state)
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn every_format_tells_the_run() {
    let state = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let oom = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnosis/grpo-1.5b-16gib.log"));
    record(state.path(), folder.path(), &oom.unwrap(), &["--hub-token", "Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0"]);

    let jsonl = text(&oomph(state.path(), &["export", "last", "--format", "jsonl"]));
    let lines: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!((&lines[0]["type"], &lines[0]["schema"]), (&"run".into(), &"oomph.export/1".into()));
    assert!(of("point").iter().any(|point| point["values"]["loss"] == 2.5 && point["kind"] == "train"));
    assert_eq!(of("exit")[0]["code"], 1);
    assert_eq!(of("failure")[0]["is_oom"], true);

    let csv = text(&oomph(state.path(), &["export", "last", "--format", "csv"]));
    let mut rows = csv.lines();
    let header: Vec<&str> = rows.next().unwrap().split(',').collect();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap_or_else(|| panic!("{name}: {header:?}"));
    let first: Vec<&str> = rows.next().unwrap().split(',').collect();
    assert_eq!((first[column("loss")], first[column("'=cmd")], first[column("kind")]), ("2.5", "1", "train"));
    assert!(csv.lines().all(|row| row.split(',').count() == header.len()), "{csv}");

    let markdown = text(&oomph(state.path(), &["export", "last", "--format", "markdown"]));
    assert!(markdown.contains("| `loss` | ") && markdown.contains("- exit code: 1") && markdown.contains("out of"));

    for exported in [&jsonl, &csv, &markdown] {
        assert!(!exported.contains("Zx9Kq3LmT7"), "{exported}");
    }
    let file = folder.path().join("run.csv");
    for name in ["run.csv", "run-1.csv"] {
        let output = oomph(state.path(), &["export", "last", "--format", "csv", "--output", file.to_str().unwrap()]);
        assert!(output.status.success() && output.stdout.is_empty());
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), csv);
    }
}

#[test]
fn attempts_stand_together_with_what_was_changed() {
    let state = tempfile::tempdir().unwrap();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    record(state.path(), one.path(), "", &["--batch", "8"]);
    record(state.path(), other.path(), "", &["--batch", "3"]);
    record(state.path(), one.path(), "", &["--batch", "4"]);
    let history = text(&oomph(state.path(), &["history"]));
    let places: Vec<usize> = ["--batch 3", "--batch 8", "--batch 4"]
        .iter()
        .map(|words| history.find(&format!("train.sh {words}")).unwrap_or_else(|| panic!("{words}: {history}")))
        .collect();
    assert!(places.is_sorted(), "{history}");
    assert!(history.contains("batch 8 -> 4") && history.contains("then it died"), "{history}");
}
