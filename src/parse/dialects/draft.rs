//! A first draft of a dialect, from lines that nobody knows: the most frequent shape of a line that has a counter and
//! numbers beside it becomes a pattern, and its first and last line become samples.

use std::{collections::HashMap, fmt::Write as _, sync::LazyLock};

use regex::Regex;

use crate::parse::files::keys;

/// Lines looked at, and the longest of them.
const MAX_LINES: usize = 20_000;
const MAX_LINE: usize = 2_000;
/// Different shapes followed.
const MAX_SHAPES: usize = 2_000;

/// A number with its unit, or a time of day: what differs from line to line.
static PART: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?<time>\b\d+:\d\d(?::\d\d)?(?:\.\d+)?\b)|(?<number>[-+]?(?:\b\d[\d,]*(?:\.\d*)?(?:[eE][-+]?\d+)?|\bnan\b|\binf\b))")
        .expect("tested")
});
/// The words before a number that name it.
static NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?<name>[A-Za-z_][\w./@\-]*(?: [A-Za-z][\w./\-]*)?)[\s:=(\[<#]*$").expect("tested"));

/// What [`super::read`] puts a number's pattern for.
const NUMBER: &str = "{number}";

#[derive(Debug)]
struct Shape<'a> {
    first: &'a str,
    last: &'a str,
    count: usize,
    /// Place of the first line.
    nth: usize,
}

/// What stands in a line between two parts that differ, and the part.
#[derive(Debug)]
struct Piece<'a> {
    before: &'a str,
    /// `None` for a time of day.
    number: Option<f64>,
}

fn pieces(line: &str) -> (Vec<Piece<'_>>, &str) {
    let mut at = 0;
    let mut out = Vec::new();
    for c in PART.captures_iter(line) {
        let Some(part) = c.get(0) else { continue };
        let before = line.get(at..part.start()).unwrap_or_default();
        // A digit in a word (`conv2`, `v1.5`) is the word's.
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let number = c.name("number").and_then(|m| m.as_str().replace(',', "").parse().ok());
        out.push(Piece { before, number });
        at = part.end();
    }
    (out, line.get(at..).unwrap_or_default())
}

fn shape(line: &str) -> String {
    let (parts, rest) = pieces(line);
    let mut out = String::new();
    for piece in &parts {
        let words: Vec<&str> = piece.before.split_whitespace().collect();
        out += &words.join(" ");
        out.push(if piece.number.is_some() { '\u{1}' } else { '\u{2}' });
    }
    out + &rest.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_counter(name: &str) -> bool {
    let last = name.rsplit([' ', '/', '.']).next().unwrap_or_default().to_ascii_lowercase();
    matches!(
        last.as_str(),
        "step"
            | "steps"
            | "iter"
            | "iteration"
            | "it"
            | "batch"
            | "update"
            | "updates"
            | "global_step"
            | "episode"
            | "round"
            | "num_updates"
    )
}

/// Drafts a dialect of the name from lines without prefixes and colours.
///
/// # Errors
/// Why there is nothing to draft, in words.
pub fn draft<'a>(name: &str, lines: impl Iterator<Item = &'a str>) -> Result<String, String> {
    let mut shapes: HashMap<String, Shape<'a>> = HashMap::new();
    for (nth, line) in lines.filter(|l| l.len() <= MAX_LINE && !l.trim().is_empty()).take(MAX_LINES).enumerate() {
        let key = shape(line);
        let known = shapes.len();
        match shapes.get_mut(&key) {
            Some(shape) => (shape.count, shape.last) = (shape.count + 1, line),
            None if known < MAX_SHAPES => drop(shapes.insert(key, Shape { first: line, last: line, count: 1, nth })),
            None => {}
        }
    }
    let worth = |shape: &Shape<'_>| {
        let groups = groups(shape);
        let metrics = groups.iter().filter(|g| g.role == Role::Metric).count();
        let known = groups.iter().any(|g| keys::canonical_name(&g.name).is_some());
        let counted = groups.iter().any(|g| matches!(g.role, Role::Step | Role::Epoch));
        (shape.count >= 2 && metrics > 0 && counted).then_some((known, shape.count, std::cmp::Reverse(shape.nth)))
    };
    let best = shapes.values().filter_map(|s| Some((worth(s)?, s))).max_by_key(|(worth, _)| *worth);
    let Some((_, shape)) = best else {
        return Err(
            "no two lines have the same shape, a number that counts up (a step or an epoch) and a number beside it"
                .into(),
        );
    };
    write(name, shape)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Step,
    Total,
    Epoch,
    Metric,
    /// The same in every line, or without a name.
    Other,
}

#[derive(Debug)]
struct Group {
    name: String,
    role: Role,
}

/// What each number of a shape is.
fn groups(shape: &Shape<'_>) -> Vec<Group> {
    let (first, _) = pieces(shape.first);
    let (last, _) = pieces(shape.last);
    let names: Vec<Option<String>> = first.iter().map(|piece| name_of(piece.before)).collect();
    // Where nothing is called a step or an epoch, the first whole number that grows is the step.
    let counted = names.iter().flatten().any(|name| is_counter(name) || is_epoch(name));
    let mut out: Vec<Group> = Vec::new();
    for ((a, b), name) in first.iter().zip(&last).zip(names) {
        let has = |role: Role| out.iter().any(|g| g.role == role);
        let grows = a.number.zip(b.number).is_some_and(|(x, y)| x.fract() == 0.0 && y.fract() == 0.0 && y > x);
        let after_step = out.last().is_some_and(|g| g.role == Role::Step);
        let name = name.unwrap_or_default();
        let role = match name.as_str() {
            _ if a.number.is_none() => Role::Other,
            _ if after_step && matches!(a.before.trim(), "/" | "of") => Role::Total,
            _ if !counted && grows && !has(Role::Step) && keys::canonical_name(&name).is_none() => Role::Step,
            "" => Role::Other,
            _ if is_counter(&name) && !has(Role::Step) => Role::Step,
            _ if is_epoch(&name) && !has(Role::Epoch) => Role::Epoch,
            _ if out.iter().any(|g| g.name == name) || name.eq_ignore_ascii_case("eta") => Role::Other,
            _ => Role::Metric,
        };
        out.push(Group { name, role });
    }
    out
}

fn is_epoch(name: &str) -> bool {
    matches!(name.to_ascii_lowercase().as_str(), "epoch" | "ep")
}

/// The name that the text before a number ends in.
fn name_of(before: &str) -> Option<String> {
    let name = NAME.captures(before)?.name("name")?.as_str();
    // ` | train loss ` is a name of two words, `finished step` is one word and a name.
    let last = name.rsplit(' ').next().unwrap_or(name);
    Some(if is_counter(last) || is_epoch(last) { last } else { name }.to_string())
}

fn write(name: &str, shape: &Shape<'_>) -> Result<String, String> {
    let groups = groups(shape);
    let (parts, rest) = pieces(shape.first);
    let mut pattern = String::from("^");
    let mut rename: Vec<(String, String)> = Vec::new();
    let mut literal = "";
    for (piece, group) in parts.iter().zip(&groups) {
        pattern += &escaped(piece.before);
        for word in piece.before.split("  ").map(|w| w.trim_matches(|c: char| c.is_whitespace())) {
            literal = if word.len() > literal.len() { word } else { literal };
        }
        let glued = match group.role {
            Role::Step => r"(?<step>\d+)".to_string(),
            Role::Total => r"(?<total>\d+)".to_string(),
            Role::Epoch => r"(?<epoch>[\d.]+)".to_string(),
            Role::Other if piece.number.is_none() => r"[\d:.]+".to_string(),
            Role::Other => NUMBER.to_string(),
            Role::Metric => {
                let id: String = group.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
                if id != group.name {
                    rename.push((id.clone(), group.name.clone()));
                }
                format!("(?<{id}>{NUMBER})")
            }
        };
        pattern += &glued;
    }
    pattern += &escaped(rest);
    if literal.is_empty() {
        return Err("the lines hold nothing but numbers: no words tell them from others".into());
    }
    let has_total = groups.iter().any(|g| g.role == Role::Total);
    let quoted = |text: &str| toml::Value::String(text.to_string()).to_string();
    let mut out = String::new();
    let _ = writeln!(out, "# A first draft, made by `oomph dialects new` from {} lines of one shape.", shape.count);
    let _ = writeln!(out, "name = {}\nurl = \"\"\n", quoted(name));
    let _ = writeln!(out, "[[line]]\n# Words that stand in every such line.\nliteral = {}", quoted(literal));
    let _ = writeln!(out, "pattern = '''{pattern}'''");
    if has_total {
        let _ = writeln!(
            out,
            "# The number after the step is how long the whole run is; leave this out if it is an epoch's.\nrun_total = true"
        );
    }
    if !rename.is_empty() {
        let _ = writeln!(out, "\n# Names of groups that the log spells otherwise.\n[rename]");
        for (id, name) in &rename {
            let _ = writeln!(out, "{id} = {}", quoted(name));
        }
    }
    let metrics: Vec<&str> = groups.iter().filter(|g| g.role == Role::Metric).map(|g| g.name.as_str()).collect();
    let unknown: Vec<&str> = metrics.iter().copied().filter(|n| keys::canonical_name(n).is_none()).collect();
    let _ = writeln!(
        out,
        "\n# What a name means, where oomph does not know it: loss, learning_rate, grad_norm, tokens_per_second, …\n[canonical]"
    );
    for name in unknown {
        let _ = writeln!(out, "# {} = \"loss\"", quoted(name));
    }
    let mut lines = vec![shape.first];
    lines.extend((shape.last != shape.first).then_some(shape.last));
    let dialect = super::read(&out)?;
    for line in lines {
        let (point, _) = dialect.read(0, line).ok_or("the draft does not read its own lines")?;
        let _ = writeln!(out, "\n[[sample]]\nline = {}", quoted(line));
        if point.kind == crate::model::metric::PointKind::Eval {
            let _ = writeln!(out, "eval = true");
        }
        if let Some(step) = point.step.filter(|_| !point.step_guessed) {
            let _ = writeln!(out, "step = {step}");
        }
        let fields: Vec<String> = point
            .raw
            .iter()
            .filter(|(_, v)| v.is_finite())
            .filter(|(name, _)| !point.canonical.iter().any(|(c, _)| *c == name.as_str()))
            .map(|(name, value)| format!("{} = {value:?}", quoted(name.as_str())))
            .chain(
                point
                    .canonical
                    .iter()
                    .filter(|(_, v)| v.is_finite())
                    .map(|(name, value)| format!("{name} = {value:?}")),
            )
            .collect();
        let _ = writeln!(out, "fields = {{ {} }}", fields.join(", "));
    }
    Ok(out)
}

/// Text as a pattern: any run of blanks is one or more, and at the ends none is needed.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut blank = false;
    for c in text.chars() {
        if c.is_whitespace() {
            if !blank {
                out += r"\s*";
            }
            blank = true;
        } else {
            blank = false;
            out += &regex::escape(&c.to_string());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps and raw values that the draft reads from the log that it was made from.
    fn check(log: &str, want: &[&str]) {
        let text = draft("mine", log.lines()).unwrap_or_else(|e| panic!("{e}: {log}"));
        let dialect = super::super::read(&text).unwrap_or_else(|e| panic!("{e}:\n{text}"));
        for sample in &dialect.samples {
            assert_eq!(super::super::check(&dialect, sample), Ok(()), "{text}");
        }
        let points = log.lines().filter_map(|line| dialect.read(0, line));
        let told = points.map(|(p, total)| {
            let raw: Vec<String> = p.raw.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{:?}/{total:?} {}", p.step.or(p.epoch.map(|e| e as u64)), raw.join(" "))
        });
        assert_eq!(told.collect::<Vec<_>>(), want, "{text}");
    }

    #[test]
    fn unknown_lines_become_a_dialect() {
        check(
            "loading\nupd 5 of 100 >> objective=2.5e-01 ~ speed<1,200> eta 1:02:03\nupd 10 of 100 >> objective=-3 ~ speed<1,250> eta 1:02:00\nbye\n",
            &["Some(5)/Some(100) objective=0.25 speed=1200", "Some(10)/Some(100) objective=-3 speed=1250"],
        );
        check(
            "[7/90] train loss: 2.5; gnorm(l2) 0.1\n[8/90] train loss: nan; gnorm(l2) 0.2\n[9/90] train loss: 2; gnorm(l2) 12\n",
            &["Some(7)/Some(90) train loss=2.5", "Some(8)/Some(90) train loss=NaN", "Some(9)/Some(90) train loss=2"],
        );
        check("ep 1 | cost 0.5\nep 2 | cost 0.25\n", &["Some(1)/None cost=0.5", "Some(2)/None cost=0.25"]);
    }

    #[test]
    fn lines_without_a_counter_give_an_error() {
        assert!(draft("x", "hello\nworld 5\n".lines()).is_err());
        assert!(draft("x", "".lines()).is_err());
        assert!(draft("x", "1 2 3\n2 3 4\n".lines()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9:=./\\[\\](){}|\\n'\"\\\\ ]{0,80}") {
            if let Ok(text) = draft("x", text.lines()) {
                assert!(super::super::read(&text).is_ok(), "{text}");
            }
        }
    }
}
