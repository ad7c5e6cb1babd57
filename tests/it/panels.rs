//! The panels of the GPUs end to end: a real terminal, and the pretended driver of `tests/fake-nvml` behind it.

use std::{
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
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

/// A card that MIG divides: its instances and who computes on them, also for a user whom the whole card tells nothing.
#[test]
fn a_divided_card_shows_its_instances() {
    let Some(library) = library() else { return };
    for rights in ["1", "0"] {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Sleeper::start(), Sleeper::start());
        let processes = format!("1:{}:9000,1:{}:4000", one.0.id(), other.0.id());
        let variables = [
            ("FAKE_NVML_GPUS", "2"),
            ("FAKE_NVML_MIG", "1:3"),
            ("FAKE_NVML_MIG_RIGHTS", rights),
            ("FAKE_NVML_PROCS", processes.as_str()),
        ];
        let (seat, log) = watch(library, folder.path(), &variables);
        seat.press("4");
        seat.shows("GPU 0 NVIDIA H200");
        seat.press("j");
        seat.shows("GPU 1 NVIDIA H200");
        seat.shows("MIG 2g.47gb");
        seat.shows(&format!("{}", other.0.id()));
        let contents = seat.contents();
        assert_eq!(contents.matches("MIG 2g.47gb").count(), 3, "{contents}");
        assert!(contents.contains("(MIG 1)") && contents.contains("(MIG 2)"), "{contents}");
        assert!(!contents.contains("no living process"), "{contents}");
        drop(seat);
        // The same as JSON.
        let output = Command::new(env!("CARGO_BIN_EXE_oomph"))
            .args(["--once", "--json", log.name()])
            .env("LD_LIBRARY_PATH", library)
            .envs(variables)
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let card = &json["gpus"][1];
        assert_eq!((&card["mig_enabled"], card["mig"].as_array().unwrap().len()), (&true.into(), 3), "{card}");
        let (used, total) = (&card["mig"][2]["memory_used_bytes"], &card["mig"][2]["memory_total_bytes"]);
        assert!(used.as_u64().unwrap() > 1 << 30 && used.as_u64() <= total.as_u64(), "{card}");
        assert_eq!(card["processes"].as_array().unwrap().len(), 2, "{card}");
        assert_eq!(card["processes"][1]["mig_instance"], 2, "{card}");
        assert_eq!((&card["utilization_percent"], &card["unexplained_bytes"]), (&().into(), &().into()), "{card}");
    }
}

/// Where nothing moves, nothing is sent but the clock. (A curve over time goes on, for time does.)
#[test]
fn an_idle_screen_sends_only_the_clock() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let variables = [("FAKE_NVML_PATTERN", "flat"), ("FAKE_NVML_PROCS", "*:1:1000")];
    let (seat, _log) = watch(library, folder.path(), &variables);
    for (screen, word) in [("4", "processes"), ("5", "1.25")] {
        seat.press(screen);
        seat.shows(word);
        // The rates come last, and what is called out comes when it lasted.
        thread::sleep(Duration::from_secs(13));
        let (before, from) = (seat.bytes().len(), Instant::now());
        thread::sleep(Duration::from_secs(5));
        let sent = seat.bytes().split_off(before);
        let seconds = from.elapsed().as_secs_f64().ceil() as usize + 1;
        let text = String::from_utf8_lossy(&sent);
        let frames = text.matches("\x1b[?2026h").count();
        assert!(frames <= seconds, "{word}: {frames} frames in {seconds} s: {text:?}");
        // A frame's brackets, one place, one colour, and the seconds.
        assert!(sent.len() <= seconds * 90, "{word}: {} bytes in {seconds} s: {text:?}", sent.len());
        println!("  {word}: {} bytes in {frames} frames, {:.1} s", sent.len(), from.elapsed().as_secs_f64());
    }
}
