//! Input that is made to exhaust (P3, P4) and places that are made to be written over (P6).

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use oomph::{
    model::{Event, EventKind, SourceId},
    session::Session,
    ui::{App, Msg, frame_text, update},
};
use ratatui::crossterm::event::{Event as Typed, KeyCode, KeyEvent, KeyModifiers};

use super::{count, oomph, tell};

/// Much longer than any of this takes, also on a busy machine and without optimisation.
const LONG: Duration = Duration::from_secs(20);

fn quick(command: &mut Command, what: &str) -> (Output, Duration) {
    let start = Instant::now();
    let output = command.output().unwrap();
    let took = start.elapsed();
    assert!(took < LONG, "{what}: {took:?}");
    assert!(output.status.code().is_some_and(|code| code <= 3), "{what}: {}", output.status);
    (output, took)
}

/// P3: brackets without end, and single values without end, in every format that nests: refused or passed over, at once.
#[test]
fn depth_and_length_bombs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let deep = count(100_000, 1_000_000);
    let long = count(8, 1024) << 20;
    let yaml: String = (0..3000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let bombs = [
        ("brackets.json", "[".repeat(deep)),
        ("objects.json", "{\"a\":".repeat(deep)),
        ("closed.json", format!("{{\"trainer_state\": {}{}}}", "[".repeat(deep), "]".repeat(deep))),
        (
            "lines.jsonl",
            format!(
                "{{\"loss\": 1.0, \"x\": {}{}, \"step\": 1}}\n{{\"loss\": 2.0, \"step\": 2}}\n",
                "[".repeat(deep),
                "]".repeat(deep)
            ),
        ),
        ("flow.yaml", format!("a: {}", "[".repeat(deep))),
        ("indented.yaml", yaml),
        (
            "anchors.yaml",
            format!(
                "a0: &a0 [x,x,x,x,x,x,x,x,x]\n{}",
                (1..30)
                    .map(|n| format!("a{n}: &a{n} [{0},{0},{0},{0},{0},{0},{0},{0},{0}]\n", format!("*a{}", n - 1)))
                    .collect::<String>()
            ),
        ),
        ("deep.toml", format!("a = {}", "[".repeat(deep))),
        ("dictionary.log", format!("{{'loss': {}\n{{'loss': 2.0, 'step': 2}}\n", "{'a': ".repeat(deep))),
        ("python.py", format!("from trl import GRPOConfig\nGRPOConfig(x={})", "(".repeat(deep))),
        (
            "token.jsonl",
            format!(
                "{{\"loss\": 1.0, \"text\": \"{}\", \"step\": 1}}\n{{\"loss\": 2.0, \"step\": 2}}\n",
                "x".repeat(long)
            ),
        ),
        ("number.log", format!("{{'loss': {}, 'step': 1}}\n{{'loss': 2.0, 'step': 2}}\n", "9".repeat(long))),
        ("wide.csv", format!("{}\n{}\n", "a,".repeat(deep), "1,".repeat(deep))),
    ];
    let (mut cases, mut slowest) = (0, Duration::ZERO);
    for (name, text) in &bombs {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        for words in [
            ["metrics", "--json", path].as_slice(),
            &["diagnose", path],
            &["estimate", "--config", path],
            &["--once", "--no-gpu", "--json", path],
        ] {
            let (output, took) = quick(oomph(folder.path()).args(words), &format!("{words:?}"));
            slowest = slowest.max(took);
            cases += 1;
            // What stands after the bomb is read all the same.
            if words[0] == "metrics" && text.contains("2.0, ") {
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(said.contains("\"loss\":2}"), "{name}: {}", said.chars().take(300).collect::<String>());
            }
        }
        fs::remove_file(path).unwrap();
    }
    let config = folder.path().join("config.toml");
    fs::write(&config, format!("a = {}", "[".repeat(deep))).unwrap();
    quick(oomph(folder.path()).env("OOMPH_CONFIG", &config).args(["doctor", "--json"]), "a configuration");
    tell(&format!("P3: {cases} bombs of {deep} levels or {} MiB, {slowest:.1?} at most", long >> 20));
}

/// P4: patterns that make backtracking engines hang, on the lines that do it, in the log's search: the engine is linear.
#[test]
fn no_pattern_hangs_the_search() {
    let pairs: &[(&str, &str)] = &[
        ("(a+)+$", "a"),
        ("([a-zA-Z]+)*$", "a"),
        ("(a|aa)+$", "a"),
        ("(a|a?)+$", "a"),
        ("(.*a){20}$", "a"),
        ("^(([a-z])+.)+[A-Z]([a-z])+$", "a"),
        ("(x+x+)+y", "x"),
        ("(.*)(.*)(.*)(.*)(.*)=", "x"),
        ("(?:a*)*b", "a"),
        ("(\\d+)*\\.$", "1"),
        ("^(\\w+\\s?)*$", "a "),
        ("((ab)*)+$", "ab"),
        ("(a?){30}a{30}", "a"),
        ("^(a*)*$", "a"),
        ("\\s+$", " "),
        ("(.+)+\\n", "."),
        ("(([^/])+/?)*$", "a/"),
        ("^((a|b|ab)*)*c", "ab"),
        ("(?i)(.*,){15}p", ","),
        ("([^\"]*\"){12}z", "\""),
    ];
    let at = jiff::Timestamp::UNIX_EPOCH;
    let source = SourceId(0);
    let mut slowest = Duration::ZERO;
    for (pattern, piece) in pairs {
        let mut session = Session::default();
        session
            .apply(Event { at, kind: EventKind::Opened { source, name: "train.log".into(), path: None, size: None } });
        let line = format!("{}!\n", piece.repeat((64 << 10) / piece.len()));
        session.apply(Event { at, kind: EventKind::Output { source, offset: 0, data: line.into_bytes() } });
        let mut app = App::new(session);
        app.size = (100, 30);
        let press = |app: &mut App, code| {
            update(app, Msg::Terminal(Typed::Key(KeyEvent::new(code, KeyModifiers::NONE))));
        };
        let start = Instant::now();
        for code in [KeyCode::Char('5'), KeyCode::Char('/')] {
            press(&mut app, code);
        }
        pattern.chars().for_each(|c| press(&mut app, KeyCode::Char(c)));
        press(&mut app, KeyCode::Enter);
        frame_text(&app, 100, 30);
        let took = start.elapsed();
        assert!(took < LONG, "{pattern}: {took:?}");
        slowest = slowest.max(took);
    }
    // That no engine which backtracks comes in is what deny.toml sees to.
    tell(&format!("P4: {} patterns on lines of 64 KiB, {slowest:.1?} at most with a frame", pairs.len()));
}

/// P6: planted links and files stay what they were, names from outside lead nowhere else, and nobody else may read what is
/// written.
#[test]
fn nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let victim = folder.path().join("victim");
    let untouched = b"the victim's own text\n";
    fs::write(&victim, untouched).unwrap();
    let mut cases = 0;
    let names = [
        "why.md".to_string(),
        "-dash.md".into(),
        "--report".into(),
        "line\nbreak.md".into(),
        "\x1b]0;PWNED\x07.md".into(),
        "\u{202e}dm.md".into(),
        "a b  c.md".into(),
        "$(touch PWNED).md".into(),
        "`id`.md".into(),
        "%s%n.md".into(),
        "con.md".into(),
        ".hidden".into(),
        "no-end".into(),
        "многие.md".into(),
        "x".repeat(250),
        "y".repeat(300),
        "../outside.md".into(),
        "missing/folder.md".into(),
        "*".into(),
        "a;b.md".into(),
        "'quoted'.md".into(),
        "tab\t.md".into(),
        "\\back\\slash.md".into(),
        "~".into(),
        "CON:.md".into(),
        "a".into(),
        "é\u{301}\u{301}.md".into(),
        "#.md".into(),
        "&.md".into(),
        "|.md".into(),
    ];
    for (nth, name) in names.iter().enumerate() {
        for (other, plant) in ["link", "file", "dangling link", "nothing"].into_iter().enumerate() {
            let work = folder.path().join(format!("{nth}-{other}")).join("work");
            fs::create_dir_all(&work).unwrap();
            let place = work.join(name);
            let fits = match plant {
                "link" => symlink(&victim, &place).is_ok(),
                "file" => fs::write(&place, "an earlier report\n").is_ok(),
                "dangling link" => symlink(work.join("made by it"), &place).is_ok(),
                _ => true,
            };
            if !fits {
                continue;
            }
            // The small count takes each name with one plant, and each plant with some names.
            if count(0, 1) == 0 && nth % 4 != other {
                continue;
            }
            let output = oomph(&state)
                .current_dir(&work)
                .arg("run")
                .arg(format!("--report={name}"))
                .args(["--no-gpu", "--no-record", "--", "sh", "-c", "exit 3"])
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(3), "{name:?}: the command's status is lost");
            assert_eq!(fs::read(&victim).unwrap(), untouched, "{name:?} {plant}");
            assert!(!work.join("made by it").exists(), "{name:?}: written through a link");
            assert!(!work.join("PWNED").exists());
            if plant == "file" {
                assert_eq!(fs::read_to_string(&place).unwrap(), "an earlier report\n", "{name:?}");
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let written = fs::read_dir(&work)
                .unwrap()
                .map(|e| e.unwrap())
                .filter(|e| fs::read_to_string(e.path()).is_ok_and(|text| text.starts_with("# oomph")));
            for entry in written {
                assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{name:?}");
            }
            assert!(said.contains("report written to") || said.contains("oomph: "), "{name:?}: {said}");
            cases += 1;
        }
    }
    // The record: folders that only the owner may enter, files that only the owner may read, and no link is followed.
    let log = folder.path().join("train.log");
    fs::write(&log, "{'loss': 1.0, 'epoch': 0.1}\n").unwrap();
    Command::new("sh")
        .args(["-c", "umask 000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_oomph")])
        .args(["run", "--no-gpu", "--", "cat"])
        .arg(&log)
        .env("OOMPH_STATE", &state)
        .output()
        .unwrap();
    let mut looked = 0;
    look(&state.join("runs"), &mut looked);
    assert!(looked >= 4, "{looked}");
    let runs = fs::read_dir(state.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.into_iter().find(|run| run.join("run.sqlite").is_file()).unwrap();
    fs::remove_file(run.join("run.sqlite")).unwrap();
    symlink(&victim, run.join("run.sqlite")).unwrap();
    assert!(oomph::store::database::Database::create(&run.join("run.sqlite")).is_err());
    assert_eq!(fs::read(&victim).unwrap(), untouched);
    tell(&format!(
        "P6: {cases} names and plants: no victim touched; {looked} files and folders of a record closed to others"
    ));
}

fn look(path: &Path, looked: &mut usize) {
    let mode = fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    *looked += 1;
    assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            look(&entry.unwrap().path(), looked);
        }
    }
}
