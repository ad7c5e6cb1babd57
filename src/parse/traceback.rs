//! Python tracebacks: the frames of the one that belongs to a message.

use std::sync::LazyLock;

use regex::Regex;

use crate::model::{Clean, incident::Frame};

use super::text::TextLine;

static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)File ['"]?(?<file>[^'",]+)['"]?, line (?<line>\d+)(?:, in (?<function>[^\s].*?))?\s*$"#)
        .expect("tested")
});
/// IPython's form: `/path/file.py in function(args)` and `File /path/file.py:12, in function(args)`.
static IPYTHON: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:File )?(?<file>(?:[~/<]|[A-Z]:\\)\S*?\.py)(?::(?<line>\d+))?,? in (?<function>[\w.<>]+)")
        .expect("tested")
});
static CARETS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[\s|]*[\^~]+[\s\^~]*$").expect("tested"));

static ERROR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*[\w.]*(?:Error|Exception|Exit|Interrupt)\b").expect("tested"));

/// Frames among `lines`, outermost first.
pub fn frames(lines: &[TextLine]) -> Vec<Frame> {
    let mut found = Vec::new();
    for (nth, line) in lines.iter().enumerate() {
        let Some(c) = FRAME.captures(&line.text).or_else(|| IPYTHON.captures(&line.text)) else { continue };
        let code = lines[nth + 1..]
            .iter()
            .find(|l| !CARETS.is_match(&l.text))
            // A stripped prefix may have taken the indentation of all lines with it.
            .filter(|l| l.text.starts_with(' ') || !line.text.starts_with(' ') && !ERROR.is_match(&l.text))
            .filter(|l| !FRAME.is_match(&l.text));
        found.push(Frame {
            line: line.number,
            file: Clean::new(c.name("file").map_or("", |m| m.as_str())),
            function: Clean::new(c.name("function").map_or("", |m| m.as_str()).trim_end_matches("()")),
            code: Clean::new(code.map_or("", |l| l.text.trim())),
        });
    }
    found
}
