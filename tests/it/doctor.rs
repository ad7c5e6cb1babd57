//! `oomph doctor` on machines, terminals and configurations of every kind.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::reliability::{gpus::library, has, oomph, seat::Seat, until};

/// The answer as JSON, and whether all is well by the exit status.
fn doctor(command: &mut Command) -> (Value, bool) {
    let output = command.env_remove("VIRTUAL_ENV").env_remove("CONDA_PREFIX").output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(json["schema"], "oomph.doctor/1");
    let well = output.status.code() == Some(0);
    assert_eq!(json["well"], well);
    (json, well)
}

/// State, words and advice of a check.
fn check(json: &Value, id: &str) -> (String, String, String) {
    let all = json["checks"].as_array().unwrap();
    let check = all.iter().find(|c| c["id"] == id).unwrap_or_else(|| panic!("no {id} in {json:#}"));
    let text = |name: &str| check[name].as_str().unwrap_or_default().to_string();
    (text("state"), text("says"), text("advice"))
}

fn in_folder(folder: &Path) -> Command {
    let mut command = oomph(folder);
    command.args(["doctor", "--json"]).current_dir(folder);
    command
}

#[test]
fn drivers_are_told_with_what_to_do() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let with = |variables: &[(&str, &str)]| {
        let mut command = in_folder(folder.path());
        doctor(command.env("LD_LIBRARY_PATH", library).envs(variables.iter().copied())).0
    };
    let well = with(&[("FAKE_NVML_GPUS", "2"), ("FAKE_NVML_DRIVER", "999.1"), ("FAKE_NVML_CUDA", "12.4")]);
    let (state, says, _) = check(&well, "driver");
    assert!(state == "well" && says.contains("999.1") && says.contains("CUDA up to 12.4"), "{says}");
    assert!(says.contains("fake-nvml"), "where the library is from: {says}");
    assert!(check(&well, "cards").1.contains("2 x NVIDIA H200"));
    for (fault, id, word, advice) in [
        ("lib_mismatch", "driver", "different versions", "reboot"),
        ("driver_not_loaded", "driver", "not loaded", "modprobe"),
        ("crash_at:2", "driver", "crashed", "install"),
        ("gpu_lost:1", "lost", "GPU 1", "dmesg"),
        ("error:4:mem", "refused", "memory", "nvidia-smi"),
    ] {
        let json = with(&[("FAKE_NVML_FAULT", fault), ("FAKE_NVML_GPUS", "2")]);
        let (state, says, what) = check(&json, id);
        assert!(state == "off" && says.contains(word) && what.contains(advice), "{fault}: {state} {says} {what}");
    }
    let some = with(&[("FAKE_NVML_FAULT", "error:3:fan,error:3:temp"), ("FAKE_NVML_GPUS", "1")]);
    assert_eq!(check(&some, "refused").0, "note");
}

#[test]
fn a_driver_that_hangs_is_told_after_a_while() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = in_folder(folder.path());
    let (json, well) = doctor(command.env("LD_LIBRARY_PATH", library).env("FAKE_NVML_FAULT", "hang_at:1"));
    assert!(!well && check(&json, "driver").1.contains("did not answer"));
}

#[test]
fn a_pytorch_for_a_newer_driver_is_told() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let packages = folder.path().join("env/lib/python3.12/site-packages");
    fs::create_dir_all(packages.join("torch-2.9.0.dist-info")).unwrap();
    fs::create_dir_all(packages.join("torch")).unwrap();
    fs::write(packages.join("torch/version.py"), "cuda: str = '13.0'\n").unwrap();
    let mut command = in_folder(folder.path());
    command.env("LD_LIBRARY_PATH", library).env("VIRTUAL_ENV", folder.path().join("env"));
    let json: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert!(check(&json, "versions").1.contains("torch 2.9.0"));
    let (state, says, advice) = check(&json, "cuda");
    assert!(state == "off" && says.contains("13.0") && says.contains("12.8") && advice.contains("CUDA 12"), "{says}");
}

#[test]
fn configurations_that_cannot_be_followed_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let mut cases = 0;
    for (text, words) in [
        ("[screen]\nthem = \"dark\"\n", ["line 2", "them"]),
        ("[screen]\ntheme = \"no-such\"\n", ["theme", "no-such"]),
        ("[keys]\nquit = [\"hyper-x\"]\n", ["keys", "hyper-x"]),
        ("[alerts.rules.nothing]\non = false\n", ["rules", "nothing"]),
        ("[alerts]\nwebhook = \"file:///etc/passwd\"\n", ["webhook", "https"]),
        ("not toml at all\n", ["line 1", "config.toml"]),
        ("\u{1b}[31m = 1\n", ["line 1", "config.toml"]),
    ] {
        fs::write(&config, text).unwrap();
        let (json, well) = doctor(in_folder(folder.path()).env("OOMPH_CONFIG", &config));
        let (state, says, advice) = check(&json, "config");
        assert!(!well && state == "off" && words.iter().all(|word| says.contains(word)), "{text:?}: {says}");
        if let Some(fault) = says.split(": ").nth(1) {
            assert_eq!(says.matches(fault).count(), 1, "told twice: {says}");
        }
        assert!(!advice.is_empty() && !says.contains('\u{1b}'));
        cases += 1;
    }
    fs::write(&config, "[alerts]\ncommand = \"true\"\n").unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).unwrap();
    let (json, well) = doctor(in_folder(folder.path()).env("OOMPH_CONFIG", &config));
    let (_, says, advice) = check(&json, "config_owner");
    assert!(!well && says.contains("a command") && advice.contains("chmod 600"), "{says}");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let (json, _) = doctor(in_folder(folder.path()).env("OOMPH_CONFIG", &config));
    assert_eq!(check(&json, "config").0, "well");
    assert_eq!(cases, 7);
}

#[test]
fn the_state_folder_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    fs::create_dir_all(runs.join("20260101-000000-1")).unwrap();
    fs::write(runs.join("20260101-000000-1/run.sqlite"), "no database").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&runs, fs::Permissions::from_mode(0o755)).unwrap();
    let (json, well) = doctor(&mut in_folder(folder.path()));
    assert!(!well);
    let (state, says, _) = check(&json, "runs");
    assert!(state == "off" && says.contains("cannot be read"), "{says}");
    assert!(check(&json, "privacy").2.contains("chmod 700"));
    assert!(check(&json, "state").1.contains("free"));
    assert!(
        fs::read_dir(folder.path()).unwrap().all(|e| e.unwrap().file_name() == "runs"),
        "something was left behind"
    );
    // A folder that is a file, and one that cannot be.
    for path in ["run.sqlite", "run.sqlite/below"] {
        let state = runs.join("20260101-000000-1").join(path);
        let (json, well) = doctor(in_folder(folder.path()).env("OOMPH_STATE", state));
        let (state, _, advice) = check(&json, "state");
        assert!(!well && state == "off" && advice.contains("OOMPH_STATE"));
    }
}

#[test]
fn paths_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("train.log"), "x\n").unwrap();
    let (json, _) = doctor(in_folder(folder.path()).arg("train.log"));
    let (state, says, _) = check(&json, "path");
    assert!(state == "well" && says.contains("train.log is on") && says.contains("free"), "{says}");
    let (json, well) = doctor(in_folder(folder.path()).arg("gone.log"));
    assert!(!well && check(&json, "path").1.contains("No such file"));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(500);
    fs::File::open(folder.path().join("train.log")).unwrap().set_modified(later).unwrap();
    let (json, well) = doctor(in_folder(folder.path()).arg("train.log"));
    assert!(!well && check(&json, "path").1.contains("in the future"));
}

#[test]
fn missing_notifications_are_told() {
    if !has("strace", &["-o", "/dev/null", "true"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for fault in ["inotify_init1:error=EMFILE", "inotify_add_watch:error=ENOSPC"] {
        let output = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &format!("inject={fault}"), env!("CARGO_BIN_EXE_oomph"), "doctor"])
            .arg("--json")
            .current_dir(folder.path())
            .env("OOMPH_STATE", folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let (state, says, advice) = check(&json, "notifications");
        assert!(state == "note" && says.contains("polls") && advice.contains("fs.inotify"), "{fault}: {says}");
    }
}

/// A terminal that answers, and one that does not.
#[test]
fn a_terminal_is_asked_what_it_can_do() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |answers: &str, variables: &[(&str, &str)]| {
        let script = format!(
            "stty -g > {s}/before; {} doctor; stty -g > {s}/after; echo the shell again",
            env!("CARGO_BIN_EXE_oomph"),
            s = folder.path().display()
        );
        let mut seat = Seat::take("sh", &["-c", &script], folder.path(), variables);
        until("it is asked", || seat.bytes().ends_with(b"\x1b[c") || seat.contents().contains("shell again"));
        seat.press(answers);
        seat.shows("the shell again");
        seat.end();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("before"), read("after"));
        String::from_utf8(seat.bytes()).unwrap()
    };
    let columns = |n: u16| format!("\x1b[1;{n}R").repeat(4);
    let rich = format!("{}\x1bP>|kitty(1)\x1b\\\x1bP1$r48:2::1:2:3m\x1b\\\x1b[?2026;2$y\x1b[?62;52c", columns(2));
    let text = settings(&rich, &[]);
    for words in ["export COLORTERM=truecolor", "whole frames at once", "also over SSH", "All well"] {
        assert!(text.contains(words), "no '{words}' in {text}");
    }
    let poor = format!("{}\x1b[?1;2c", columns(4));
    let text = settings(&poor, &[]);
    assert!(text.contains("takes 3 columns") && text.contains("does not say"), "{text}");
    let text = settings(&format!("{}\x1b[?1;2c", columns(2)), &[("LANG", "C"), ("LC_ALL", "C")]);
    assert!(text.contains("export LANG=C.UTF-8") && text.contains("ok\u{1b}[0m TERM"), "{text}");
    // Answers that are no answers, and none at all.
    let text = settings("\x1b[999R\x1bP>|\u{9b}31m\x07\x1b\\q\r\n\x1b[?c", &[]);
    assert!(text.contains("TERM is"), "{text}");
    let text = settings("", &[]);
    assert!(text.contains("answers no questions"), "{text}");
}

#[test]
fn tmux_is_asked_what_it_passes_on() {
    if !has("tmux", &["-V"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("tmux");
    let tmux = |words: &[&str]| {
        let output =
            Command::new("tmux").arg("-S").arg(&socket).arg("-f").arg("/dev/null").args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let script = format!(
        "OOMPH_STATE={0} {1} doctor; echo the shell again; sleep 60",
        folder.path().display(),
        env!("CARGO_BIN_EXE_oomph")
    );
    let look = |session: &str| {
        tmux(&["new-session", "-d", "-s", session, "-x", "100", "-y", "80", &script]);
        let screen = || tmux(&["capture-pane", "-p", "-t", session]);
        until("it ends", || screen().contains("the shell again"));
        screen()
    };
    let text = look("a");
    assert!(text.contains("set-clipboard external") && text.contains("tmux set -g set-clipboard on"), "{text}");
    tmux(&["set", "-g", "set-clipboard", "on"]);
    tmux(&["set", "-g", "allow-passthrough", "on"]);
    let text = look("b");
    tmux(&["kill-server"]);
    assert!(text.contains("passes them on") && text.contains("lets notifications through"), "{text}");
}
