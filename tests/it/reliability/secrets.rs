//! What is stored, copied or sent (S1 to S3): no secret, no variable but those that matter, and nothing to anybody.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use aho_corasick::AhoCorasick;
use oomph::model::redact;

use super::{count, has, oomph, seat::Seat, tell};

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// So many characters of an alphabet. Digits and both cases are among them where the alphabet has them.
    fn text(&mut self, alphabet: &str, length: usize) -> String {
        let all: Vec<char> = alphabet.chars().collect();
        loop {
            let text: String = (0..length).map(|_| all[(self.next() % all.len() as u64) as usize]).collect();
            if text.contains(|c: char| c.is_ascii_digit()) {
                return text;
            }
        }
    }
}

const MIXED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const HEX: &str = "0123456789abcdef";

/// A secret as its service spells it, with what stands around it, and the part that nobody may see.
fn kinds(dice: &mut Dice) -> Vec<(&'static str, String, String)> {
    let mut all = Vec::new();
    let mut add = |name, before: &str, secret: String, after: &str| {
        all.push((name, format!("{before}{secret}{after}"), secret));
    };
    add("Hugging Face", "hf_", dice.text(MIXED, 34), "");
    add("Hugging Face organisation", "api_org_", dice.text(MIXED, 34), "");
    add("AWS key id", "AKIA", dice.text(UPPER, 16), "");
    add("AWS secret", "aws_secret_access_key=", dice.text(MIXED, 40), "");
    add("GitHub", "ghp_", dice.text(MIXED, 36), "");
    add("GitHub fine-grained", "github_pat_", dice.text(MIXED, 60), "");
    add("GitLab", "glpat-", dice.text(MIXED, 20), "");
    add("OpenAI", "sk-proj-", dice.text(MIXED, 48), "");
    add("Anthropic", "sk-ant-api03-", dice.text(MIXED, 60), "");
    add("Google", "AIza", dice.text(MIXED, 35), "");
    add("Slack", "xoxb-", dice.text(MIXED, 24), "");
    add("Slack webhook", "https://hooks.slack.com/services/T0/B0/", dice.text(MIXED, 24), "");
    add("Stripe", "sk_live_", dice.text(MIXED, 24), "");
    add("npm", "npm_", dice.text(MIXED, 36), "");
    add("PyPI", "pypi-", dice.text(MIXED, 60), "");
    add("Databricks", "dapi", dice.text(HEX, 32), "");
    add("NVIDIA", "nvapi-", dice.text(MIXED, 60), "");
    add("W&B, new", "wandb_v1_", dice.text(MIXED, 40), "");
    add("W&B", "WANDB_API_KEY=", dice.text(HEX, 40), "");
    add("JWT", &format!("eyJ{}.eyJ{}.", dice.text(MIXED, 20), dice.text(MIXED, 30)), dice.text(MIXED, 40), "");
    add("bearer", "Authorization: Bearer ", dice.text(MIXED, 32), "");
    add("URL", "https://user:", dice.text(MIXED, 20), "@example.org/repo.git");
    add("option", "--hub-token ", dice.text(MIXED, 32), "");
    add("pair", "api_key = ", dice.text(MIXED, 32), "");
    add("password", "password: ", dice.text(MIXED, 14), "");
    all
}

type Context = (&'static str, fn(&str) -> String);

/// Where a secret may stand in a log.
const CONTEXTS: &[Context] = &[
    ("alone", |s| format!("{s}\n")),
    ("logged", |s| format!("2026-01-02 03:04:05,678 - INFO - using {s} now\n")),
    ("coloured", |s| format!("\x1b[1;31mERROR\x1b[0m \x1b[33m{s}\x1b[0m end\n")),
    ("JSON", |s| format!("{{\"level\": \"info\", \"msg\": \"{s}\", \"n\": 1}}\n")),
    ("JSON in JSON", |s| format!("{{\"log\": \"{{\\\"env\\\": \\\"{s}\\\"}}\\n\"}}\n")),
    ("Python", |s| format!("Namespace(lr=1e-05, extra='{s}', out='x')\n")),
    ("dictionary", |s| format!("{{'step': 1, 'note': '{s}'}}\n")),
    ("rank", |s| format!("[rank3]: RuntimeError: {s}\n")),
    ("before a redraw", |s| format!("{s}\r 50%|#####     | 5/10\n")),
    ("after a redraw", |s| format!(" 50%|#####     | 5/10\r{s}\r\n")),
    ("Windows", |s| format!("line {s}\r\n")),
    ("traceback", |s| format!("  File \"train.py\", line 3, in <module>\n    login(\"{s}\")\n")),
    ("YAML", |s| format!("  extra: \"{s}\"\n")),
    ("shell", |s| format!("+ export X='{s}' && python train.py\n")),
    ("list", |s| format!("a=1;b=2;{s};c=3\n")),
    ("other scripts", |s| format!("ключ 鍵 {s} конец\n")),
    ("brackets", |s| format!("<{s}> ({s}) [{s}]\n")),
    ("long line", |s| format!("{} {s} {}\n", "x ".repeat(2600), "y ".repeat(300))),
    ("very long line", |s| format!("{} {s} {}\n", "x ".repeat(40_000), "y ".repeat(9000))),
    ("tabs", |s| format!("a\t{s}\tb\n")),
];

/// Parts of planted secrets, to be looked for.
struct Planted {
    finder: AhoCorasick,
    names: Vec<String>,
}

impl Planted {
    fn new(all: &[(String, String)]) -> Self {
        let (mut parts, mut names) = (Vec::new(), Vec::new());
        for (name, secret) in all {
            for at in [0, (secret.len() - 10) / 2, secret.len() - 10] {
                parts.push(secret[at..at + 10].to_string());
                names.push(name.clone());
            }
        }
        Self { finder: AhoCorasick::new(parts).unwrap(), names }
    }

    fn in_bytes(&self, bytes: &[u8]) -> BTreeSet<&str> {
        self.finder.find_overlapping_iter(bytes).map(|m| self.names[m.pattern().as_usize()].as_str()).collect()
    }
}

fn files_below(folder: &Path, out: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files_below(&path, out);
        } else {
            out.push(path);
        }
    }
}

/// S1: planted secrets of every kind in every context are in no recording (also not in its free pages and its log), no
/// export, no report, no copy and no message.
#[test]
fn no_secret_is_stored_exported_or_told() {
    let mut dice = Dice(0x5eed_1234_5678_9abc);
    let (mut planted, mut log) = (Vec::new(), String::new());
    for (context, around) in CONTEXTS {
        for (kind, text, secret) in kinds(&mut dice) {
            log.push_str(&around(&text));
            planted.push((format!("{kind}, {context}"), secret));
        }
    }
    // A key over several lines; values that only the environment tells; the command's own words; a failure beside one.
    let body: Vec<String> = (0..12).map(|_| dice.text(MIXED, 64)).collect();
    log.push_str(&format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n", body.join("\n")));
    planted.extend(body.into_iter().enumerate().map(|(n, line)| (format!("private key, line {n}"), line)));
    let (variable, word) = (dice.text("abcdefghijkl-.0123", 24), dice.text(MIXED, 34));
    log.push_str(&format!("the pass phrase is {variable}, they said\n"));
    planted.push(("the value of a variable".into(), variable.clone()));
    planted.push(("a word of the command".into(), word.clone()));
    let beside = dice.text(MIXED, 34);
    log.push_str(&format!(
        "{{'loss': 1.5, 'hf_{beside}': 2.0, 'epoch': 0.1}}\nEvaluating hf_{beside}\n[rank0]: torch.OutOfMemoryError: CUDA out of memory. \
         Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.00 GiB of which 1.00 GiB is free. hf_{beside}\n"
    ));
    planted.push(("beside the failure".into(), beside));
    let (in_config, in_url) = (dice.text(MIXED, 34), dice.text(MIXED, 24));
    let config =
        format!("hub_token: {in_config}\nmodel_name_or_path: https://me:{in_url}@example.org/m\nlearning_rate: 1e-5\n");
    planted.push(("a configuration that the command names".into(), in_config));
    planted.push(("an address in a configuration".into(), in_url));
    let secrets = Planted::new(&planted);
    assert!(secrets.in_bytes(log.as_bytes()).len() + 1 >= planted.len() - 3, "the search itself");

    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(folder.path().join("train.log"), &log).unwrap();
    fs::write(folder.path().join("train.yaml"), &config).unwrap();
    let report = folder.path().join("why.md");
    // In two parts, with a read between them.
    let script = "head -c 70001 train.log; sleep 0.3; tail -c +70002 train.log; exit 1";
    let output = oomph(&state)
        .current_dir(folder.path())
        .env("SOME_SECRET", &variable)
        .args(["run", "--no-gpu", "--report"])
        .arg(&report)
        .args(["--", "sh", "-c", script, "--config", "train.yaml", "--hub-token", &format!("hf_{word}")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout == log.as_bytes(), "what is passed through is the command's own");
    let mut seen = Vec::new();
    let mut look = |what: &str, bytes: &[u8]| {
        seen.extend(secrets.in_bytes(bytes).into_iter().map(|name| format!("{what}: {name}")));
        bytes.len()
    };
    let mut bytes = look("what oomph says", &output.stderr) + look("report", &fs::read(&report).unwrap());
    let mut files = Vec::new();
    files_below(&state, &mut files);
    for path in files {
        // The spool is the command's output itself, for its owner alone.
        if path.ends_with("output.log") || path.ends_with("error.log") {
            continue;
        }
        bytes += look(&path.file_name().unwrap().to_string_lossy(), &fs::read(&path).unwrap());
    }
    for words in [
        ["export", "last", "--format", "jsonl"].as_slice(),
        &["export", "last", "--format", "csv"],
        &["export", "last", "--format", "markdown"],
        &["history", "--json"],
        &["history"],
        &["replay", "last", "--once", "--json"],
        &["replay", "last", "--once"],
        &["diagnose", "--format", "markdown", "train.log"],
    ] {
        // Without the variable: what is stored must not need it.
        let output = oomph(&state).current_dir(folder.path()).args(words).output().unwrap();
        bytes += look(&words.join(" "), &output.stdout) + look(&words.join(" "), &output.stderr);
    }
    // What the dashboard copies, by OSC 52: the log itself is on its screen.
    let log_path = folder.path().join("train.log");
    let seat = Seat::oomph(&state, &["--no-gpu", "--no-record", log_path.to_str().unwrap()], &[]);
    seat.shows("memory");
    seat.press("6");
    seat.shows("copy");
    let mut copied = 0;
    seat.press("m");
    seat.shows("copied");
    for sequence in String::from_utf8_lossy(&seat.bytes()).split("\x1b]52;c;").skip(1) {
        let text = decoded(sequence.split('\x07').next().unwrap());
        copied += look("the clipboard", &text);
    }
    seat.signal("TERM");
    assert!(seen.is_empty(), "{} leaks: {seen:#?}", seen.len());
    assert!(copied > 100, "nothing was copied");
    tell(&format!(
        "S1: {} planted secrets, {} KiB of records, exports, reports and copies: none in them",
        planted.len(),
        (bytes + copied) >> 10
    ));
}

/// Base64 (RFC 4648).
fn decoded(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut out, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for value in text.bytes().map_while(digit) {
        (held, bits) = (held << 6 | u32::from(value), bits + 6);
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    out
}

/// S1: lines without secrets stay as they are.
#[test]
fn clean_lines_are_not_masked() {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for name in ["logs", "dialects", "diagnosis"] {
        files_below(&root.join(name), &mut files);
    }
    let (mut lines, mut hits) = (0, Vec::new());
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "log" || e == "txt" || e == "csv")) {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        for line in text.lines() {
            lines += 1;
            if redact::line(line) != line {
                hits.push(format!("{}: {}", path.display(), redact::line(line).chars().take(200).collect::<String>()));
            }
        }
    }
    assert!(hits.len() * 10_000 <= lines.max(10_000), "{} of {lines}: {hits:#?}", hits.len());
    tell(&format!("S1: {} of {lines} lines of real logs masked", hits.len()));
}

/// S2: of the environment only what matters to memory and ranks is written down, and no value that is a secret.
#[test]
fn only_known_variables_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let kept = [
        ("CUDA_VISIBLE_DEVICES", "0,1"),
        ("NCCL_DEBUG", "kept-nccl"),
        ("PYTORCH_CUDA_ALLOC_CONF", "kept-alloc"),
        ("SLURM_JOB_ID", "kept-slurm"),
        ("LOCAL_RANK", "kept-rank"),
    ];
    let mut gone: Vec<(String, String)> = [
        "HOME_PAGE",
        "MY_SETTING",
        "DATABASE_URL",
        "EMAIL",
        "PS1",
        "LESSOPEN",
        "OLDPWD2",
        "XDG_SESSION_ID",
        "SSH_CONNECTION",
        "KUBECONFIG",
    ]
    .iter()
    .map(|name| ((*name).to_string(), format!("planted-{}", name.to_lowercase())))
    .collect();
    for name in
        ["NCCL_AUTH_KEY", "SLURM_JWT", "VLLM_API_KEY", "HF_TOKEN", "CUDA_SECRET", "TORCH_PASSWORD", "WANDB_API_KEY"]
    {
        gone.push((name.to_string(), format!("planted-{}", name.to_lowercase())));
    }
    let status = oomph(folder.path())
        .envs(kept)
        .envs(gone.iter().cloned())
        .args(["run", "--no-gpu", "--", "true"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let mut files = Vec::new();
    files_below(folder.path(), &mut files);
    let all: Vec<u8> = files.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    let has = |text: &str| memchr::memmem::find(&all, text.as_bytes()).is_some();
    for (name, value) in kept {
        assert!(has(&format!("{name}={value}")), "{name} is not kept");
    }
    let found: Vec<_> = gone.iter().filter(|(name, value)| has(value) || has(&format!("{name}="))).collect();
    assert!(found.is_empty(), "{found:?}");
    tell(&format!("S2: {} variables kept, {} others nowhere in the record", kept.len(), gone.len()));
}

/// S3: no command opens a connection, be there what may in its input.
#[test]
fn nothing_is_sent() {
    if !has("strace", &["-o", "/dev/null", "true"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("train.log");
    let text = "https://example.org/x http://127.0.0.1:9/ {'loss': 1.0, 'epoch': 0.1}\nwandb: 🚀 View run at https://wandb.ai/a/b\nRuntimeError: CUDA error: out of memory\n";
    fs::write(&log, text).unwrap();
    let config = folder.path().join("config");
    fs::write(&config, "model_name_or_path: https://example.org/model\nper_device_train_batch_size: 1\n").unwrap();
    let (log, config) = (log.to_str().unwrap(), config.to_str().unwrap());
    let trace = folder.path().join("trace");
    let commands: &[&[&str]] = &[
        &["--once", log],
        &["--once", "--json"],
        &["run", "--", "cat", log],
        &["run", "--", "sh", "-c", "exit 3"],
        &["diagnose", log],
        &["diagnose", "--config", config, "--model", "https://example.org/m", log],
        &["estimate", "--config", config, "--model", "someone/model-7b"],
        &["metrics", "--json", log],
        &["history", "--json"],
        &["replay", "last", "--once"],
        &["export", "last", "--format", "markdown"],
        &["doctor"],
        &["config"],
        &["explain"],
        &["demo", "--once"],
    ];
    let mut calls = 0;
    for words in commands.iter().take(count(commands.len(), commands.len())) {
        let status = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=socket,connect,execve", "-o"])
            .arg(&trace)
            .arg(env!("CARGO_BIN_EXE_oomph"))
            .args(*words)
            .env("OOMPH_STATE", folder.path().join("state"))
            .env("XDG_CONFIG_HOME", folder.path())
            .env_remove("TMUX")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.code().is_some_and(|code| code <= 3), "{words:?}: {status}");
        let said = fs::read_to_string(&trace).unwrap();
        calls += said.lines().count();
        let is_call = |l: &&str| ["socket(", "connect("].iter().any(|call| l.contains(call));
        let sent: Vec<&str> = said.lines().filter(is_call).collect();
        assert!(sent.is_empty(), "{words:?}: {sent:#?}");
        // And nothing is run but oomph itself and what it was asked to run.
        let run = said.lines().filter(|l| l.contains("execve(") && l.ends_with("= 0"));
        let strange: Vec<&str> = run
            .filter(|l| {
                !l.contains("/oomph\"") && (words[0] != "run" || !(l.contains("/cat\"") || l.contains("/sh\"")))
            })
            .collect();
        assert!(strange.is_empty(), "{words:?}: {strange:#?}");
    }
    assert!(calls >= commands.len(), "nothing was traced");
    tell(&format!("S3: {} commands: no socket, nothing run that was not asked for", commands.len()));
    let _ = std::io::stderr().flush();
}
