//! The guards behind the promises: `tests/guards.toml` names for each row of `docs/reliability.md` a test and a piece of
//! code that the test rests on. Taken out, the test must fail.
//!
//! In every run the list is compared with the code; where it is behind, a full run fails and a small one says so. `OOMPH_TEST_GUARDS=all` (or names of rows, `T1,V4`) takes each guard
//! out of a copy under `target/guards`, builds it, runs the test, and prints a table.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{count, tell};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    guard: Vec<Guard>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guard {
    /// The row of docs/reliability.md.
    row: String,
    /// The test's whole name; `lib:` before it for one at the foot of a file.
    test: String,
    /// What is taken out, in words.
    what: String,
    change: Vec<Change>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    file: String,
    take: String,
    put: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn guards() -> Vec<Guard> {
    let text = fs::read_to_string(root().join("tests/guards.toml")).unwrap();
    toml::from_str::<File>(&text).unwrap().guard
}

#[test]
fn each_guard_stands_in_the_code_once() {
    let own = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let listed = String::from_utf8(own.stdout).unwrap();
    let mut wrong = Vec::new();
    for guard in guards() {
        if !guard.test.starts_with("lib:") && !listed.lines().any(|line| line == format!("{}: test", guard.test)) {
            wrong.push(format!("{}: there is no test {}", guard.row, guard.test));
        }
        for change in &guard.change {
            let text = fs::read_to_string(root().join(&change.file)).unwrap_or_default();
            let found = text.matches(change.take.as_str()).count();
            if found != 1 {
                wrong.push(format!("{} ({}): {} times in {}", guard.row, guard.what, found, change.file));
            }
        }
    }
    let words = format!("tests/guards.toml does not follow the code: {wrong:#?}");
    // Whoever moves a line need not mend the list at once; whoever runs everything must.
    if !wrong.is_empty() && count(0, 1) == 0 {
        return tell(&words);
    }
    assert!(wrong.is_empty(), "{words}");
}

#[test]
fn without_its_guard_each_test_fails() {
    let Ok(wanted) = std::env::var("OOMPH_TEST_GUARDS") else { return };
    let wanted: Vec<&str> = wanted.split(',').collect();
    let place = root().join("target/guards");
    let tree = place.join("tree");
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(&tree).unwrap();
    for name in
        ["Cargo.toml", "Cargo.lock", "README.md", "deny.toml", "src", "tests", "themes", "benches", "docs", "fuzz"]
    {
        copy(&root().join(name), &tree.join(name));
    }
    let mut failed = Vec::new();
    for guard in guards().iter().filter(|guard| wanted.iter().any(|w| *w == "all" || *w == guard.row)) {
        let start = Instant::now();
        let mut whole = Vec::new();
        for change in &guard.change {
            let path = tree.join(&change.file);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replacen(&change.take, &change.put, 1)).unwrap();
            whole.push((path, text));
        }
        let result = fails(&tree, &place.join("target"), &guard.test);
        // The last change first: two may be in one file.
        for (path, text) in whole.iter().rev() {
            fs::write(path, text).unwrap();
        }
        end_what_is_left(&place);
        let word = match &result {
            Ok(how) => how.clone(),
            Err(why) => format!("NO: {why}"),
        };
        tell(&format!("| {} | {} | `{}` | {word} | {:.0?} |", guard.row, guard.what, guard.test, start.elapsed()));
        if result.is_err() {
            failed.push(format!("{} ({})", guard.row, guard.what));
        }
    }
    assert!(failed.is_empty(), "these stand without their guard: {failed:#?}");
}

/// Builds and runs one test there. How it failed; an error where it did not, or where nothing was built.
fn fails(tree: &Path, target: &Path, test: &str) -> Result<String, String> {
    let (kind, name) = test.strip_prefix("lib:").map_or((["--test", "it"].as_slice(), test), |name| (&["--lib"], name));
    let cargo = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.arg("test").args(kind).args(words).current_dir(tree).env("CARGO_TARGET_DIR", target);
        command.env("RUSTFLAGS", "-Awarnings").env_remove("OOMPH_TEST_GUARDS").stdin(Stdio::null());
        command
    };
    let built = cargo(&["--no-run"]).output().unwrap();
    if !built.status.success() {
        return Err(format!("it does not build: {}", String::from_utf8_lossy(&built.stderr)));
    }
    let log = target.join("guard.log");
    let file = fs::File::create(&log).unwrap();
    let mut child =
        cargo(&["--", "--exact", name, "--nocapture"]).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > Duration::from_mins(3) {
            let _ = child.kill();
            let _ = child.wait();
            return Ok("never came to an end".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    if said.contains("running 0 tests") {
        return Err("there is no such test".into());
    }
    if status.success() {
        return Err("it passes".into());
    }
    let why = said.split("panicked at").nth(1).unwrap_or("").lines().nth(1).unwrap_or_default();
    Ok(format!("failed: {}", why.chars().filter(|c| *c != '|').take(60).collect::<String>()))
}

/// A test that fails may leave behind what it started: everything that runs from the copy ends.
fn end_what_is_left(place: &Path) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe.starts_with(place)) {
            let pid = entry.file_name();
            let _ = Command::new("kill").arg("-KILL").arg(pid).stderr(Stdio::null()).status();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        let names: Vec<PathBuf> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in names.iter().filter(|path| path.file_name().is_some_and(|n| n != "target" && n != "corpus")) {
            copy(path, &to.join(path.file_name().unwrap()));
        }
    } else if from.exists() {
        fs::copy(from, to).unwrap();
    }
}
