//! Makes pasted and logged text readable: prefixes, markup, escapes and line numbers go, places in the original stay.

use std::sync::LazyLock;

use regex::Regex;

/// One logical line: what a program printed, without what loggers, launchers and web pages put around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextLine {
    /// 1-based line and offset of the line in the original.
    pub number: u64,
    pub byte: u64,
    /// Rank that a stripped prefix named.
    pub rank: Option<u32>,
    pub text: String,
}

/// What stands before a message and is none of it. Tried again and again until none matches.
static PREFIXES: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"^\s*\[(?:rank|RANK|Rank)[ :=_]?(?<rank>\d+)\]:?\s?",
        r"^\s*(?:rank|RANK|Rank)[ :=_]?(?<rank>\d+):\s?",
        r"^\[default(?<rank>\d+)\]:\s?",
        // Ray, vLLM: (WorkerDict pid=1, ip=10.0.0.1) (EngineCore_DP0 pid=1)
        r"^\([A-Za-z_][\w.:\-]*(?:\(\))?(?: rank=(?<rank>\d+))?(?: pid=\d+)(?:, ip=[\d.]+)?\)\s?",
        r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|\s?[+-]\d\d:?\d\d)?[\s|:\-]*",
        r"^\[?\d\d[-/]\d\d(?:[-/]\d{2,4})? \d\d:\d\d:\d\d(?:[.,]\d+)?\]?[\s|:\-]*",
        r"^\[\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?[^\]]*\]\s*",
        r"^[\w.]+ - (?:ERROR|INFO|WARNING|CRITICAL|DEBUG) - ",
        r"^\[?(?:ERROR|INFO|WARNING|WARN|CRITICAL|DEBUG|FATAL|FAILED)\]?(?:\s*[:|\-]+\s*|\s+)",
        r"^\[[\w.\-/]+\.(?:py|cpp|cc|cu|rs):\d+(?::\w+)?\]\s*",
        r"^[\w.\-/]+\.py:\d+(?::\w+)?[\s|:\-]+",
        r"^\[?[WEIF]\d{3,4} \d\d:\d\d:\d\d(?:\.\d+)?[^\]]*?\]\s?",
        r"^\[resource\.labels[^\]]*\]\s*",
        r"^\[\d+\.\d+s\]\s+",
        r"^[A-Za-z][\w.\-]*\s+\|\s",
        r"^\s*(?<rank>\d{1,3}):\s\s*(?:(?-u)\b|\[)",
        r"^E\s{2,}",
        r"^(?:>\s?)+",
        r"^(?:\w{3}\s+\d+ \d\d:\d\d:\d\d \S+ )?kernel:\s*",
        r"^\[\s*\d+\.\d{3,6}\]\s",
        r"^\[AutoTuner\]\s*",
        r"^(?:worker|node|host)-?\d+:\s",
    ]
    .iter()
    .map(|p| Regex::new(p).expect("the list is tested"))
    .collect()
});

/// Escape sequences, in full or as they remain when the escape byte was lost by pasting.
static ANSI: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|\[[0-9;]{1,8}m").expect("tested")
});
static TAGS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"</?(?:span|code|pre|b|i|em|strong|p|div|br|font|a)\b[^>]{0,200}>").expect("tested"));
static NUMBERED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*(\d{1,5})(?:[.)\]:]\s+|\s{2,}|\]\s*|\s*$)").expect("tested"));
static NUMBERED_BARE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s*(\d{1,5})(?: |$)").expect("tested"));
static REPEATED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\s*\[repeated \d+x across cluster\].*$").expect("tested"));

/// Reads the lines of `raw`, whose first byte stands at `byte` in line `number` of the original.
pub fn lines(raw: &[u8], number: u64, byte: u64) -> Vec<TextLine> {
    let mut out = Vec::new();
    let mut at = byte;
    for (nth, line) in raw.split(|b| *b == b'\n').enumerate() {
        let place = |text: String, rank| TextLine { number: number + nth as u64, byte: at, rank, text };
        for frame in line.split(|b| *b == b'\r') {
            if frame.trim_ascii().is_empty() {
                continue;
            }
            let text = String::from_utf8_lossy(frame);
            for text in unfold(&unmark(&text)) {
                let (rank, text) = strip(&text);
                if !text.trim().is_empty() {
                    out.push(place(text, rank));
                }
            }
        }
        at += line.len() as u64 + 1;
    }
    drop_line_numbers(&mut out);
    out
}

/// Takes away escapes, HTML, Markdown and box characters.
fn unmark(text: &str) -> String {
    let mut text =
        if text.contains(['\x1b', '[']) { ANSI.replace_all(text, "").into_owned() } else { text.to_string() };
    if text.contains('&') {
        for (entity, plain) in [
            ("&gt;", ">"),
            ("&lt;", "<"),
            ("&quot;", "\""),
            ("&#39;", "'"),
            ("&#x27;", "'"),
            ("&nbsp;", " "),
            ("&amp;", "&"),
        ] {
            text = text.replace(entity, plain);
        }
    }
    if text.contains('<') {
        text = TAGS.replace_all(&text, "").into_owned();
    }
    if !text.is_ascii() {
        text = text
            .replace(['\u{a0}', '\u{3000}', '\u{202f}'], " ")
            .replace(['‘', '’'], "'")
            .replace(['“', '”'], "\"")
            .replace(['\u{200b}', '\u{feff}'], "");
        let boxed = text.trim_start().starts_with(['│', '┃', '║', '╭', '╰', '❱']);
        if boxed {
            text = text.trim().trim_matches(['│', '┃', '║', '╭', '╰', '╮', '╯', '─', '━', '❱']).to_string();
        }
    }
    if text.contains("**") || text.contains('`') {
        text = text.replace("**", "").replace('`', "");
    }
    text
}

/// A traceback or message folded onto one line by JSON is unfolded; literal `\n`, `\"`, `\u003e` are read.
fn unfold(text: &str) -> Vec<String> {
    if text.contains("\\u003") {
        return unfold(&text.replace("\\u003e", ">").replace("\\u003c", "<"));
    }
    if !text.contains("\\n") {
        return vec![text.to_string()];
    }
    text.split("\\n")
        .map(|part| part.replace("\\\"", "\"").replace("\\t", " ").trim_end_matches('\\').to_string())
        .collect()
}

/// A line without what loggers and launchers put before it, and the rank that they name.
pub fn without_prefix(text: &str) -> (Option<u32>, String) {
    // Nearly every line begins with its own text.
    let first = text.trim_start().as_bytes().first().copied().unwrap_or(b' ');
    let may = matches!(first, b'[' | b'(' | b'>' | b'0'..=b'9' | b'I' | b'W' | b'E' | b'F')
        || text.get(..40).unwrap_or(text).contains([':', '|']);
    if may { strip(text) } else { (None, text.to_string()) }
}

/// Strips prefixes, and remembers the first rank that one names.
fn strip(text: &str) -> (Option<u32>, String) {
    let mut rank = None;
    let mut rest = text;
    for _ in 0..8 {
        let Some((prefix, found)) = PREFIXES.iter().enumerate().find_map(|(n, p)| Some((n, p.captures(rest)?))) else {
            break;
        };
        let Some(whole) = found.get(0).filter(|m| m.end() > 0) else { break };
        // A number and a colon is a rank only before something that looks printed; a traceback's own lines are no prefix.
        let end = if prefix == 15 {
            whole.end() - usize::from(rest.as_bytes().get(whole.end() - 1) == Some(&b'['))
        } else {
            whole.end()
        };
        rank = rank.or_else(|| found.name("rank")?.as_str().parse().ok());
        rest = &rest[end..];
    }
    (rank, REPEATED.replace(rest.trim_end(), "").into_owned())
}

/// Numbers that a page or an editor put before each line, when they ascend. What follows a number may have a prefix of
/// its own.
fn drop_line_numbers(lines: &mut Vec<TextLine>) {
    let spaced = ascending(lines, &NUMBERED);
    // With a single blank after it a number is a line's number only where nearly every line has the next one.
    let (pattern, run) = if spaced.len() >= 2 && spaced.len() * 3 >= lines.len() {
        (&NUMBERED, spaced)
    } else {
        let plain = ascending(lines, &NUMBERED_BARE);
        if plain.len() < 3 || plain.len() * 10 < lines.len() * 9 {
            return;
        }
        (&NUMBERED_BARE, plain)
    };
    for nth in run {
        if let Some(line) = lines.get_mut(nth) {
            let (rank, text) = strip(&pattern.replace(&line.text, ""));
            line.rank = line.rank.or(rank);
            line.text = text;
        }
    }
    lines.retain(|l| !l.text.trim().is_empty());
}

/// The lines whose number is one more than the last such line's.
fn ascending(lines: &[TextLine], pattern: &Regex) -> Vec<usize> {
    let mut last: Option<u64> = None;
    let mut run = Vec::new();
    for (nth, line) in lines.iter().enumerate() {
        let number: Option<u64> = pattern.captures(&line.text).and_then(|c| c.get(1)?.as_str().parse().ok());
        if let Some(n) = number.filter(|n| last.is_none_or(|l| *n == l + 1)) {
            run.push(nth);
            last = Some(n);
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, want: &[(Option<u32>, &str)]) {
        let got: Vec<_> = lines(raw.as_bytes(), 1, 0).into_iter().map(|l| (l.rank, l.text)).collect();
        let got: Vec<_> = got.iter().map(|(r, t)| (*r, t.as_str())).collect();
        assert_eq!(got, want, "{raw:?}");
    }

    #[test]
    fn prefixes_go_and_ranks_stay() {
        check("[rank4]: torch.OutOfMemoryError: x", &[(Some(4), "torch.OutOfMemoryError: x")]);
        check("3: [rank3]: RuntimeError: x", &[(Some(3), "RuntimeError: x")]);
        check(
            "(WorkerDict pid=123, ip=10.0.0.1) RuntimeError: x [repeated 7x across cluster]",
            &[(None, "RuntimeError: x")],
        );
        check("(EngineCore_DP0 pid=1) ERROR 10-25 13:08:43 [core.py:708] ValueError: x", &[(None, "ValueError: x")]);
        check("2024-06-28T06:11:52.685300953Z E   RuntimeError: x", &[(None, "RuntimeError: x")]);
        check("vllm-1  | ValueError: x", &[(None, "ValueError: x")]);
        check("[rank0]:[W914 04:53:45.6 File.cpp:1] memory", &[(Some(0), "memory")]);
        check("  File \"a.py\", line 3, in f", &[(None, "  File \"a.py\", line 3, in f")]);
    }

    #[test]
    fn markup_and_numbers_go() {
        check("&gt;&gt; allocated &amp; <span class=\"x\">y</span>", &[(None, "allocated & y")]);
        check(
            "1. torch.OutOfMemoryError: CUDA\n2. Tried to\n3. Including",
            &[(None, "torch.OutOfMemoryError: CUDA"), (None, "Tried to"), (None, "Including")],
        );
        check("\x1b[31mred\x1b[0m", &[(None, "red")]);
        check("│ boxed text │", &[(None, " boxed text")]);
        check("{\"log\":\"a\\nb\"}", &[(None, "{\"log\":\"a"), (None, "b\"}")]);
    }
}
