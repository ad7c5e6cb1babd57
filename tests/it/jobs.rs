//! `oomph` without a file: finds the training jobs of the machine.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

fn oomph(proc: Option<&Path>, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.args(arguments).arg("--no-gpu").env_remove("OOMPH_TEST_PROC");
    if let Some(proc) = proc {
        command.env("OOMPH_TEST_PROC", proc);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A process that looks like a training: `python …/train_NAME.py` is a shell under that name. Ends with the test.
struct Trainer(Child);

impl Trainer {
    fn start(folder: &Path, name: &str) -> Self {
        let python = folder.join("python3.12");
        if !python.exists() {
            fs::copy("/bin/sh", &python).unwrap();
        }
        let script = folder.join(format!("train_{name}.py"));
        fs::write(&script, "while read line; do echo $line; done\n").unwrap();
        let log = fs::File::create(folder.join("train.log")).unwrap();
        let child = Command::new(python)
            .arg(script)
            .env("CUDA_VISIBLE_DEVICES", "1")
            .env("HF_TOKEN", "hf_planted")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_running_job_is_found_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::start(folder.path(), "alone");
    trainer.say("{'loss': 1.5, 'epoch': 0.1}");
    let pid = trainer.0.id();
    // Other jobs may run on this machine: ours is picked out.
    let (_, list, _) = oomph(None, &["--json"]);
    let list = json(&list);
    assert_eq!(list["schema"], "oomph.jobs/1");
    let jobs = list["jobs"].as_array().unwrap();
    let job = jobs.iter().find(|job| job["pid"] == pid).unwrap_or_else(|| panic!("{jobs:#?}"));
    assert_eq!((&job["title"], &job["launcher"]), (&"train_alone.py".into(), &Value::Null));
    assert_eq!(job["environment"], serde_json::json!({ "CUDA_VISIBLE_DEVICES": "1" }));
    let log = fs::canonicalize(folder.path().join("train.log")).unwrap();
    assert_eq!(job["files"][0]["path"], log.to_str().unwrap());

    // What it wrote is read by the name of its process alone.
    let frame = loop {
        let (code, frame, err) = oomph(None, &["watch", "--pid", &pid.to_string(), "--once", "--json"]);
        assert_eq!(code, 0, "{err}");
        let frame = json(&frame);
        if frame["points"] != 0 {
            break frame;
        }
    };
    assert_eq!(frame["latest"]["loss"], 1.5);
    drop(trainer);
    let (code, _, err) = oomph(None, &["watch", "--pid", &pid.to_string(), "--once"]);
    assert!(code == 2 && err.contains("no process"), "{code} {err}");
}

#[test]
fn without_a_job_it_says_what_it_looked_for() {
    let proc = tempfile::tempdir().unwrap();
    let (_, _, err) = oomph(Some(proc.path()), &[]);
    assert!(!err.contains("container"), "{err}");
    fs::create_dir_all(proc.path().join("self/ns")).unwrap();
    std::os::unix::fs::symlink("pid:[4026532999]", proc.path().join("self/ns/pid")).unwrap();
    let (code, out, err) = oomph(Some(proc.path()), &[]);
    assert_eq!((code, out.as_str()), (2, ""));
    for word in ["torchrun", "oomph demo", "oomph diagnose -", "oomph FILE", "container"] {
        assert!(err.contains(word), "{word}: {err}");
    }
    let (code, out, _) = oomph(Some(proc.path()), &["--json"]);
    assert_eq!((code, &json(&out)["jobs"]), (2, &serde_json::json!([])));
}

#[test]
fn several_jobs_are_listed() {
    let proc = tempfile::tempdir().unwrap();
    let log = proc.path().join("a.log");
    fs::write(&log, "x").unwrap();
    for (pid, script) in [(10, "train_a.py"), (20, "train_\u{1b}[31mb.py")] {
        let folder = proc.path().join(pid.to_string());
        fs::create_dir_all(folder.join("fd")).unwrap();
        fs::write(folder.join("stat"), format!("{pid} (python) S 1 {}{pid}\n", "0 ".repeat(17))).unwrap();
        fs::write(folder.join("cmdline"), format!("python\0{script}\0--token\0Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0\0"))
            .unwrap();
        std::os::unix::fs::symlink(&log, folder.join("fd/1")).unwrap();
    }
    let (code, out, err) = oomph(Some(proc.path()), &[]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("train_a.py") && out.contains("pid 20") && out.contains("--pid PID"), "{out}");
    assert!(!out.contains('\u{1b}') && !out.contains("Zx9Kq3"), "{out}");
    let (code, _, err) = oomph(Some(proc.path()), &["--once"]);
    assert!(code == 2 && err.contains("--pid"), "{code} {err}");
}
