//! The terminal (V4, V5, V6, V8, V9): it is given back as it was, and whatever it does costs nothing but the picture.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    count, cpu_seconds, memory_kib,
    seat::{Log, Seat},
    tell, until,
};

/// Runs oomph from a shell that writes down the terminal's settings before and after.
fn with_settings(state: &Path, log: &str, variables: &[(&str, &str)]) -> Seat {
    let script = format!(
        "trap : INT QUIT; stty -g > {s}/before; {oomph} --no-gpu {log}; echo $? > {s}/code; stty -g > {s}/after; echo the shell again",
        s = state.display(),
        oomph = env!("CARGO_BIN_EXE_oomph"),
    );
    Seat::take("sh", &["-c", &script], state, variables)
}

/// The oomph that the shell started.
fn child_of(seat: &Seat) -> u32 {
    let mut found = None;
    until("oomph runs", || {
        let path = format!("/proc/{0}/task/{0}/children", seat.child.id());
        let children = fs::read_to_string(path).unwrap_or_default();
        found = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .find(|pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "oomph"));
        found.is_some()
    });
    found.unwrap()
}

fn kill(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// V4: ten ways out, from four states of the screen.
#[test]
fn the_terminal_is_given_back_whatever_the_end() {
    let exits =
        ["q", "ctrl-c", "TERM", "INT", "HUP", "QUIT", "panic while drawing", "panic in a thread", "TSTP", "error"];
    let states = ["", "?", "5/", "7"];
    let rounds = count(1, 25);
    let mut done = 0;
    for round in 0..rounds {
        for (nth, exit) in exits.iter().enumerate() {
            for (other, keys) in states.iter().enumerate() {
                // The small count goes through all exits and all states, not through all pairs.
                if rounds == 1 && other != (nth + round) % states.len() {
                    continue;
                }
                leave(exit, keys);
                done += 1;
            }
        }
    }
    tell(&format!("V4: {done} exits, terminal as before in all"));
}

fn leave(exit: &str, keys: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(folder.path());
    log.say("{'loss': 1.25, 'epoch': 0.1}\n");
    let variables: &[(&str, &str)] = match exit {
        "panic while drawing" => &[("OOMPH_TEST_PANIC", "draw")],
        "panic in a thread" => &[("OOMPH_TEST_PANIC", "thread")],
        _ => &[],
    };
    let name = if exit == "error" { "/no/such.log" } else { log.name() };
    let mut seat = with_settings(folder.path(), name, variables);
    if !exit.starts_with("panic") && exit != "error" {
        seat.shows("train.log");
        seat.press(keys);
        let oomph = child_of(&seat);
        match exit {
            "q" | "ctrl-c" => {}
            "TSTP" => {
                kill(oomph, "TSTP");
                until("it is stopped", || {
                    fs::read_to_string(format!("/proc/{oomph}/stat")).is_ok_and(|s| s.contains(") T "))
                });
                until("the screen is left", || !seat.look_at(vt100::Screen::alternate_screen));
                kill(oomph, "CONT");
                until("the screen is back", || seat.look_at(vt100::Screen::alternate_screen));
                seat.shows("Overview");
                kill(oomph, "TERM");
            }
            signal => kill(oomph, signal),
        }
        // A quit may be asked twice where a text is being typed.
        let start = Instant::now();
        while !folder.path().join("after").exists() && start.elapsed() < Duration::from_mins(1) {
            if seat.look_at(vt100::Screen::alternate_screen) {
                match exit {
                    // Out of what is being typed or shown above the screen, then out of it.
                    "q" => seat.press("\x1b"),
                    "ctrl-c" => seat.press("\x03"),
                    _ => {}
                }
                std::thread::sleep(Duration::from_millis(150));
                if exit == "q" && seat.look_at(vt100::Screen::alternate_screen) {
                    seat.press("q");
                    std::thread::sleep(Duration::from_millis(150));
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    } else if exit == "panic in a thread" {
        seat.shows("a part of oomph failed");
        seat.press("q");
    }
    seat.shows("the shell again");
    seat.end();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("before"), read("after"), "{exit} from {keys:?}: the terminal's settings changed");
    let wrong = seat.look_at(|screen| {
        [
            ("alternate screen", screen.alternate_screen()),
            ("hidden cursor", screen.hide_cursor()),
            ("paste mode", screen.bracketed_paste()),
            ("mouse", screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None),
            ("colour", screen.fgcolor() != vt100::Color::Default || screen.bgcolor() != vt100::Color::Default),
        ]
        .into_iter()
        .filter_map(|(what, left)| left.then_some(what))
        .collect::<Vec<_>>()
    });
    assert!(wrong.is_empty(), "{exit} from {keys:?} left {wrong:?}");
    let code = read("code").trim().to_string();
    match exit {
        "panic while drawing" => {
            assert_eq!(code, "101");
            assert!(seat.contents().contains("a test asked for this"), "{}", seat.contents());
        }
        "error" => assert_eq!(code, "2"),
        _ => {}
    }
}

/// V5: also where no hang-up signal comes, because oomph is no leader of a session and the signal is ignored.
#[test]
fn a_lost_terminal_ends_the_dashboard_at_once() {
    let rounds = count(2, 50);
    let (mut slowest, mut most) = (Duration::ZERO, 0.0f64);
    for round in 0..rounds {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(folder.path());
        log.say("{'loss': 1.25, 'epoch': 0.1}\n");
        let script = format!("trap '' HUP; {} --no-gpu {}; :", env!("CARGO_BIN_EXE_oomph"), log.name());
        let mut seat = if round % 2 == 0 {
            Seat::oomph(folder.path(), &["--no-gpu", log.name()], &[])
        } else {
            Seat::take("sh", &["-c", &script], folder.path(), &[])
        };
        seat.shows("train.log");
        let pid = if round % 2 == 0 { seat.child.id() } else { child_of(&seat) };
        let before = cpu_seconds(pid).unwrap();
        let mut after = before;
        seat.hang_up();
        let start = Instant::now();
        until("oomph is gone", || {
            // A zombie has ended: nobody may be left to collect it.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            after = cpu_seconds(pid).unwrap_or(after);
            stat.is_empty() || stat.contains(") Z ")
        });
        slowest = slowest.max(start.elapsed());
        most = most.max(after - before);
    }
    tell(&format!(
        "V5: {rounds} lost terminals, gone after {slowest:.1?} at most, {most:.2} s of processor after that"
    ));
    assert!(most < 1.0, "spins on a lost terminal: {most} s");
}

/// V6: a terminal that does not read for a while holds up neither the record nor the exit.
#[test]
fn a_frozen_terminal_costs_only_the_picture() {
    let frozen = Duration::from_secs(count(3, 60) as u64);
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(folder.path());
    let seat = Seat::oomph(folder.path(), &["--no-gpu", log.name()], &[]);
    seat.shows("train.log");
    seat.press("5");
    let pid = seat.child.id();
    seat.look(false);
    let start = Instant::now();
    let mut step = 0;
    let mut first = None;
    while start.elapsed() < frozen {
        step += 1;
        log.say(&format!("{{'loss': {}.5, 'epoch': 0.{step:06}}} {}\n", step % 7, "x".repeat(40)));
        std::thread::sleep(Duration::from_millis(1));
        // Growth counts from when everything has started.
        if start.elapsed() > frozen / 3 {
            first = first.or_else(|| memory_kib(pid, "VmRSS"));
        }
    }
    let grown = memory_kib(pid, "VmRSS").unwrap().saturating_sub(first.unwrap());
    log.say("the last line of all\n");
    // The record has it although nobody sees it.
    let recorded = || {
        let found = fs::read_dir(folder.path().join("runs")).ok()?.next()?.ok()?.path();
        let database = oomph::store::database::Database::open(&found.join("run.sqlite")).ok()?;
        let rows = database.number("SELECT count(*) FROM point WHERE key = 'loss'").ok()??;
        let gaps = database.number("SELECT count(*) FROM gap").ok()??;
        Some((rows as usize, gaps as usize))
    };
    until("all points are recorded", || recorded().is_some_and(|(rows, _)| rows == step));
    assert_eq!(recorded().unwrap().1, 0, "the record has gaps");
    let resumed = Instant::now();
    seat.look(true);
    seat.shows("the last line of all");
    tell(&format!(
        "V6: {step} lines while the terminal stood still for {frozen:?}: all recorded, {grown} KiB more memory, fresh frame {:.0?} after it read again",
        resumed.elapsed()
    ));
    assert!(grown < 10 << 10, "{grown} KiB");
    // And once more, for the exit.
    seat.look(false);
    for _ in 0..200 {
        log.say(&format!("{}\n", "y".repeat(90)));
        std::thread::sleep(Duration::from_millis(1));
    }
    seat.signal("TERM");
    let mut seat = seat;
    let (_, took) = seat.end();
    tell(&format!("V6: SIGTERM in front of a frozen terminal: gone after {took:.1?}"));
}

/// V8: any size, as fast as it comes.
#[test]
fn resizes_of_all_sizes_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(folder.path());
    for step in 0..50 {
        log.say(&format!("{{'loss': 1.{step}, 'grad_norm': 2.0, 'learning_rate': 1e-6, 'epoch': 0.{step:02}}}\n"));
    }
    let mut seat = Seat::oomph(folder.path(), &["--no-gpu", log.name()], &[]);
    seat.shows("train.log");
    let sizes = [(0, 0), (1, 1), (65535, 65535), (80, 24), (2, 50), (300, 3), (500, 200), (20, 10)];
    let storm = count(150, 2000);
    for n in 0..storm {
        let (columns, rows) = sizes[n * 7 % sizes.len()];
        seat.resize(columns, rows);
        if n % 16 == 0 {
            seat.press(["1", "2", "3", "4", "5", "6"][n / 16 % 6]);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    seat.resize(90, 28);
    seat.press("1");
    let last = Instant::now();
    seat.shows("train.log");
    let peak = memory_kib(seat.child.id(), "VmHWM").unwrap();
    tell(&format!("V8: {storm} resizes, the last size right after {:.0?}, {} MiB at most", last.elapsed(), peak >> 10));
    assert!(peak < 256 << 10, "{peak} KiB");
    seat.press("q");
    assert!(seat.end().0.success());
}

/// V9: a paste is text, never keys; one that is too large is refused with a hint, and takes no memory.
#[test]
fn a_huge_paste_is_refused_and_harmless() {
    let mebibytes = count(24, 64);
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(folder.path());
    log.say("{'loss': 1.25, 'epoch': 0.1}\n");
    let mut seat = Seat::oomph(folder.path(), &["--no-gpu", log.name()], &[]);
    seat.shows("train.log");
    let pid = seat.child.id();
    let before = memory_kib(pid, "VmHWM").unwrap();
    seat.press("\x1b[200~");
    // Full of `q`: one key too many and it would be gone.
    let block = "qqqqqqqqq quit\r".repeat(70_000);
    for _ in 0..mebibytes {
        seat.type_in(block.as_bytes());
    }
    seat.press("\x1b[201~");
    seat.shows("more than 8 MiB");
    let grown = memory_kib(pid, "VmHWM").unwrap() - before;
    tell(&format!("V9: a paste of {mebibytes} MiB: refused, {grown} KiB more memory"));
    assert!(grown < 32 << 10, "{grown} KiB");
    // A flood of keys is answered, and a small paste is taken.
    seat.type_in("123456".repeat(2000).as_bytes());
    seat.press("7\x1b[200~torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n\x1b[201~");
    seat.shows("2.00 GiB asked");
    seat.press("\x1b");
    seat.press("q");
    seat.signal("TERM");
    seat.end();
}
