//! The user's own kinds of messages, and `oomph explain`.

use std::{path::Path, process::Command};

/// Runs oomph with the configuration folder.
fn oomph(config: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_oomph"))
        .args(args)
        .env("XDG_CONFIG_HOME", config)
        .env("OOMPH_STATE", config.join("state"))
        .env_remove("OOMPH_CONFIG")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The examples of the documentation are files that work.
#[test]
fn a_message_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("oomph/messages");
    std::fs::create_dir_all(&own).unwrap();
    let docs = include_str!("../../docs/messages.md");
    let files: Vec<&str> = docs.split("```toml\n").skip(1).filter_map(|part| part.split("```").next()).collect();
    assert_eq!(files.len(), 2);
    for (name, text) in ["pool.toml", "quota.toml"].iter().zip(files) {
        std::fs::write(own.join(name), text).unwrap();
    }
    let log = folder.path().join("server.log");
    let failure = "step 1\n[rank1]: E0202 ACME pool exhausted on gpu 3: wanted 256 MiB, pool 79.15 GiB\n";
    std::fs::write(&log, failure).unwrap();
    let log = log.to_str().unwrap();

    let (code, out, err) = oomph(folder.path(), &["diagnose", "--json", log]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let first = &found["failures"][0];
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    assert_eq!((&first["kind"], &first["memory"]), (&"acme.pool".into(), &"gpu".into()));
    assert_eq!((&first["device"], &first["rank"]), (&3.into(), &1.into()));
    assert_eq!(first["numbers"]["requested_bytes"], 256u64 << 20);
    assert_eq!(first["where"]["line"], 2);

    // One that only looks like it; without the file the words mean nothing.
    std::fs::write(log, "job stopped: out of memory minutes\n").unwrap();
    let (code, out, _) = oomph(folder.path(), &["diagnose", log]);
    assert!(code == Some(0) && out.contains("the quota of GPU minutes is used up"), "{out}");

    let (code, out, _) = oomph(folder.path(), &["explain", "acme.pool"]);
    assert!(code == Some(0) && out.starts_with("The Acme pool ran out") && out.contains("wanted 512 MiB"), "{out}");
    let (_, out, _) = oomph(folder.path(), &["explain"]);
    assert!(out.contains("acme.quota"), "{out}");
    let (_, out, _) = oomph(folder.path(), &["doctor"]);
    assert!(out.contains("2 kinds of messages of your own are read"), "{out}");
}

#[test]
fn what_is_wrong_with_a_message_is_told_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("oomph/messages");
    std::fs::create_dir_all(&own).unwrap();
    let bad = own.join("bad.toml");
    std::fs::write(&bad, "id = \"a.b\"\ntitle = \"A\"\nabout = \"B\"\nmemory = \"gpu\"\nliterals = [\"pool gone\"]\npattern = 'pool (gone'\n").unwrap();
    let log = folder.path().join("a.log");
    std::fs::write(&log, "RuntimeError: CUDA error: out of memory\n").unwrap();
    let (code, out, err) = oomph(folder.path(), &["diagnose", "--json", log.to_str().unwrap()]);
    // The others are read all the same.
    assert!(code == Some(1) && out.contains("torch.cuda.bare"), "{out}");
    assert!(err.contains("bad.toml") && err.contains("pattern"), "{err}");
    let (code, out, _) = oomph(folder.path(), &["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_str(&out).unwrap();
    let all = checks["checks"].as_array().unwrap();
    let check = all.iter().find(|c| c["id"] == "messages").unwrap();
    assert!(check["state"] == "off" && check["says"].as_str().unwrap().contains("bad.toml"), "{check}");
    assert_eq!(code, Some(1));
}

#[test]
fn an_id_that_nothing_has_is_met_with_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = oomph(folder.path(), &["explain", "fragmentaton"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("did you mean 'fragmentation'?"), "{err}");
    let (code, _, err) = oomph(folder.path(), &["explain", "\x1b[31mwhat"]);
    assert!(code == Some(2) && err.contains("`oomph explain` lists the ids") && !err.contains('\x1b'), "{err}");
    let (code, out, _) = oomph(folder.path(), &["explain", "unknown"]);
    assert!(code == Some(0) && out.contains("a cause") && out.contains("a phase"), "{out}");
    let (code, out, _) = oomph(folder.path(), &["explain", "knobs"]);
    assert!(code == Some(0) && out.contains("per_device_train_batch_size"), "{out}");
}
