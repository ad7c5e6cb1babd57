//! Reading a log (T4 to T11) under everything that files and file systems do. T1 to T3 are in `tests/it/tail.rs`.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use oomph::{
    model::{Event, EventKind, SourceId},
    session::{Session, log::Log as Lines},
    source::file::Tail,
};

use super::{
    count, has, memory_kib, oomph,
    seat::{Log, Seat},
    tell, until,
};

/// Names the path whose tail [`subject`] is to be.
const SUBJECT: &str = "OOMPH_TEST_SUBJECT";
/// Names the file in which a subject says how many bytes it has read.
const SEEN: &str = "OOMPH_TEST_SEEN";

/// Not a test by itself: tails a file to the line END and prints what it read, in a process that faults can be put into.
#[test]
fn subject() {
    let Some(path) = std::env::var_os(SUBJECT) else { return };
    let mut tail = Tail::new(SourceId(0), path.into());
    let (mut all, mut out) = (Vec::new(), std::io::stdout().lock());
    while !all.ends_with(b"END\n") {
        while tail.poll(&mut |kind| match kind {
            EventKind::Output { data, .. } => all.extend_from_slice(&data),
            EventKind::Truncated { .. } => all.extend_from_slice(b"<truncated>"),
            _ => {}
        }) {}
        if let Some(seen) = std::env::var_os(SEEN) {
            fs::write(seen, all.len().to_string()).unwrap();
        }
        thread::sleep(Duration::from_millis(1));
    }
    out.write_all(b"\n<begin>").and_then(|()| out.write_all(&all)).and_then(|()| out.write_all(b"<end>")).unwrap();
}

/// Starts [`subject`] behind `before` (a program and its arguments).
fn start_subject(before: &[&str], path: &Path, seen: &Path) -> Child {
    let own = std::env::current_exe().unwrap();
    let mut words: Vec<&str> = before.to_vec();
    let own = own.to_str().unwrap();
    words.extend([own, "--exact", "reliability::tailing::subject", "--nocapture", "--test-threads=1"]);
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env(SUBJECT, path)
        .env(SEEN, seen)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Waits until a subject has read so many bytes; `false` where it is hopeless.
fn has_seen(seen: &Path, bytes: usize) -> bool {
    let start = Instant::now();
    let read = || fs::read_to_string(seen).ok().and_then(|n| n.parse::<usize>().ok());
    while read().is_none_or(|n| n < bytes) {
        if start.elapsed() > Duration::from_secs(20) {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// What a subject has read, once it has ended; waits at most half a minute.
fn read_by(mut child: Child) -> Result<String, String> {
    let mut output = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        output.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let start = Instant::now();
    while !reader.is_finished() && start.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(2));
    }
    let ended = reader.is_finished();
    let _ = child.kill();
    let _ = child.wait();
    if !ended {
        return Err("it never came to the end".into());
    }
    let text = reader.join().unwrap().unwrap();
    let read =
        text.split_once("<begin>").and_then(|(_, rest)| rest.rsplit_once("<end>")).map(|(read, _)| read.to_string());
    read.ok_or_else(|| format!("it ended early: {text}"))
}

/// T4: a log in many scripts, cut in two at every place, and fed byte by byte: the same lines, the same metrics, no letter
/// broken; an unfinished line is there at once.
#[test]
fn a_cut_anywhere_changes_nothing() {
    let mut text = String::new();
    let scripts = ["многие языки", "多くの言語", "ภาษามากมาย", "لغات كثيرة", "éàü", "👩‍💻🎉", "ﬀ", "日本\t語"];
    let mut n = 0;
    while text.len() < count(12 << 10, 64 << 10) {
        n += 1;
        text += &format!("{} {n} {}\r\n", scripts[n % scripts.len()], scripts[n / 3 % scripts.len()]);
        text += &format!("\r {n}%|## {}| 1/9\r {n}%|###{}| 2/9", scripts[n % 3], scripts[n % 5]);
        text += &format!("\n{{'loss': 0.{n}, 'learning_rate': 1e-05, 'epoch': {n}.0}}\n");
    }
    text += "no end of the line 語";
    let bytes = text.as_bytes();
    let at = Timestamp::UNIX_EPOCH;
    let lines = |parts: &[&[u8]]| {
        let mut log = Lines::default();
        let mut offset = 0;
        for part in parts {
            log.feed(at, offset, part);
            offset += part.len() as u64;
        }
        log.finish(at);
        log.lines().iter().map(|l| (l.number, l.byte, l.text.clone())).collect::<Vec<_>>()
    };
    let whole = lines(&[bytes]);
    assert!(whole.iter().all(|(_, _, text)| !text.as_str().contains('\u{fffd}')));
    let step = count(97, 1);
    let mut cuts = 0;
    for cut in (0..bytes.len()).step_by(step) {
        let got = lines(&[&bytes[..cut], &bytes[cut..]]);
        let other = got.iter().zip(&whole).find(|(got, whole)| got != whole);
        assert!(
            got == whole,
            "cut at {cut}, {:?}: {other:?}",
            String::from_utf8_lossy(&bytes[cut.saturating_sub(9)..cut])
        );
        cuts += 1;
    }
    // Byte by byte through all of a session; what is not finished can be seen at any time.
    let mut session = Session::default();
    let source = SourceId(0);
    let send = |session: &mut Session, kind| session.apply(Event { at, kind });
    send(&mut session, EventKind::Opened { source, name: "x".into(), path: None, size: None });
    send(&mut session, EventKind::CaughtUp { source });
    let mut seen_partial = 0;
    for (offset, byte) in bytes.iter().enumerate() {
        send(&mut session, EventKind::Output { source, offset: offset as u64, data: vec![*byte] });
        seen_partial += usize::from(session.sources[&source].log.partial().is_some());
    }
    send(&mut session, EventKind::Ended { source });
    let got: Vec<_> = session.sources[&source].log.lines().iter().map(|l| (l.number, l.byte, l.text.clone())).collect();
    assert!(got == whole, "byte by byte");
    assert_eq!(session.metrics.points(), n as u64, "each point once");
    assert!(seen_partial > bytes.len() / 2);
    tell(&format!(
        "T4: {cuts} places of {} bytes, and byte by byte: the same {} lines, {n} points once each",
        bytes.len(),
        whole.len()
    ));
}

/// T5 and T6: a million redraws and an endless line in a watched file take no memory, and what comes next is shown.
#[test]
fn bars_and_endless_lines_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(folder.path());
    let mut seat = Seat::oomph(folder.path(), &["--no-gpu", "--no-record", log.name()], &[]);
    log.say("{'loss': 1.25, 'epoch': 0.1}\n");
    seat.shows("1.25");
    seat.press("5");
    let pid = seat.child.id();
    // What is read in bulk once warms the buffers up, and fills the curve of the bar's own figures; growth counts after that.
    let frames = count(60_000, 1_000_000);
    let bar = |n: usize| {
        let bar = "#".repeat(200 + n % 20);
        format!("\r{:3}% {n}/{frames} [00:01<00:09, 1.00it/s, loss=0.{n:07}] |{bar}|", n * 100 / frames)
    };
    let warm = frames / 3;
    let mut say = |from: usize, to: usize| {
        for n in (from..to).step_by(10_000) {
            log.say(&(n..to.min(n + 10_000)).map(bar).collect::<String>());
        }
        seat.shows_within(Duration::from_mins(10), &format!("loss=0.{:07}", to - 1));
    };
    say(0, warm);
    let before = memory_kib(pid, "VmRSS").unwrap();
    let start = Instant::now();
    say(warm, frames);
    let grown = memory_kib(pid, "VmRSS").unwrap().saturating_sub(before);
    tell(&format!("T5: {frames} redraws without a line break in {:.1?}: {grown} KiB more memory", start.elapsed()));
    assert!(grown < 8 << 10, "{grown} KiB");

    let before = memory_kib(pid, "VmRSS").unwrap();
    let mebibytes = count(24, 1024);
    log.say("\nthe endless line begins ");
    for _ in 0..mebibytes {
        log.say(&"x".repeat(1 << 20));
    }
    log.say(" and ends\nthe line after it\n");
    let written = Instant::now();
    seat.shows("the line after it");
    let grown = memory_kib(pid, "VmRSS").unwrap().saturating_sub(before);
    tell(&format!(
        "T6: a line of {mebibytes} MiB: {grown} KiB more memory, the next line shown {:.1?} after it was written",
        written.elapsed()
    ));
    assert!(grown < 16 << 10, "{grown} KiB");
    seat.signal("TERM");
    seat.end();
}

/// T7: files that are no text.
#[test]
fn binary_files_are_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let utf16: Vec<u8> = "loss 1.0\nнеобычно\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let sparse = folder.path().join("lastlog");
    let file = File::create(&sparse).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"after the hole\n", 100 << 30).unwrap();
    let nuls = [vec![0; 10_000_000], b"after the zeros\n".to_vec()].concat();
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let cases: &[(&str, &[u8], &str)] = &[
        ("zeros.log", &nuls, "[10000000 NUL bytes]after the zeros"),
        ("latin1.log", b"caf\xe9 na\xefve\nlast line\n", "last line"),
        ("utf16.log", &utf16, ""),
        ("program.log", &program[..1 << 20], ""),
        ("empty.log", b"", ""),
        ("one-byte.log", b"\x00", ""),
    ];
    let mut slowest = Duration::ZERO;
    let mut look = |path: &Path, want: &str| {
        for json in [false, true] {
            let start = Instant::now();
            let mut command = oomph(folder.path());
            command.args(["--once", "--no-gpu"]).args(json.then_some("--json")).arg(path);
            let output = command.output().unwrap();
            slowest = slowest.max(start.elapsed());
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
            assert!(json || text.contains(want), "{}: no {want:?} in {text}", path.display());
        }
        for command in ["diagnose", "metrics"] {
            let code = oomph(folder.path()).arg(command).arg(path).output().unwrap().status.code();
            assert!(code.is_some_and(|c| c <= 2), "{command} {}: {code:?}", path.display());
        }
    };
    for (name, bytes, want) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        look(&path, want);
    }
    let start = Instant::now();
    let output = oomph(folder.path()).args(["--once", "--no-gpu"]).arg(&sparse).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("after the hole"));
    tell(&format!(
        "T7: {} files that are no text, {slowest:.1?} at most; 100 GiB of hole in {:.1?}",
        cases.len(),
        start.elapsed()
    ));
}

fn strace(arguments: &[&str]) -> Option<Vec<String>> {
    has("strace", &["-o", "/dev/null", "true"])
        .then(|| ["strace", "-f", "-o", "/dev/null"].iter().chain(arguments).map(ToString::to_string).collect())
}

/// Puts oomph behind strace in front of a terminal.
fn traced(state: &Path, arguments: &[&str], own: &[&str]) -> Option<Seat> {
    let mut words = strace(arguments)?;
    words.push(env!("CARGO_BIN_EXE_oomph").into());
    words.extend(own.iter().map(ToString::to_string));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Some(Seat::take(words[0], &words[1..], state, &[]))
}

/// T8: without file notifications polling goes on.
#[test]
fn no_notifications_are_needed() {
    for fault in ["inotify_init1:error=EMFILE", "inotify_add_watch:error=ENOSPC"] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(folder.path());
        log.say("the first line\n");
        let inject = format!("inject={fault}");
        let arguments = ["-e", "trace=inotify_init1,inotify_add_watch", "-e", &inject];
        let Some(mut seat) = traced(folder.path(), &arguments, &["--no-gpu", "--no-record", log.name()]) else {
            return;
        };
        seat.shows("the first line");
        let mut slowest = Duration::ZERO;
        for n in 0..count(3, 20) {
            // Longer than a poll takes when nothing happens: the slowest pace is the one that counts.
            thread::sleep(Duration::from_millis(700));
            log.say(&format!("line number {n} of them\n"));
            let said = Instant::now();
            seat.shows(&format!("line number {n} of them"));
            slowest = slowest.max(said.elapsed());
        }
        tell(&format!("T8: {fault}: a new line shown after {slowest:.1?} at most"));
        seat.press("q");
        seat.end();
    }
}

/// T9: a mount that never answers costs its own file: the others go on, the screen says so, and leaving waits for nobody.
#[test]
fn a_hung_mount_costs_its_own_file() {
    for calls in ["statx,openat", "pread64"] {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(folder.path());
        log.say("{'loss': 1.25, 'epoch': 0.1}\n");
        let slow = folder.path().join("slow.log");
        fs::write(&slow, "never to be read\n").unwrap();
        let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:delay_enter=60000000"));
        let arguments = ["-P", slow.to_str().unwrap(), "-e", &trace, "-e", &inject];
        let own = ["--no-gpu", "--no-record", log.name(), slow.to_str().unwrap()];
        let Some(seat) = traced(folder.path(), &arguments, &own) else { return };
        seat.shows("1.25");
        seat.shows("no answer");
        log.say("{'loss': 7.75, 'epoch': 0.2}\n");
        let said = Instant::now();
        seat.shows("7.75");
        let shown = said.elapsed();
        let left = Instant::now();
        seat.press("q");
        // strace itself may wait for the call that it holds up: what counts is the terminal.
        until("the screen is left", || !seat.look_at(vt100::Screen::alternate_screen));
        let pids = || {
            let mut found = Vec::new();
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let own = line.starts_with(env!("CARGO_BIN_EXE_oomph").as_bytes());
                let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                if own && String::from_utf8_lossy(&line).contains(slow.to_str().unwrap()) && !stat.contains(") Z ") {
                    found.push(entry.file_name());
                }
            }
            found
        };
        until("oomph is gone", || pids().is_empty());
        tell(&format!(
            "T9: {calls} hang on one file: the other's line after {shown:.1?}, gone {:.1?} after q",
            left.elapsed()
        ));
    }
}

/// T10: an error of any call, at any time: the file is read whole and once.
#[test]
fn an_error_of_any_call_costs_nothing() {
    if !has("strace", &["-o", "/dev/null", "true"]) {
        return;
    }
    let errors = ["ESTALE", "EIO", "EINTR", "EAGAIN"];
    let calls = ["openat", "pread64", "statx", "lseek"];
    let places: Vec<usize> = if count(0, 1) == 1 { (1..=100).collect() } else { vec![1, 4, 8] };
    let mut cases = 0;
    for call in calls {
        for error in errors {
            for place in &places {
                // The small count takes each pair at one place.
                if places.len() == 3 && *place != places[cases_of(call, error) % 3] {
                    continue;
                }
                fault(call, error, *place);
                cases += 1;
            }
        }
    }
    tell(&format!("T10: {cases} errors of {} calls: read whole and once in all", calls.len()));
}

/// Bytes of so many first lines and of the lines up to `line n`.
fn written_bytes(first: usize, n: usize) -> usize {
    first * "the beginning of the file\n".len() + (0..=n).map(|n| format!("line {n}\n").len()).sum::<usize>()
}

fn cases_of(call: &str, error: &str) -> usize {
    call.len() + error.len()
}

fn fault(call: &str, error: &str, place: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.log");
    let mut file = File::create(&path).unwrap();
    let mut written = String::new();
    let mut say = |file: &mut File, text: &str| {
        written += text;
        file.write_all(text.as_bytes()).unwrap();
    };
    say(&mut file, &"the beginning of the file\n".repeat(40));
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}:when={place}"));
    let path_shown = path.to_str().unwrap();
    let before = ["strace", "-f", "-o", "/dev/null", "-P", path_shown, "-e", &trace, "-e", &inject];
    let seen = folder.path().join("seen");
    let child = start_subject(&before, &path, &seen);
    for n in 0..30 {
        say(&mut file, &format!("line {n}\n"));
        if n == 15 {
            // Both files are there long enough to be seen.
            assert!(
                has_seen(&seen, written_bytes(40, n)),
                "{error} of {call} at {place}: not read before the rotation"
            );
            fs::rename(&path, folder.path().join("train.log.1")).unwrap();
            file = File::create(&path).unwrap();
        }
        if n == 16 {
            assert!(has_seen(&seen, written_bytes(40, n)), "{error} of {call} at {place}: not read after the rotation");
        }
        thread::sleep(Duration::from_millis(1));
    }
    say(&mut file, "END\n");
    let read = read_by(child).unwrap_or_else(|why| panic!("{error} of {call} at {place}: {why}"));
    assert!(read == written, "{error} of {call} at {place}: {} bytes of {}", read.len(), written.len());
}

/// T11: what may no longer be read goes on through the open handle; a new file that may not be read, or a folder that is gone, is
/// found again when it comes back.
#[test]
fn lost_permissions_come_back() {
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    if !has(nobody[0], &[&nobody[1..], &["true"]].concat()) {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(outer.path(), 0o755);
    let folder = outer.path().join("logs");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("train.log");
    let mut file = File::create(&path).unwrap();
    mode(&path, 0o644);
    let reachable =
        Command::new("setpriv").args(&nobody[1..]).arg("test").arg("-x").arg(std::env::current_exe().unwrap()).status();
    if !reachable.is_ok_and(|s| s.success()) {
        tell("skipped: T11: another user cannot reach this test's program");
        return;
    }
    let mut written = String::new();
    let mut say = |file: &mut File, text: &str| {
        written += text;
        file.write_all(text.as_bytes()).unwrap();
    };
    say(&mut file, "readable\n");
    let open = tempfile::tempdir().unwrap();
    mode(open.path(), 0o777);
    let seen = open.path().join("seen");
    let child = start_subject(&nobody, &path, &seen);
    assert!(has_seen(&seen, 9));
    mode(&path, 0o000);
    say(&mut file, "through the open handle\n");
    assert!(has_seen(&seen, 33));
    fs::rename(&path, folder.join("old")).unwrap();
    file = File::create(&path).unwrap();
    mode(&path, 0o000);
    say(&mut file, "not readable at first\n");
    thread::sleep(Duration::from_millis(50));
    mode(&path, 0o644);
    assert!(has_seen(&seen, 55));
    fs::rename(&folder, outer.path().join("moved")).unwrap();
    say(&mut file, "its folder is gone\n");
    assert!(has_seen(&seen, 74));
    fs::create_dir(&folder).unwrap();
    file = File::create(&path).unwrap();
    mode(&path, 0o644);
    say(&mut file, "END\n");
    let back = Instant::now();
    let read = read_by(child).unwrap();
    assert_eq!(read, written);
    tell(&format!(
        "T11: permissions and a folder lost and regained: read whole and once, the last {:.0?} after it came back",
        back.elapsed()
    ));
}
