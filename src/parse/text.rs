//! Makes pasted and logged text readable: prefixes, markup, escapes and line numbers go, places in the original stay.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use regex::Regex;

use super::{pattern, prefix};

/// One logical line: what a program printed, without what loggers, launchers and web pages put around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextLine {
    /// 1-based line and offset of the line in the original.
    pub number: u64,
    pub byte: u64,
    /// Rank that a stripped prefix named.
    pub rank: Option<u32>,
    pub text: String,
    /// Nothing in the original ends this line: its last word or number may have been cut.
    pub open: bool,
}

/// Escape sequences, in full or as they remain when the escape byte was lost by pasting.
static ANSI: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|\[[0-9;]{1,8}m").expect("tested")
});
static TAGS: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"</?(?:span|code|pre|b|i|em|strong|p|div|br|font|a)\b[^>]{0,200}>").expect("tested")
});
/// A mark of bold text.
static BOLD: LazyLock<Regex> = LazyLock::new(|| pattern::ascii(r"(?<before>^\s*|[^(,*\s]\s*)\*\*").expect("tested"));
static NUMBERED: LazyLock<Regex> =
    LazyLock::new(|| pattern::ascii(r"^\s*(\d{1,5})(?:[.)\]:]\s+|\s{2,}|\]\s*|\s*$)").expect("tested"));
static NUMBERED_BARE: LazyLock<Regex> = LazyLock::new(|| pattern::ascii(r"^\s*(\d{1,5})(?: |$)").expect("tested"));
static BAR: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"^[^|\[\]]{0,60}\d{1,3}%\|[^|]{0,200}\|[^|\[]{0,40}\[[^\]]{0,200}\d[^\]]{0,40}\](?:, )?")
        .expect("tested")
});
static REPEATED: LazyLock<Regex> =
    LazyLock::new(|| pattern::ascii(r"\s*\[repeated \d+x across cluster\].*$").expect("tested"));

/// A key of Kubernetes' events.
static REASON: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"reason\""));

/// Reads the lines of `raw`, whose first byte stands at `byte` in line `number` of the original.
pub fn lines(raw: &[u8], number: u64, byte: u64) -> Vec<TextLine> {
    let mut out: Vec<TextLine> = Vec::new();
    let mut rows = Vec::new();
    let mut at = byte;
    let mut unfinished = false;
    for (nth, line) in raw.split(|b| *b == b'\n').enumerate() {
        for frame in line.split(|b| *b == b'\r') {
            if frame.trim_ascii().is_empty() {
                continue;
            }
            // What a collector wrapped says several lines, or a part of one.
            if let Some((rank, said)) = wrapped(frame) {
                for part in said.split_inclusive('\n') {
                    let text = unmark(part.trim_end_matches(['\n', '\r']));
                    if let Some((last, row)) = out.last_mut().zip(rows.last_mut()).filter(|_| unfinished) {
                        last.text.push_str(&text);
                        *row = Row::of(&last.text);
                    } else {
                        rows.push(Row::of(&text));
                        out.push(TextLine { number: number + nth as u64, byte: at, rank, text, open: false });
                    }
                    unfinished = !part.ends_with('\n');
                }
                continue;
            }
            unfinished = false;
            let raw = String::from_utf8_lossy(frame);
            let text = unmark(&raw);
            // A box has an edge of its own.
            let boxed = raw.trim_start().starts_with(['│', '┃', '║']);
            rows.push(if boxed { Row::of(&text) } else { Row::of(&ANSI.replace_all(&raw, "")) });
            out.push(TextLine { number: number + nth as u64, byte: at, text, ..TextLine::default() });
        }
        at += line.len() as u64 + 1;
    }
    if let Some(last) = out.last_mut() {
        last.open = !raw.ends_with(b"\n") && !raw.ends_with(b"\r");
    }
    for (nth, taken) in drop_line_numbers(&mut out) {
        if let Some(row) = rows.get_mut(nth) {
            *row = Row { whole: row.whole.saturating_sub(taken), trimmed: row.trimmed.saturating_sub(taken) };
        }
    }
    join_rows(&mut out, &rows);
    let mut out: Vec<TextLine> = out.into_iter().flat_map(|line| parts(&line)).collect();
    // Numbers may stand behind prefixes, and prefixes behind numbers.
    for (nth, _) in drop_line_numbers(&mut out) {
        if let Some(line) = out.get_mut(nth) {
            let (rank, text) = strip(&line.text);
            *line = TextLine { rank: line.rank.or(rank), text, ..line.clone() };
        }
    }
    ungroup(&mut out);
    out.retain(|l| !l.text.trim().is_empty());
    out
}

/// What Python draws before the lines of a group of exceptions, one bar for each group around it.
static GROUPED: LazyLock<Regex> = LazyLock::new(|| pattern::ascii(r"^(?:\s*\|)+(?: |$)").expect("tested"));
static PARTED: LazyLock<Regex> = LazyLock::new(|| pattern::ascii(r"^[\s|]*\+(?:-\+)?-{6,}").expect("tested"));

/// Takes away the bars of groups of exceptions.
fn ungroup(lines: &mut [TextLine]) {
    let mut inside = false;
    for line in lines {
        if line.text.contains("Exception Group Traceback (most recent call last") {
            inside = true;
            line.text = line.text.trim_start_matches([' ', '|', '+']).to_string();
        } else if inside && PARTED.is_match(&line.text) {
            line.text.clear();
        } else if inside && GROUPED.is_match(&line.text) {
            line.text = GROUPED.replace(&line.text, "").into_owned();
        } else {
            inside = false;
        }
    }
}

/// What one physical line says: a folded one says several things.
fn parts(line: &TextLine) -> Vec<TextLine> {
    let texts = unfold(&line.text).into_iter().map(|text| strip(&text));
    let said = texts.filter(|(_, text)| !text.trim().is_empty());
    let mut all: Vec<TextLine> =
        said.map(|(rank, text)| TextLine { rank: rank.or(line.rank), text, open: false, ..line.clone() }).collect();
    if let Some(last) = all.last_mut() {
        last.open = line.open;
    }
    all
}

/// Columns that a line takes, with and without the blanks at its end.
struct Row {
    whole: usize,
    trimmed: usize,
}

impl Row {
    fn of(text: &str) -> Self {
        Self { whole: text.chars().count(), trimmed: text.trim_end().chars().count() }
    }
}

/// The least width at which a terminal is thought to have broken lines.
const NARROW: usize = 60;

/// How a line begins that is no second half of another one.
static BEGINS: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r#"^\s*(?:Traceback |During handling|The above exception|File "|[\[{(<│╭╰┃]|[\w.]+(?:Error|Exception|Warning)\b|\d{4}-\d\d-\d\d|(?:slurmstepd|srun|mpirun|bash|INFO|WARNING|ERROR|DEBUG|CRITICAL)\b|\d+[.:\])]\s|>)|^\s{3,}\S"#).expect("tested")
});

/// `function: what it says`.
static LABEL: LazyLock<Regex> = LazyLock::new(|| pattern::ascii(r"^[\w.]+: ").expect("tested"));

/// Joins the rows of lines that a terminal broke at its edge: at least two rows end in the very same last column and none
/// goes past it.
fn join_rows(lines: &mut Vec<TextLine>, rows: &[Row]) {
    let Some(edge) = rows.iter().map(|r| r.whole).max().filter(|w| *w >= NARROW) else { return };
    // Copied with the blanks that fill each row, every row ends at the edge; a blank may have fallen on the edge itself.
    let padded = rows.len() > 2 && rows.iter().filter(|r| r.whole == edge).count() * 10 >= rows.len() * 9;
    let full = |r: &Row| if padded { r.trimmed + 1 >= edge } else { r.whole == edge };
    // A single row at the edge may be the longest line and no more, unless the next one goes on in the middle of a word.
    // The same row again proves nothing.
    let mut at_edge = lines.iter().zip(rows).filter(|(_, row)| full(row)).map(|(line, _)| line.text.as_str());
    let one = at_edge.next();
    let sure = at_edge.any(|text| Some(text) != one);
    let goes_on = |text: &str| {
        let middle = |c: char| c.is_lowercase() || c.is_ascii_digit() || "/._,;)".contains(c);
        (sure || text.starts_with(middle) && !LABEL.is_match(text))
            && !BEGINS.is_match(text)
            && strip(text).1.len() == text.trim_end().len()
    };
    let mut out: Vec<TextLine> = Vec::with_capacity(lines.len());
    let mut open = false;
    for (line, row) in lines.drain(..).zip(rows) {
        match out.last_mut().filter(|_| open && goes_on(&line.text)) {
            Some(last) => {
                last.text.push_str(&line.text);
                last.open = line.open;
            }
            None => out.push(line),
        }
        open = full(row);
        if let Some(last) = out.last_mut().filter(|_| padded && !open) {
            last.text.truncate(last.text.trim_end().len());
        }
    }
    *lines = out;
}

/// What a collector wrapped in JSON, with the rank that a prefix before it names. An event of Kubernetes has more to say
/// than its message, and stays as it is.
fn wrapped(frame: &[u8]) -> Option<(Option<u32>, String)> {
    let brace = memchr::memchr(b'{', frame)?;
    if REASON.find(frame).is_some() {
        return None;
    }
    if let Some(said) = super::frames::wrapped(frame) {
        return Some((None, said));
    }
    if brace > 120 {
        return None;
    }
    let (rank, text) = strip(&unmark(&String::from_utf8_lossy(frame)));
    text.starts_with('{').then(|| super::frames::wrapped(text.as_bytes())).flatten().map(|said| (rank, said))
}

/// What stands in a row of a box; `None` where there is no box.
fn unbox(text: &str) -> Option<&str> {
    const EDGES: [char; 11] = ['│', '┃', '║', '╭', '╰', '╮', '╯', '─', '━', '├', '┤'];
    let text = text.trim();
    text.starts_with(['│', '┃', '║', '╭', '╰']).then(|| text.trim_matches(EDGES))
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
        // Full-width signs of a page that was translated or typed in Chinese or Japanese.
        for (wide, plain) in
            [('：', ":"), ('．', "."), ('。', "."), ('，', ","), ('；', ";"), ('（', "("), ('）', ")"), ('＞', ">")]
        {
            if text.contains(wide) {
                text = text.replace(wide, plain);
            }
        }
        if let Some(inside) = unbox(&text) {
            text = inside.to_string();
        }
    }
    if text.contains("**") {
        // Python's `**kwargs` is no Markdown.
        text = BOLD.replace_all(&text, "$before").into_owned();
    }
    if text.contains('`') {
        text = text.replace('`', "");
    }
    text
}

/// Stands for a backslash that begins no escape.
const KEPT: &str = "\u{1}";
/// A path of Windows: in quotes it may have blanks.
static WINDOWS: LazyLock<Regex> =
    LazyLock::new(|| pattern::ascii(r#""[A-Za-z]:\\[^"]{1,400}"|\b[A-Za-z]:\\[^\s"'<>|*?]{1,400}"#).expect("tested"));

/// A traceback or message folded onto one line by JSON is unfolded; literal `\n`, `\"`, `\u003e` are read.
fn unfold(text: &str) -> Vec<String> {
    let text = &text.replace("\\u003e", ">").replace("\\u003c", "<");
    if !text.contains("\\n") {
        return vec![text.clone()];
    }
    // `C:\\env\\torch\\nn` is a path, and so is `C:\env\torch\nn` where nothing was escaped.
    let text = text.replace("\\\\", KEPT);
    let text = WINDOWS.replace_all(&text, |path: &regex::Captures<'_>| path[0].replace('\\', KEPT));
    text.split("\\n")
        .map(|part| part.replace("\\\"", "\"").replace("\\t", " ").replace(KEPT, "\\"))
        .map(|part| part.trim_end_matches('\\').to_string())
        .collect()
}

/// Strips prefixes, and remembers the first rank that one names.
fn strip(text: &str) -> (Option<u32>, String) {
    // A bar that was still being drawn stands before what came over it.
    let text =
        BAR.find(text).and_then(|bar| text.get(bar.end()..)).filter(|after| !after.trim().is_empty()).unwrap_or(text);
    let found = prefix::find(text.as_bytes());
    let rest = text.get(found.end..).unwrap_or(text).trim_end();
    let rest = if found.end > 0 { unbox(rest).unwrap_or(rest).trim_end() } else { rest };
    (found.rank, REPEATED.replace(rest, "").into_owned())
}

/// Takes away the numbers that a page or an editor put before each line, when they ascend. Gives the lines that had one
/// and the characters that it took.
fn drop_line_numbers(lines: &mut [TextLine]) -> Vec<(usize, usize)> {
    let spaced = ascending(lines, &NUMBERED);
    let listed = adjacent(lines);
    // With a single blank after it a number is a line's number only where nearly every line has the next one.
    let (pattern, run) = if spaced.len() >= 2 && spaced.len() * 3 >= lines.len() {
        (&NUMBERED, spaced)
    } else if !listed.is_empty() {
        (&NUMBERED, listed)
    } else {
        let plain = ascending(lines, &NUMBERED_BARE);
        if plain.len() < 3 || plain.len() * 10 < lines.len() * 9 {
            return Vec::new();
        }
        (&NUMBERED_BARE, plain)
    };
    let mut taken = Vec::new();
    for nth in run {
        if let Some(line) = lines.get_mut(nth) {
            let rest = pattern.replace(&line.text, "").into_owned();
            taken.push((nth, line.text.chars().count() - rest.chars().count()));
            line.text = rest;
        }
    }
    taken
}

/// Lines of which at least three in a row count up, among others that have no number.
fn adjacent(lines: &[TextLine]) -> Vec<usize> {
    let number = |l: &TextLine| NUMBERED.captures(&l.text).and_then(|c| c.get(1)?.as_str().parse::<u64>().ok());
    let numbers: Vec<Option<u64>> = lines.iter().map(number).collect();
    let mut all = Vec::new();
    let mut from = 0;
    for nth in 1..=numbers.len() {
        let goes_on = numbers.get(nth).copied().flatten().zip(numbers.get(nth - 1).copied().flatten());
        if goes_on.is_none_or(|(this, last)| this != last + 1) {
            if nth - from >= 3 {
                all.extend(from..nth);
            }
            from = nth;
        }
    }
    all
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
    fn an_escape_of_json_that_is_none_of_ours_ends() {
        check(r"x \u0030 \u003e y", &[(None, r"x \u0030 > y")]);
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
        check("{\"log\":\"a\\nb\"}", &[(None, "a"), (None, "b")]);
        // Docker parts a line after 16 KiB.
        check("{\"log\":\"one \"}\n{\"log\":\"line\\n\"}\n{\"log\":\"two\\n\"}", &[(None, "one line"), (None, "two")]);
        check("{\"log\":\"a\\nb\", cut", &[(None, "{\"log\":\"a"), (None, "b\", cut")]);
        check("显存不足：CUDA out of memory．（GPU 0；", &[(None, "显存不足:CUDA out of memory.(GPU 0;")]);
    }
}
