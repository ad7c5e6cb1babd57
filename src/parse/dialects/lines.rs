//! The lines of a log that are neither transformers' dictionaries nor bars: JSON lines, CSV, tables, blocks, and every
//! dialect that is data.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::Regex;

use crate::{
    model::metric::{Point, PointKind, Progress},
    parse::{
        files::keys,
        metrics::{At, Record},
    },
};

use super::{
    bars::Bars,
    blocks::Blocks,
    generic::{self, Generic},
    rows::{self, Csv},
    tables::Tables,
};

/// Reads line after line of one log.
#[derive(Debug, Default)]
pub struct OtherLines {
    /// The dialect that this log was found to speak.
    kept: Option<&'static str>,
    /// A table with a header, and whether its rows stand behind prefixes.
    csv: Option<(Csv, bool)>,
    lines: u64,
    tables: Tables,
    bars: Bars,
    blocks: Blocks<'static>,
    /// A point that lines of the same step may join.
    pending: Option<Point>,
    total: Option<u64>,
    last_step: Option<u64>,
    scratch: Vec<Point>,
    generic: Generic,
    /// Points of a generic line, with their places.
    placed: Vec<(Point, At)>,
}

/// How long the run will be, said once: kohya, torchtitan, MLX, verl, Megatron's arguments, Lightning's end.
static TOTAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?:total optimization steps / [^:]*: |, total steps |training\.*,? iters: |Total training steps: |train_iters \.+ |num_iterations: |stopped: `max_steps=)(?<total>[\d,]+)",
    )
    .expect("tested")
});
static TOTAL_WORDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::new([
        "otal optimization steps /",
        "total steps ",
        "iters: ",
        "otal training steps: ",
        "train_iters .",
        "num_iterations: ",
        "`max_steps=",
    ])
    .expect("short words")
});

/// Lines in which another reader would find a bar or a dictionary of its own: OpenRLHF, llama-recipes.
static OWN_LINES: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::new(["lobal step ", "eval_metrics: {", "completed (loss:"]).expect("three short words")
});

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    No,
    /// It is read, but its bar still tells the progress.
    ButItsBar,
    Yes,
}

impl OtherLines {
    /// Reads one line without colours: `raw` with its prefixes, `text` without. False when nothing was understood.
    pub fn line(&mut self, raw: &[u8], text: &[u8], at: At, out: &mut Vec<Record>) -> bool {
        if text.trim_ascii().is_empty() {
            return true;
        }
        self.lines += 1;
        let text = String::from_utf8_lossy(text);
        let line = text.as_ref();
        let mut points = std::mem::take(&mut self.scratch);
        let in_block = self.blocks.line(&super::BLOCKS, line, at, &mut points);
        self.kept = self.blocks.dialect.or(self.kept);
        self.total = self.blocks.total.or(self.total);
        self.give_all(&mut points, at, out);
        self.scratch = points;
        if in_block {
            return true;
        }
        // A list may hold an object a line.
        let trimmed = line.trim().trim_end_matches([',', ']']);
        if let Some(start) = trimmed.find("{\"").filter(|_| trimmed.ends_with('}'))
            && (start == 0 || super::line(line, self.kept).is_none())
        {
            return self.json(trimmed.get(start..).unwrap_or_default(), at, out);
        }
        if self.csv(raw, line, at, out) {
            return true;
        }
        // A dialect's own text may look like a prefix.
        let found = super::line(line, self.kept).or_else(|| {
            (raw.len() > line.len()).then(|| super::line(&String::from_utf8_lossy(raw), self.kept)).flatten()
        });
        if let Some(found) = found {
            self.understood(found, at, out);
            return true;
        }
        self.banner(line) || self.generic(line, at, out)
    }

    fn understood(&mut self, found: super::Understood, at: At, out: &mut Vec<Record>) {
        self.kept = Some(found.dialect);
        self.total = found.total.or(self.total);
        if found.begins {
            self.last_step = found.point.step.or(self.last_step);
        } else if !found.point.raw.is_empty() {
            self.give(found.point, found.merge, at, out);
        }
    }

    /// Whether a line is one of which a bar or a dictionary is a part: such lines are read here before those are.
    pub fn takes(&mut self, frame: &[u8], at: At, out: &mut Vec<Record>) -> Taken {
        let has_bar = || memchr::memmem::find(frame, b"%|").is_some();
        if let Some(found) = super::user_line(frame) {
            self.understood(found, at, out);
            return if has_bar() { Taken::ButItsBar } else { Taken::Yes };
        }
        if OWN_LINES.is_match(frame)
            && let Some(found) = super::line(&String::from_utf8_lossy(frame), self.kept)
        {
            self.understood(found, at, out);
            return if has_bar() { Taken::ButItsBar } else { Taken::Yes };
        }
        let mut points = std::mem::take(&mut self.scratch);
        let mut taken = self.bars.may(frame)
            && self.bars.frame(String::from_utf8_lossy(frame).trim_end(), at, &mut |point| points.push(point));
        if taken {
            self.kept = self.kept.or(self.bars.dialect);
        } else if self.tables.may(frame) {
            taken = self.tables.line(&String::from_utf8_lossy(frame), at, &mut points);
            self.kept = self.tables.dialect.or(self.kept);
            self.give_all(&mut points, at, out);
            self.scratch = points;
            return if taken { Taken::Yes } else { Taken::No };
        }
        self.give_all(&mut points, at, out);
        self.scratch = points;
        match taken {
            true if has_bar() => Taken::ButItsBar,
            true => Taken::Yes,
            false => Taken::No,
        }
    }

    /// A table is open, of which any line may be a row.
    pub fn draws_table(&self) -> bool {
        self.tables.is_open()
    }

    fn give_all(&mut self, points: &mut Vec<Point>, at: At, out: &mut Vec<Record>) {
        for point in points.drain(..) {
            let at = if point.line > 0 {
                At { line: point.line, byte: point.byte, rank: point.rank, time: point.time }
            } else {
                at
            };
            self.give(point, false, at, out);
        }
    }

    fn json(&mut self, line: &str, at: At, out: &mut Vec<Record>) -> bool {
        let Some((point, total)) = rows::json(line) else { return false };
        self.total = total.or(self.total);
        self.kept = Some(rows::JSON_LINES);
        if let Some(point) = point {
            self.give(point, false, at, out);
        }
        true
    }

    fn csv(&mut self, raw: &[u8], text: &str, at: At, out: &mut Vec<Record>) -> bool {
        if (self.csv.is_some() || self.lines <= 3 || rows::may_be_header(text))
            && let Some(csv) = Csv::header(text)
        {
            // A row may begin with what looks like a prefix: a date.
            self.csv = Some((csv, raw.len() > text.len()));
            self.kept = Some(rows::CSV);
            return true;
        }
        let Some((csv, prefixed)) = &self.csv else { return false };
        let raw = String::from_utf8_lossy(raw);
        let Some(point) = csv.row(if *prefixed { text } else { raw.as_ref() }) else { return false };
        if let Some(point) = point {
            self.give(point, false, at, out);
        }
        true
    }

    /// A line that says how long the run will be.
    fn banner(&mut self, line: &str) -> bool {
        if !TOTAL_WORDS.is_match(line) {
            return false;
        }
        let total = TOTAL.captures(line).and_then(|c| c.name("total")?.as_str().replace(',', "").parse::<u64>().ok());
        self.total = total.filter(|t| *t > 0).or(self.total);
        total.is_some()
    }

    /// A line of an unknown dialect.
    fn generic(&mut self, line: &str, at: At, out: &mut Vec<Record>) -> bool {
        let mut placed = std::mem::take(&mut self.placed);
        let read = self.generic.line(line, at, &mut placed);
        if read {
            self.kept.get_or_insert(generic::NAME);
        }
        placed.drain(..).for_each(|(point, at)| self.give(point, false, at, out));
        self.placed = placed;
        read
    }

    /// Gives a point out, or joins it to the one of the same step.
    fn give(&mut self, mut point: Point, merge: bool, at: At, out: &mut Vec<Record>) {
        (point.line, point.byte) = (at.line, at.byte);
        (point.rank, point.time) = (at.rank, point.time.or(at.time));
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
        if point.kind == PointKind::Train {
            self.last_step = point.step.or(self.last_step);
        }
        let joins = merge
            && self.pending.as_ref().is_some_and(|p| {
                p.step == point.step
                    && p.kind == point.kind
                    && (p.rank == point.rank || p.rank.is_none() || point.rank.is_none())
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
        if merge {
            self.pending = Some(point);
        } else {
            out.push(Record::Point(point));
        }
    }

    /// Gives out what waits for more lines.
    pub fn settle(&mut self, out: &mut Vec<Record>) {
        out.extend(self.pending.take().map(Record::Point));
    }

    /// Nothing has come for a while. What is drawn again and again, an epoch long, still waits for its last frame.
    pub fn quiet(&mut self, out: &mut Vec<Record>) {
        let mut points = Vec::new();
        self.blocks.close(&mut points);
        self.bars.quiet(&mut |point| points.push(point));
        self.give_all(&mut points, At::default(), out);
        self.settle(out);
    }

    /// The text ends here.
    pub fn finish(&mut self, out: &mut Vec<Record>) {
        let mut points = Vec::new();
        self.blocks.close(&mut points);
        self.tables.close(&mut points);
        self.bars.close(&mut |point| points.push(point));
        self.give_all(&mut points, At::default(), out);
        self.settle(out);
    }

    pub fn total_steps(&self) -> Option<u64> {
        self.total
    }

    /// How many of the run's steps are done, where it is known how many there will be.
    pub fn progress(&self) -> Option<Progress> {
        let total = self.total?;
        Some(Progress { done: self.last_step?, total: Some(total), ..Progress::default() })
    }

    pub fn dialect(&self) -> Option<&'static str> {
        self.kept
    }
}
