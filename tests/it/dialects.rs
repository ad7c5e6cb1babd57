//! Every log of `tests/dialects`: what `oomph metrics --json` gives of it. The texts are made from the templates that the
//! trainers print by; those of `nuisance-*` carry what launchers, terminals and restarts do to a log.

use std::{path::PathBuf, process::Command};

/// One line a point: short enough to be read.
fn read(path: &std::path::Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_oomph")).args(["metrics", "--json"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut out = String::new();
    for line in text.lines() {
        let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
        let row = row.as_object_mut().unwrap();
        row.remove("source");
        row.remove("schema");
        row.remove("files");
        out += &serde_json::to_string(&row).unwrap();
        out.push('\n');
    }
    out
}

#[test]
fn every_log_of_the_catalogue() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialects"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 70);
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        insta::with_settings!({ snapshot_path => "snapshots/dialects", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, read(&file));
        });
    }
}
