//! What a started command sees of oomph, what it leaves behind, and whom oomph takes a pid for.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_mins(1), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn oomph(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.env("OOMPH_STATE", state).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// C8: everything that a process can see of how it was started.
#[test]
fn the_command_sees_what_it_would_see_without_oomph() {
    let state = tempfile::tempdir().unwrap();
    // The shell writes to a file, so that its own output is the same in both cases.
    let script = "exec > \"$0\" 2>&1; echo \"cwd $PWD\"; umask; ulimit -a; echo stdin $(readlink /proc/self/fd/0)
        echo oom $(cat /proc/self/oom_score_adj); cat /proc/self/cgroup
        grep -E '^(Cpus_allowed|Mems_allowed|SigBlk|SigIgn|NoNewPrivs|Seccomp|Groups|Uid|Gid|Umask):' /proc/self/status
        cut -d' ' -f 19 /proc/$$/stat; echo fds; ls /proc/$$/fd; echo env; tr '\\0' '\\n' < /proc/$$/environ | sort";
    let file = state.path().join("seen");
    let seen = |mut command: Command| {
        command.args(["sh", "-c", script]).arg(&file).env("GREETING", "hello world").stdin(Stdio::null());
        assert!(command.status().unwrap().success());
        fs::read_to_string(&file).unwrap()
    };
    let mut without = Command::new("env");
    without.env("OOMPH_STATE", state.path());
    let mut with = oomph(state.path());
    with.args(["run", "--no-gpu", "--"]);
    let (without, with) = (seen(without), seen(with));
    let lines = |text: &str| text.lines().map(str::to_string).collect::<BTreeSet<_>>();
    let differ: Vec<String> = lines(&with).symmetric_difference(&lines(&without)).cloned().collect();
    // `_` is the shell's own note of what it started.
    let differ: Vec<&String> = differ.iter().filter(|line| !line.starts_with("_=")).collect();
    assert!(differ.len() == 1 && differ[0].starts_with("OOMPH_RUN="), "{differ:#?}");
    assert_eq!(with.lines().count(), without.lines().count() + 1);
}

/// C9: oomph goes before the command, and the command is left as it is.
#[test]
fn oomph_stands_back_when_memory_runs_out() {
    let state = tempfile::tempdir().unwrap();
    let script = "echo $(cat /proc/self/oom_score_adj) $(cat /proc/$PPID/oom_score_adj)";
    // The adjustment may come a moment after the command's start.
    let script = format!("while [ $(cat /proc/$PPID/oom_score_adj) -lt 500 ]; do sleep 0.01; done; {script}");
    let (out, _) = text(&oomph(state.path()).args(["run", "--no-gpu", "--", "sh", "-c", &script]).output().unwrap());
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(out.trim(), format!("{} {}", own.trim(), own.trim().parse::<i32>().unwrap().max(500)));
}

/// C7: the status comes at the command's end; whoever is left is named, and nothing dead stays.
#[test]
fn survivors_are_named_and_nothing_dead_is_left() {
    let state = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hold = folder.path().join("holder.sh");
    // Ends with this test, however it ends.
    fs::write(&hold, format!("while [ -e {} ]; do sleep 0.02; done\n", hold.display())).unwrap();
    // One holds the output open, one has left the session; both outlive their parent. Five hundred do not.
    let script = format!(
        "for i in $(seq 500); do (true &); done; sh {0} --api-key Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0 & setsid sh {0} & sleep 0.1; exit 5",
        hold.display()
    );
    let output = oomph(state.path()).args(["run", "--no-gpu", "--", "sh", "-c", &script]).output().unwrap();
    // oomph has ended while both still run: it did not wait for them.
    let (_, err) = text(&output);
    assert_eq!(output.status.code(), Some(5));
    assert!(err.contains("still running that the command started"), "{err}");
    assert_eq!(err.matches("holder.sh").count(), 2, "{err}");
    assert!(!err.contains("Zx9Kq3"), "{err}");
}

/// C7 in a container, where oomph is the first process and orphans are left to it.
#[test]
fn as_the_first_process_oomph_reaps() {
    let state = tempfile::tempdir().unwrap();
    if !can_unshare() {
        return;
    }
    // Waits until the dead are gone: without reaping it would wait for ever.
    let script = "for i in $(seq 200); do (true &); done; sleep 0.2
        while grep -sq '^State:.Z' /proc/[0-9]*/status; do sleep 0.05; done; exit 7";
    let mut child = Command::new("unshare")
        .args(["-pf", "--mount-proc", env!("CARGO_BIN_EXE_oomph"), "run", "--no-gpu", "--", "sh", "-c", script])
        .env("OOMPH_STATE", state.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut status = None;
    until("no dead process is left", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(7));
}

/// C10: a pid that was used again is another process.
#[test]
fn a_pid_that_was_used_again_is_not_attached_to() {
    let state = tempfile::tempdir().unwrap();
    let run = state.path().join("runs/20261124-113150-1");
    fs::create_dir_all(&run).unwrap();
    let me = std::process::id();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let start: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let attach = |start: u64| {
        let process = format!("{{\"pid\":{me},\"start\":{start}}}");
        let live = format!("{{\"child\":{process},\"supervisor\":{process},\"spool\":[]}}");
        fs::write(run.join("live.json"), live).unwrap();
        let output = oomph(state.path()).args(["attach", "20261124-113150-1", "--no-gpu"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        text(&output).1
    };
    // The same pid, started at another time: the run has ended. Started then: it goes on, and only a terminal is missing.
    assert!(attach(start - 1).contains("has ended"), "{}", attach(start - 1));
    assert!(attach(start).contains("needs a terminal"), "{}", attach(start));
}

/// Whether this machine lets the test make a pid namespace of its own.
fn can_unshare() -> bool {
    Command::new("unshare")
        .args(["-pf", "--mount-proc", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
