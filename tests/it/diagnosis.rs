//! Every case of `tests/diagnosis`: the whole diagnosis as a snapshot, and the same answer however the text was mangled on
//! its way into the paste.

use std::{collections::BTreeMap, fs, path::PathBuf};

use oomph::{
    cli::diagnose::judge_text,
    model::{
        failure::{Diagnosis, Failure},
        knobs::Knobs,
    },
    parse::oom::Scanner,
};
use proptest::prelude::*;

use crate::properties;

fn cases() -> BTreeMap<String, String> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/diagnosis"));
    let files = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let texts = files.filter(|p| p.extension().is_some_and(|e| e == "txt"));
    texts.map(|p| (p.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&p).unwrap())).collect()
}

fn judge(text: &str) -> Diagnosis {
    judge_text("paste", text.as_bytes(), &Knobs::default())
}

#[test]
fn whole_diagnoses() {
    for (name, text) in cases() {
        insta::with_settings!({ snapshot_path => "snapshots/diagnosis", prepend_module_to_snapshot => false }, {
            insta::assert_json_snapshot!(name, judge(&text));
        });
    }
}

/// What is pasted into an issue has no holes.
#[test]
fn markdown_says_only_what_is_known() {
    let mut tables = 0;
    for (name, text) in cases() {
        let markdown = oomph::cli::report::markdown(&judge(&text), &Knobs::default());
        assert!(!markdown.contains("phase that the log") && !markdown.contains("## \n"), "{name}:\n{markdown}");
        for line in markdown.lines().filter(|l| l.starts_with('|')) {
            tables += 1;
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert!(cells.iter().all(|cell| !cell.is_empty() && *cell != "?"), "{name}: {line}");
        }
    }
    assert!(tables > 500, "only {tables}");
}

/// What must not depend on the mangling.
fn essence(d: &Diagnosis) -> Vec<String> {
    let one = |f: &Failure| {
        let causes: Vec<_> = f.causes.iter().map(|c| c.id).collect();
        format!(
            "{} {} {:?} {:?} {:?} {:?} {:?} {causes:?}",
            f.is_oom, f.kind, f.memory, f.device, f.phase.id, f.numbers, f.other_processes
        )
    };
    d.failures.iter().map(one).collect()
}

fn each_line(text: &str, change: impl Fn(usize, &str) -> String) -> String {
    let lines: Vec<String> = text.trim_end().split('\n').enumerate().map(|(n, l)| change(n, l)).collect();
    lines.join("\n") + "\n"
}

fn prefixed(prefix: &str, text: &str) -> String {
    each_line(text, |_, l| if l.is_empty() { String::new() } else { format!("{prefix}{l}") })
}

/// As a terminal of that width breaks lines; in `pad` the row is filled with blanks, as tmux copies it.
fn wrapped(text: &str, width: usize, pad: bool) -> String {
    each_line(text, |_, l| {
        let letters: Vec<char> = l.chars().collect();
        let rows: Vec<String> = letters.chunks(width).map(|row| row.iter().collect()).collect();
        let pad = if pad { width } else { 0 };
        rows.iter().map(|row| format!("{row:<pad$}")).collect::<Vec<_>>().join("\n")
    })
}

type Mangling = (&'static str, fn(&str) -> String);

/// The manglings of the field: terminals, launchers, loggers, web pages, retyping.
const MANGLINGS: &[Mangling] = &[
    ("wrapped at 80", |t| wrapped(t, 80, false)),
    ("wrapped at 99", |t| wrapped(t, 99, false)),
    ("wrapped at 237", |t| wrapped(t, 237, false)),
    ("wrapped at 280", |t| wrapped(t, 280, false)),
    ("wrapped at 80, rows padded", |t| wrapped(t, 80, true)),
    ("CRLF", |t| t.replace('\n', "\r\n")),
    ("rank prefix", |t| prefixed("[rank3]: ", t)),
    ("Slurm label", |t| prefixed("3: ", t)),
    ("Ray worker", |t| prefixed("(WorkerDict pid=12345, ip=10.1.2.3) ", t)),
    ("vLLM engine logger", |t| prefixed("(EngineCore_DP0 pid=77) ERROR 10-25 13:08:43 [core.py:708] ", t)),
    ("compose service", |t| prefixed("trainer-1  | ", t)),
    ("Kubernetes time", |t| prefixed("2024-06-28T06:11:52.685300953Z ", t)),
    ("three prefixes", |t| prefixed("2024-06-28T06:11:52.685Z trainer-1  | [rank3]: ", t)),
    ("pytest", |t| prefixed("E   ", t)),
    ("quoted mail", |t| prefixed("> ", t)),
    ("Python logging", |t| prefixed("2024-01-01 12:00:00,123 - __main__ - ERROR - ", t)),
    ("ANSI colours", |t| each_line(t, |_, l| format!("\x1b[31m{l}\x1b[0m"))),
    ("colours without their escape", |t| each_line(t, |_, l| format!("[31m{l}[0m"))),
    ("HTML", |t| t.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#x27;")),
    ("numbered 1.", |t| each_line(t, |n, l| format!("{}. {l}", n + 1))),
    ("numbered ]", |t| each_line(t, |n, l| format!("{}] {l}", n + 80746))),
    ("docker JSON", |t| format!("{}\n", serde_json::json!({ "log": t, "stream": "stderr" }))),
    ("non-breaking blanks", |t| t.replace(' ', "\u{a0}")),
    ("curly quotes", |t| t.replace('\'', "\u{2019}")),
    ("rich box", |t| each_line(t, |_, l| format!("│ {l:<110} │"))),
    ("bar before it", |t| format!(" 50%|#####     | 1/2 [00:24<00:24, 24.19s/it]{t}")),
    ("twice", |t| format!("{t}\n{t}")),
    ("bold", |t| t.replace("CUDA out of memory", "**CUDA out of memory**")),
    ("among prose", |t| format!("{}{t}\nplease help, how do I fix this?\n", "Training started\n".repeat(30))),
];

/// What a mangling destroys for good, with the reason.
fn lost(case: &str, mangling: &str) -> bool {
    // Lines of JSON whose rows were broken, boxed or numbered again are none any more.
    if case.starts_with("field-docker-json") {
        let broken = ["wrapped", "numbered", "docker JSON", "rich box"];
        return broken.iter().any(|b| mangling.starts_with(b));
    }
    match mangling {
        // The text itself has numbers before its lines, or columns that mean something.
        "numbered 1." | "numbered ]" => matches!(case, "article-numbered-lines" | "k8s-json-lines" | "rich-box"),
        // A line of JSON or a row of a box that a terminal parted is none any more; JSON in JSON, a box in a box.
        "wrapped at 80" | "wrapped at 99" | "wrapped at 80, rows padded" => {
            matches!(case, "k8s-json-lines" | "rich-box" | "pin-memory-thread-oom")
        }
        "docker JSON" | "rich box" => matches!(case, "k8s-json-lines" | "rich-box"),
        // A prefix of another rank before the rank's own.
        "rank prefix" | "Slurm label" | "three prefixes" => case == "two-failures",
        _ => false,
    }
}

#[test]
fn the_answer_survives_mangling() {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (case, text) in cases() {
        let want = essence(&judge(&text));
        // Of cases that differ in their frames or figures alone, some manglings tell as much as all.
        let alike = ["phase-", "field-ph-", "field-cause-", "alike-"].iter().any(|p| case.starts_with(p));
        let some = if alike { 6 } else { 1 };
        for (name, mangle) in MANGLINGS.iter().step_by(some).filter(|(name, _)| !lost(&case, name)) {
            tried += 1;
            let got = essence(&judge(&mangle(&text)));
            if got != want {
                wrong.push(format!("{case}, {name}:\n  want {want:?}\n  got  {got:?}"));
            }
        }
    }
    assert!(tried > 2000, "only {tried} tried");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

proptest! {
    #![proptest_config(properties::config(48))]

    #[test]
    fn any_chunking_gives_the_same(cuts in prop::collection::vec(0usize..4000, 0..12), pick in 0usize..1000) {
        let all = cases();
        let (_, text) = all.iter().nth(pick % all.len()).unwrap();
        let bytes = text.as_bytes();
        let mut whole = Scanner::default();
        whole.feed(bytes);
        whole.finish();
        let mut parts = Scanner::default();
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut at = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            parts.feed(&bytes[at..cut]);
            at = cut;
        }
        parts.finish();
        prop_assert_eq!(whole.incidents(), parts.incidents());
    }

    #[test]
    fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..600), pick in 0usize..1000, at in 0usize..5000) {
        let all = cases();
        let (_, text) = all.iter().nth(pick % all.len()).unwrap();
        let mut bytes = text.clone().into_bytes();
        let at = at % (bytes.len() + 1);
        bytes.splice(at..at, noise);
        judge_text("paste", &bytes, &Knobs::default());
    }
}

/// A text cut anywhere never gives a number that is not in the whole text. `OOMPH_TEST_FULL=1` cuts at every byte.
#[test]
fn a_cut_invents_no_number() {
    let step = if properties::full() { 1 } else { 89 };
    let mut wrong = Vec::new();
    for (nth, (name, text)) in cases().into_iter().enumerate() {
        // What a program got over is a failure as long as the text ends before it says so.
        if name.contains("recovered") {
            continue;
        }
        let numbers = |d: &Diagnosis| -> Vec<u64> {
            let n = d.failures.iter().map(|f| &f.numbers);
            n.flat_map(|n| {
                [
                    n.requested_bytes,
                    n.capacity_bytes,
                    n.free_bytes,
                    n.in_use_bytes,
                    n.allocated_bytes,
                    n.reserved_unallocated_bytes,
                    n.allowed_bytes,
                    n.private_pools_bytes,
                ]
            })
            .flatten()
            .collect()
        };
        let others = |d: &Diagnosis| -> Vec<(u32, Option<u64>)> {
            d.failures.iter().flat_map(|f| f.other_processes.iter().map(|p| (p.pid, p.bytes))).collect()
        };
        let whole = judge(&text);
        let (known, held) = (numbers(&whole), others(&whole));
        for at in (nth % step..=text.len()).step_by(step).filter(|at| text.is_char_boundary(*at)) {
            let cut = judge(&text[..at]);
            // `1.10GiB (rounded to 1181116160)` cut before its second figure has the first one, with two decimals.
            let there = |n: u64| known.iter().any(|k| k.abs_diff(n) <= k / 200);
            let number = numbers(&cut).into_iter().find(|n| !there(*n) && held.iter().all(|p| p.1 != Some(*n)));
            // In a container the job's own entry is told from others by what comes after it.
            let other = others(&cut).into_iter().find(|p| !held.contains(p) && p.1.is_none_or(|b| !known.contains(&b)));
            if number.is_some() || other.is_some() {
                wrong.push(format!("{name} cut at {at}: {number:?} {other:?} is in no whole message"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}
