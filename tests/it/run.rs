//! `oomph run`: the caller sees exactly what it would see without oomph, and the child never waits for it.

use std::{
    fs,
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

fn oomph(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.env("OOMPH_STATE", state).stdin(Stdio::null());
    command
}

fn shell(state: &Path, script: &str) -> (ExitStatus, Vec<u8>, Vec<u8>) {
    shell_in(&[], state, script)
}

fn shell_in(mode: &[&str], state: &Path, script: &str) -> (ExitStatus, Vec<u8>, Vec<u8>) {
    let output = oomph(state).arg("run").args(mode).args(["--", "sh", "-c", script]).output().unwrap();
    (output.status, output.stdout, output.stderr)
}

/// A figure for whoever runs this: shown even when the test passes.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "  {text}");
}

/// Waits until `done` holds; fails after a minute.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_mins(1), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many exit codes to go through: all of them when asked (`OOMPH_TEST_FULL`), else a spread.
fn codes() -> Vec<i32> {
    if crate::properties::full() { (0..256).collect() } else { vec![0, 1, 2, 3, 77, 126, 127, 137, 255] }
}

/// Into a file, and through a terminal.
const MODES: [&[&str]; 2] = [&[], &["--pty"]];

#[test]
fn exit_codes_come_through() {
    let state = tempfile::tempdir().unwrap();
    for mode in MODES {
        for code in codes() {
            let (status, ..) = shell_in(mode, state.path(), &format!("exit {code}"));
            assert_eq!(status.code(), Some(code), "{mode:?}");
        }
    }
    tell(&format!("C1: {} exit codes in two modes: the same", codes().len()));
}

#[test]
fn death_by_signal_comes_through() {
    let state = tempfile::tempdir().unwrap();
    // All that end a process by default (32 and 33 are the C library's own, a command is started with them ignored);
    // those of everyday and the odd ones where not everything is asked for.
    let harmless = [17, 18, 19, 20, 21, 22, 23, 28];
    let all: Vec<i32> = (1..=64).filter(|n| ![32, 33].contains(n) && !harmless.contains(n)).collect();
    let some = [1, 2, 3, 6, 9, 10, 12, 13, 14, 15, 16, 29, 30, 34, 64];
    let signals = if crate::properties::full() { &all[..] } else { &some[..] };
    for mode in MODES {
        for signal in signals {
            let (status, ..) = shell_in(mode, state.path(), &format!("ulimit -c 0; kill -{signal} $$"));
            assert_eq!(status.signal(), Some(*signal), "{mode:?}, signal {signal}: {status:?}");
        }
    }
    tell(&format!("C1: {} signals in two modes: died of alike", signals.len()));
}

#[test]
fn a_missing_command_is_127_and_a_plain_file_126() {
    let state = tempfile::tempdir().unwrap();
    let run = |name: &str| oomph(state.path()).args(["run", "--", name]).output().unwrap();
    let missing = run("/no/such/program");
    assert_eq!(missing.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/program"));
    let plain = state.path().join("plain");
    fs::write(&plain, "not a program").unwrap();
    assert_eq!(run(plain.to_str().unwrap()).status.code(), Some(126));
}

#[test]
fn output_passes_through_untouched() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("bytes");
    let mebibytes = if crate::properties::full() { 1024 } else { 3 };
    let mut dice = 7u64;
    let mut writer = std::io::BufWriter::new(fs::File::create(&file).unwrap());
    for _ in 0..mebibytes << 17 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        writer.write_all(&(dice ^ dice >> 29).to_le_bytes()).unwrap();
    }
    writer.write_all(b"\r  1%|#  | 1/2\r\x1b[31mlast line without its end").unwrap();
    drop(writer);
    let mut child = oomph(state.path())
        .args(["run", "--no-gpu", "--", "sh", "-c", &format!("cat {}; printf complaint >&2", file.display())])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // As it comes: a gigabyte is not held in memory.
    let same = |mut came: Box<dyn Read>| {
        let mut want = std::io::BufReader::with_capacity(1 << 16, fs::File::open(&file).unwrap());
        let (mut one, mut other, mut read) = (vec![0; 1 << 16], vec![0; 1 << 16], 0);
        while let Ok(n @ 1..) = came.read(&mut one) {
            want.read_exact(&mut other[..n]).unwrap();
            assert!(one[..n] == other[..n], "other bytes after {read}");
            read += n as u64;
        }
        assert_eq!(read, fs::metadata(&file).unwrap().len());
        read
    };
    let read = same(Box::new(child.stdout.take().unwrap()));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let rest = output.stderr.strip_prefix(b"complaint").unwrap();
    // A recording takes no gigabyte, which oomph tells when the command is through.
    assert!(rest.is_empty() || mebibytes > 3 && rest.starts_with(b"oomph: not recorded"), "{rest:?}");
    // A bar that is drawn anew and anew.
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); printf '\\r%4d/3000 |##| 1.00it/s' $i; done; echo";
    let direct = Command::new("sh").args(["-c", script]).output().unwrap().stdout;
    for mode in MODES {
        let (_, out, _) = shell_in(mode, state.path(), script);
        assert!(out == direct, "{mode:?}: {} bytes of {}", out.len(), direct.len());
    }
    tell(&format!("C5: {read} random bytes and a bar's {}: as they were", direct.len()));
}

#[test]
fn signals_are_forwarded_once_and_hang_ups_are_not() {
    let names = ["TERM", "INT", "QUIT", "USR1", "USR2", "CONT"];
    for mode in MODES {
        let state = tempfile::tempdir().unwrap();
        let [seen, ready, end] = ["seen", "ready", "end"].map(|name| state.path().join(name));
        let script = format!(
            "for s in {} HUP; do trap \"echo $s >> {seen}\" $s; done; touch {ready}; while [ ! -e {end} ]; do sleep 0.02; done; exit 7",
            names.join(" "),
            seen = seen.display(),
            ready = ready.display(),
            end = end.display()
        );
        let mut child = oomph(state.path())
            .arg("run")
            .args(mode)
            .args(["--", "sh", "-c", &script])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until("the child is ready", || ready.exists());
        let kill = |name: &str| {
            let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
            assert!(status.success());
        };
        for (nth, name) in names.iter().enumerate() {
            kill(name);
            until(name, || fs::read_to_string(&seen).is_ok_and(|text| text.lines().count() == nth + 1));
        }
        kill("HUP");
        kill("WINCH");
        // One more that comes through: what was sent before has had its time.
        kill("USR1");
        until("the last one", || fs::read_to_string(&seen).is_ok_and(|text| text.lines().count() > names.len()));
        fs::write(&end, "").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7), "{mode:?}");
        assert_eq!(fs::read_to_string(&seen).unwrap(), format!("{}\nUSR1\n", names.join("\n")), "{mode:?}");
    }
    tell("C4: 6 signals in two modes: once each; HUP and WINCH: never");
}

#[test]
fn the_child_does_not_wait_for_a_stopped_oomph() {
    let state = tempfile::tempdir().unwrap();
    let (ready, go, done) = (state.path().join("ready"), state.path().join("go"), state.path().join("done"));
    let script = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.02; done; head -c 50000000 /dev/zero; touch {}",
        ready.display(),
        go.display(),
        done.display()
    );
    let mut child =
        oomph(state.path()).args(["run", "--", "sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    until("the child is ready", || ready.exists());
    Command::new("kill").args(["-STOP", &child.id().to_string()]).status().unwrap();
    fs::write(&go, "").unwrap();
    // 50 MB are far more than a pipe holds: with one, the child would stand still now.
    until("the child wrote everything", || done.exists());
    Command::new("kill").args(["-CONT", &child.id().to_string()]).status().unwrap();
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(out.len(), 50_000_000);
    assert!(child.wait().unwrap().success());
}

/// The process that the caller started is killed, the supervisor, or both, in this order.
#[test]
fn the_child_outlives_a_killed_oomph() {
    let rounds = if crate::properties::full() { 100 } else { 3 };
    for round in 0..rounds {
        let state = tempfile::tempdir().unwrap();
        let [ready, go, done] = ["ready", "go", "done"].map(|name| state.path().join(name));
        // torchrun sets a handler of its own for hang-ups: one that comes would end it.
        let script = format!(
            "trap 'exit 3' HUP; echo $PPID > {ready}.new; mv {ready}.new {ready}; while [ ! -e {} ]; do sleep 0.02; done; echo still here; touch {}",
            go.display(),
            done.display(),
            ready = ready.display(),
        );
        let mut child =
            oomph(state.path()).args(["run", "--", "sh", "-c", &script]).stdout(Stdio::null()).spawn().unwrap();
        until("the child is ready", || ready.exists());
        if round % 3 != 0 {
            let supervisor = fs::read_to_string(&ready).unwrap();
            let status = Command::new("kill").args(["-KILL", supervisor.trim()]).status().unwrap();
            assert!(status.success(), "nobody supervises");
        }
        if round % 3 != 1 {
            let _ = child.kill();
        }
        fs::write(&go, "").unwrap();
        until("the child went on to its end", || done.exists());
        let _ = child.kill();
        child.wait().unwrap();
    }
    tell(&format!("C3: {rounds} times oomph was killed: the command went on to its end each time"));
}

/// Somebody's `| less` that nobody scrolls: what oomph knows and records does not wait for it.
#[test]
fn a_reader_that_stands_still_holds_up_nothing_but_the_output() {
    let state = tempfile::tempdir().unwrap();
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; exit 5";
    let mut child = oomph(state.path())
        .args(["run", "--no-gpu", "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ended = || {
        let runs = fs::read_dir(state.path().join("runs")).into_iter().flatten().flatten();
        runs.into_iter().any(|run| oomph::store::live::Ended::read(&run.path()).is_some())
    };
    until("the end is written down although nobody reads the output", ended);
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(out.len(), 3_000_001);
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn a_terminal_on_request() {
    let state = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        oomph(state.path()).args(["run", "--no-gpu", "--pty", "--", "sh", "-c", script]).output().unwrap()
    };
    let output = run("test -t 1 && test -t 2 && stty size <&1; printf 'a\nb\r'; echo c >&2; exit 7");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "40 120\na\nb\rc\n", "byte for byte, and a size");
    assert_eq!(output.status.code(), Some(7));
    // More than a terminal holds at once, its last bytes at the very end.
    let output = run("head -c 300000 /dev/zero | tr '\\0' y; printf z; kill -TERM $$");
    assert_eq!(output.stdout.len(), 300_001);
    assert_eq!(output.status.signal(), Some(15));
}

#[test]
fn standard_input_reaches_the_child() {
    let state = tempfile::tempdir().unwrap();
    let mut child =
        oomph(state.path()).args(["run", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"hello");
}

/// A script that prints what it caught, and dies of it: one failure, told where the traceback is.
#[test]
fn what_both_outputs_tell_is_one_failure() {
    let state = tempfile::tempdir().unwrap();
    let message = "CUDA out of memory. Tried to allocate 1.90 GiB. GPU 0 has a total capacity of 15.73 GiB of which 1.28 GiB \
        is free. Including non-PyTorch memory, this process has 14.43 GiB memory in use. Of the allocated memory 11.82 GiB \
        is allocated by PyTorch, and 2.41 GiB is reserved by PyTorch but unallocated.";
    let script = format!(
        "echo '{message}'; printf '%s\\n' 'Traceback (most recent call last):' '  File \"/t/train.py\", line 3, in step' \
        '    loss.backward()' 'torch.OutOfMemoryError: {message}' >&2; exit 1"
    );
    shell(state.path(), &script);
    let jsonl = oomph(state.path()).args(["export", "last", "--format", "jsonl"]).output().unwrap().stdout;
    let lines: Vec<serde_json::Value> =
        jsonl.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let failures: Vec<_> = lines.iter().filter(|line| line["type"] == "failure").collect();
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert_eq!(failures[0]["phase"]["id"], "backward");
    assert_eq!(failures[0]["where"]["source"], "error.log");
}
