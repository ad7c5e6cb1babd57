//! Long life (D9): hours of a run in minutes, with faults all the while. Memory, descriptors and threads must stay flat.
//!
//! Runs only where it is asked for: `OOMPH_TEST_SOAK=SECONDS`.

use std::{
    fs::{self, File},
    io::Write,
    time::{Duration, Instant},
};

use super::{cpu_seconds, gpus::library, memory_kib, seat::Seat, tell};

/// GPU samples come ten times as often as by default, and the log is some hundred times as busy as a trainer's.
const INTERVAL: &str = "0.1";
const LINES: usize = 100;
const TICK: Duration = Duration::from_millis(100);
/// Between two faults.
const FAULT: Duration = Duration::from_secs(20);

/// One look at the process.
struct Look {
    seconds: f64,
    rss_kib: u64,
    files: usize,
    threads: usize,
}

fn look(pid: u32, start: Instant) -> Look {
    let entries = |name: &str| fs::read_dir(format!("/proc/{pid}/{name}")).map_or(0, Iterator::count);
    Look {
        seconds: start.elapsed().as_secs_f64(),
        rss_kib: memory_kib(pid, "VmRSS").unwrap(),
        files: entries("fd"),
        threads: entries("task"),
    }
}

/// KiB an hour by least squares.
fn slope(looks: &[Look]) -> f64 {
    let n = looks.len() as f64;
    let mean = |f: &dyn Fn(&Look) -> f64| looks.iter().map(f).sum::<f64>() / n;
    let (x, y) = (mean(&|l| l.seconds), mean(&|l| l.rss_kib as f64));
    let (mut up, mut down) = (0.0, 0.0);
    for l in looks {
        up += (l.seconds - x) * (l.rss_kib as f64 - y);
        down += (l.seconds - x).powi(2);
    }
    up / down * 3600.0
}

#[test]
fn a_long_run_with_faults_takes_no_more_and_more() {
    let Some(seconds) = std::env::var("OOMPH_TEST_SOAK").ok().and_then(|s| s.parse::<u64>().ok()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.log");
    let mut file = File::create(&path).unwrap();
    let script = folder.path().join("gpus");
    fs::write(&script, "").unwrap();
    let mut variables = vec![("FAKE_NVML_SCRIPT", script.to_str().unwrap()), ("FAKE_NVML_GPUS", "8")];
    if let Some(library) = library() {
        variables.push(("LD_LIBRARY_PATH", library.to_str().unwrap()));
    }
    let seat = Seat::oomph(folder.path(), &["--interval", INTERVAL, path.to_str().unwrap()], &variables);
    writeln!(file, "{{'loss': 1.0, 'epoch': 0.0}}").unwrap();
    seat.shows("train.log");
    let pid = seat.child.id();
    let start = Instant::now();
    let (mut looks, mut faults, mut step, mut written) = (Vec::new(), 0usize, 0u64, 0u64);
    let mut next_fault = FAULT;
    while start.elapsed() < Duration::from_secs(seconds) {
        let before = Instant::now();
        let mut text = String::new();
        for n in 0..LINES {
            if n % 50 == 0 {
                step += 1;
                text += &format!(
                    "{{'loss': {:.4}, 'grad_norm': 1.{n}, 'learning_rate': 1e-05, 'epoch': {:.4}}}\n",
                    1.0 + (step % 97) as f64 / 50.0,
                    step as f64 / 1e4
                );
            } else {
                text += &format!(
                    "\x1b[32mINFO\x1b[0m worker {n}: {} многие языки {step}\n",
                    "some words that fill a line of a log ".repeat(2)
                );
            }
        }
        text += &format!("\r {step}/1000000 [00:01<00:09, 1.00it/s]");
        written += text.len() as u64;
        file.write_all(text.as_bytes()).unwrap();
        if start.elapsed() >= next_fault {
            next_fault += FAULT;
            faults += 1;
            match faults % 10 {
                0 => seat.signal("STOP"),
                1 => {
                    fs::rename(&path, folder.path().join("train.log.1")).unwrap();
                    file = File::create(&path).unwrap();
                }
                2 => {
                    seat.signal("CONT");
                    file.set_len(0).unwrap();
                    file = fs::OpenOptions::new().append(true).open(&path).unwrap();
                }
                3 => seat.look(false),
                4 => {
                    seat.look(true);
                    fs::write(&script, "0 2 lost 1\n0 3 mem ~99999\n").unwrap();
                }
                5 => {
                    fs::write(&script, "").unwrap();
                    fs::remove_file(&path).unwrap();
                    file = File::create(&path).unwrap();
                }
                6 => {
                    // Only the process that reads the GPUs: it is the child of ours.
                    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
                    let all: Vec<String> = fs::read_dir(format!("/proc/{pid}/task"))
                        .unwrap()
                        .flatten()
                        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
                        .collect();
                    for child in all.iter().chain([&children]).flat_map(|c| c.split_whitespace()) {
                        let _ = std::process::Command::new("kill")
                            .args(["-SEGV", child])
                            .stderr(std::process::Stdio::null())
                            .status();
                    }
                }
                7 => {
                    for n in 0..200u16 {
                        seat.resize(20 + n, 5 + n % 60);
                    }
                    seat.resize(120, 40);
                }
                8 => {
                    seat.press("7\x1b[200~");
                    seat.type_in(
                        "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB\n".repeat(200).as_bytes(),
                    );
                    seat.press("\x1b[201~");
                }
                _ => {
                    file.write_all(&vec![b'x'; 8 << 20]).unwrap();
                    file.write_all(&vec![0; 1 << 20]).unwrap();
                    writeln!(file).unwrap();
                    seat.press("\x1b123456a\x1b?\x1b51");
                }
            }
        }
        // A stopped or frozen one is stopped for one tick of faults and no longer.
        if faults % 10 == 0 && faults > 0 && start.elapsed() + Duration::from_secs(15) > next_fault {
            seat.signal("CONT");
        }
        if looks.last().is_none_or(|l: &Look| start.elapsed().as_secs_f64() - l.seconds > 5.0) {
            looks.push(look(pid, start));
        }
        std::thread::sleep(TICK.saturating_sub(before.elapsed()));
    }
    seat.signal("CONT");
    seat.look(true);
    // What fills once (the text to scroll back through, the curves) is full after a third.
    let settled: Vec<Look> = looks.split_off(looks.len() / 3);
    let range = |f: &dyn Fn(&Look) -> u64| (settled.iter().map(f).min().unwrap(), settled.iter().map(f).max().unwrap());
    let (rss, files, threads) = (range(&|l| l.rss_kib), range(&|l| l.files as u64), range(&|l| l.threads as u64));
    let grown = slope(&settled);
    let runs = fs::read_dir(folder.path().join("runs")).unwrap().flatten().next().unwrap().path();
    let of = |name: &str| fs::metadata(runs.join(name)).map_or(0, |m| m.len() >> 20);
    tell(&format!(
        "D9: {seconds} s, {} MiB of log, {step} points, {faults} faults: memory {} to {} MiB, {grown:+.0} KiB an hour; files {} to {}; threads {} to {}; recording {} MiB, its log {} MiB; {:.0} s of processor",
        written >> 20,
        rss.0 >> 10,
        rss.1 >> 10,
        files.0,
        files.1,
        threads.0,
        threads.1,
        of("run.sqlite"),
        of("run.sqlite-wal"),
        cpu_seconds(pid).unwrap()
    ));
    for l in settled.iter().step_by((settled.len() / 12).max(1)) {
        tell(&format!("    {:6.0} s {:6} KiB {:3} files {:3} threads", l.seconds, l.rss_kib, l.files, l.threads));
    }
    assert!(files.1 - files.0 <= 8 && threads.1 - threads.0 <= 4);
    assert!(of("run.sqlite-wal") <= 64);
    let mut seat = seat;
    seat.signal("TERM");
    assert!(seat.end().0.code().is_some());
}
