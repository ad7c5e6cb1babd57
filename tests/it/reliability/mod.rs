//! What `docs/reliability.md` promises, promise by promise: each test fails when the guard that it is named for is
//! taken out.
//!
//! Counts are small here; `OOMPH_TEST_FULL=1` runs the full ones. Figures go to standard error.

mod days;
pub mod gpus;
mod guards;
mod hostile;
mod input;
mod line;
mod record;
pub mod seat;
mod secrets;
mod soak;
mod tailing;
mod terminal;
mod webhook;

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// `full` where everything was asked for, else `small`.
fn count(small: usize, full: usize) -> usize {
    if crate::properties::full() { full } else { small }
}

/// A figure for whoever runs this: shown even when the test passes.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "  {text}");
}

/// Whether a tool that a test needs is here; says so when it is not.
pub fn has(tool: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(tool);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let there = command.status().is_ok_and(|s| s.success());
    if !there {
        tell(&format!("skipped: needs `{tool} {}`, which does not work here", arguments.join(" ")));
    }
    there
}

/// Waits until `done` holds; fails after half a minute.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// oomph with its state and configuration in a folder of the test's own.
pub fn oomph(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oomph"));
    command.env("OOMPH_STATE", state).env("XDG_CONFIG_HOME", state.join("config")).stdin(Stdio::null());
    command
}

/// A field of `/proc/PID/status` in KiB.
fn memory_kib(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse().ok())
}

/// Processor time that a process has used, in seconds.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
}
