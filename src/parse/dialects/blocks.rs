//! Points that stand on several lines: a head, and below it rows with a name and a value each.

use std::sync::LazyLock;

use regex::Regex;

use crate::{
    model::{
        Clean,
        metric::{Point, PointKind},
    },
    parse::{files::keys, metrics::At},
};

use super::{Dialect, pairs};

/// One kind of block, as a dialect's file says it.
#[derive(Debug)]
pub struct Block {
    /// Words that stand in the head or, where there is none, in every row.
    pub literal: String,
    /// The first line, with the same groups as a line's pattern.
    pub head: Option<Regex>,
    /// A line with a `name` and a `value`.
    pub row: Regex,
    /// A line among the rows that says nothing.
    pub inside: Option<Regex>,
    /// The last line; it may be a row.
    pub end: Option<Regex>,
    pub eval: bool,
    /// A block with a row like this one, and none like the other, is a validation's.
    pub eval_row: Option<Regex>,
    pub train_row: Option<Regex>,
    /// The row that holds the step.
    pub step_row: Option<String>,
    pub run_total: bool,
}

/// A block that is being read.
#[derive(Debug)]
struct Open<'d> {
    dialect: &'d Dialect,
    block: &'d Block,
    point: Point,
    /// Rows of a validation, and of the training.
    evals: bool,
    trains: bool,
}

/// Reads line after line of one log.
#[derive(Debug, Default)]
pub struct Blocks<'d> {
    open: Option<Open<'d>>,
    pub total: Option<u64>,
    pub dialect: Option<&'d str>,
}

/// `01:02:03` is no number of anything.
static CLOCK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s*\d+:\d\d").expect("tested"));

impl<'d> Blocks<'d> {
    /// Reads a line without prefixes; what it ends goes into `out`. False if the line is no block's.
    pub fn line(&mut self, known: &[(&'d Dialect, &'d Block)], line: &str, at: At, out: &mut Vec<Point>) -> bool {
        let has = |block: &Block| memchr::memmem::find(line.as_bytes(), block.literal.as_bytes()).is_some();
        for (dialect, block) in known {
            if let Some(head) = &block.head
                && has(block)
                && let Some(c) = head.captures(line)
            {
                self.close(out);
                self.begin(dialect, block, &c, at);
                return true;
            }
        }
        if self.open.is_some() {
            return self.inside(line, out);
        }
        let headless = known.iter().find(|(_, b)| b.head.is_none() && has(b) && b.row.is_match(line));
        let Some((dialect, block)) = headless else { return false };
        self.dialect.get_or_insert(&dialect.name);
        self.open = Some(Open { dialect, block, point: at.point(), evals: false, trains: false });
        self.inside(line, out)
    }

    fn begin(&mut self, dialect: &'d Dialect, block: &'d Block, c: &regex::Captures<'_>, at: At) {
        let number = |name: &str| c.name(name).and_then(|m| m.as_str().replace(',', "").parse::<u64>().ok());
        let mut point = at.point();
        point.epoch = number("epoch").map(|epoch| epoch as f64);
        point.step = number("step");
        if let (None, Some(at), Some(of), Some(epoch)) = (point.step, number("at"), number("of"), number("epoch")) {
            // The batches of an epoch.
            let before = epoch.saturating_sub(dialect.first_epoch).checked_mul(of);
            point.step = before.and_then(|before| before.checked_add(at));
            point.step_guessed = point.step.is_some();
        }
        if block.eval {
            point.kind = PointKind::Eval;
        }
        if block.run_total {
            self.total = number("total").filter(|t| *t > 0).or(self.total);
        }
        self.dialect = Some(&dialect.name);
        self.open = Some(Open { dialect, block, point, evals: false, trains: false });
    }

    /// A line below the head.
    fn inside(&mut self, line: &str, out: &mut Vec<Point>) -> bool {
        let Some(open) = &mut self.open else { return false };
        let is = |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|p| p.is_match(line));
        let ends = is(&open.block.end);
        let row = open.block.row.captures(line);
        let among = row.is_some() || is(&open.block.inside);
        if let Some(c) = row {
            open.evals |= is(&open.block.eval_row);
            open.trains |= is(&open.block.train_row);
            let part = |name: &str| c.name(name).map_or("", |m| m.as_str().trim());
            let (name, value) = (part("name"), part("value"));
            if let Some(n) = pairs::number(value).filter(|_| !CLOCK.is_match(value))
                && !open.dialect.skip.iter().any(|skipped| skipped == name)
            {
                if open.block.step_row.as_deref() == Some(name) && n.value >= 0.0 {
                    open.point.step = Some(n.value as u64);
                }
                open.point.raw.push((Clean::new(name), n.value));
            }
        }
        if ends || !among {
            self.close(out);
        }
        ends || among
    }

    /// The block ends here.
    pub fn close(&mut self, out: &mut Vec<Point>) {
        let Some(open) = self.open.take().filter(|open| !open.point.raw.is_empty()) else { return };
        let mut point = open.point;
        if open.evals && !open.trains {
            point.kind = PointKind::Eval;
        }
        for (name, value) in &point.raw {
            let known = match open.dialect.canonical.get(name.as_str()) {
                Some(known) => known.map(|to| (to, 1.0)),
                // A validation's own metrics have names of their own.
                None if point.kind == PointKind::Eval => None,
                None => keys::canonical_name(name.as_str()),
            };
            if let Some((to, factor)) = known
                && !point.canonical.iter().any(|(n, _)| *n == to)
            {
                let unit = open.dialect.units.get(name.as_str()).cloned().unwrap_or_default();
                let number = pairs::Number { value: *value, unit };
                point.canonical.push((to, super::in_units(to, &number) * factor));
            }
        }
        out.push(point);
    }
}
