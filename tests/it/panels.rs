//! The panels of the GPUs end to end: a real terminal, and the pretended driver of `tests/fake-nvml` behind it.

use std::{
    path::Path,
    process::{Child, Command},
};

use crate::reliability::{
    gpus::library,
    seat::{Log, Seat},
    until,
};

/// oomph in a terminal of 100x30 with pretended cards and a log.
fn watch(library: &Path, folder: &Path, variables: &[(&str, &str)]) -> (Seat, Log) {
    let mut log = Log::new(folder);
    log.say("{'loss': 1.25, 'epoch': 0.1}\n");
    let mut all = vec![("LD_LIBRARY_PATH", library.to_str().unwrap())];
    all.extend_from_slice(variables);
    let seat = Seat::oomph(folder, &["--interval", "0.2", log.name()], &all);
    seat.shows("1.25");
    (seat, log)
}

/// Presses and lets go of the mouse where a text stands.
fn click(seat: &Seat, text: &str) {
    let contents = seat.contents();
    let found = contents.lines().enumerate().find_map(|(row, line)| {
        let column = line[..line.find(text)?].chars().count();
        Some((column + 1, row + 1))
    });
    let (column, row) = found.unwrap_or_else(|| panic!("{text} is not there:\n{contents}"));
    seat.press(&format!("\x1b[<0;{};{row}M\x1b[<0;{};{row}m", column + 1, column + 1));
}

/// Ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600.25").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_click_selects_a_view_a_card_and_a_process() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Sleeper::start(), Sleeper::start());
    let (one, other) = (one.0.id(), other.0.id());
    let processes = format!("2:{one}:9000,2:{other}:4000");
    let (seat, _log) = watch(library, folder.path(), &[("FAKE_NVML_PROCS", &processes)]);
    click(&seat, "GPUs");
    seat.shows("GPU 0 NVIDIA H200");
    click(&seat, "│  2 ");
    seat.shows("GPU 2 NVIDIA H200");
    seat.shows(&other.to_string());
    click(&seat, &other.to_string());
    seat.shows(&format!("pid {other}, user"));
    click(&seat, &one.to_string());
    seat.shows(&format!("pid {one}, user"));
    // The same row again: nothing is selected any more.
    click(&seat, &one.to_string());
    until("no process is selected", || !seat.contents().contains(", user "));
    // And by key, one after the other.
    seat.press("\r");
    seat.shows(&format!("pid {one}, user"));
    seat.press("\r");
    seat.shows(&format!("pid {other}, user"));
    click(&seat, "Memory");
    seat.shows("who holds what");
    click(&seat, "│  5 ");
    seat.press("\r");
    seat.shows("GPU 5");
}
