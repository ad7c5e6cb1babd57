//! Rows written for machines: JSON lines, and tables parted by commas, semicolons, tabs or bars.

use std::sync::LazyLock;

use regex::Regex;

use crate::{
    model::{
        Clean,
        metric::{Point, PointKind},
    },
    parse::files::keys::{self, Family},
};

use super::{generic::LOSS_LIKE, pairs};

pub const JSON_LINES: &str = "JSON lines";
pub const CSV: &str = "CSV";

/// Columns of sentence-transformers' evaluators.
static SIMILARITY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)^(?:cosine|euclidean|manhattan|dot)[_-]|pearson|spearman").expect("tested"));
/// Scores that a validation gives and a training step does not.
static SCORE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\bm?AP(?:50|75)?\b|_mAP|IoU|accuracy|top[15]|bleu|rouge|\bf1\b|aAcc|mAcc|PSNR|SSIM")
        .expect("tested")
});

/// A row that says itself that it is a validation's: OpenMMLab's `"mode": "val"`.
static MODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#""(?:mode|phase|split|stage)"\s*:\s*"(?:val|valid|validation|eval|evaluation|test|dev)""#)
        .expect("tested")
});

/// One JSON object as a point, and the run's steps where it names them. `None` if it is no trainer's.
pub fn json(line: &str) -> Option<(Option<Point>, Option<u64>)> {
    // Python writes NaN and Infinity bare.
    let serde_json::Value::Object(map) = crate::parse::files::parse_json(line.as_bytes())? else { return None };
    let mut found = Vec::new();
    flatten("", &serde_json::Value::Object(map), 0, &mut found);
    let mut point = Point::default();
    let (mut total, mut step_rank) = (None, None);
    let mut pairs = Vec::new();
    for (name, value) in found {
        match name.as_str() {
            "total_steps" | "max_steps" => total = (value >= 1.0).then_some(value as u64),
            "percentage" | "_runtime" => {}
            // Where it is no date it is how long something took.
            "time" | "_timestamp" | "ts" | "timestamp" | "wall" | "wall_time" if value > 1e8 => {
                point.time = Some(if value > 1e11 { value / 1e3 } else { value });
            }
            "epoch" => point.epoch = Some(value),
            name if is_step(name) => {
                let rank = keys::step_rank(name);
                if value >= 0.0 && step_rank.is_none_or(|known| rank < known) {
                    (point.step, step_rank) = (Some(value as u64), Some(rank));
                }
            }
            _ => pairs.push((name, value)),
        }
    }
    // ms-swift: "global_step/max_steps": "2/4389"
    if let Some((step, of)) = fraction(line) {
        (point.step, total) = (Some(step), Some(of));
    }
    if point.step.is_none() && point.epoch.is_none() {
        return None;
    }
    if pairs.is_empty() {
        return total.map(|of| (None, Some(of)));
    }
    let has = |name: &str| pairs.iter().any(|(n, _)| n == name);
    let evals = pairs.iter().filter(|(name, _)| keys::family(name) == Family::Eval).count();
    let trains =
        pairs.iter().filter(|(name, _)| keys::family(name) == Family::Train && LOSS_LIKE.is_match(name)).count();
    let scored = !has("lr")
        && !has("learning_rate")
        && !pairs.iter().any(|(name, _)| name.contains("loss"))
        && pairs.iter().any(|(name, _)| SCORE.is_match(name));
    let of_eval = || MODE.is_match(line);
    let ended = pairs.iter().any(|(name, _)| name == "train_runtime");
    point.kind = match () {
        () if ended => PointKind::Final,
        () if evals > 0 && trains == 0 || scored || of_eval() => PointKind::Eval,
        () => PointKind::Train,
    };
    for (name, value) in &pairs {
        let known = match name.as_str() {
            "throughput" => Some(("tokens_per_second", 1.0)).filter(|_| *value > 0.0),
            "time" | "iter_time" if has("data_time") => Some(("step_time_seconds", 1.0)),
            name => keys::canonical_name(name),
        };
        let known = known.filter(|(to, _)| point.kind != PointKind::Final || *to != "loss");
        if let Some((to, factor)) = known
            && !point.canonical.iter().any(|(n, _)| *n == to)
        {
            point.canonical.push((to, value * factor));
        }
    }
    point.raw = pairs.into_iter().map(|(name, value)| (Clean::new(&name), value)).collect();
    Some((Some(point), total))
}

fn is_step(name: &str) -> bool {
    keys::family(name) == Family::Step || matches!(name, "current_steps" | "update" | "steps")
}

/// Numbers of a JSON tree with their paths; strings that are numbers count, lists do not.
fn flatten(path: &str, value: &serde_json::Value, depth: usize, out: &mut Vec<(String, f64)>) {
    match value {
        serde_json::Value::Object(map) if depth < 8 => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}/{key}") };
                flatten(&path, value, depth + 1, out);
            }
        }
        serde_json::Value::Number(n) => out.extend(n.as_f64().map(|v| (path.to_string(), v))),
        serde_json::Value::String(text) => {
            let parsed = match text.as_str() {
                "nan" | "NaN" => Some(f64::NAN),
                "inf" | "Infinity" => Some(f64::INFINITY),
                "-inf" | "-Infinity" => Some(f64::NEG_INFINITY),
                text if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) => {
                    text.parse().ok()
                }
                _ => None,
            };
            out.extend(parsed.map(|v| (path.to_string(), v)));
        }
        _ => {}
    }
}

fn fraction(json: &str) -> Option<(u64, u64)> {
    let at = json.find("\"global_step/max_steps\"")?;
    let rest = json.get(at + 23..)?.trim_start_matches([':', ' ', '"']);
    let (step, rest) = rest.split_once('/')?;
    let total: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((step.parse().ok()?, total.parse().ok()?))
}

/// Whether a line in the middle of a log looks like a table's header: three names or more, each of one word.
pub fn may_be_header(line: &str) -> bool {
    static NAMES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"^"?[A-Za-z_][\w./@()%-]*"?(?:([,;\t])"?[A-Za-z_][\w./@()%-]*"?){2,}\s*$"#).expect("tested")
    });
    memchr::memchr3(b',', b';', b'\t', line.as_bytes()).is_some()
        && ["step", "epoch", "iter"].iter().any(|word| line.contains(word))
        && NAMES.is_match(line)
}

/// A table with a header.
#[derive(Debug)]
pub struct Csv {
    delimiter: char,
    columns: Vec<String>,
}

impl Csv {
    /// Reads a header.
    pub fn header(line: &str) -> Option<Self> {
        [',', ';', '\t', '|'].into_iter().filter(|d| line.contains(*d)).find_map(|delimiter| {
            let columns = cells(line, delimiter);
            let has = |wanted: &[Family]| columns.iter().any(|c| wanted.contains(&counter(c)));
            let is_name =
                |c: &String| !c.is_empty() && c.parse::<f64>().is_err() && c.len() < 80 && !c.contains([':', '=', '{']);
            let is_header = columns.len() >= 2
                && columns.iter().all(is_name)
                && has(&[Family::Step, Family::Epoch])
                && columns
                    .iter()
                    .any(|c| keys::canonical_name(c).is_some() || LOSS_LIKE.is_match(c) || SIMILARITY.is_match(c));
            is_header.then_some(Self { delimiter, columns })
        })
    }

    /// A row as a point: `None` if it is not whole, for its last cell may be half a number; no point where nothing was
    /// measured.
    pub fn row(&self, line: &str) -> Option<Option<Point>> {
        let row = cells(line, self.delimiter);
        if row.len() != self.columns.len() {
            return None;
        }
        // The line under the header of a table in Markdown.
        if self.delimiter == '|' && row.iter().all(|c| c.chars().all(|c| matches!(c, ':' | '-' | ' '))) {
            return Some(None);
        }
        let mut point = Point::default();
        let mut evals = 0;
        for (name, cell) in self.columns.iter().zip(&row) {
            let cell = if self.delimiter == ';' { cell.replace(',', ".") } else { cell.clone() };
            // A comma in a cell of a file parted by commas is no number's.
            let number = pairs::number(&cell).filter(|_| !cell.trim().is_empty() && !cell.contains(self.delimiter));
            let Some(n) = number else { continue };
            match counter(name) {
                _ if name == "steps" => point.step = (n.value >= 0.0).then_some(n.value as u64),
                Family::Step => point.step = point.step.or((n.value >= 0.0).then_some(n.value as u64)),
                Family::Epoch => point.epoch = Some(n.value),
                family => {
                    evals += usize::from(family == Family::Eval);
                    if let Some((to, factor)) = keys::canonical_name(name)
                        && !name.ends_with("_epoch")
                        && !point.canonical.iter().any(|(c, _)| *c == to)
                    {
                        point.canonical.push((to, n.value * factor));
                    }
                    point.raw.push((Clean::new(name), n.value));
                }
            }
        }
        if point.raw.is_empty() {
            return Some(None);
        }
        let scores = point.raw.iter().all(|(name, _)| SIMILARITY.is_match(name.as_str()));
        let trains = point.canonical.iter().any(|(name, _)| matches!(*name, "loss" | "learning_rate" | "grad_norm"))
            || point
                .raw
                .iter()
                .any(|(name, _)| keys::family(name.as_str()) == Family::Train && name.as_str().contains("train"));
        if evals > 0 && !trains || scores {
            point.kind = PointKind::Eval;
        }
        Some(Some(point))
    }
}

/// What a column is, whatever the size of its letters.
fn counter(name: &str) -> Family {
    match keys::family(&name.to_ascii_lowercase()) {
        family @ (Family::Step | Family::Epoch) => family,
        _ => keys::family(name),
    }
}

/// The cells of a row; a delimiter between quotes is text.
fn cells(line: &str, delimiter: char) -> Vec<String> {
    let line = if delimiter == '|' { line.trim().trim_matches('|') } else { line };
    let mut quoted = false;
    let parts = line.split(|c| {
        quoted ^= c == '"';
        c == delimiter && !quoted
    });
    parts.map(|c| c.trim().trim_matches('"').to_string()).collect()
}
