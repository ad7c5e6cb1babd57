//! Names and numbers on one line, in the ways in which trainers write them.

use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;

/// How a dialect writes its pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// `loss: 1.5  grad_norm: 2`, parted by blanks, commas or bars.
    Colon,
    /// `loss=1.5, lr=1e-5`.
    Equals,
    /// `loss 1.5 | norm 2`, `Train loss 2.6, It/sec 0.4`.
    Blank,
    /// verl: ` - actor/lr(1e-4):0.1`, split at ` - ` and at the last colon.
    Dash,
    /// Megatron: `lm loss: 2.5E+00 | grad norm: 1`, split at `|` and at the last `: `.
    Pipe,
    /// `{'loss': 1.5, 'lr': '1e-5'}` or JSON.
    Dict,
    /// tqdm's postfix: `Average key norm=0.1, loss=1.5`, split at `, `; names may have blanks.
    Postfix,
}

/// A number with what is glued to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    pub value: f64,
    pub unit: String,
}

const NUMBER: &str = r"[-+]?(?:\d[\d,]*(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+|nan|NaN|inf|Infinity)";

/// What NumPy and PyTorch print around a number.
const WRAPPED: &str = r"(?:np\.float\d+\(|tensor\(|array\()?";

static COLON: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(r"(?<name>[A-Za-z_][\w./@()%\-]*(?: [A-Za-z(][\w./@()%\-]*){{0,4}})\s*:\s*{WRAPPED}(?<value>{NUMBER})(?<unit>[A-Za-z%/]*)(?:,\s*\w+=[^()]*\))?")).expect("tested")
});
static EQUALS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r#"(?<name>[A-Za-z_][\w./@()%\-]*)\s*=\s*["'\[]?{WRAPPED}(?<value>{NUMBER})(?<unit>[A-Za-z%/]*)(?:,\s*\w+=[^()]*\))?"#
    ))
    .expect("tested")
});
static BLANK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(r"(?<name>[A-Za-z_][\w./@()%\-]*(?: [A-Za-z_][\w./@()%\-]*){{0,3}})\s+(?<value>{NUMBER})\s?(?<unit>ms|%|GB|tok/s)?")).expect("tested")
});
static ONE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!(r"^\s*'?{WRAPPED}(?<value>{NUMBER})(?<unit>[A-Za-z%/]*)")).expect("tested"));

/// Reads a number as it is printed: `529,882`, `61.4GiB`, `2.5E+00`, `np.float64(0.1)`, `nan`.
pub fn number(text: &str) -> Option<Number> {
    let c = ONE.captures(text)?;
    Some(Number {
        value: plain(c.name("value")?.as_str())?,
        unit: c.name("unit").map_or("", |u| u.as_str()).to_string(),
    })
}

fn plain(text: &str) -> Option<f64> {
    match text.trim_start_matches('+') {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        text => text.trim_end_matches(',').replace(',', "").parse().ok(),
    }
}

/// Every pair of `text`.
pub fn read(text: &str, style: Style) -> Vec<(String, Number)> {
    let by = |regex: &Regex| {
        regex
            .captures_iter(text)
            .filter_map(|c| {
                let value = plain(c.name("value")?.as_str())?;
                let unit = c.name("unit").map_or("", |u| u.as_str()).to_string();
                Some((c.name("name")?.as_str().trim().to_string(), Number { value, unit }))
            })
            .collect()
    };
    let split = |parts: &mut dyn Iterator<Item = &str>, at: &str| {
        parts
            .filter_map(|part| {
                // The first Megatron-LM wrote `lm loss 1.02E+01`.
                let (name, value) =
                    part.rsplit_once(at).or_else(|| part.trim().rsplit_once(' ').filter(|_| at == ": "))?;
                // nanochat packs several pairs between two bars: the first one counts.
                let (name, value) = if name.contains(": ") { part.split_once(": ")? } else { (name, value) };
                Some((name.trim().to_string(), number(value)?))
            })
            .collect()
    };
    match style {
        Style::Colon => by(&COLON),
        Style::Equals => by(&EQUALS),
        Style::Blank => by(&BLANK),
        Style::Dash => split(&mut text.split(" - "), ":"),
        Style::Pipe => split(&mut text.split('|'), ": "),
        Style::Dict => dict(text),
        Style::Postfix => split(&mut text.split(", "), "="),
    }
}

/// The pairs of a line of which nobody knows how it writes them: `a=1`, `a: 1`, and `a 1` where a part of the line is
/// nothing else.
pub fn any(line: &str) -> Vec<(String, Number)> {
    static PARTS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\s*[|;\t]\s*|,\s+|\s{2,}|\s+-\s+|: ").expect("tested"));
    let before = |at: usize| line.get(..at).unwrap_or_default();
    // With the places of the names, to keep the order of the line.
    let mut found: Vec<(usize, String, Number)> = Vec::new();
    let read = |c: &regex::Captures<'_>| {
        let (name, value) = (c.name("name")?, plain(c.name("value")?.as_str())?);
        let unit = c.name("unit").map_or("", |u| u.as_str()).to_string();
        Some((name.start(), name.as_str().trim().to_string(), Number { value, unit }))
    };
    for c in [&EQUALS, &COLON].into_iter().flat_map(|regex| regex.captures_iter(line)) {
        let range = c.get(0).map_or(0..0, |m| m.range());
        let begins_word = !before(range.start).ends_with(|c: char| c.is_alphanumeric());
        if begins_word && !found.iter().any(|(at, _, _)| range.contains(at)) {
            found.extend(read(&c));
        }
    }
    let mut from = 0;
    for (start, end) in PARTS.find_iter(line).map(|m| (m.start(), m.end())).chain([(line.len(), line.len())]) {
        // `loss   6.87` is one part.
        let aligned = line.get(start..end).is_some_and(|gap| gap.len() > 1 && gap.trim().is_empty())
            && !line.get(end..).is_some_and(|rest| rest.starts_with(char::is_alphabetic));
        if aligned {
            continue;
        }
        let part = line.get(from..start).unwrap_or_default();
        if !part.contains('=') && are_all_of(part) {
            for (at, name, number) in BLANK.captures_iter(part).filter_map(|c| read(&c)) {
                if !found.iter().any(|(_, known, _)| *known == name) {
                    found.push((from + at, name, number));
                }
            }
        }
        from = end;
    }
    found.sort_by_key(|(at, _, _)| *at);
    found.into_iter().map(|(_, name, number)| (name, number)).collect()
}

/// Whether a line is made of names and numbers, and of hardly any other words: `step 5 loss 2.3 lr 0.1`.
pub fn are_all_of(text: &str) -> bool {
    let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic()).count();
    let named: usize = BLANK.captures_iter(text).filter_map(|c| c.get(0)).map(|m| letters(m.as_str())).sum();
    let words = BLANK.captures_iter(text).filter_map(|c| c.name("name")).map(|m| m.as_str().split(' ').count()).max();
    named > 0 && words <= Some(2) && letters(text) - named <= 5
}

/// A flat Python or JSON dictionary; what is no number is left out.
fn dict(text: &str) -> Vec<(String, Number)> {
    static ITEM: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(&format!(
            r#"['"](?<name>[^'"]{{1,200}})['"]\s*:\s*['"]?{WRAPPED}(?<value>{NUMBER})(?<unit>[%A-Za-z]*)['"]?\s*[,)}}]"#
        ))
        .expect("tested")
    });
    ITEM.captures_iter(text)
        .filter_map(|c| {
            let value = plain(c.name("value")?.as_str())?;
            Some((
                c.name("name")?.as_str().to_string(),
                Number { value, unit: c.name("unit").map_or("", |u| u.as_str()).to_string() },
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, style: Style, want: &[(&str, f64, &str)]) {
        let got = read(text, style);
        let got: Vec<_> = got.iter().map(|(n, v)| (n.as_str(), v.value, v.unit.as_str())).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn every_style() {
        check(
            "loss:  8.9  grad_norm: 1.6  memory: 62.65GiB(77%)  tps: 5,679  mfu: 32.44%",
            Style::Colon,
            &[
                ("loss", 8.9, ""),
                ("grad_norm", 1.6, ""),
                ("memory", 62.65, "GiB"),
                ("tps", 5679.0, ""),
                ("mfu", 32.44, "%"),
            ],
        );
        check(
            "loss=1.5, lr=1e-05, x=np.float64(0.1)",
            Style::Equals,
            &[("loss", 1.5, ""), ("lr", 1e-5, ""), ("x", 0.1, "")],
        );
        check("Train loss 2.662, It/sec 0.490", Style::Blank, &[("Train loss", 2.662, ""), ("It/sec", 0.49, "")]);
        check(
            "step:0 - actor/lr(1e-4):0.010 - a/b:-0.000",
            Style::Dash,
            &[("step", 0.0, ""), ("actor/lr(1e-4)", 0.01, ""), ("a/b", -0.0, "")],
        );
        check(
            " lm loss: 2.504220E+00 | grad norm: 0.231 |",
            Style::Pipe,
            &[("lm loss", 2.50422, ""), ("grad norm", 0.231, "")],
        );
        check("{'loss': '2.27', \"lr\": 1e-5, 'name': 'x'}", Style::Dict, &[("loss", 2.27, ""), ("lr", 1e-5, "")]);
    }
}
