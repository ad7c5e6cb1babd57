//! The lines of a log that are neither transformers' dictionaries nor bars: JSON lines, CSV, tables, blocks, and every
//! dialect that is data.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::Regex;

use crate::{
    model::{
        Clean,
        metric::{Point, PointKind},
    },
    parse::{files::keys, metrics::Record, text},
};

use super::{
    bars::Bars,
    pairs::{self, Number},
};

/// Where a line stands: 1-based number and offset of its first byte.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub line: u64,
    pub byte: u64,
}

/// Reads line after line of one log.
#[derive(Debug, Default)]
pub struct OtherLines {
    /// The dialect that this log was found to speak.
    kept: Option<&'static str>,
    /// Columns of a CSV, with its delimiter.
    csv: Option<(char, Vec<String>)>,
    lines: u64,
    /// Columns of a table whose header stood in a line of its own.
    table: Option<(PointKind, Vec<String>)>,
    bars: Bars,
    /// A block whose lines make one point.
    block: Option<Point>,
    /// A point that lines of the same step may join.
    pending: Option<Point>,
    /// Epoch of the row before, which a validation's row belongs to.
    epoch: Option<f64>,
    total: Option<u64>,
    last_step: Option<u64>,
    segment: u32,
    points: u64,
}

static BLOCK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:\[epoch=(?<epoch>\d+)(?:/\d+)?\])?\[(?<eval>Eval )?batch=(?<step>\d+)/(?<total>\d+)\]:?")
        .expect("tested")
});
static BLOCK_LINE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s+(?:Train|Eval) (?<name>[^:]+): (?<value>.*)$").expect("tested"));
/// Headers of tables: Ultralytics' training and validation, fastai.
static TABLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:Epoch\s+GPU_mem\s|Class\s+Images\s+Instances|epoch\s+train_loss\s+valid_loss)").expect("tested")
});
/// A summary row of Stable-Baselines3: `|    ep_rew_mean          | 204        |`.
static BOX_ROW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\|\s+(?<name>[\w ]+?)(?<group>/)?\s*\|\s*(?<value>\S*)\s*\|$").expect("tested"));
/// Isaac Lab's and legged_gym's runner: a heading, then right-aligned `Name: value` lines.
static RSL_RL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*Learning iteration (?<step>\d+)/(?<total>\d+)\s*$").expect("tested"));
const RSL_RL_NAME: &str = "rsl_rl";
/// Keys of which one must stand in a line of an unknown dialect before it is believed.
static LOSS_LIKE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)loss|reward|accuracy|\bacc\b|perplexity|\bppl\b").expect("tested"));
static GENERIC_STEP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:^|[\s\[|,(])(?:global[_ ]?step|step|iter(?:ation)?)\s*[:=#]?\s*(?<step>\d+)(?:\s*/\s*\d+)?\b")
        .expect("tested")
});
static GENERIC_EPOCH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:^|[\s\[|,(])ep(?:och)?\s*[:=#]?\s*\[?(?<epoch>\d+(?:\.\d+)?)").expect("tested")
});
/// Columns of sentence-transformers' evaluators.
static SIMILARITY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)^(?:cosine|euclidean|manhattan|dot)[_-]|pearson|spearman").expect("tested"));
/// Lines that name settings, not measurements.
static SETTINGS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"Namespace\(|Config\(|Arguments\(|(?i)^\s*config\b|argument|^\s*--|https?://").expect("tested")
});

/// What such lines have in them: OpenRLHF, llama-recipes.
static OWN_LINES: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::new(["lobal step ", "eval_metrics: {", "completed (loss:"]).expect("three short words")
});

impl OtherLines {
    /// Reads one line without colours. False when nothing in it was understood.
    pub fn line(&mut self, raw: &str, at: At, out: &mut Vec<Record>) -> bool {
        if raw.trim().is_empty() {
            return true;
        }
        self.lines += 1;
        let (rank, stripped) = text::without_prefix(raw);
        let line = stripped.as_str();
        if self.in_block(line, at, out) {
            return true;
        }
        let trimmed = line.trim();
        if let Some(start) = trimmed.find("{\"").filter(|_| trimmed.ends_with('}'))
            && (start == 0 || super::line(line, self.kept).is_none())
        {
            return self.json(trimmed.get(start..).unwrap_or_default(), at, out);
        }
        if self.csv(raw, at, out) || self.in_table(line, at, out) {
            return true;
        }
        // A dialect's own text may look like a prefix.
        if let Some(mut found) = super::line(line, self.kept).or_else(|| super::line(raw, self.kept)) {
            self.kept = Some(found.dialect);
            if found.point.raw.is_empty() {
                return true;
            }
            self.total = found.total.or(self.total);
            found.point.rank = rank;
            self.give(found.point, found.merge, at, out);
            return true;
        }
        self.generic(line, rank, at, out)
    }

    /// Whether a line is a table's, bars and all: such lines are read here before their bar is.
    pub fn takes(&mut self, frame: &[u8], at: At, out: &mut Vec<Record>) -> bool {
        // Lines in which another reader would find a bar or a dictionary of its own.
        if OWN_LINES.is_match(frame) {
            let text = String::from_utf8_lossy(frame);
            let (rank, line) = text::without_prefix(&text);
            if let Some(mut found) = super::line(&line, self.kept) {
                self.kept = Some(found.dialect);
                found.point.rank = rank;
                self.give(found.point, found.merge, at, out);
                return true;
            }
        }
        if memchr::memchr3(b'|', b'/', b'E', frame).is_some() && self.bar(&String::from_utf8_lossy(frame), at, out) {
            // A tqdm bar still tells the progress.
            return memchr::memmem::find(frame, b"%|").is_none();
        }
        let header =
            memchr::memmem::find(frame, b"GPU_mem").is_some() || memchr::memmem::find(frame, b"Box(P").is_some();
        (header || self.table.is_some()) && self.in_table(&String::from_utf8_lossy(frame), at, out)
    }

    /// Metrics on a bar.
    fn bar(&mut self, text: &str, at: At, out: &mut Vec<Record>) -> bool {
        let mut points = Vec::new();
        let understood = self.bars.frame(text.trim_end(), &mut |point| points.push(point));
        self.kept = self.kept.or(self.bars.dialect);
        for point in points {
            self.give(point, false, at, out);
        }
        understood
    }

    /// Composer's blocks and Stable-Baselines3's boxes.
    fn in_block(&mut self, line: &str, at: At, out: &mut Vec<Record>) -> bool {
        if let Some(c) = BLOCK.captures(line) {
            self.close_block(out);
            let eval = c.name("eval").is_some();
            let number = |name: &str| c.name(name).and_then(|m| m.as_str().parse::<u64>().ok());
            self.block = Some(Point {
                kind: if eval { PointKind::Eval } else { PointKind::Train },
                step: if eval { None } else { number("step") },
                line: at.line,
                byte: at.byte,
                ..Point::default()
            });
            if !eval {
                self.total = number("total").or(self.total);
            }
            self.kept = Some("Composer");
            return true;
        }
        if let Some(c) = RSL_RL.captures(line) {
            self.close_block(out);
            let number = |name: &str| c.name(name).and_then(|m| m.as_str().parse::<u64>().ok());
            self.block = Some(Point { step: number("step"), line: at.line, byte: at.byte, ..Point::default() });
            self.total = number("total").or(self.total);
            self.kept = Some(RSL_RL_NAME);
            return true;
        }
        if let Some(block) = self.block.as_mut().filter(|_| self.kept == Some(RSL_RL_NAME)) {
            if line.starts_with("####") {
                self.close_block(out);
            } else if let Some((name, value)) = line.trim().split_once(": ")
                && let Some(n) = pairs::number(value.trim()).filter(|_| name != "ETA")
            {
                block.raw.push((Clean::new(name.trim()), n.value));
            }
            return true;
        }
        if let Some(c) = BOX_ROW.captures(line) {
            self.kept.get_or_insert("Stable-Baselines3");
            let name = c.name("name").map_or("", |m| m.as_str()).trim();
            let block = self.block.get_or_insert_with(|| Point { line: at.line, byte: at.byte, ..Point::default() });
            if let Some(n) = c.name("value").and_then(|m| pairs::number(m.as_str())) {
                if name == "total_timesteps" {
                    block.step = Some(n.value as u64);
                }
                block.raw.push((Clean::new(name), n.value));
            }
            return true;
        }
        if line.starts_with("-----") && self.block.as_ref().is_some_and(|b| !b.raw.is_empty()) {
            self.close_block(out);
            return true;
        }
        if self.block.is_none() {
            return false;
        }
        if let Some(c) = BLOCK_LINE.captures(line) {
            let name = c.name("name").map_or("", |m| m.as_str());
            if let (Some(n), Some(block)) = (c.name("value").and_then(|m| pairs::number(m.as_str())), &mut self.block) {
                block.raw.push((Clean::new(name), n.value));
            }
            return true;
        }
        self.close_block(out);
        false
    }

    fn close_block(&mut self, out: &mut Vec<Record>) {
        let Some(mut point) = self.block.take().filter(|p| !p.raw.is_empty()) else { return };
        for (name, value) in &point.raw {
            let known = match name.as_str() {
                "loss/train/total" => Some(("loss", 1.0)),
                "ep_rew_mean" | "Mean reward" => Some(("reward", 1.0)),
                "Iteration time" => Some(("step_time_seconds", 1.0)),
                // A validation's own metrics have names of their own.
                _ if point.kind == PointKind::Eval => None,
                name => keys::canonical_name(name),
            };
            if let Some((to, factor)) = known
                && !point.canonical.iter().any(|(n, _)| *n == to)
            {
                point.canonical.push((to, value * factor));
            }
        }
        let at = At { line: point.line, byte: point.byte };
        self.give(point, false, at, out);
    }

    fn json(&mut self, line: &str, at: At, out: &mut Vec<Record>) -> bool {
        // Python writes NaN and Infinity bare.
        let fixed =
            line.replace(": NaN", ": \"nan\"").replace(": Infinity", ": \"inf\"").replace(": -Infinity", ": \"-inf\"");
        let Ok(serde_json::Value::Object(map)) = serde_json::from_str(&fixed) else { return false };
        let mut found = Vec::new();
        flatten("", &serde_json::Value::Object(map), 0, &mut found);
        let mut point = Point::default();
        let mut total = None;
        let mut pairs = Vec::new();
        for (name, value) in found {
            match name.as_str() {
                "step" | "_step" | "global_step" | "iteration" | "iter" | "current_steps" | "num_updates"
                | "update" => {
                    point.step = point.step.or((value >= 0.0).then_some(value as u64));
                }
                "epoch" => point.epoch = Some(value),
                "total_steps" | "max_steps" => total = Some(value as u64),
                "percentage" | "time" | "_timestamp" | "ts" | "timestamp" | "wall" | "_runtime" => {}
                _ => pairs.push((name, value)),
            }
        }
        // ms-swift: "global_step/max_steps": "2/4389"
        if let Some((step, of)) = fraction(&fixed) {
            point.step = Some(step);
            total = Some(of);
        }
        let Some(_) = point.step.or(point.epoch.map(|e| e as u64)) else { return false };
        if pairs.is_empty() {
            return false;
        }
        let evals = pairs.iter().filter(|(name, _)| keys::family(name) == keys::Family::Eval).count();
        let trains = pairs
            .iter()
            .filter(|(name, _)| keys::family(name) == keys::Family::Train && LOSS_LIKE.is_match(name))
            .count();
        point.kind = if evals > 0 && trains == 0 { PointKind::Eval } else { PointKind::Train };
        for (name, value) in &pairs {
            let known = if name == "throughput" {
                Some(("tokens_per_second", 1.0)).filter(|_| *value > 0.0)
            } else {
                keys::canonical_name(name)
            };
            if let Some((to, factor)) = known
                && !point.canonical.iter().any(|(n, _)| *n == to)
            {
                point.canonical.push((to, value * factor));
            }
        }
        point.raw = pairs.into_iter().map(|(name, value)| (Clean::new(&name), value)).collect();
        self.total = total.or(self.total);
        self.kept = Some("JSON lines");
        self.give(point, false, at, out);
        true
    }

    fn csv(&mut self, line: &str, at: At, out: &mut Vec<Record>) -> bool {
        let line = line.trim_end_matches('\r').trim_start_matches('\u{feff}');
        let is_header = |columns: &[String]| {
            columns.len() >= 2
                && columns
                    .iter()
                    .all(|c| !c.is_empty() && c.parse::<f64>().is_err() && c.len() < 80 && !c.contains([':', '=', '{']))
                && columns.iter().any(|c| matches!(keys::family(c), keys::Family::Step | keys::Family::Epoch))
                && columns
                    .iter()
                    .any(|c| keys::canonical_name(c).is_some() || LOSS_LIKE.is_match(c) || SIMILARITY.is_match(c))
        };
        for delimiter in [',', ';', '\t'] {
            if (self.lines <= 3 || self.csv.is_some()) && line.contains(delimiter) {
                let columns: Vec<String> = cells(line, delimiter);
                if is_header(&columns) {
                    self.csv = Some((delimiter, columns));
                    self.kept = Some("CSV");
                    return true;
                }
            }
        }
        let Some((delimiter, columns)) = &self.csv else { return false };
        let row = cells(line, *delimiter);
        // A row that was cut is not whole: its last cell may be half a number.
        if row.len() != columns.len() {
            return false;
        }
        let mut point = Point::default();
        let mut evals = 0;
        for (name, cell) in columns.iter().zip(&row) {
            let cell = if *delimiter == ';' { cell.replace(',', ".") } else { cell.clone() };
            // A comma in a cell of a file parted by commas is no number's.
            let number = pairs::number(&cell).filter(|_| !cell.trim().is_empty() && !cell.contains(*delimiter));
            let Some(n) = number else { continue };
            match keys::family(name) {
                _ if name == "steps" => point.step = (n.value >= 0.0).then_some(n.value as u64),
                keys::Family::Step => point.step = point.step.or((n.value >= 0.0).then_some(n.value as u64)),
                keys::Family::Epoch => point.epoch = Some(n.value),
                family => {
                    evals += usize::from(family == keys::Family::Eval);
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
            return true;
        }
        let scores = point.raw.iter().all(|(name, _)| SIMILARITY.is_match(name.as_str()));
        if evals == point.raw.len() || scores {
            point.kind = PointKind::Eval;
        }
        self.give(point, false, at, out);
        true
    }

    fn in_table(&mut self, line: &str, at: At, out: &mut Vec<Record>) -> bool {
        if TABLE.is_match(line) {
            let eval = line.trim_start().starts_with("Class");
            let fastai = line.contains("valid_loss");
            let line = line.split(": ").next().unwrap_or(line);
            let columns = line.replace("Box(P", "P").replace(')', "").split_whitespace().map(str::to_string).collect();
            self.table = Some((if eval { PointKind::Eval } else { PointKind::Train }, columns));
            self.kept = Some(if fastai { "fastai" } else { "Ultralytics YOLO" });
            return true;
        }
        let Some((kind, columns)) = &self.table else { return false };
        let row: Vec<&str> = line.split(": ").next().unwrap_or(line).split_whitespace().collect();
        let kind = *kind;
        let mut point = Point { kind, ..Point::default() };
        for (name, cell) in columns.iter().zip(&row) {
            match name.as_str() {
                "Epoch" | "epoch" => {
                    let epoch = cell.split('/').next().and_then(|e| e.parse::<f64>().ok());
                    if epoch.is_none() {
                        return false;
                    }
                    point.epoch = epoch;
                }
                "Class" if *cell != "all" => return false,
                "Class" | "Images" | "Instances" | "Size" | "time" => {}
                _ => {
                    if let Some(n) = pairs::number(cell) {
                        if let Some((to, factor)) =
                            keys::canonical_name(name).filter(|_| name == "train_loss" || name == "valid_loss")
                        {
                            point.canonical.push((to, n.value * factor));
                        }
                        point.raw.push((Clean::new(name), n.value));
                    }
                }
            }
        }
        if point.raw.len() < 2 {
            return false;
        }
        if kind == PointKind::Train {
            self.epoch = point.epoch;
        } else {
            point.epoch = self.epoch;
        }
        self.give(point, false, at, out);
        true
    }

    /// A line of an unknown dialect that names a step or an epoch and something like a loss.
    fn generic(&mut self, line: &str, rank: Option<u32>, at: At, out: &mut Vec<Record>) -> bool {
        // What stands in a table's box is somebody's text.
        if line.len() > 4096 || line.contains(['│', '┃', '║']) || !LOSS_LIKE.is_match(line) || SETTINGS.is_match(line)
        {
            return false;
        }
        let step = GENERIC_STEP.captures(line).and_then(|c| c.name("step")?.as_str().parse().ok());
        let epoch = GENERIC_EPOCH.captures(line).and_then(|c| c.name("epoch")?.as_str().parse().ok());
        if step.is_none() && epoch.is_none() {
            return false;
        }
        let style = if line.contains('=') { pairs::Style::Equals } else { pairs::Style::Colon };
        let found: Vec<(String, Number)> = pairs::read(line, style)
            .into_iter()
            .filter(|(name, _)| {
                !matches!(keys::family(name), keys::Family::Step | keys::Family::Epoch)
                    && name != "eta"
                    && name != "ETA"
            })
            .collect();
        if !found.iter().any(|(name, _)| LOSS_LIKE.is_match(name)) || found.len() > 60 {
            return false;
        }
        let evals = found.iter().filter(|(name, _)| keys::family(name) == keys::Family::Eval).count();
        let mut point = Point { step, epoch, rank, ..Point::default() };
        point.kind = if evals > 0 && evals * 2 >= found.len() { PointKind::Eval } else { PointKind::Train };
        for (name, number) in &found {
            if let Some((to, factor)) = keys::canonical_name(name)
                && !point.canonical.iter().any(|(c, _)| *c == to)
            {
                point.canonical.push((to, super::in_units(to, number) * factor));
            }
        }
        point.raw = found.into_iter().map(|(name, number)| (Clean::new(&name), number.value)).collect();
        self.kept.get_or_insert("name=number");
        self.give(point, false, at, out);
        true
    }

    /// Gives a point out, or joins it to the one of the same step.
    fn give(&mut self, mut point: Point, merge: bool, at: At, out: &mut Vec<Record>) {
        point.line = at.line;
        point.byte = at.byte;
        if point.kind == PointKind::Eval && point.step.is_none() && point.epoch.is_none() {
            // A validation that says no step belongs to the last one.
            point.step = self.last_step;
            point.step_guessed = point.step.is_some();
        }
        if let Some(drawn) = self.bars.same_as(&point) {
            // The same point drawn on the bar before its line was printed.
            point.epoch = point.epoch.or(drawn.epoch);
        }
        for (nth, (name, _)) in point.raw.iter().enumerate().take(128) {
            let shown = keys::canonical_name(name.as_str());
            if shown.is_some_and(|(to, _)| point.canonical.iter().any(|(c, _)| *c == to)) {
                point.renamed |= 1 << nth;
            }
        }
        if point.kind == PointKind::Train
            && let Some(step) = point.step
        {
            let same_as_last = self.last_step == Some(step);
            if self.last_step.is_some_and(|last| step < last) {
                self.segment += 1;
            }
            self.last_step = Some(step);
            // Another rank's copy of the point before.
            if same_as_last && !merge && Self::is_copy(&point, out) {
                return;
            }
        }
        point.segment = self.segment;
        let joins = merge
            && self.pending.as_ref().is_some_and(|p| {
                p.step == point.step
                    && p.kind == point.kind
                    && !p.raw.iter().any(|(n, _)| point.raw.iter().any(|(m, _)| m == n))
            });
        if joins && let Some(pending) = &mut self.pending {
            pending.raw.append(&mut point.raw);
            for pair in point.canonical {
                if !pending.canonical.iter().any(|(n, _)| *n == pair.0) {
                    pending.canonical.push(pair);
                }
            }
            return;
        }
        self.settle(out);
        self.points += 1;
        if merge {
            self.pending = Some(point);
        } else {
            out.push(Record::Point(point));
        }
    }

    /// Whether the point of the same step that was given last says the same.
    fn is_copy(point: &Point, out: &[Record]) -> bool {
        let last = out.iter().rev().find_map(|r| if let Record::Point(p) = r { Some(p) } else { None });
        let loss = |p: &Point| p.canonical.iter().find(|(n, _)| *n == "loss").map(|(_, v)| v.to_bits());
        match last {
            Some(last) if last.kind == point.kind && last.step == point.step => {
                last.raw.len() == point.raw.len() && loss(last).is_some() && loss(last) == loss(point)
            }
            // The point before was taken away already: ranks that print in turn.
            _ => point.rank.is_some_and(|r| r > 0),
        }
    }

    /// Gives out what waits for more lines.
    pub fn settle(&mut self, out: &mut Vec<Record>) {
        out.extend(self.pending.take().map(Record::Point));
    }

    /// The text ends here.
    pub fn finish(&mut self, out: &mut Vec<Record>) {
        self.close_block(out);
        self.settle(out);
        let mut points = Vec::new();
        self.bars.close(&mut |point| points.push(point));
        for point in points {
            let at = At { line: point.line, byte: point.byte };
            self.give(point, false, at, out);
        }
    }

    pub fn total_steps(&self) -> Option<u64> {
        self.total
    }

    pub fn segments(&self) -> u32 {
        self.segment + 1
    }

    pub fn points(&self) -> u64 {
        self.points
    }

    pub fn dialect(&self) -> Option<&'static str> {
        self.kept
    }
}

/// Numbers of a JSON tree with their paths; strings that are numbers count.
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
                "nan" => Some(f64::NAN),
                "inf" => Some(f64::INFINITY),
                "-inf" => Some(f64::NEG_INFINITY),
                text => text.parse().ok(),
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

/// The cells of a row; a delimiter between quotes is text.
fn cells(line: &str, delimiter: char) -> Vec<String> {
    let mut quoted = false;
    let parts = line.split(|c| {
        quoted ^= c == '"';
        c == delimiter && !quoted
    });
    parts.map(|c| c.trim().trim_matches('"').to_string()).collect()
}
