//! The recording: whole after a kill, a cut or a refusal of the disk; it leaves room to others, and has one writer.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use oomph::{
    model::{
        Event, EventKind, SourceId,
        metric::{Point, PointKind},
    },
    store::{
        database::{Batch, Database, Row, StoreError},
        recorder::Recorder,
    },
};

use super::{count, has, oomph, seat::Seat, tell, until};

/// Numbers that look like chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }
}

/// The one run of a state folder.
fn recording(state: &Path) -> PathBuf {
    let mut found = None;
    until("a recording begins", || {
        let mut all = fs::read_dir(state.join("runs")).into_iter().flatten().flatten();
        found = all.next().map(|run| run.path().join("run.sqlite")).filter(|path| path.exists());
        found.is_some()
    });
    found.unwrap()
}

fn is_whole(path: &Path) -> bool {
    let database = Database::open(path).unwrap();
    database.text("PRAGMA integrity_check").unwrap().is_some_and(|told| told.as_str() == "ok")
}

/// Bytes of output that a recording holds.
fn output(events: &[Event]) -> u64 {
    let bytes = events.iter().map(|e| if let EventKind::Output { data, .. } = &e.kind { data.len() } else { 0 });
    bytes.sum::<usize>() as u64
}

/// D1: whenever oomph is killed, the recording opens, is whole, and has what is older than a second.
#[test]
fn a_killed_oomph_leaves_all_but_the_last_second() {
    let mut dice = Dice(7);
    let kills = count(4, 500);
    let mut most = 0.0f64;
    for nth in 0..kills {
        let state = tempfile::tempdir().unwrap();
        let mut child = oomph(state.path())
            .args(["run", "--no-gpu", "--headless", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let spool = recording(state.path()).with_file_name("output.log");
        until("the command has begun", || {
            input.write_all(b"{'loss': 3.5, 'epoch': 0.0}\n").unwrap();
            fs::metadata(&spool).is_ok_and(|m| m.len() > 0)
        });
        // How much the command had printed, and when.
        let mut printed = Vec::new();
        let life = Duration::from_millis(1500 + dice.below(900));
        let start = Instant::now();
        let mut n = 0;
        while start.elapsed() < life {
            n += 1;
            writeln!(input, "{{'loss': {:.4}, 'epoch': 0.1}}", 3.0 / f64::from(n)).unwrap();
            printed.push((Instant::now(), fs::metadata(&spool).unwrap().len()));
            thread::sleep(Duration::from_millis(2));
        }
        let killed = Instant::now();
        child.kill().unwrap();
        child.wait().unwrap();
        let path = recording(state.path());
        assert!(is_whole(&path), "kill {nth}");
        let kept = output(&Database::open(&path).unwrap().events().unwrap());
        let oldest_lost = printed.iter().find(|(_, bytes)| *bytes > kept).map(|(at, _)| killed.duration_since(*at));
        let lost = oldest_lost.unwrap_or_default().as_secs_f64();
        most = most.max(lost);
        // A busy machine is late itself: a second is promised to one that is not.
        let late = oldest_lost.filter(|lost| *lost > Duration::from_secs(if kills > 100 { 1 } else { 2 }));
        assert!(late.is_none(), "kill {nth}: {lost:.2} s are lost of {life:?}");
    }
    tell(&format!("D1: {kills} kills: whole each time, {most:.2} s lost at the most"));
}

/// D1: what is told of a run's end is on the disk before it is told.
#[test]
fn what_is_told_is_recorded_before() {
    use std::io::{BufRead, BufReader};
    for nth in 0..count(2, 100) {
        let state = tempfile::tempdir().unwrap();
        let script = "echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.00 GiB is free.'; exit 3";
        let mut child = oomph(state.path())
            .args(["run", "--no-gpu", "--", "sh", "-c", script])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = told.into_iter().find(|line| line.contains("memory"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(line.is_some(), "a diagnosis was told");
        let database = Database::open(&recording(state.path())).unwrap();
        let there = |sql: &str| database.number(sql).unwrap();
        assert_eq!(there("SELECT count(*) FROM failure WHERE is_oom"), Some(1.0), "{nth}");
        assert_eq!(there("SELECT count(*) FROM event WHERE kind = 'exited'"), Some(1.0), "{nth}");
    }
}

/// A page in a write-ahead log, with its head.
const FRAME: usize = 4096 + 24;

/// A recording of batches of two events and two points each, as a kill would leave it: with its write-ahead log.
fn unfinished(folder: &Path) -> (PathBuf, Vec<Event>) {
    let path = folder.join("run.sqlite");
    let mut database = Database::create(&path).unwrap();
    for n in 0..40u64 {
        let mut batch = Batch::default();
        let at = Timestamp::from_microsecond(1_700_000_000_000_000 + n as i64 * 1000).unwrap();
        for half in 0..2 {
            let data = format!("line {n} {half} {}\n", "x".repeat(200)).into_bytes();
            let offset = (n * 2 + half) * 300;
            batch.events.push(Row::output((n * 2 + half) as i64 * 2, at, SourceId(0), offset, data));
            let point = Point { kind: PointKind::Train, canonical: vec![("loss", 1.0)], ..Point::default() };
            batch.points.push((at, point));
        }
        database.write(&batch, n % 5 == 0).unwrap();
    }
    let events = Database::open(&path).unwrap().events().unwrap();
    let copy = folder.join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["run.sqlite", "run.sqlite-wal"] {
        fs::copy(folder.join(name), copy.join(name)).unwrap();
    }
    (copy.join("run.sqlite"), events)
}

/// How much of the whole a recording holds, where it can be read: it is the beginning of it, batch by batch.
fn is_a_beginning(path: &Path, whole: &[Event], what: &str) -> Option<usize> {
    let database = Database::open(path).ok()?;
    let events = database.events().ok()?;
    assert!(events.len() <= whole.len() && events[..] == whole[..events.len()], "{what}: not the beginning");
    let points = database.number("SELECT count(*) FROM point").ok()??;
    assert_eq!(points as usize, events.len(), "{what}: a part of a batch");
    assert_eq!(events.len() % 2, 0, "{what}: a part of a batch");
    Some(events.len())
}

/// D2: whatever part of the last writes a power failure leaves, it is the recording up to some moment.
#[test]
fn a_cut_journal_gives_the_recording_up_to_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole) = unfinished(folder.path());
    let journal = path.with_extension("sqlite-wal");
    let (base, wal) = (fs::read(&path).unwrap(), fs::read(&journal).unwrap());
    let put = |wal: &[u8]| {
        fs::write(&path, &base).unwrap();
        fs::write(&journal, wal).unwrap();
        let _ = fs::remove_file(path.with_extension("sqlite-shm"));
    };
    assert_eq!(whole.len(), 80);
    put(&wal);
    assert_eq!(is_a_beginning(&path, &whole, "all"), Some(80));
    let step = if count(0, 1) == 1 { 1 } else { wal.len() / 90 };
    let (mut cuts, mut reached) = (0, std::collections::BTreeSet::new());
    for end in (0..=wal.len()).step_by(step) {
        put(&wal[..end]);
        reached.extend(is_a_beginning(&path, &whole, &format!("cut at {end}")));
        cuts += 1;
    }
    assert!(reached.len() > 5 && reached.contains(&80) == (wal.len() % step == 0), "{reached:?}");
    let mut dice = Dice(11);
    // Pages that never reached the disk, in any order: the file system writes as it likes.
    let states = count(40, 1500);
    for _ in 0..states {
        let mut broken = wal.clone();
        for _ in 0..=dice.below(4) {
            let frame = 32 + FRAME * dice.below((wal.len() / FRAME) as u64) as usize;
            broken[frame..frame + FRAME].fill(0);
        }
        put(&broken);
        is_a_beginning(&path, &whole, "pages that are missing");
    }
    let flips = count(100, 10_000);
    for _ in 0..flips {
        let mut broken = wal.clone();
        let place = dice.below(broken.len() as u64) as usize;
        broken[place] ^= 1 << dice.below(8);
        put(&broken);
        is_a_beginning(&path, &whole, &format!("a bit flipped at {place}"));
    }
    tell(&format!(
        "D2: {cuts} cuts ({} moments), {states} sets of pages that are missing, {flips} flipped bits: always a beginning",
        reached.len()
    ));
}

/// D3: whatever the disk refuses, once or for good: the command is not touched, and what is missing is told.
#[test]
fn a_disk_that_refuses_costs_the_recording_alone() {
    if !has("strace", &["-o", "/dev/null", "true"]) {
        return;
    }
    let calls = ["pwrite64", "fsync", "fdatasync", "ftruncate"];
    let errors = ["ENOSPC", "EIO", "EDQUOT"];
    let mut cases = 0;
    let mut refuse = |call: &str, error: &str, place: &str| {
        let state = tempfile::tempdir().unwrap();
        let inject = format!("inject={call}:error={error}:when={place}");
        let what = format!("{error} of {call} at {place}");
        let output = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject])
            .arg(env!("CARGO_BIN_EXE_oomph"))
            .args(["run", "--no-gpu", "--", "sh", "-c"])
            .arg("for i in 1 2 3 4; do echo \"{'loss': $i.5, 'epoch': 0.1}\"; sleep 0.2; done; exit 5")
            .env("OOMPH_STATE", state.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(5), "{what}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 4, "{what}");
        let said = String::from_utf8_lossy(&output.stderr);
        let told = said.contains("not record");
        let kept = Database::open(&recording(state.path())).and_then(|db| Ok((db.events()?, db.gaps()?)));
        let whole = kept.as_ref().is_ok_and(|(events, gaps)| {
            let exited = events.iter().any(|e| matches!(e.kind, EventKind::Exited { code: Some(5), .. }));
            assert!(gaps.iter().all(|gap| gap.events == 0) || told, "{what}: {gaps:?} {said}");
            exited && output.stdout.len() as u64 == self::output(events)
        });
        assert!(whole || told, "{what}: nothing was said of what is missing: {said}");
        cases += 1;
        whole
    };
    let places: Vec<String> =
        if count(0, 1) == 1 { (1..=100).map(|n| n.to_string()).collect() } else { vec!["9".into()] };
    for call in calls {
        for (n, error) in errors.into_iter().enumerate() {
            for place in &places {
                if places.len() == 1 && (call.len() + n) % 3 != 0 {
                    continue;
                }
                refuse(call, error, place);
            }
        }
    }
    // From some write on, nothing more is taken.
    assert!(!refuse("pwrite64", "ENOSPC", "30+"), "a disk that is full for good cannot hold everything");
    refuse("fdatasync", "EIO", "2+");
    tell(&format!("D3: {cases} refusals: the command's end, its output and what is missing told each time"));
}

/// A command in a mount namespace of its own, where `folder` is a small file system in memory. The folder is seen from
/// outside by `/proc/PID/root`.
fn on_a_small_disk(folder: &Path, size: &str) -> Option<Vec<String>> {
    let script = format!("mount -t tmpfs -o size={size} none '{}' && exec \"$@\"", folder.display());
    let words = ["unshare", "-rm", "sh", "-c", &script, "sh"];
    has("unshare", &["-rm", "sh", "-c", &format!("mount -t tmpfs none '{}'", folder.display())])
        .then(|| words.map(str::to_string).to_vec())
}

/// D4: the room that checkpoints need is left to them.
#[test]
fn a_recording_leaves_the_disk_to_the_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    // Two gibibytes are to stay free: six mebibytes are left for the recording.
    let Some(words) = on_a_small_disk(&state, "2054m") else { return };
    let log = folder.path().join("train.log");
    let mut file = fs::File::create(&log).unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let own = [env!("CARGO_BIN_EXE_oomph"), "--no-gpu", log.to_str().unwrap()];
    let seat = Seat::take(words[0], &[&words[1..], &own].concat(), &state, &[]);
    let inside = PathBuf::from(format!("/proc/{}/root{}", seat.child.id(), state.display()));
    let path = recording(&inside);
    let free = || {
        let disk = rustix::fs::statvfs(&inside).unwrap();
        disk.f_bavail * disk.f_frsize
    };
    let mut least = free();
    assert!(least > 2 << 30);
    let line = format!("{}\n", "loss and nothing but loss ".repeat(40));
    let start = Instant::now();
    let megabytes = count(12, 200);
    for _ in 0..megabytes {
        for _ in 0..1_000_000 / line.len() {
            file.write_all(line.as_bytes()).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        least = least.min(free());
    }
    seat.shows("nothing is recorded at present: the disk is nearly full");
    while start.elapsed() < Duration::from_secs(4) {
        least = least.min(free());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(least >= 2 << 30, "{} KiB below the mark", ((2 << 30) - least) >> 10);
    // SQLite does not open a path that leads into another namespace.
    let copy = folder.path().join("run.sqlite");
    for end in ["sqlite", "sqlite-wal"] {
        let _ = fs::copy(path.with_extension(end), copy.with_extension(end));
    }
    let gaps = Database::open(&copy).unwrap().gaps().unwrap();
    assert!(gaps.iter().any(|gap| gap.bytes > 0 && gap.reason.as_str().contains("checkpoints")), "{gaps:?}");
    tell(&format!("D4: {megabytes} MB of log, {} KiB above the mark at the least", (least - (2 << 30)) >> 10));
}

/// D5: no write-ahead log where several hosts see one file.
#[test]
fn no_write_ahead_log_where_hosts_share_files() {
    let shared = [
        "6969", "517b", "ff534d42", "fe534d42", "0bd00bd0", "47504653", "19830326", "00c36400", "65735546", "01021997",
        "5346414f", "73757245", "7461636f",
    ];
    let local = ["ef53", "58465342", "01021994"];
    for (magic, is_shared) in shared.iter().map(|m| (m, true)).chain(local.iter().map(|m| (m, false))) {
        let state = tempfile::tempdir().unwrap();
        let seen = state.path().join("seen");
        let script =
            format!("echo \"{{'loss': 2.5}}\"; sleep 0.1; ls {}/runs/* > {}", state.path().display(), seen.display());
        let status = oomph(state.path())
            .env("OOMPH_TEST_FILE_SYSTEM", magic)
            .args(["run", "--no-gpu", "--", "sh", "-c", &script])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let names = fs::read_to_string(&seen).unwrap();
        assert_eq!(names.contains("run.sqlite-wal"), !is_shared, "{magic}: {names}");
        assert!(!names.contains("run.sqlite-shm") || !is_shared, "{magic}: no memory is shared between hosts");
        // Byte 18 of an SQLite file: 2 where it was written through a write-ahead log, else 1.
        let path = recording(state.path());
        assert_eq!(fs::read(&path).unwrap()[18], if is_shared { 1 } else { 2 }, "{magic}");
        assert!(is_whole(&path));
    }
    tell(&format!(
        "D5: {} shared file systems without a write-ahead log, {} local ones with",
        shared.len(),
        local.len()
    ));
}

/// D6: one writes, the others only read, and both may go on at once.
#[test]
fn a_recording_has_one_writer_and_any_number_of_readers() {
    let state = tempfile::tempdir().unwrap();
    let stop = state.path().join("stop");
    let script = format!(
        "i=0; while [ ! -e {} ]; do i=$((i+1)); echo \"{{'loss': $i.5, 'epoch': 0.1}}\"; sleep 0.01; done",
        stop.display()
    );
    let mut run =
        oomph(state.path()).args(["run", "--no-gpu", "--", "sh", "-c", &script]).stdout(Stdio::null()).spawn().unwrap();
    let path = recording(state.path());
    until("there is something in it", || {
        Database::open(&path).is_ok_and(|db| db.events().is_ok_and(|e| !e.is_empty()))
    });
    assert!(matches!(Recorder::start(&path), Err(StoreError::Io { .. })), "a second writer is refused");
    let reader = Database::open(&path).unwrap();
    assert!(reader.change("DELETE FROM event", []).is_err(), "a reader only reads");
    drop(reader);
    let end = Instant::now() + Duration::from_secs(count(4, 60) as u64);
    let readers: Vec<_> = (0..7)
        .map(|n| {
            let state = state.path().to_path_buf();
            thread::spawn(move || {
                let mut read = 0;
                while Instant::now() < end {
                    let words: &[&str] = match n % 3 {
                        0 => &["replay", "last", "--once", "--json"],
                        1 => &["history", "--json"],
                        _ => &["export", "last", "--format", "csv"],
                    };
                    let output = oomph(&state).args(words).output().unwrap();
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success() && !said.contains("not readable"), "{words:?}: {said}");
                    read += 1;
                }
                read
            })
        })
        .collect();
    let read: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    fs::write(&stop, "").unwrap();
    assert!(run.wait().unwrap().success());
    assert!(is_whole(&path));
    let database = Database::open(&path).unwrap();
    let lines = fs::read_to_string(path.with_file_name("output.log")).unwrap().lines().count();
    assert_eq!(database.number("SELECT count(*) FROM point WHERE key = 'loss'").unwrap(), Some(lines as f64));
    tell(&format!("D6: 7 readers read {read} times beside the writer, {lines} points all there"));
}

/// D8: recordings of older schemas are read as they are; newer ones are refused in words, and stay as they are.
#[test]
fn older_recordings_are_read_and_newer_ones_refused() {
    let state = tempfile::tempdir().unwrap();
    let place = |id: &str| {
        let folder = state.path().join("runs").join(id);
        fs::create_dir_all(&folder).unwrap();
        folder.join("run.sqlite")
    };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut read = 0;
    for entry in fs::read_dir(&tests).unwrap() {
        let source = entry.unwrap().path();
        if source.extension().is_none_or(|end| end != "sql") {
            continue;
        }
        read += 1;
        let id = format!("20261124-11315{read}-1");
        let path = place(&id);
        rusqlite::Connection::open(&path).unwrap().execute_batch(&fs::read_to_string(&source).unwrap()).unwrap();
        let before = fs::read(&path).unwrap();
        let ask = |words: &[&str]| {
            let output = oomph(state.path()).args(words).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let frame: serde_json::Value = serde_json::from_str(&ask(&["replay", &id, "--once", "--json"])).unwrap();
        assert_eq!(frame["latest"]["loss"], 2.25, "{source:?}");
        let history: serde_json::Value = serde_json::from_str(&ask(&["history", "--json"])).unwrap();
        let run = history["runs"].as_array().unwrap().iter().find(|run| run["id"] == id.as_str()).unwrap();
        assert_eq!((&run["peak_memory_bytes"], &run["last_loss"]), (&70_000_000_000u64.into(), &2.25.into()));
        assert_eq!(run["settings"]["per_device_train_batch_size"], "8", "{source:?}");
        assert!(ask(&["export", &id, "--format", "csv"]).contains("2.25"));
        assert_eq!(fs::read(&path).unwrap(), before, "{source:?}: reading changes nothing");
    }
    assert!(read >= 2, "a recording of each schema");
    // What comes after this oomph.
    let path = place("20261124-113159-1");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(
            &fs::read_to_string(tests.join("schema-2.sql")).unwrap().replace("user_version = 2", "user_version = 3"),
        )
        .unwrap();
    let before = fs::read(&path).unwrap();
    let output = oomph(state.path()).args(["replay", "20261124-113159-1", "--once"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("newer oomph"), "{said}");
    let output = oomph(state.path()).args(["history"]).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("newer oomph"));
    assert_eq!(fs::read(&path).unwrap(), before);
}
