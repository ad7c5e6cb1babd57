//! `oomph run` on a terminal: the dashboard comes and goes, the run does not care.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_mins(1), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// oomph on a terminal of its own.
struct Seat {
    child: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Seat {
    fn take(state: &Path, arguments: &[&str]) -> Self {
        let pair =
            native_pty_system().openpty(PtySize { rows: 30, cols: 100, pixel_width: 0, pixel_height: 0 }).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_oomph"));
        command.args(arguments);
        command.env("OOMPH_STATE", state);
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        let child = pair.slave.spawn_command(command).unwrap();
        let mut output = pair.master.try_clone_reader().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(30.try_into().unwrap(), 100.try_into().unwrap(), 0)));
        let seen = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                seen.lock().unwrap().process(&buffer[..n]);
            }
        });
        let keys = pair.master.take_writer().unwrap();
        Self { child, _master: pair.master, keys, screen }
    }

    fn shows(&self, text: &str) {
        until(text, || self.screen.lock().unwrap().screen().contents().contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn code(&mut self) -> u32 {
        self.child.wait().unwrap().exit_code()
    }
}

/// A run that prints what is put into a file, until it is told how to end.
struct Trainer {
    folder: tempfile::TempDir,
}

impl Trainer {
    fn new() -> Self {
        let trainer = Self { folder: tempfile::tempdir().unwrap() };
        let script = "trap 'echo got TERM; exit 9' TERM
            n=0
            while [ ! -e end ]; do n=$((n+1)); [ -e say$n ] && cat say$n || n=$((n-1)); sleep 0.02; done
            exit $(cat end)";
        fs::write(trainer.path("train.sh"), format!("cd {}\n{script}\n", trainer.folder.path().display())).unwrap();
        trainer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whole at once, as the script looks at any time.
    fn put(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn script(&self) -> String {
        self.path("train.sh").to_str().unwrap().to_string()
    }
}

fn run_folder(state: &Path) -> PathBuf {
    fs::read_dir(state.join("runs")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn the_dashboard_is_left_and_opened_again_and_the_run_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let trainer = Trainer::new();
    let mut seat = Seat::take(state.path(), &["run", "--no-gpu", "--", "sh", &trainer.script()]);
    trainer.put("say1", "before the dashboard was left\n");
    seat.shows("before the dashboard was left");
    seat.press("q");
    seat.shows("oomph attach");
    assert_eq!(seat.code(), 0);
    trainer.put("say2", "while nobody looked\n");

    let mut seat = Seat::take(state.path(), &["attach", "--no-gpu"]);
    seat.shows("before the dashboard was left");
    seat.shows("while nobody looked");
    trainer.put("say3", "on the second dashboard\n");
    seat.shows("on the second dashboard");
    trainer.put("end", "0");
    let folder = run_folder(state.path());
    until("the end is written down", || folder.join("ended.json").exists());
    seat.press("q");
    assert_eq!(seat.code(), 0);
    let output = fs::read_to_string(folder.join("output.log")).unwrap();
    assert_eq!(output, "before the dashboard was left\nwhile nobody looked\non the second dashboard\n");

    let refused = Command::new(env!("CARGO_BIN_EXE_oomph"))
        .env("OOMPH_STATE", state.path())
        .arg("attach")
        .arg(folder.file_name().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && told.contains("has ended"), "{told}");
}

#[test]
fn the_status_and_the_diagnosis_come_after_the_dashboard() {
    let state = tempfile::tempdir().unwrap();
    let trainer = Trainer::new();
    let report = trainer.path("why.md");
    let hook = format!("cat > {}", trainer.path("hook").display());
    let arguments =
        ["run", "--no-gpu", "--report", report.to_str().unwrap(), "--on-failure", &hook, "--", "sh", &trainer.script()];
    let mut seat = Seat::take(state.path(), &arguments);
    let log = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnosis/grpo-1.5b-16gib.log")).unwrap();
    trainer.put("say1", std::str::from_utf8(&log).unwrap());
    seat.shows("CUDA out of memory");
    trainer.put("end", "77");
    until("the end is written down", || run_folder(state.path()).join("ended.json").exists());
    seat.press("q");
    seat.shows("oomph replay");
    assert_eq!(seat.code(), 77);
    for file in [&report, &trainer.path("hook")] {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains("out of memory"), "{text}");
    }
}

#[test]
fn a_signal_ends_the_run_and_a_lost_terminal_does_not() {
    let state = tempfile::tempdir().unwrap();
    let trainer = Trainer::new();
    let mut seat = Seat::take(state.path(), &["run", "--no-gpu", "--", "sh", &trainer.script()]);
    trainer.put("say1", "hello\n");
    seat.shows("hello");
    // The line is lost: the kernel hangs up on the one whose terminal it was.
    let pid = seat.child.process_id().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let _ = seat.code();
    trainer.put("say2", "still here\n");
    let folder = run_folder(state.path());
    until("the run went on", || fs::read_to_string(folder.join("output.log")).is_ok_and(|t| t.contains("still here")));
    trainer.put("end", "0");
    until("its end was seen", || folder.join("ended.json").exists());

    let state = tempfile::tempdir().unwrap();
    let trainer = Trainer::new();
    let mut seat = Seat::take(state.path(), &["run", "--no-gpu", "--", "sh", &trainer.script()]);
    trainer.put("say1", "hello\n");
    seat.shows("hello");
    let pid = seat.child.process_id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(seat.code(), 9);
    let output = fs::read_to_string(run_folder(state.path()).join("output.log")).unwrap();
    assert_eq!(output.matches("got TERM").count(), 1, "{output}");
}

#[test]
fn a_killed_dashboard_costs_the_run_nothing() {
    let state = tempfile::tempdir().unwrap();
    let trainer = Trainer::new();
    let mut seat = Seat::take(state.path(), &["run", "--no-gpu", "--", "sh", &trainer.script()]);
    trainer.put("say1", "hello\n");
    seat.shows("hello");
    seat.child.kill().unwrap();
    let _ = seat.code();
    trainer.put("say2", "{'loss': 1.25, 'epoch': 0.1}\n");
    let folder = run_folder(state.path());
    until("the run went on", || fs::read_to_string(folder.join("output.log")).is_ok_and(|t| t.contains("1.25")));
    trainer.put("end", "4");
    until("its end was seen", || folder.join("ended.json").exists());
    // Supervision and recording went on to the end.
    let frame = || {
        let output = Command::new(env!("CARGO_BIN_EXE_oomph"))
            .env("OOMPH_STATE", state.path())
            .args(["replay", "last", "--once", "--json"])
            .output()
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    until("the recording is closed", || frame()["state"] == "failed");
    assert_eq!(frame()["latest"]["loss"], 1.25);
}
