//! What a trainer pays for oomph: its steps while oomph works and while oomph is stopped, in one run by turns; its wall
//! time with and without; oomph's own processor time; and how long writes take while oomph is stopped by SIGSTOP.
//! `cargo bench --bench trainer`; `-- 20` for twenty runs with and without. Prints figures, judges nothing.
//!
//! The trainer is this program again: steps of fixed arithmetic, one line of log each, every write timed.
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    hint::black_box,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Arithmetic of one step, and the steps of one run.
const WORK: u64 = 3_000_000;
const STEPS: usize = 5000;
/// Steps of the one run in which oomph works and stands still by turns, and how long each turn is.
const LONG: usize = 60_000;
const TURN: Duration = Duration::from_millis(400);
/// Bytes and lines that are written as fast as they go while oomph is stopped: far more than a pipe or a terminal holds.
const LINES: usize = 200_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["train", times] => train(STEPS, WORK, Path::new(times)),
        ["long", times] => train(LONG, WORK, Path::new(times)),
        ["write", times, go] => {
            while !Path::new(go).exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            train(LINES, 0, Path::new(times));
        }
        turns => measure(turns.first().and_then(|n| n.parse().ok()).unwrap_or(10)),
    }
}

/// Steps of arithmetic, each with a line of log. Leaves the seconds of the whole, then those of each write.
fn train(steps: usize, work: u64, times: &Path) {
    let mut out = std::io::stdout().lock();
    let mut writes = Vec::with_capacity(steps);
    let mut ends = Vec::with_capacity(steps);
    let start = Instant::now();
    for step in 0..steps {
        let mut x = black_box(step as u64);
        for n in 0..work {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
        }
        let line = format!(
            "{{'loss': {:.4}, 'grad_norm': 1.2345, 'learning_rate': 1e-05, 'x': {}, 'epoch': 0.1}}\n",
            2.5 - step as f64 * 1e-4,
            black_box(x) % 10
        );
        let before = Instant::now();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
        writes.push(before.elapsed().as_secs_f64());
        ends.push(now());
    }
    let all = start.elapsed().as_secs_f64();
    let mut file = File::create(times).unwrap();
    writeln!(file, "{all}").unwrap();
    for (write, end) in writes.iter().zip(ends) {
        writeln!(file, "{write} {end}").unwrap();
    }
}

/// Seconds since 1970, which two processes share.
fn now() -> f64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

/// Processor seconds that a process has used.
fn processor(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> =
        text.rsplit(')').next().unwrap().split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    fields.get(11).unwrap_or(&0.0) / 100.0 + fields.get(12).unwrap_or(&0.0) / 100.0
}

/// oomph and its helpers, without the trainer.
fn processes_of(oomph: u32) -> Vec<u32> {
    let children = std::fs::read_dir(format!("/proc/{oomph}/task")).into_iter().flatten().flatten();
    let children = children.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        children.flat_map(|text| text.split_whitespace().map(|p| p.parse().unwrap()).collect::<Vec<_>>()).collect();
    let is_helper = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.contains("nvml-helper"))
    };
    std::iter::once(oomph).chain(children.into_iter().filter(is_helper)).collect()
}

fn kill(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(ToString::to_string);
    Command::new("kill").arg(signal).args(pids).status().unwrap();
}

/// Seconds of the whole, and of each step its write and the moment of its end.
fn read(times: &Path) -> (f64, Vec<(f64, f64)>) {
    let text = std::fs::read_to_string(times).unwrap();
    let mut lines = text.lines();
    let all = lines.next().unwrap().parse().unwrap();
    let pair = |line: &str| {
        let (write, end) = line.split_once(' ').unwrap();
        (write.parse().unwrap(), end.parse().unwrap())
    };
    (all, lines.map(pair).collect())
}

/// Step times of one run while oomph works and while it stands still.
fn in_one_run(oomph: &mut Child, times: &Path) {
    let mut stopped: Vec<(f64, f64)> = Vec::new();
    std::thread::sleep(TURN);
    let start = Instant::now();
    let mut used = 0.0;
    let mut worked = Duration::ZERO;
    while !times.exists() {
        let pids = processes_of(oomph.id());
        let before: f64 = pids.iter().map(|pid| processor(*pid)).sum();
        let began = Instant::now();
        std::thread::sleep(TURN);
        let after: f64 = pids.iter().map(|pid| processor(*pid)).sum();
        if after >= before {
            used += after - before;
            worked += began.elapsed();
        }
        kill("-STOP", &pids);
        let from = now();
        std::thread::sleep(TURN);
        stopped.push((from, now()));
        kill("-CONT", &pids);
    }
    oomph.wait().unwrap();
    let (_, steps) = read(times);
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for pair in steps.windows(2) {
        let (begin, end) = (pair[0].1, pair[1].1);
        if stopped.iter().any(|(from, to)| begin > *from && end < *to) {
            off.push(end - begin);
        } else if !stopped.iter().any(|(from, to)| begin < *to + 0.02 && end > *from - 0.02) {
            // What was written meanwhile is caught up with right after.
            on.push(end - begin);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    println!(
        "one run of {:.0} s, oomph working and stopped in turns: microseconds of a step",
        start.elapsed().as_secs_f64()
    );
    println!("  working  median {:.2}  mean {:.2}  ({} steps)", middle(&on) * 1e6, mean(&on) * 1e6, on.len());
    println!("  stopped  median {:.2}  mean {:.2}  ({} steps)", middle(&off) * 1e6, mean(&off) * 1e6, off.len());
    println!(
        "  difference of the medians {:+.3} %, of the means {:+.3} %",
        (middle(&on) / middle(&off) - 1.0) * 100.0,
        (mean(&on) / mean(&off) - 1.0) * 100.0
    );
    println!("  oomph's own processor time: {:.2} % of one core", used / worked.as_secs_f64() * 100.0);
}

fn measure(turns: usize) {
    let folder = tempfile::tempdir().unwrap();
    let times = folder.path().join("times");
    let trainer = std::env::current_exe().unwrap();
    let run = |with: bool, words: &[&std::ffi::OsStr]| -> Child {
        let mut command = if with {
            let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
            command.args(["run", "--headless", "--"]).arg(&trainer);
            command
        } else {
            Command::new(&trainer)
        };
        command.args(words).env("OOMPH_STATE", folder.path().join("state")).stdin(Stdio::null());
        command.stdout(File::create(folder.path().join("train.log")).unwrap()).stderr(Stdio::null()).spawn().unwrap()
    };

    in_one_run(&mut run(true, &["long".as_ref(), times.as_os_str()]), &times);

    println!("wall seconds of {STEPS} steps, in turns: without oomph, with oomph, difference");
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        // Which comes first changes, so that neither has the warmer machine.
        for is_with in if turn % 2 == 0 { [false, true] } else { [true, false] } {
            let _ = std::fs::remove_file(&times);
            run(is_with, &["train".as_ref(), times.as_os_str()]).wait().unwrap();
            if is_with { &mut with } else { &mut without }.push(read(&times).0);
        }
        let (a, b) = (without[turn], with[turn]);
        println!("  {a:.3}  {b:.3}  {:+.2} %", (b / a - 1.0) * 100.0);
    }
    let (a, b) = (middle(&without), middle(&with));
    let (least_a, least_b) = (least(&without), least(&with));
    println!("median {a:.3} and {b:.3}: {:+.2} %", (b / a - 1.0) * 100.0);
    println!("least  {least_a:.3} and {least_b:.3}: {:+.2} %", (least_b / least_a - 1.0) * 100.0);

    // The writes of a trainer whose oomph is stopped, and of one without.
    let _ = std::fs::remove_file(&times);
    let go = folder.path().join("go");
    let mut stopped = run(true, &["write".as_ref(), times.as_os_str(), go.as_os_str()]);
    std::thread::sleep(Duration::from_secs(1));
    kill("-STOP", &[stopped.id()]);
    std::fs::write(&go, "").unwrap();
    while !times.exists() || std::fs::read_to_string(&times).unwrap().lines().count() <= LINES {
        std::thread::sleep(Duration::from_millis(50));
    }
    let (_, held) = read(&times);
    kill("-CONT", &[stopped.id()]);
    stopped.wait().unwrap();
    run(false, &["write".as_ref(), times.as_os_str(), go.as_os_str()]).wait().unwrap();
    let (_, free) = read(&times);
    println!("microseconds of a write, {LINES} of them: median, p99, p99.9, most");
    for (name, mut writes) in [("without oomph", free), ("oomph stopped by SIGSTOP", held)] {
        writes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let at = |share: f64| writes[((writes.len() - 1) as f64 * share) as usize].0 * 1e6;
        println!("  {name:<26} {:.1}  {:.1}  {:.1}  {:.1}", at(0.5), at(0.99), at(0.999), at(1.0));
    }
}

fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
