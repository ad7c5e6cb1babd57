//! What the README shows is what the program does.

use std::{fs, process::Command};

use assert_cmd::cargo::CommandCargoExt;

const README: &str = include_str!("../../README.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The words of a command line; the README quotes none.
fn run(line: &str) -> (i32, String) {
    let words = line.split_whitespace().skip(1);
    let state = tempfile::TempDir::new().unwrap();
    let mut command = Command::cargo_bin("oomph").unwrap();
    command.args(words).current_dir(ROOT).env("OOMPH_STATE", state.path()).env_remove("COLUMNS");
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_diagnosis_shown_is_the_one_printed() {
    let (_, rest) = README.split_once("## A dead run").unwrap();
    let (_, rest) = rest.split_once("```console\n$ ").unwrap();
    let (line, rest) = rest.split_once('\n').unwrap();
    let (_, rest) = rest.split_once("```text\n").unwrap();
    let (shown, _) = rest.split_once("  …\n```").unwrap();
    assert!(README.contains(&format!("```sh\n{line}\n```")), "the main job is another command than {line}");
    let (code, printed) = run(line);
    assert_eq!(code, 1);
    assert!(shown.lines().count() > 25 && printed.starts_with(shown), "shown:\n{shown}\nprinted:\n{printed}");
}

/// Every command of the README is one that the program has, and every option one of that command's.
#[test]
fn commands_and_options_exist() {
    let mut seen = 0;
    let lines = README.lines().map(|line| line.strip_prefix("$ ").unwrap_or(line));
    for line in lines.filter(|line| line.starts_with("oomph ") && !line.contains(" says ")) {
        let line = line.split(['#', '|']).next().unwrap();
        let own = line.split(" -- ").next().unwrap();
        let words: Vec<&str> = own.split_whitespace().skip(1).collect();
        let first = words.first().filter(|word| word.chars().all(|c| c.is_ascii_lowercase()));
        let (code, help) = run(&format!("oomph {} --help", first.copied().unwrap_or_default()));
        assert_eq!(code, 0, "{line}");
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{line}: {option} is in no help");
        }
        seen += 1;
    }
    assert!(seen > 10, "only {seen}");
}

#[test]
fn what_it_points_at_is_there() {
    let mut seen = 0;
    for link in README.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|l| !l.contains("://")) {
        assert!(fs::exists(format!("{ROOT}/{link}")).unwrap(), "{link}");
        seen += 1;
    }
    assert!(seen > 8, "only {seen}");
}
