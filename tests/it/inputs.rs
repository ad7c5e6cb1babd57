//! What people name by mistake, or in a shape that is not usual: each gets a plain word, once.

use std::{fs, path::Path, process::Command};

use assert_cmd::cargo::CommandCargoExt;
use serde_json::Value;
use tempfile::TempDir;

fn oomph(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("oomph").unwrap();
    let output = command.args(args).current_dir(folder).env("OOMPH_STATE", folder.join("state")).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn missing_empty_and_binary_files() {
    let folder = TempDir::new().unwrap();
    let (code, _, err) = oomph(folder.path(), &["none.log"]);
    assert_eq!((code, err.matches("No such file").count()), (2, 1), "{err}");
    fs::write(folder.path().join("empty.log"), "").unwrap();
    let (code, _, err) = oomph(folder.path(), &["diagnose", "empty.log"]);
    assert_eq!((code, err.as_str()), (0, "oomph: empty.log is empty\n"));
    let binary: Vec<u8> = (0..4000u32).flat_map(|n| [1, (n % 7) as u8, 0, (n * 31 % 251) as u8]).collect();
    fs::write(folder.path().join("model.bin"), binary).unwrap();
    let (code, _, err) = oomph(folder.path(), &["diagnose", "model.bin"]);
    assert_eq!((code, err.contains("model.bin looks like a binary file")), (0, true), "{err}");
    let (code, out, _) = oomph(folder.path(), &["--once", "--no-gpu", "--size", "120x20", "model.bin"]);
    assert_eq!((code, out.contains("model.bin looks like a binary file")), (0, true), "{out}");
}

/// As PowerShell writes `python train.py > train.log`.
#[test]
fn a_failed_run_in_utf16_is_read_like_any_other() {
    let folder = TempDir::new().unwrap();
    let case = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/diagnosis/grpo-1.5b-16gib.log");
    let text = fs::read_to_string(case).unwrap();
    let bytes: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    fs::write(folder.path().join("train.log"), bytes).unwrap();
    let (code, out, err) = oomph(folder.path(), &["diagnose", "--json", "train.log"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let wide: Value = serde_json::from_str(&out).unwrap();
    let plain: Value = serde_json::from_str(&oomph(folder.path(), &["diagnose", "--json", case]).1).unwrap();
    for part in ["numbers", "phase", "causes", "kind"] {
        assert_eq!(wide["failures"][0][part], plain["failures"][0][part], "{part}");
    }
    let (_, frame, _) = oomph(folder.path(), &["--once", "--no-gpu", "--size", "120x30", "train.log"]);
    assert!(frame.contains("died of memory") && !frame.contains("\\u{0}"), "{frame}");
}
