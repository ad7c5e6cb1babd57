//! A dialect as its file says it: which lines it knows and what their parts mean.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::{blocks::Block, pairs::Style};
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
    #[serde(default)]
    line: Vec<RawLine>,
    /// Points that stand on several lines.
    #[serde(default)]
    block: Vec<RawBlock>,
    /// Raw name to canonical name, where the common table does not say it; "" for none.
    #[serde(default)]
    canonical: BTreeMap<String, String>,
    /// Units of what is printed without one, by raw name: `ms`, `%`, `MiB`, `GiB`, `negated`.
    #[serde(default)]
    units: BTreeMap<String, String>,
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
    /// It only says the step of the lines below it that say none.
    #[serde(default)]
    begins: bool,
}

/// See [`Block`]; the texts are patterns.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBlock {
    literal: String,
    head: Option<String>,
    row: String,
    inside: Option<String>,
    end: Option<String>,
    #[serde(default)]
    eval: bool,
    eval_row: Option<String>,
    train_row: Option<String>,
    step_row: Option<String>,
    #[serde(default)]
    run_total: bool,
}

/// A line, or the lines of a block, and what it must give.
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
    pub begins: bool,
}

/// A dialect, ready to read with.
#[derive(Debug)]
pub struct Dialect {
    pub name: String,
    pub url: String,
    pub lines: Vec<Line>,
    pub blocks: Vec<Block>,
    pub units: BTreeMap<String, String>,
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
    if file.line.is_empty() && file.block.is_empty() {
        return Err("it needs a [[line]] or a [[block]]".into());
    }
    let lines =
        file.line.into_iter().enumerate().map(|(nth, line)| read_line(nth + 1, line)).collect::<Result<_, _>>()?;
    let blocks = file.block.into_iter().enumerate();
    let blocks = blocks.map(|(nth, block)| read_block(nth + 1, block)).collect::<Result<_, _>>()?;
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
        blocks,
        units: file.units,
        canonical,
        rename: file.rename,
        skip: file.skip,
        first_epoch: file.first_epoch,
        samples: file.sample,
        file: None,
    })
}

/// A pattern of the item that `of` names.
fn pattern(of: &str, name: &str, text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(&text.replace("{number}", NUMBER)).size_limit(1 << 20).build();
    built.map_err(|e| format!("{of}: `{name}`: {e}"))
}

fn no_literal(of: &str) -> String {
    format!("{of}: `literal` is empty: give it words that stand in every such line")
}

fn read_line(nth: usize, line: RawLine) -> Result<Line, String> {
    let of = format!("[[line]] {nth}");
    if line.literal.is_empty() {
        return Err(no_literal(&of));
    }
    let pattern = pattern(&of, "pattern", &line.pattern)?;
    if line.pairs.is_some() && !pattern.capture_names().flatten().any(|name| name == "pairs") {
        return Err(format!("{of}: with `pairs` the pattern needs a group (?<pairs>…)"));
    }
    Ok(Line {
        pattern,
        literal: line.literal,
        pairs: line.pairs,
        kind: if line.eval { PointKind::Eval } else { PointKind::Train },
        merge: line.merge,
        run_total: line.run_total,
        begins: line.begins,
    })
}

fn read_block(nth: usize, block: RawBlock) -> Result<Block, String> {
    let of = format!("[[block]] {nth}");
    if block.literal.is_empty() {
        return Err(no_literal(&of));
    }
    let maybe = |name: &str, text: Option<String>| text.map(|text| pattern(&of, name, &text)).transpose();
    let row = pattern(&of, "row", &block.row)?;
    if !["name", "value"].iter().all(|wanted| row.capture_names().flatten().any(|name| name == *wanted)) {
        return Err(format!("{of}: `row` needs the groups (?<name>…) and (?<value>…)"));
    }
    Ok(Block {
        literal: block.literal,
        head: maybe("head", block.head)?,
        row,
        inside: maybe("inside", block.inside)?,
        end: maybe("end", block.end)?,
        eval: block.eval,
        eval_row: maybe("eval_row", block.eval_row)?,
        train_row: maybe("train_row", block.train_row)?,
        step_row: block.step_row,
        run_total: block.run_total,
    })
}
