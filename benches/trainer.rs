//! What a trainer pays for oomph: its wall time with and without, in turns, and how long its writes take while oomph is
//! stopped. `cargo bench --bench trainer`; `-- 20` for twenty turns. Prints figures, judges nothing.
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
const STEPS: usize = 1000;
/// Bytes and lines that are written as fast as they go while oomph is stopped: far more than a pipe or a terminal holds.
const LINES: usize = 200_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["train", times] => train(STEPS, WORK, Path::new(times)),
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
    }
    let all = start.elapsed().as_secs_f64();
    let mut file = File::create(times).unwrap();
    writeln!(file, "{all}").unwrap();
    for write in writes {
        writeln!(file, "{write}").unwrap();
    }
}

fn read(times: &Path) -> (f64, Vec<f64>) {
    let text = std::fs::read_to_string(times).unwrap();
    let mut numbers = text.lines().map(|line| line.parse().unwrap());
    (numbers.next().unwrap(), numbers.collect())
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

    println!("wall seconds of {STEPS} steps, in turns: without oomph, with oomph, difference");
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        // Which comes first changes, so that neither has the warmer machine.
        for is_with in if turn % 2 == 0 { [false, true] } else { [true, false] } {
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
    let go = folder.path().join("go");
    let mut stopped = run(true, &["write".as_ref(), times.as_os_str(), go.as_os_str()]);
    std::thread::sleep(Duration::from_secs(1));
    let kill = |signal: &str, pid: u32| Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    kill("-STOP", stopped.id());
    std::fs::write(&go, "").unwrap();
    while !times.exists() || std::fs::read_to_string(&times).unwrap().lines().count() <= LINES {
        std::thread::sleep(Duration::from_millis(50));
    }
    let (_, held) = read(&times);
    kill("-CONT", stopped.id());
    stopped.wait().unwrap();
    run(false, &["write".as_ref(), times.as_os_str(), go.as_os_str()]).wait().unwrap();
    let (_, free) = read(&times);
    println!("microseconds of a write, {LINES} of them: median, p99, p99.9, most");
    for (name, mut writes) in [("without oomph", free), ("oomph stopped by SIGSTOP", held)] {
        writes.sort_by(f64::total_cmp);
        let at = |share: f64| writes[((writes.len() - 1) as f64 * share) as usize] * 1e6;
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
