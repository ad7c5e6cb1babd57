//! Takes secrets out of text before it is stored, copied or exported.
//!
//! Finds the shapes that the big services give their keys, headers and URLs that carry credentials, private key
//! blocks, and `name = value` pairs whose name says secret and whose value looks like one. It cannot find every
//! secret, and says so nowhere else than here: what it knows is the list below.

use std::{
    ops::Range,
    sync::{LazyLock, PoisonError, RwLock},
};

use aho_corasick::AhoCorasick;
use regex::bytes::Regex;
use serde_json::Value;

use super::Clean;

/// Shapes that are secrets wherever they stand. The first group, where there is one, is the secret itself.
/// Sources: the prefixes that Hugging Face, AWS, GitHub, GitLab, OpenAI, Anthropic, Google, Slack, Stripe, npm, PyPI,
/// DigitalOcean, Databricks, Replicate, Groq and NVIDIA document for their keys; RFC 7519 (JWT); RFC 7468 (PEM).
const SHAPES: &[&str] = &[
    r"hf_[A-Za-z0-9]{30,}",
    r"api_org_[A-Za-z0-9]{30,}",
    r"(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}",
    r"gh[pousr]_[A-Za-z0-9]{30,}",
    r"github_pat_[A-Za-z0-9_]{40,}",
    r"glpat-[A-Za-z0-9_-]{20,}",
    r"sk-(?:ant-|proj-|or-|svcacct-)?[A-Za-z0-9_-]{20,}",
    r"AIza[0-9A-Za-z_-]{35}",
    r"ya29\.[0-9A-Za-z_-]{20,}",
    r"xox[abeoprs]-[0-9A-Za-z-]{10,}",
    r"hooks\.slack\.com/services/([A-Za-z0-9/]{20,})",
    r"(?:sk|rk|pk)_(?:live|test)_[0-9A-Za-z]{16,}",
    r"npm_[A-Za-z0-9]{30,}",
    r"pypi-[A-Za-z0-9_-]{50,}",
    r"dop_v1_[a-f0-9]{64}",
    r"dapi[a-f0-9]{32}",
    r"r8_[A-Za-z0-9]{30,}",
    r"gsk_[A-Za-z0-9]{40,}",
    r"nvapi-[A-Za-z0-9_-]{40,}",
    r"wandb_v1_[A-Za-z0-9_-]{20,}",
    r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    r"(?i)authorization\s*[:=]\s*['\x22]?(?:bearer|basic|token)\s+([A-Za-z0-9._~+/=-]{8,})",
    r"(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{20,})",
    r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@:'\x22]*:([^\s/@'\x22]{1,})@",
    // A W&B key is forty hexadecimal digits and nothing else: only beside its name.
    r"(?i)(?:wandb|weights.{1,3}biases)[^\n]{0,80}?\b([0-9a-f]{40})\b",
];

/// `name = value`, `name: value`, `"name": "value"`, `--name value`.
const PAIR: &str = r#"(?i)\b([a-z0-9_.-]*(?:api[_-]?key|apikey|secret|token|passwd|password|credential|private[_-]?key|access[_-]?key|auth[_-]?key)[a-z0-9_-]*)(?:['"\\]{0,3}\s*[:=]\s*['"\\]{0,3}|\s+)([^\s'"\\,;&)\]}]{6,})"#;

/// Entropy in bits a character above which a value looks random. gitleaks' default for generic keys.
const RANDOM: f64 = 3.5;

static SHAPE: LazyLock<Vec<Regex>> =
    LazyLock::new(|| SHAPES.iter().map(|p| Regex::new(p).expect("the list is tested")).collect());
static PAIRS: LazyLock<Regex> = LazyLock::new(|| Regex::new(PAIR).expect("the pattern is tested"));
/// Cheap test that lets nearly every line through without a regex.
static HINT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)hf_|api_org_|akia|asia|abia|acca|gh[pousr]_|github_pat|glpat|sk-|aiza|ya29|xox|slack|k_live|k_test|npm_|pypi-|dop_v1|dapi|r8_|gsk_|nvapi|wandb|biases|eyj|private key|authorization|bearer|://|key|secret|token|passw|credential",
    )
    .expect("the pattern is tested")
});

/// A private key's text is not longer (an RSA key of 16384 bits has 13 KiB). One whose end is missing takes no more of a log
/// with it.
const LONGEST_KEY: usize = 16 << 10;

/// Private key blocks (RFC 7468), from their first line to their last.
fn key_blocks(text: &[u8]) -> Vec<Range<usize>> {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    let mut found: Vec<Range<usize>> = Vec::new();
    for mark in memchr::memmem::find_iter(text, MARK) {
        let from = mark.saturating_sub(40);
        let before = text.get(from..mark).unwrap_or_default();
        let Some(begin) = memchr::memmem::rfind(before, b"-----BEGIN ").map(|at| from + at) else { continue };
        if found.last().is_some_and(|last| begin < last.end) {
            continue;
        }
        let body = mark + MARK.len();
        let most = text.get(body..text.len().min(body + LONGEST_KEY)).unwrap_or_default();
        let end = memchr::memmem::find(most, b"-----END ").map_or(most.len(), |end| {
            let rest = most.get(end..).unwrap_or_default();
            end + memchr::memmem::find(rest, MARK).map_or(rest.len(), |mark| mark + MARK.len())
        });
        found.push(begin..body + end);
    }
    found
}

/// A shorter value would mask ordinary words.
const LEAST_VALUE: usize = 8;
/// Values that are known, whatever their shape: those of the trainer's secret variables.
static KNOWN: RwLock<Known> = RwLock::new(Known { values: Vec::new(), finder: None });

#[derive(Debug)]
struct Known {
    values: Vec<String>,
    finder: Option<AhoCorasick>,
}

/// Masks these texts from now on, wherever they stand. A text of several lines is known line by line; short ones, plain
/// numbers and paths are passed over.
pub fn learn(values: impl IntoIterator<Item = String>) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let before = known.values.len();
    for value in values {
        for line in value.lines().map(str::trim).filter(|line| line.len() >= LEAST_VALUE) {
            let plain = line.bytes().all(|b| b.is_ascii_digit() || b == b'.') || line.starts_with('/');
            if !plain && !known.values.iter().any(|old| old == line) {
                known.values.push(line.to_string());
            }
        }
    }
    if known.values.len() > before {
        known.finder = AhoCorasick::new(&known.values).ok();
    }
}

/// Where secrets stand in `text`, in order, not overlapping.
pub fn secrets(text: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    if let Some(finder) = &KNOWN.read().unwrap_or_else(PoisonError::into_inner).finder {
        found.extend(finder.find_overlapping_iter(text).map(|m| m.range()));
    }
    if !HINT.is_match(text) {
        return merged(found);
    }
    found.extend(key_blocks(text));
    for shape in SHAPE.iter() {
        for captures in shape.captures_iter(text) {
            found.extend(captures.get(1).or_else(|| captures.get(0)).map(|m| m.range()));
        }
    }
    for captures in PAIRS.captures_iter(text) {
        if let (Some(name), Some(value)) = (captures.get(1), captures.get(2))
            && looks_secret(name.as_bytes(), value.as_bytes())
        {
            found.push(value.range());
        }
    }
    merged(found)
}

fn merged(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_by_key(|r| (r.start, std::cmp::Reverse(r.end)));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in found {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Words that end in `token` or `key` and name no secret, and values that are none.
fn looks_secret(name: &[u8], value: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |word: &str| memchr::memmem::find(&name, word.as_bytes()).is_some();
    if [
        "num_token",
        "max_token",
        "tokens",
        "token_id",
        "pad_token",
        "eos_token",
        "bos_token",
        "unk_token",
        "token_type",
        "tokenizer",
    ]
    .iter()
    .any(|word| has(word))
    {
        return false;
    }
    // A path, a number, a placeholder or a word of prose is no secret.
    let plain = value.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'e' | b'+'));
    if plain
        || value.starts_with(b"/")
        || value.starts_with(b"<")
        || value.starts_with(b"${")
        || value.starts_with(b"*")
    {
        return false;
    }
    let strong_name = has("passw") || has("secret") || has("credential");
    let has_digit = value.iter().any(u8::is_ascii_digit);
    (strong_name && (has_digit || entropy(value) >= 3.0))
        || (has_digit && value.len() >= 12 && entropy(value) >= RANDOM - 0.5)
        || entropy(value) >= RANDOM && value.len() >= 16 && has_digit
}

/// Shannon entropy in bits a byte.
fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in value {
        counts[usize::from(*byte)] += 1;
    }
    let n = value.len() as f64;
    counts.iter().filter(|c| **c > 0).map(|c| f64::from(*c) / n).map(|p| -p * p.log2()).sum()
}

/// `text` with secrets as `***`, home folders as `~`, and without people's addresses: for exports and the clipboard.
pub fn text(text: &str) -> String {
    static PEOPLE: LazyLock<regex::Regex> = LazyLock::new(|| {
        // An e-mail address; a shell's prompt (`anna@gpu07:~/run$`); a name that a variable or a flag gives.
        regex::Regex::new(r"[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,}\b|\b[\w.-]+@[\w.-]+(?<end>:[~/])|(?<name>\b(?:USER|LOGNAME|USERNAME|user_name|username)['\x22]?\s*[=:]\s*['\x22]?)[\w.-]+")
            .expect("the pattern is tested")
    });
    static HOME: LazyLock<regex::Regex> = LazyLock::new(|| {
        regex::Regex::new(r"(?:/home/|/Users/|[A-Z]:\\Users\\)[^/\\\s:'\x22]+|/root\b").expect("the pattern is tested")
    });
    let text = line(text);
    let text = PEOPLE.replace_all(&text, |c: &regex::Captures<'_>| {
        let part = |name: &str| c.name(name).map_or("", |m| m.as_str());
        format!("{}***{}", part("name"), part("end"))
    });
    HOME.replace_all(&text, "~").into_owned()
}

/// The same for a text of several lines, in which a key may go on from line to line.
pub fn block(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for range in key_blocks(text.as_bytes()) {
        out.push_str(text.get(from..range.start).unwrap_or_default());
        out.push_str("***");
        from = range.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out.split('\n').map(self::text).collect::<Vec<_>>().join("\n")
}

/// `text` with secrets as `***`.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for range in secrets(text.as_bytes()) {
        if let Some(before) = text.get(from..range.start) {
            out.push_str(before);
        }
        out.push_str("***");
        from = range.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// Every text of a JSON value with secrets as `***`; keys too.
pub fn json(value: &mut Value) {
    match value {
        Value::String(text) => *text = line(text),
        Value::Array(all) => all.iter_mut().for_each(json),
        Value::Object(all) => {
            for (key, mut value) in std::mem::take(all) {
                json(&mut value);
                all.insert(line(&key), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The words of a command with secrets as `***`, also where the word before names the secret (`--hub-token …`).
pub fn words(command: &[Clean]) -> Vec<Clean> {
    let mut before = "";
    let mut shown = Vec::with_capacity(command.len());
    for word in command {
        let pair = format!("{before} {word}");
        let is_named = secrets(pair.as_bytes()).iter().any(|range| range.start > before.len());
        let clean = line(word.as_str());
        shown.push(Clean::new(if is_named && clean == word.as_str() { "***" } else { &clean }));
        before = word.as_str();
    }
    shown
}

/// Masks secrets in a stream of chunks, keeping every length, so that offsets stay true.
///
/// The unfinished last line of a chunk is held back until the next one, so that a secret cut by a read is seen whole.
#[derive(Debug, Default)]
pub struct Mask {
    held: Vec<u8>,
    /// Bytes of a private key that may still come, inside one that has not ended yet.
    in_key: usize,
}

/// The longest unfinished line that is held back.
const HOLD: usize = 4096;

impl Mask {
    /// Bytes that are ready now: what was held back before, then those of `data` that end in a whole line.
    pub fn apply(&mut self, data: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(data);
        let whole = memchr::memrchr2(b'\n', b'\r', &self.held).map_or(0, |end| end + 1);
        let mut ready = whole.max(self.held.len().saturating_sub(HOLD));
        if ready > whole {
            // A long line is let go in parts: no part ends inside of a secret, which would be known in neither half.
            let cut = |range: &Range<usize>| range.start < ready && ready < range.end;
            ready = secrets(&self.held).iter().find(|range| cut(range)).map_or(ready, |range| range.end);
        }
        let rest = self.held.split_off(ready);
        let mut out = std::mem::replace(&mut self.held, rest);
        self.mask(&mut out);
        out
    }

    /// Bytes held back at present.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The rest, at the end of the text.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.held);
        self.mask(&mut out);
        out
    }

    fn mask(&mut self, out: &mut [u8]) {
        let mut from = 0;
        if self.in_key > 0 {
            let most = self.in_key.min(out.len());
            let end = memchr::memmem::find(out.get(..most).unwrap_or_default(), b"-----END ");
            from = end.unwrap_or(most);
            self.in_key = if end.is_some() { 0 } else { self.in_key - most };
            blank(&mut out[..from]);
        }
        for range in secrets(&out[from..]) {
            let range = range.start + from..range.end + from;
            if range.end == out.len()
                && let Some(key) = key_blocks(&out[range.clone()]).pop()
                && memchr::memmem::find(&out[range.start + key.start..range.end], b"-----END ").is_none()
            {
                self.in_key = LONGEST_KEY.saturating_sub(key.len());
            }
            blank(&mut out[range]);
        }
    }
}

/// Stars for everything but line breaks.
fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|b| !matches!(b, b'\n' | b'\r')) {
        *byte = b'*';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Put together at run time, so that no scanner takes this file for a leak.
    fn planted() -> Vec<String> {
        let random = "Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0";
        let hex = "3f9a1c7e5b2d8046f1e3a7c9b5d2e8f04a6c1b3d";
        vec![
            format!("hf_{random}ab"),
            format!("AKIA{}", "QX7Z3LM9T2VBN5RW"),
            format!("ghp_{random}abcd"),
            format!("sk-ant-{random}"),
            format!("sk-proj-{random}"),
            format!("sk-{random}"),
            format!("AIza{random}abc"),
            format!("xoxb-{random}"),
            format!("glpat-{random}"),
            format!("nvapi-{random}{random}"),
            format!("eyJ{random}.eyJ{random}.{random}"),
            format!("WANDB_API_KEY={hex}"),
            format!("wandb: login with key {hex}"),
            format!("Authorization: Bearer {random}"),
            format!("https://user:{random}@example.org/x"),
            format!("api_key = \"{random}\""),
            format!("'secret': '{random}'"),
            format!("--hub-token {random}"),
            format!("password: {}", "hunter2hunter2"),
        ]
    }

    /// The secret part of a planted text: its longest run of word characters.
    fn secret_of(text: &str) -> &str {
        text.split(|c: char| !c.is_ascii_alphanumeric()).max_by_key(|part| part.len()).unwrap()
    }

    #[test]
    fn planted_secrets_go_in_every_context() {
        for planted in planted() {
            let secret = secret_of(&planted);
            for context in [
                planted.clone(),
                format!("2024-01-01 INFO using {planted} now"),
                format!("{{\"env\": \"{}\"}}", planted.replace('"', "\\\"")),
                format!("step 1 loss 2.0\r{planted}\rnext"),
                format!("\u{1b}[31m{planted}\u{1b}[0m"),
            ] {
                assert!(!text(&context).contains(secret), "{context} -> {}", text(&context));
            }
        }
    }

    #[test]
    fn a_secret_cut_anywhere_by_a_read_is_still_masked() {
        for planted in planted() {
            let line = format!("before {planted} after\nnext line\n");
            for cut in 0..line.len() {
                let mut mask = Mask::default();
                let mut out = mask.apply(&line.as_bytes()[..cut]);
                out.extend(mask.apply(&line.as_bytes()[cut..]));
                out.extend(mask.finish());
                assert_eq!(out.len(), line.len());
                let out = String::from_utf8(out).unwrap();
                assert!(!out.contains(secret_of(&planted)), "cut at {cut}: {out}");
                assert!(out.ends_with("next line\n"));
            }
        }
    }

    #[test]
    fn a_secret_in_a_line_too_long_to_hold_is_masked_wherever_it_is_cut() {
        let secret = "hf_Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0";
        for chunk in [1, 7, 100, 256, 1000, 4096] {
            let line = format!("{} {secret} {}", "a ".repeat(3000), "b ".repeat(6000));
            let mut mask = Mask::default();
            let mut out = Vec::new();
            for part in line.as_bytes().chunks(chunk) {
                out.extend(mask.apply(part));
            }
            out.extend(mask.finish());
            assert_eq!(out.len(), line.len());
            let out = String::from_utf8(out).unwrap();
            let left = (0..secret.len() - 8).find(|at| out.contains(&secret[*at..*at + 8]));
            assert!(left.is_none(), "chunks of {chunk}: {left:?}");
        }
    }

    #[test]
    fn private_keys_go_line_by_line() {
        let text = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIEow123\nabcd456\n-----END RSA PRIVATE KEY-----\nb\n";
        let mut mask = Mask::default();
        let mut out = Vec::new();
        for line in text.split_inclusive('\n') {
            out.extend(mask.apply(line.as_bytes()));
        }
        let out = String::from_utf8(out).unwrap();
        assert!(!out.contains("MIIEow") && !out.contains("abcd456"), "{out}");
        assert!(out.starts_with("a\n") && out.ends_with("\nb\n"), "{out}");
    }

    #[test]
    fn a_key_without_an_end_takes_no_more_than_a_key_with_it() {
        let begin = "a\n-----BEGIN PRIVATE KEY-----\nMIIEow123\n";
        let log = "step 1 loss 2.0\n".repeat(3000);
        let mut mask = Mask::default();
        let mut out = mask.apply(begin.as_bytes());
        for part in log.as_bytes().chunks(1000) {
            out.extend(mask.apply(part));
        }
        out.extend(mask.finish());
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.len(), begin.len() + log.len());
        assert!(!out.contains("MIIEow"));
        let kept = out.matches("step 1 loss 2.0").count();
        assert!((1500..2100).contains(&kept), "{kept}");
        let shown = block(&format!("x\n{begin}-----END PRIVATE KEY-----\nafter it\n"));
        assert!(shown.ends_with("***\nafter it\n") && !shown.contains("MIIE"), "{shown}");
    }

    #[test]
    fn what_was_learnt_is_masked_whatever_its_shape() {
        learn([
            "correct horse battery\nstaple12".to_string(),
            "short".into(),
            "1234567890".into(),
            "/a/long/path".into(),
        ]);
        assert_eq!(
            line("it said: correct horse battery, staple12; short 1234567890 /a/long/path"),
            "it said: ***, ***; short 1234567890 /a/long/path"
        );
    }

    #[test]
    fn json_loses_its_secrets_and_stays_json() {
        let secret = "hf_Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0";
        let mut value = serde_json::json!({ "a": [secret, 1], secret: { "b": format!("x {secret}") }, "c": null });
        json(&mut value);
        assert_eq!(value, serde_json::json!({ "a": ["***", 1], "***": { "b": "x ***" }, "c": null }));
    }

    #[test]
    fn ordinary_lines_stay() {
        for line in [
            "{'loss': 1.5214, 'grad_norm': 82.9, 'learning_rate': 1.4e-06, 'num_tokens': '1.144e+04', 'epoch': 0.01}",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.90 GiB.",
            "commit 3f9a1c7e5b2d8046f1e3a7c9b5d2e8f04a6c1b3d",
            "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "tokens_per_second: 529882.5",
            "max_token_length=4096 pad_token='<|endoftext|>' token_type_ids=None",
            "Loading tokenizer from Qwen/Qwen2.5-0.5B-Instruct",
            "UUID GPU-5e2b1c7e-2d80-46f1-e3a7-c9b5d2e8f04a",
            "key 'model.layers.0.self_attn.q_proj.weight' not found",
            "https://docs.pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
        ] {
            assert_eq!(text(line), line);
        }
    }

    #[test]
    fn home_folders_go() {
        assert_eq!(text("File \"/home/anna/train.py\", line 3"), "File \"~/train.py\", line 3");
        assert_eq!(text("/root/x /Users/bob/y"), "~/x ~/y");
    }

    #[test]
    fn people_go() {
        assert_eq!(text("mail anna.b+x@uni-of.example.edu now"), "mail *** now");
        assert_eq!(text("(env) anna@gpu07:~/run$ python train.py"), "(env) ***:~/run$ python train.py");
        assert_eq!(text("USER=anna HOME=/home/anna"), "USER=*** HOME=~");
        assert_eq!(text("pip install x@git+https://github.com/a/b"), "pip install x@git+https://github.com/a/b");
        assert_eq!(text("y = a @ b; @torch.no_grad()"), "y = a @ b; @torch.no_grad()");
    }

    #[test]
    fn a_command_keeps_its_words_and_loses_its_secrets() {
        let random = "Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0";
        let key = format!("--key=hf_{random}ab");
        let command = ["python", "--hub-token", random, "--seed", "42", key.as_str(), "a.py"].map(Clean::new);
        assert_eq!(
            words(&command),
            ["python", "--hub-token", "***", "--seed", "42", "--key=***", "a.py"].map(Clean::new)
        );
    }
}
