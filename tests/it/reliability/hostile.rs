//! Hostile text (V1, V2, V10, V11, P7): whatever a log, a name or an argument holds, a terminal gets from oomph only what oomph
//! itself has to say to it.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output},
};

use super::{count, oomph, seat::Seat, tell, until};

/// The shapes by which text takes over terminals: titles, palettes, clipboards, notifications, downloads, key strings,
/// replies, charset and mode switches, 8-bit forms, and halves of all that. Each names an owner in `PWNED` form.
fn shapes() -> Vec<Vec<u8>> {
    let mut shapes: Vec<Vec<u8>> = Vec::new();
    // OSC: window title, icon, palette, notification, hyperlink, working directory, font, clipboard, kitty, iTerm2, …
    for number in [
        "0",
        "1",
        "2",
        "4;1",
        "7",
        "8;;",
        "9",
        "10",
        "11",
        "22",
        "50",
        "52;c",
        "99",
        "104",
        "133;A",
        "176",
        "555",
        "666",
        "697",
        "777;notify",
        "1337;File=inline=1",
        "5113",
        "30001",
    ] {
        shapes.push(format!("\x1b]{number};PWNED\x07").into_bytes());
        shapes.push(format!("\x1b]{number};PWNED\x1b\\").into_bytes());
        shapes.push(format!("\u{9d}{number};PWNED\u{9c}").into_bytes());
    }
    // DCS (DECRQSS, sixel, tmux), APC (kitty graphics), PM, SOS.
    for text in
        ["P$qm", "P+q544e", "Pq#0;2;0;0;0PWNED", "Ptmux;\x1b\x1b]0;PWNED\x07", "_Ga=T,f=24;PWNED", "^PWNED", "XPWNED"]
    {
        shapes.push(format!("\x1b{text}\x1b\\").into_bytes());
    }
    // CSI: reports that type for the user (DA, DSR, DECRQM, title reports, XTVERSION), modes, margins, erasing, moving.
    for text in [
        "c", ">c", "=c", "6n", "?6n", "5n", "21t", "20t", "14t", ">q", "?1049h", "?1000h", "?1003h", "?2004h", "?25l",
        "?47h", "4h", "20h", "2J", "3J", "H", "1;1H", "10A", "3g", "1;5r", "s", "u", "!p", "?5h", "31m", "38;5;9m",
        "8m", "5i", "4i", "0;0x", "?996n", ">4;2m", "=1;1u",
    ] {
        shapes.push(format!("\x1b[{text}").into_bytes());
        shapes.push(format!("\u{9b}{text}").into_bytes());
    }
    // Single shifts, charsets, resets, alignment, keypad, rxvt's ESC G Q, Tektronix.
    for text in [
        "c", "N", "O", "(0", ")0", "*B", "+B", "n", "o", "|", "}", "~", "7", "8", "=", ">", "#8", "GQ", "\x0c", "M",
        "D", "E", "Z", "l", " F", "%G", "%@",
    ] {
        shapes.push(format!("\x1b{text}").into_bytes());
    }
    // Bytes alone: C0, DEL, 8-bit C1, shift out and in, bell, backspaces over text, vertical moves, enquiry.
    for byte in (1u8..0x20).filter(|b| !matches!(b, b'\n' | b'\r' | b'\t')).chain([0x7f]) {
        shapes.push(vec![b'a', byte, b'b']);
    }
    for byte in 0x80u8..0xa0 {
        shapes.push(vec![b'a', byte, b'b']);
        shapes.push(format!("a{}b", char::from(byte)).into_bytes());
    }
    // Halves: the rest may come with the next line or the next read.
    for half in [
        "\x1b",
        "\x1b[",
        "\x1b]",
        "\x1b]0;PWNED",
        "\x1bP",
        "\x1b[38;5",
        "\u{9d}0;PWNED",
        "\x1b[31",
        "\x1b(",
        "\x1b]52;c;UFdORUQ=",
    ] {
        shapes.push(half.as_bytes().to_vec());
    }
    // Direction, invisibility, tags, line separators.
    for text in [
        "\u{202e}PWNED\u{202c}",
        "\u{2066}x\u{2069}",
        "\u{200b}",
        "\u{e0041}\u{e007f}",
        "\u{2028}",
        "\u{feff}",
        "\u{61c}",
    ] {
        shapes.push(text.as_bytes().to_vec());
    }
    shapes
}

/// Lines that put a shape where oomph takes text from: plain lines, keys and values of metrics, messages, tracebacks,
/// loggers' prefixes, bars, configuration that the log prints.
fn hostile_log(shapes: &[Vec<u8>]) -> Vec<u8> {
    let mut log = Vec::new();
    for (n, shape) in shapes.iter().enumerate() {
        let line: [&[u8]; 3] = match n % 8 {
            0 => [b"some text ", shape, b" goes on\n"],
            1 => [b"{'loss': 1.5, 'evil", shape, b"': 2.0, 'epoch': 0.1}\n"],
            2 => [b"[rank1]: WARNING ", shape, b" happened\n"],
            3 => [b"RuntimeError: ", shape, b" in the trainer\n"],
            4 => [b"  File \"/x/", shape, b".py\", line 3, in train\n"],
            5 => [b"epoch 1 ", shape, b": 10%|# | 1/10 [00:01<00:09, 1.0it/s]\r"],
            6 => [b"{\"step\": 3, \"loss\": 2.5, \"k", shape, b"\": 1.0}\n"],
            _ => [shape, b"", b"\n"],
        };
        log.extend(line.concat());
    }
    log.extend_from_slice(b"\nTraceback (most recent call last):\n  File \"/x/t\x1b]0;PWNED\x07.py\", line 1, in <mod\x1b[31mule>\n    loss.back\x1b]0;PWNED\x07ward()\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 16.00 GiB of which 1.00 GiB is free. Process 7 has 14.00 GiB memory in use. Of the allocated memory 12.00 GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated. \x1b]0;PWNED\x07\n");
    log
}

/// The first thing in `bytes` that oomph has no business to send to a terminal. With `screen`, what the dashboard needs
/// is allowed; without, no control byte but the line break is.
fn foreign(bytes: &[u8], screen: bool) -> Option<String> {
    let around = |at: usize| {
        let from = at.saturating_sub(60);
        Some(format!("byte {at}: {:?}", String::from_utf8_lossy(&bytes[from..(at + 40).min(bytes.len())])))
    };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // A capture may end in the middle of a letter.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap(),
        Err(error) => return around(error.valid_up_to()),
    };
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => {}
            '\r' if screen => {}
            // The one question: which colour is the ground?
            '\x1b' if screen && text[at..].starts_with("\x1b]11;?\x1b\\") => drop(chars.nth(6)),
            '\x1b' if screen => {
                if chars.next().map(|(_, c)| c) != Some('[') {
                    return around(at);
                }
                let mut parameters = String::new();
                let last = loop {
                    match chars.next() {
                        Some((_, c @ '0'..='?')) => parameters.push(c),
                        Some((_, c)) => break c,
                        None => return None,
                    }
                };
                let modes = ["?1049", "?2004", "?1000", "?1002", "?1003", "?1015", "?1006", "?25", "?2026"];
                let good = match last {
                    'm' | 'H' => parameters.chars().all(|c| c.is_ascii_digit() || matches!(c, ';' | ':')),
                    // To a column, and some columns on.
                    'G' | 'C' => parameters.chars().all(|c| c.is_ascii_digit()),
                    'J' => parameters == "2",
                    'h' | 'l' => modes.contains(&parameters.as_str()),
                    _ => false,
                };
                if !good {
                    return around(at);
                }
            }
            c if c.is_control() => return around(at),
            '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e0fff}' => return around(at),
            _ => {}
        }
    }
    None
}

#[test]
fn the_judge_of_hostile_output_sees_what_it_should() {
    for (shape, n) in shapes().iter().zip(0..) {
        let text = [b"x ", shape.as_slice(), b" y"].concat();
        assert!(foreign(&text, false).is_some(), "shape {n}: {:?}", String::from_utf8_lossy(&text));
    }
    assert_eq!(foreign(b"\x1b[?1049h\x1b[1;2H\x1b[38;2;1;2;3mtext\x1b[0m", true), None);
    assert!(foreign(b"\x1b[?1049h\x1b]0;x\x07", true).is_some());
    assert!(foreign(b"\x1b[6n", true).is_some());
}

fn clean(what: &str, output: &Output) {
    for (name, bytes) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
        assert_eq!(foreign(bytes, false), None, "{what}: {name}");
    }
}

/// V1 and V10: every command that prints, on a pipe, over a log that holds every shape.
#[test]
fn plain_output_holds_no_control_byte() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = shapes();
    let log = folder.path().join("train.log");
    fs::write(&log, hostile_log(&shapes)).unwrap();
    let jsonl = folder.path().join("log.jsonl");
    fs::write(&jsonl, "{\"step\":1,\"loss\":1.5,\"a\\u001b]0;x\\u0007\":2.0}\n{\"step\":2,\"loss\":1.5}\n").unwrap();
    let csv = folder.path().join("metrics.csv");
    fs::write(&csv, "step,loss,ev\x1b]0;PWNED\x07il\n1,2.0,3\n2,2.0,3\n").unwrap();
    let path = |p: &Path| p.to_str().unwrap().to_string();
    let (log, jsonl, csv) = (path(&log), path(&jsonl), path(&csv));
    let title = "\x1b]0;PWNED\x07";
    let yaml = folder.path().join("train.yaml");
    fs::write(&yaml, "model_name_or_path: \"\\e]0;PWNED\\a\"\nbf16: \"\\e[31m\"\n").unwrap();
    let yaml = path(&yaml);
    let run = |words: &[&str]| {
        let output = oomph(folder.path()).args(words).output().unwrap();
        clean(&words.join(" ").escape_debug().to_string(), &output);
        output
    };
    // What `run` passes through is the command's own output; what it says itself goes to standard error.
    let passed = oomph(folder.path()).args(["run", "--no-gpu", "--", "cat", &log]).output().unwrap();
    assert_eq!(foreign(&passed.stderr, false), None);
    let report = path(&folder.path().join("why.md"));
    let script = format!("cat {log} >&2; exit 3");
    let failed = Command::new(env!("CARGO_BIN_EXE_oomph"))
        .env("OOMPH_STATE", folder.path())
        .args(["run", "--no-gpu", "--report", &report, "--", "sh", "-c", &script])
        .stdout(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(failed.status.code(), Some(3));
    assert_eq!(foreign(&fs::read(&report).unwrap(), false), None, "the report");
    let commands: &[&[&str]] = &[
        &["diagnose", &log],
        &["diagnose", "--json", &log],
        &["metrics", &log],
        &["metrics", "--json", &log],
        &["metrics", &jsonl],
        &["metrics", "--json", &csv],
        &["--once", "--no-gpu", &log],
        &["--once", "--no-gpu", "--json", &log],
        &["--once", "--no-gpu", &jsonl],
        &["--once", "--no-gpu", &csv],
        &["estimate", "--config", &yaml],
        &["diagnose", "--config", &yaml, &log],
        &["history"],
        &["history", "--json"],
        &["export", "last", "--format", "markdown"],
        &["export", "last", "--format", "csv"],
        &["export", "last", "--format", "jsonl"],
        &["replay", "last", "--once"],
        &["replay", "last", "--once", "--json"],
        &["explain", title],
        &["explain"],
        &["doctor"],
        &["doctor", "--json"],
        &["config"],
        &[title],
        &["--once", title],
        &["diagnose", title],
        &["metrics", title],
        &["replay", title],
        &["attach", title],
        &["export", title, "--format", "csv"],
        &["estimate", "--set", title],
        &["estimate", "--model", title],
        &["estimate", "--gpu-memory", title],
        &["--theme", title, "--once", &log],
        &["run", "--", title],
        &["frobnicate\x1b[31m"],
        &["--\x1b]0;PWNED\x07"],
        &["metrics", "--\u{202e}x"],
        &["--help"],
        &["--version"],
        &["diagnose", "--help"],
    ];
    for words in commands {
        run(words);
    }
    tell(&format!(
        "V1, V10: {} shapes through {} commands on pipes: no control byte",
        shapes.len(),
        commands.len() + 2
    ));
}

/// V1: file names of every shape, in messages and in frames.
#[test]
fn file_names_are_no_commands_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let step = count(12, 1);
    for shape in shapes().iter().filter(|s| !s.contains(&b'/') && !s.contains(&0)).step_by(step) {
        let name = [b"a".as_slice(), shape, b".log"].concat();
        let path = folder.path().join(std::ffi::OsStr::from_bytes(&name));
        fs::write(&path, "{'loss': 1.0, 'epoch': 0.1}\n").unwrap();
        for words in [["--once", "--no-gpu"].as_slice(), &["--once", "--json", "--no-gpu"], &["diagnose"], &["metrics"]]
        {
            clean("a file's name", &oomph(folder.path()).args(words).arg(&path).output().unwrap());
        }
        fs::remove_file(&path).unwrap();
        clean("a missing file's name", &oomph(folder.path()).args(["diagnose"]).arg(&path).output().unwrap());
    }
}

/// V1: what the dashboard writes to a real terminal, on every screen, over the same log.
#[test]
fn the_screen_sends_only_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = shapes();
    let log = folder.path().join(std::ffi::OsStr::from_bytes(b"a\x1b]0;PWNED\x07\xc2\x9b31m.log"));
    // Many small parts: the log's screen must show each of them.
    let parts = count(4, shapes.len() / 20);
    let mut sent = 0;
    for part in shapes.chunks(shapes.len().div_ceil(parts)) {
        fs::write(&log, hostile_log(part)).unwrap();
        let mut seat = Seat::oomph(folder.path(), &["--no-gpu", log.to_str().unwrap()], &[]);
        seat.shows("Overview");
        for keys in [
            "5", "\x1b[5~", "\x1b[5~", "\x1b[5~", "g", "\x1b[6~", "6", "e", "\x1b", "2", "3", "4", "a", "\x1b", "?",
            "\x1b", ":", "\x1b", "1",
        ] {
            seat.press(keys);
            // Until the answer has come, at least.
            let before = seat.bytes().len();
            let mut looks = 0;
            until("an answer", || {
                looks += 1;
                seat.bytes().len() > before || looks > 20
            });
        }
        // A hostile paste.
        seat.press("\x1b[200~");
        seat.type_in(&hostile_log(&part[..part.len().min(20)]).into_iter().filter(|b| *b != 0x1b).collect::<Vec<_>>());
        seat.press("\x1b[201~");
        seat.shows("pasted");
        seat.press("\x1b");
        seat.signal("TERM");
        seat.end();
        let bytes = seat.bytes();
        sent += bytes.len();
        // The bell that an alert rings is oomph's own.
        let bytes: Vec<u8> = bytes.into_iter().filter(|b| *b != 7).collect();
        assert_eq!(foreign(&bytes, true), None);
        assert!(
            String::from_utf8_lossy(&bytes).matches("\x1b]").count() <= 1,
            "an OSC beside the question for the ground"
        );
    }
    tell(&format!(
        "V1: {} shapes on every screen of a terminal, {sent} bytes: nothing beside the allow-list",
        shapes.len()
    ));
}

/// V2: every character of the classes that hide or turn text is visible in what is shown and exported.
#[test]
fn invisible_characters_are_made_visible() {
    // Unicode 16: Bidi_Control; zero width; tags; fillers. From the properties' names, not from the code.
    let bidi = [0x61c, 0x200e, 0x200f, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069];
    let zero = [
        0x200b, 0x200c, 0x200d, 0x2060, 0xfeff, 0xad, 0x34f, 0x180e, 0x2061, 0x2062, 0x2063, 0x2064, 0x115f, 0x1160,
        0x3164, 0xffa0, 0x17b4, 0x17b5,
    ];
    let all: Vec<char> = bidi.into_iter().chain(zero).chain(0xe0000..0xe0080).filter_map(char::from_u32).collect();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("train.log");
    let text: String = all.iter().map(|c| format!("RuntimeError: before{c}after\n")).collect();
    fs::write(&log, &text).unwrap();
    for c in &all {
        let clean = oomph::model::Clean::new(&format!("before{c}after"));
        assert_eq!(clean.as_str(), format!("before\\u{{{:x}}}after", u32::from(*c)));
    }
    let frame = oomph(folder.path()).args(["--once", "--no-gpu", "--size", "100x60"]).arg(&log).output().unwrap();
    assert!(
        String::from_utf8_lossy(&frame.stdout).contains("before\\u{e007f}after"),
        "{}",
        String::from_utf8_lossy(&frame.stdout)
    );
    clean("a frame", &frame);
    // A stack of marks is cut to what one cell can bear.
    let stack = oomph::model::Clean::new(&format!("e{}", "\u{300}".repeat(10_000)));
    assert!(stack.as_str().chars().count() <= 9);
    tell(&format!("V2: {} code points, each visible", all.len()));
}

/// V10: a dumb or unknown terminal gets plain lines.
#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("train.log");
    fs::write(&log, "{'loss': 1.0, 'epoch': 0.1}\nRuntimeError: CUDA error: out of memory\n").unwrap();
    let log = log.to_str().unwrap();
    for term in ["dumb", ""] {
        for words in [
            ["diagnose", log].as_slice(),
            &["metrics", log],
            &["--once", "--no-gpu", log],
            &["history"],
            &["doctor"],
            &["explain"],
            &["--help"],
            &["run", "--no-gpu", "--", "echo", "hello"],
            &["--no-gpu", log],
        ] {
            let mut seat = Seat::oomph(folder.path(), words, &[("TERM", term)]);
            seat.end();
            let bytes: Vec<u8> = seat.bytes().into_iter().filter(|b| *b != b'\r').collect();
            assert!(!bytes.is_empty(), "{words:?} said nothing");
            assert_eq!(foreign(&bytes, false), None, "{words:?} with TERM={term:?}");
        }
    }
}

/// V11: without colours nothing but attributes; with few colours no others; in an ASCII locale no other letters.
#[test]
fn a_terminal_gets_no_more_than_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("train.log");
    fs::write(
        &log,
        "{'loss': 1.0, 'epoch': 0.1}\n{'loss': 0.5, 'epoch': 0.2}\nRuntimeError: CUDA error: out of memory\n",
    )
    .unwrap();
    let show = |variables: &[(&str, &str)]| {
        let mut seat = Seat::oomph(folder.path(), &["--no-gpu", log.to_str().unwrap()], variables);
        seat.shows("failed");
        let contents = seat.contents();
        seat.signal("TERM");
        seat.end();
        let bytes = seat.bytes();
        (String::from_utf8_lossy(&bytes).into_owned(), contents)
    };
    let colours = |text: &str| -> Vec<String> {
        let sequences = text.split("\x1b[").skip(1).filter_map(|s| s.split_once('m').map(|(n, _)| n.to_string()));
        sequences.filter(|n| n.chars().all(|c| c.is_ascii_digit() || c == ';')).collect()
    };
    let is_colour = |n: &String| {
        n.split(';')
            .next()
            .and_then(|n| n.parse::<u32>().ok())
            .is_some_and(|n| (30..50).contains(&n) && n != 39 && n != 49 || n >= 90)
    };
    let (none, shown) = show(&[("NO_COLOR", "1")]);
    let left: Vec<String> = colours(&none).into_iter().filter(is_colour).collect();
    assert!(left.is_empty(), "NO_COLOR: {left:?}");
    assert!(shown.contains("memory"), "the state is told in words too: {shown}");
    let (few, _) = show(&[("TERM", "linux")]);
    let many: Vec<String> =
        colours(&few).into_iter().filter(|n| n.starts_with("38;") || n.starts_with("48;")).collect();
    assert!(many.is_empty(), "eight colours: {many:?}");
    let (some, _) = show(&[("TERM", "xterm-256color")]);
    let many: Vec<String> =
        colours(&some).into_iter().filter(|n| n.starts_with("38;2") || n.starts_with("48;2")).collect();
    assert!(many.is_empty(), "256 colours: {many:?}");
    let (full, _) = show(&[("COLORTERM", "truecolor")]);
    assert!(colours(&full).iter().any(|n| n.starts_with("38;2")));
    let (ascii, _) = show(&[("LANG", "C"), ("LC_ALL", "C")]);
    assert!(ascii.is_ascii(), "{:?}", ascii.chars().filter(|c| !c.is_ascii()).collect::<String>());
}

/// P7: what a hostile log says is text in a Markdown report and a CSV table: no element, no link, no picture, no formula.
#[test]
fn reports_hold_hostile_text_as_text() {
    let payloads = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<a href=\"javascript:alert(1)\">x</a>",
        "![x](http://evil.example/x.png)",
        "[x](javascript:alert(1))",
        "[x]: http://evil.example",
        "<iframe src=//evil.example>",
        "<svg/onload=alert(1)>",
        "<details open ontoggle=alert(1)>",
        "```\n<script>",
        "| a | b |",
        "<!-- -->",
        "&lt;script&gt;",
        "<style>*{display:none}</style>",
        "<base href=//evil.example>",
        "<link rel=stylesheet href=//evil.example>",
        "<meta http-equiv=refresh content=0>",
        "<form action=//evil.example>",
        "<object data=x>",
        "<embed src=x>",
        "<video src=x>",
        "<math><mtext>",
        "<https://evil.example>",
        "=HYPERLINK(\"http://evil.example\")",
        "+1+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(1)",
        "\t=1",
        "=1\r\n=2",
        "\",=1,\"",
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut log = String::new();
    for (n, payload) in payloads.iter().enumerate() {
        let key = serde_json::to_string(payload).unwrap();
        log.push_str(&format!("{{\"step\": {n}, \"loss\": 1.5, {key}: 2.0}}\n"));
        log.push_str(&format!("{payload}\nRuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB {payload}\n"));
    }
    fs::write(folder.path().join("train.jsonl"), &log).unwrap();
    let script = format!("cat {}; exit 1", folder.path().join("train.jsonl").display());
    let report = folder.path().join("why.md");
    oomph(folder.path())
        .args(["run", "--no-gpu", "--report"])
        .arg(&report)
        .args(["--", "sh", "-c", &script])
        .output()
        .unwrap();
    let export = |format: &str| {
        let output = oomph(folder.path()).args(["export", "last", "--format", format]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for (name, text) in [("report", fs::read_to_string(&report).unwrap()), ("export", export("markdown"))] {
        let active = active_markdown(&text);
        assert!(active.is_empty(), "{name}: {active:?}");
    }
    let csv = export("csv");
    let head = csv.lines().next().unwrap();
    for cell in cells(head) {
        assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "a formula: {cell}");
    }
    let width = cells(head).len();
    assert!(csv.lines().all(|line| cells(line).len() == width), "a cell breaks its row");
    tell(&format!("P7: {} payloads, no active element in Markdown, no formula in CSV", payloads.len()));
}

/// What a Markdown reader would make active: elements, links and pictures outside of code.
fn active_markdown(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced || line.starts_with("    ") {
            continue;
        }
        // Code spans are text.
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        let outside =
            outside.replace("<br>", " ").replace("\\<", "").replace("\\[", "").replace("\\!", "").replace("&lt;", "");
        if outside.contains('<') || outside.contains("](") || outside.contains("![") || outside.contains("]:") {
            found.push(line.to_string());
        }
    }
    found
}

/// The cells of a row of CSV.
fn cells(line: &str) -> Vec<String> {
    let (mut all, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    all.push(cell);
    all
}
