//! `oomph snapshot` as a user runs it: a real snapshot, hostile pickles, and what the other commands say to one.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use assert_cmd::cargo::CommandCargoExt;
use serde_json::Value;
use tempfile::TempDir;

/// Of an H200 limited to 12 GiB; a loop that adds up losses without letting go of their graphs, PyTorch 2.11.
const LEAK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/memory-snapshots/oom-plain-leak-12.pickle.gz");

fn oomph(args: &[&str]) -> (i32, String, String) {
    let output =
        Command::cargo_bin("oomph").unwrap().args(args).env("LANG", "C.UTF-8").env_remove("LC_ALL").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn unpacked(folder: &Path) -> PathBuf {
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(LEAK).unwrap()).read_to_end(&mut bytes).unwrap();
    let path = folder.join("oom.pickle");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_real_snapshot_as_json() {
    let (code, out, err) = oomph(&["snapshot", "--json", LEAK]);
    assert_eq!((code, err.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["schema"], "oomph.snapshot/1");
    let device = &json["devices"][0];
    // What Python's own pickle gives when it adds up the same file.
    let pool = &device["pool"];
    assert_eq!(pool["reserved_bytes"], 12_786_335_744_u64);
    assert_eq!(pool["allocated_bytes"], 12_684_871_168_u64);
    assert_eq!(pool["requested_bytes"], 12_684_869_644_u64);
    assert_eq!((&pool["segments"], &pool["free_blocks"]), (&Value::from(117), &Value::from(3)));
    assert_eq!(pool["largest_free_bytes"], 67_108_864);
    assert_eq!(device["events"], 3000);
    let oom = &device["oom"];
    assert_eq!(oom["requested_bytes"], 134_217_728);
    assert_eq!(oom["device_free_bytes"], 104_563_605_504_u64);
    assert_eq!(oom["phase"], "backward");
    let first = &oom["held"]["categories"][0];
    assert_eq!(first["id"], "activations");
    let share = first["bytes"].as_f64().unwrap() / oom["held"]["bytes"].as_f64().unwrap();
    assert!(share > 0.75, "{share}");
    assert_eq!(device["growth"][0]["category"], "activations");
    assert!(
        device["growth"][0]["user"]
            .as_str()
            .or(device["growth"][0]["place"].as_str())
            .unwrap()
            .contains("train.py:235")
    );
    let failure = &json["diagnosis"]["failures"][0];
    assert_eq!((&failure["causes"][0]["id"], &failure["fixes"][0]["id"]), (&"leak_growth".into(), &"stop_leak".into()));
}

#[test]
fn a_real_snapshot_as_text() {
    let (code, out, _) = oomph(&["snapshot", LEAK]);
    assert_eq!(code, 0);
    let out = out.replace(LEAK, "oom.pickle.gz");
    insta::assert_snapshot!("memory-snapshot", out);
    // Where only ASCII can be shown, nothing else is.
    let plain = Command::cargo_bin("oomph").unwrap().args(["snapshot", LEAK]).env("LC_ALL", "C").output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    let art = |c: char| ('\u{2500}'..'\u{2600}').contains(&c) || c == '‾' || c == '·';
    assert_eq!(plain.chars().find(|c| art(*c)), None);
}

/// A made-up recording of two GPUs with Python stacks alone: a large request, and free memory in small pieces.
#[test]
fn a_recording_of_two_gpus_whose_pool_is_in_pieces() {
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/memory-snapshots/made-two-gpus.pickle");
    let (code, out, _) = oomph(&["snapshot", made]);
    assert_eq!(code, 0);
    insta::assert_snapshot!("memory-snapshot-two-gpus", out);
}

#[test]
fn the_same_from_a_plain_file_standard_input_and_diagnose() {
    let folder = TempDir::new().unwrap();
    let path = unpacked(folder.path());
    let name = path.to_str().unwrap();
    let (_, packed, _) = oomph(&["snapshot", "--json", LEAK]);
    let (code, plain, _) = oomph(&["snapshot", "--json", name]);
    assert_eq!(code, 0);
    assert_eq!(plain.replace(name, ""), packed.replace(LEAK, ""));
    let mut piped = Command::cargo_bin("oomph").unwrap();
    let piped = piped.args(["snapshot", "--json", "-"]).stdin(fs::File::open(&path).unwrap()).output().unwrap();
    assert_eq!(String::from_utf8(piped.stdout).unwrap().replace("\"-\"", "\"\""), plain.replace(name, ""));
    let (code, diagnosis, _) = oomph(&["diagnose", "--json", name]);
    let json: Value = serde_json::from_str(&diagnosis).unwrap();
    assert_eq!((code, &json["failures"][0]["kind"]), (1, &"torch.cuda.snapshot".into()));
    for command in [&["--once", name][..], &["metrics", name]] {
        let (code, _, err) = oomph(command);
        assert_eq!(code, 2);
        assert!(err.contains(&format!("`oomph snapshot {name}`")), "{err}");
    }
}

#[test]
fn hostile_and_other_files_are_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let marker = folder.path().join("pwned");
    let run = format!("cos\nsystem\n(S'touch {}'\ntR.", marker.display());
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("global.pickle", run.into_bytes(), "refused: GLOBAL 'os.system'"),
        (
            "stack.pickle",
            b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.".to_vec(),
            "refused: STACK_GLOBAL 'posix.system'",
        ),
        (
            "tensor.pt",
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00.".to_vec(),
            "GLOBAL 'torch._utils._rebuild_tensor_v2'",
        ),
        ("size.pickle", b"\x80\x04\x8b\xff\xff\xff\x7f\x01.".to_vec(), "LONG4 of 2147483647 bytes"),
        ("bomb.pickle", b"N".repeat(40 << 20), "more memory than its size explains"),
        ("empty.pickle", Vec::new(), "the file is empty"),
        ("zip.pt", b"PK\x03\x04rest".to_vec(), "a checkpoint, not a memory snapshot"),
        ("log.txt", b"step 1 loss 2\n".to_vec(), "not a pickle"),
        ("other.pickle", b"\x80\x04}\x94.".to_vec(), "no memory snapshot"),
    ];
    for (name, bytes, want) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (code, out, err) = oomph(&["snapshot", path.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (2, ""), "{name}");
        assert!(err.contains(want) && err.contains(name), "{name}: {err}");
    }
    assert!(!marker.exists());
    // Cut at some hundred places: each an answer.
    let whole = fs::read(unpacked(folder.path())).unwrap();
    for cut in (0..whole.len()).step_by(whole.len() / 20 + 1).skip(1) {
        let path = folder.path().join("cut.pickle");
        fs::File::create(&path).unwrap().write_all(&whole[..cut]).unwrap();
        let (code, _, err) = oomph(&["snapshot", path.to_str().unwrap()]);
        assert_eq!(code, 2);
        assert!(err.contains("it ends in the middle"), "{cut}: {err}");
    }
}
