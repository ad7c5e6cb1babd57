//! A dialect as its file says it: which lines it knows and what their parts mean.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::pairs::Style;
use crate::model::{
    Clean,
    metric::{CANONICAL, PointKind},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    url: String,
    line: Vec<RawLine>,
    /// Raw name to canonical name, where the common table does not say it; "" for none.
    #[serde(default)]
    canonical: BTreeMap<String, String>,
    /// Names of regex groups that are raw keys spelt otherwise.
    #[serde(default)]
    rename: BTreeMap<String, String>,
    /// Keys that are no metrics.
    #[serde(default)]
    skip: Vec<String>,
    /// The number of the first epoch, where `at` of `of` batches counts within one.
    #[serde(default)]
    first_epoch: u64,
    #[serde(default)]
    sample: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLine {
    /// Words that stand in every such line: lines without them are not looked at.
    literal: String,
    /// A regular expression in which `{number}` stands for any number. Groups: `step`, `total`, `epoch`, `at` and `of` (a
    /// batch of an epoch), `pairs`, and any other name for a value.
    pattern: String,
    /// How the group `pairs` is written.
    pairs: Option<Style>,
    /// It is a validation's.
    #[serde(default)]
    eval: bool,
    /// Several lines of one step are one point.
    #[serde(default)]
    merge: bool,
    /// The total that the pattern finds is of the whole run.
    #[serde(default)]
    run_total: bool,
}

/// A line and what it must give.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    pub line: String,
    pub step: Option<u64>,
    /// It is a validation's.
    #[serde(default)]
    pub eval: bool,
    #[serde(default)]
    pub fields: BTreeMap<String, f64>,
}

/// One kind of line.
#[derive(Debug)]
pub struct Line {
    pub literal: String,
    pub pattern: Regex,
    pub pairs: Option<Style>,
    pub kind: PointKind,
    pub merge: bool,
    pub run_total: bool,
}

/// A dialect, ready to read with.
#[derive(Debug)]
pub struct Dialect {
    pub name: String,
    pub url: String,
    pub lines: Vec<Line>,
    pub canonical: BTreeMap<String, Option<&'static str>>,
    pub rename: BTreeMap<String, String>,
    pub skip: Vec<String>,
    pub first_epoch: u64,
    pub samples: Vec<Sample>,
    /// The file that holds it, if it is the user's.
    pub file: Option<Clean>,
}

/// What `{number}` stands for.
const NUMBER: &str = r"[-+]?(?:\d[\d,]*(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+|nan|NaN|inf|Infinity)";

/// Reads a dialect's file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(text: &str) -> Result<Dialect, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
    let mut lines = Vec::new();
    for (nth, line) in file.line.into_iter().enumerate() {
        if line.literal.is_empty() {
            return Err(format!(
                "[[line]] {}: `literal` is empty: give it words that stand in every such line",
                nth + 1
            ));
        }
        let pattern = RegexBuilder::new(&line.pattern.replace("{number}", NUMBER)).size_limit(1 << 20).build();
        let pattern = pattern.map_err(|e| format!("[[line]] {}: `pattern`: {e}", nth + 1))?;
        if line.pairs.is_some() && !pattern.capture_names().flatten().any(|name| name == "pairs") {
            return Err(format!("[[line]] {}: with `pairs` the pattern needs a group (?<pairs>…)", nth + 1));
        }
        lines.push(Line {
            pattern,
            literal: line.literal,
            pairs: line.pairs,
            kind: if line.eval { PointKind::Eval } else { PointKind::Train },
            merge: line.merge,
            run_total: line.run_total,
        });
    }
    let mut canonical = BTreeMap::new();
    for (raw, name) in file.canonical {
        let known = CANONICAL.iter().find(|c| **c == name).copied();
        if known.is_none() && !name.is_empty() {
            return Err(format!(
                "[canonical] '{raw}': '{name}' is no canonical name; there are: {}",
                CANONICAL.join(", ")
            ));
        }
        canonical.insert(raw, known);
    }
    Ok(Dialect {
        name: file.name,
        url: file.url,
        lines,
        canonical,
        rename: file.rename,
        skip: file.skip,
        first_epoch: file.first_epoch,
        samples: file.sample,
        file: None,
    })
}
