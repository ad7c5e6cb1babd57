//! A terminal that counts columns otherwise (V3), and a slow line to it (V7).

use std::{
    fs,
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

use super::{
    count, has,
    seat::{Log, Seat},
    tell, until,
};

/// Letters of many scripts, and what terminals do not agree about: ambiguous and new wide characters, emoji with and
/// without their selectors, joined and flagged ones, combining marks, Jamo.
const PIECES: &[&str] = &[
    "a",
    "Z9",
    "é",
    "ж",
    "ω",
    "±",
    "×",
    "÷",
    "§",
    "°",
    "…",
    "—",
    "“",
    "①",
    "Ⅳ",
    "★",
    "☃",
    "♥",
    "⚠",
    "⚠\u{fe0f}",
    "❤\u{fe0f}",
    "☎\u{fe0e}",
    "中",
    "語",
    "한",
    "ﾊﾝ",
    "Ａ",
    "あ",
    "ภา",
    "กำ",
    "हिन्दी",
    "العربية",
    "עברית",
    "e\u{301}",
    "o\u{308}\u{304}",
    "\u{1100}\u{1161}\u{11a8}",
    "😀",
    "👍🏽",
    "👩‍💻",
    "👨‍👩‍👧",
    "🇩🇪",
    "🏳\u{fe0f}‍🌈",
    "🫠",
    "🪿",
    "🫨",
    "𝒳",
    "𠀋",
    "▁▂▃",
    "⣿",
    "─",
    "│",
    "ǅ",
    "ﷺ",
    "𒐫",
    "⸻",
    "ꧺ",
    "\u{1f1e6}",
    "⌚",
    "〰",
    "㊗",
];

/// V3: in a terminal that takes other characters for wide than oomph does, an error stays in its own cells: what stands
/// at the right edge stands there whatever the log says.
#[test]
fn a_wrong_width_stays_in_its_cells() {
    if !has("tmux", &["-V"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(folder.path());
    log.say("begin\n");
    let socket = folder.path().join("tmux");
    let tmux = |words: &[&str]| {
        let output =
            Command::new("tmux").arg("-S").arg(&socket).args(["-f", "/dev/null", "-u"]).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let script = format!(
        "LANG=C.UTF-8 OOMPH_STATE={} {} --no-gpu --no-record {}",
        folder.path().display(),
        env!("CARGO_BIN_EXE_oomph"),
        log.name()
    );
    tmux(&["new-session", "-d", "-x", "100", "-y", "30", &script]);
    // With the blanks at the ends of rows.
    let screen = || tmux(&["capture-pane", "-p", "-N"]);
    until("the screen", || screen().contains("Overview"));
    tmux(&["send-keys", "5"]);
    let pages = count(24, 400);
    let mut dice = 7u64;
    let (mut lines, mut wrong) = (0, Vec::new());
    for page in 0..pages {
        let mut text = String::new();
        for _ in 0..25 {
            lines += 1;
            text += &format!("#{lines} ");
            for _ in 0..90 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text += PIECES[(dice >> 33) as usize % PIECES.len()];
            }
            text.push('\n');
        }
        log.say(&text);
        let last = format!("#{lines} ");
        until("the page", || screen().contains(&last));
        // As it came, and drawn anew from the first cell to the last.
        for again in [false, true] {
            if again {
                tmux(&["send-keys", "C-l"]);
                std::thread::sleep(Duration::from_millis(150));
            }
            for row in screen().lines().filter(|row| row.contains(" #")) {
                if !row.starts_with('│') || !row.ends_with('│') {
                    wrong.push(format!("page {page}: {row}"));
                }
            }
        }
    }
    tmux(&["kill-server"]);
    assert!(wrong.is_empty(), "{} rows: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    tell(&format!("V3: {lines} lines of {} kinds of characters in tmux: the right edge stands in all", PIECES.len()));
}

/// V7: what a steady screen and a whole one cost, and how old the picture is on a line of 64 kB/s.
#[test]
fn a_slow_line_gets_the_newest_frame() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(folder.path());
    for step in 0..200 {
        log.say(&format!("{{'loss': 1.{step:03}, 'grad_norm': 2.0, 'learning_rate': 1e-06, 'epoch': 0.{step:03}}}\n"));
    }
    let started = Instant::now();
    let mut seat = Seat::oomph(folder.path(), &["--no-gpu", "--no-record", log.name()], &[]);
    seat.resize(80, 24);
    seat.shows("train.log");
    // A whole frame of each screen, once nothing moves any more.
    let mut largest = 0;
    for screen in ["1", "2", "3", "4", "5", "6"] {
        seat.press(screen);
        quiet(&seat);
        let before = seat.bytes().len();
        seat.press("\x0c");
        until("it is drawn anew", || seat.bytes().len() > before);
        quiet(&seat);
        largest = largest.max(seat.bytes().len() - before);
    }
    // A trainer that prints ten lines a second.
    seat.press("1");
    quiet(&seat);
    let (before, start) = (seat.bytes().len(), Instant::now());
    let seconds = count(3, 30) as u64;
    let mut step = 200;
    while start.elapsed() < Duration::from_secs(seconds) {
        step += 1;
        log.say(&format!("{{'loss': 1.{step:03}, 'grad_norm': 2.0, 'learning_rate': 1e-06, 'epoch': 0.{step:03}}}\n"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let steady = (seat.bytes().len() - before) as u64 * 1000 / start.elapsed().as_millis() as u64;
    // A flood on a thin line: what is shown is new. On the thinnest, frames that waited would be seconds old.
    seat.press("5");
    quiet(&seat);
    let mut ages = |speed: usize, seconds: u64| {
        seat.throttle(speed);
        let mut ages = Vec::new();
        let (start, mut n) = (Instant::now(), 0u64);
        while start.elapsed() < Duration::from_secs(seconds) {
            for _ in 0..40 {
                n += 1;
                // Nothing stands where it stood in the frame before.
                let words = format!("{:016x}", (u64::MAX / 7).wrapping_mul(n)).repeat(4);
                log.say(&format!("@{} {n} {words}\n", started.elapsed().as_millis()));
            }
            std::thread::sleep(Duration::from_millis(20));
            let shown = seat.contents();
            let newest = shown.split('@').skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u128>().ok()).max();
            if let Some(newest) = newest.filter(|_| start.elapsed() > Duration::from_secs(1)) {
                ages.push(started.elapsed().as_millis().saturating_sub(newest));
            }
        }
        seat.throttle(usize::MAX);
        quiet(&seat);
        ages.sort_unstable();
        (ages[ages.len() / 2], ages[ages.len() - 1])
    };
    let (fast, fast_most) = ages(64_000, seconds);
    let (slow, slow_most) = ages(9_600, seconds.max(16));
    tell(&format!(
        "V7: at 80 x 24 a whole frame takes {largest} bytes at most, ten lines a second {steady} bytes a second; the newest line shown is {fast} ms old on 64 kB/s, {fast_most} at most, and {slow} ms on 9.6 kB/s, {slow_most} at most"
    ));
    assert!(fast <= 1000, "{fast}");
    assert!(slow <= 2500, "{slow}");
    assert!(largest <= 12_000, "{largest}");
    assert!(steady <= 4_000, "{steady}");
    seat.signal("TERM");
    seat.end();
    let _ = fs::remove_file(&log.path).and_then(|()| std::io::stderr().flush());
}

/// Waits until nothing has been written for a while.
fn quiet(seat: &Seat) {
    let (mut before, mut since) = (0, Instant::now());
    until("it is quiet", || {
        let now = seat.bytes().len();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(250)
    });
}
