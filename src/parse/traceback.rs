//! Python tracebacks: the frames of the one that belongs to a message.

use std::sync::LazyLock;

use regex::Regex;

use crate::model::{Clean, incident::Frame};

use super::{pattern, text::TextLine};

/// Python's own form; where the paste begins within it, without its head.
static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(
        r#"(?i)(?:File ['"]?(?<file>[^'",]+)|^\s*(?<cut>[^\s'",]+\.py))['"]?, line (?<line>\d+)(?:, in (?<function>[^\s].*?))?\s*$"#,
    )
    .expect("tested")
});
/// A traceback as people and profilers write it on one line: `train.py:12 step -> _tensor.py:623 backward`.
static CHAIN: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"(?:^\s*|-> *)(?<file>[\w./-]+\.py):(?<line>\d+):?(?: in)? (?<function>[\w.<>]+)").expect("tested")
});
/// IPython's form: `/path/file.py in function(args)`, `File /path/file.py:12, in function(args)`, and with the link that
/// Colab makes of the file.
static IPYTHON: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"^\s*(?:File )?\[?(?<file>(?:[~/<]|[A-Z]:\\)\S*?(?:\.py|>))(?::(?<line>\d+))?(?:\]\(\S*?\))?,? in (?<function>[\w.<>]+)")
        .expect("tested")
});
static CARETS: LazyLock<Regex> = LazyLock::new(|| pattern::ascii(r"^[\s|]*[\^~]+[\s\^~]*$").expect("tested"));

static ERROR: LazyLock<Regex> =
    LazyLock::new(|| pattern::ascii(r"^\s*[\w.]*(?:Error|Exception|Exit|Interrupt)\b").expect("tested"));

/// A frame's head in rich's boxes, where the width of the box may have parted it anywhere: `/path/file.py:830 in` and
/// `forward` in the next row.
static RICH: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(r"^\s*(?<file>(?:[~/]|[A-Z]:\\)\S*?\.py):(?<line>\d+) in (?<function>[\w.<>]+)\s*$").expect("tested")
});
static BOXED: LazyLock<Regex> = LazyLock::new(|| pattern::ascii(r"^\s*(?:[/~]|[A-Z]:\\)").expect("tested"));
/// A statement of Python that calls something.
static CALL: LazyLock<Regex> = LazyLock::new(|| {
    pattern::ascii(
        r"^\s*(?:(?:return|await|with|yield) +)?(?:[\w.,\[\] ]{1,60}= *)?[A-Za-z_][\w.\[\]]*\((?:.{0,200}[(),])?\s*(?:#.*)?$",
    )
    .expect("tested")
});
/// The line that a notebook or rich points at: `❱ 830 │ logits = …`, `---> 12 model = …`.
static POINTED: LazyLock<Regex> =
    LazyLock::new(|| pattern::ascii(r"^\s*(?:❱\s*(?:\d+)?|-{2,}>\s*\d+)[\s│|]*(?<code>\S.*?)[\s│]*$").expect("tested"));
/// Rows that rich and notebooks show of a file around the line, at most.
const SHOWN: usize = 14;

/// Frames among `lines`, outermost first.
pub fn frames(lines: &[TextLine]) -> Vec<Frame> {
    let mut found = Vec::new();
    for (nth, line) in lines.iter().enumerate() {
        if line.text.contains("->") && CHAIN.is_match(&line.text) {
            found.extend(CHAIN.captures_iter(&line.text).map(|c| Frame {
                line: line.number,
                file: Clean::new(&c["file"]),
                function: Clean::new(&c["function"]),
                ..Frame::default()
            }));
            continue;
        }
        let parted;
        let head = FRAME.captures(&line.text).or_else(|| IPYTHON.captures(&line.text));
        let (c, after) = match head {
            Some(c) => (c, nth + 1),
            None if BOXED.is_match(&line.text) => {
                let Some(next) = lines.get(nth + 1) else { continue };
                let (row, rest) = (line.text.trim_end(), next.text.trim());
                let gap = if row.ends_with(" in") || rest.starts_with("in ") { " " } else { "" };
                parted = format!("{row}{gap}{rest}");
                match RICH.captures(&parted) {
                    Some(c) => (c, nth + 2),
                    None => continue,
                }
            }
            None => continue,
        };
        let rest = lines.get(after..).unwrap_or_default();
        // A stripped prefix may have taken the indentation of all lines with it.
        let quoted = rest
            .iter()
            .find(|l| !CARETS.is_match(&l.text))
            .filter(|l| l.text.starts_with(' ') || !line.text.starts_with(' ') && !ERROR.is_match(&l.text))
            .filter(|l| !FRAME.is_match(&l.text))
            .map(|l| l.text.trim());
        let pointed = rest
            .iter()
            .take(SHOWN)
            .take_while(|l| !FRAME.is_match(&l.text) && !IPYTHON.is_match(&l.text))
            .find_map(|l| POINTED.captures(&l.text)?.name("code"))
            .map(|m| m.as_str());
        found.push(Frame {
            line: line.number,
            file: Clean::new(c.name("file").or(c.name("cut")).map_or("", |m| m.as_str())),
            function: Clean::new(c.name("function").map_or("", |m| m.as_str()).trim_end_matches("()")),
            code: Clean::new(pointed.or(quoted).unwrap_or_default()),
        });
    }
    found
}

/// Quoted statements that stand there without the head of a frame.
pub fn bare(lines: &[TextLine]) -> Vec<Frame> {
    let calls = lines.iter().filter(|l| CALL.is_match(&l.text));
    calls.map(|l| Frame { line: l.number, code: Clean::new(l.text.trim()), ..Frame::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, want: &[(&str, &str, &str)]) {
        let lines = crate::parse::text::lines(raw.as_bytes(), 1, 0);
        let got = frames(&lines);
        let got: Vec<_> = got.iter().map(|f| (f.file.as_str(), f.function.as_str(), f.code.as_str())).collect();
        assert_eq!(got, want, "{lines:#?}");
    }

    #[test]
    fn frames_of_python_rich_and_notebooks() {
        check(
            "Traceback (most recent call last):\n  File \"a.py\", line 3, in f\n    g(x)\n    ^^^^\n  File \"b.py\", line 4, in g\n    h(x)\n",
            &[("a.py", "f", "g(x)"), ("b.py", "g", "h(x)")],
        );
        check(
            "╭───── Traceback (most recent call last) ─────╮\n\
             │ /root/axolotl/src/axolotl/cli/train.py:38   │\n\
             │ in do_cli                                   │\n\
             │                                             │\n\
             │   35 │   │   return do_train(cfg)           │\n\
             │ ❱ 38 │   train(cfg=cfg)                     │\n\
             │                                             │\n\
             │ /root/lib/python3.10/site-packages/transfor │\n\
             │ mers/modeling_llama.py:830 in forward       │\n\
             │                                             │\n\
             │   827 │   │   │   logits = torch.cat(x)     │\n\
             │ ❱ 830 │   │   logits = logits.float()       │\n\
             ╰─────────────────────────────────────────────╯\n",
            &[
                ("/root/axolotl/src/axolotl/cli/train.py", "do_cli", "train(cfg=cfg)"),
                (
                    "/root/lib/python3.10/site-packages/transformers/modeling_llama.py",
                    "forward",
                    "logits = logits.float()",
                ),
            ],
        );
        check(
            "Cell In[3], line 1\n----> 1 main()\n\nFile /x/models/net.py:12, in Net.forward(self, x)\n     10 def forward(self, x):\n---> 12     return self.conv(x)\n",
            &[("/x/models/net.py", "Net.forward", "return self.conv(x)")],
        );
    }
}
