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

/// Runs oomph with the configuration folder.
fn oomph(config: &std::path::Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_oomph"))
        .args(args)
        .env("XDG_CONFIG_HOME", config)
        .env_remove("OOMPH_CONFIG")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const UNKNOWN: &str = "\
[12:00:01] starting job on 4 gpus
[12:00:05] upd 5 of 100 >> objective=2.5e-01 ~ speed<1,200> eta 1:02:03
[12:00:09] upd 10 of 100 >> objective=-3 ~ speed<1,250> eta 1:02:00
[12:00:13] upd 15 of 100 >> objective=nan ~ speed<1,250> eta 1:01:00
";

/// From a log that nobody knows to a dialect of one's own that every command reads with.
#[test]
fn a_dialect_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("oomph/dialects");
    std::fs::create_dir_all(&own).unwrap();
    let log = folder.path().join("job.log");
    let log_name = log.to_str().unwrap();
    std::fs::write(&log, UNKNOWN).unwrap();

    let (code, out, _) = oomph(folder.path(), &["dialects", "test", log_name]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("no dialect that oomph knows") && out.contains("oomph dialects new"), "{out}");

    let (code, draft, _) = oomph(folder.path(), &["dialects", "new", log_name]);
    assert_eq!(code, Some(0), "{draft}");
    let file = own.join("mine.toml");
    std::fs::write(&file, draft.replace("# \"objective\" = \"loss\"", "\"objective\" = \"loss\"")).unwrap();

    let (code, out, _) = oomph(folder.path(), &["dialects", "test", log_name]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("because 3 lines hold `>> objective=`") && out.contains(file.to_str().unwrap()), "{out}");
    let (_, out, _) = oomph(folder.path(), &["dialects"]);
    assert!(out.lines().next().unwrap().contains("mine.toml"), "the user's come first: {out}");

    let (code, out, err) = oomph(folder.path(), &["metrics", "--json", log_name]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let rows: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let points: Vec<_> = rows.iter().map(|r| (r["step"].as_u64(), r["canonical"]["loss"].clone())).collect();
    let want = [(Some(5), 0.25.into()), (Some(10), (-3).into()), (Some(15), "nan".into())];
    assert_eq!(points[..3], want);
    assert_eq!((rows[3]["total_steps"].as_u64(), rows[3]["dialects"][0].as_str()), (Some(100), Some("job")));

    // One that is wrong is told of, and the others are read.
    std::fs::write(own.join("bad.toml"), "name = 3").unwrap();
    let (code, out, err) = oomph(folder.path(), &["metrics", "--json", log_name]);
    assert_eq!((code, out.lines().count()), (Some(0), 4));
    assert!(err.contains("bad.toml") && err.contains("left out"), "{err}");
    let (code, _, err) =
        oomph(folder.path(), &["dialects", "test", "--with", own.join("bad.toml").to_str().unwrap(), log_name]);
    assert_eq!(code, Some(2), "{err}");
}

/// A dialect of the user's wins over a built-in one that reads the same lines.
#[test]
fn ones_own_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("mine.toml");
    let line = "step: 10  loss: 8.9  grad_norm: 1.6  memory: 62.65GiB(77%)  tps: 5,679  mfu: 32.44%";
    let dialect = format!(
        "name = \"mine\"\n[[line]]\nliteral = \"tps:\"\npattern = 'step: (?<step>\\d+) .*tps: (?<speed>{{number}})'\n[canonical]\nspeed = \"samples_per_second\"\n[[sample]]\nline = \"{line}\"\nstep = 10\nfields = {{ samples_per_second = 5679.0 }}\n"
    );
    std::fs::write(&toml, &dialect).unwrap();
    let log = folder.path().join("titan.log");
    std::fs::write(&log, format!("{line}\n")).unwrap();
    let test =
        |with: &str| oomph(folder.path(), &["dialects", "test", "--json", "--with", with, log.to_str().unwrap()]);
    let (code, out, err) = test(toml.to_str().unwrap());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((out["dialect"].as_str(), out["matches"][1]["name"].as_str()), (Some("mine"), Some("torchtitan")));
    // A sample that gives something else is an error that says what.
    std::fs::write(&toml, dialect.replace("5679.0", "1.0")).unwrap();
    let (code, _, err) = test(toml.to_str().unwrap());
    assert_eq!(code, Some(2));
    assert!(err.contains("[[sample]] 1: samples_per_second is Some(5679.0), not 1"), "{err}");
}
