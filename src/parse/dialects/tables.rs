//! Tables whose columns a header names: Ultralytics' training and validation, fastai.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::Regex;

use crate::{
    model::{
        Clean,
        metric::{Point, PointKind},
    },
    parse::{files::keys, metrics::At},
};

use super::pairs;

static HEAD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:Epoch\s+(?:GPU|gpu)_mem\s|Class\s+Images\s+(?:Instances|Labels)\s|classes\s+top1_acc|epoch\s+train_loss\s+valid_loss)").expect("tested")
});

static COLUMNS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::new(["GPU_mem", "gpu_mem", "Box(P", "Labels ", "valid_loss", "Instances ", "top1_acc"])
        .expect("short words")
});

/// The names of a header. Those of a further part of the model carry its name: `Box(P R mAP50) Mask(P R mAP50)`.
fn columns(header: &str) -> Vec<String> {
    let mut part = String::new();
    let mut out = Vec::new();
    for word in header.split_whitespace() {
        let (begun, name) = word.split_once('(').unwrap_or(("", word));
        if !begun.is_empty() {
            part = if begun == "Box" { String::new() } else { format!("{begun}/") };
        }
        out.push(format!("{part}{}", name.trim_end_matches(')')));
    }
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Fastai,
    Train,
    Validation,
}

/// The table that is being read.
#[derive(Debug, Default)]
pub struct Tables {
    open: Option<(Sort, Vec<String>)>,
    /// A row that is drawn again and again while its epoch lasts.
    drawn: Option<Point>,
    /// Epoch of the row before, which a validation's row belongs to.
    epoch: Option<f64>,
    pub dialect: Option<&'static str>,
}

impl Tables {
    /// Whether a line may be a table's.
    pub fn may(&self, frame: &[u8]) -> bool {
        self.open.is_some() || COLUMNS.is_match(frame)
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Reads a line or a frame; what it ends goes into `out`. False if it is no table's.
    pub fn line(&mut self, line: &str, at: At, out: &mut Vec<Point>) -> bool {
        if HEAD.is_match(line) {
            self.close(out);
            let sort = if line.trim_start().starts_with(['C', 'c']) {
                Sort::Validation
            } else if line.contains("valid_loss") {
                Sort::Fastai
            } else {
                Sort::Train
            };
            let line = line.split(": ").next().unwrap_or(line);
            let columns = columns(line);
            self.open = Some((sort, columns));
            self.dialect = Some(if sort == Sort::Fastai { "fastai" } else { "Ultralytics YOLO" });
            return true;
        }
        let Some(point) = self.row(line, at) else { return false };
        if point.kind == PointKind::Eval || self.drawn.as_ref().is_some_and(|d| d.epoch != point.epoch) {
            self.close(out);
        }
        if self.open.as_ref().is_some_and(|(sort, _)| *sort == Sort::Train) {
            self.epoch = point.epoch;
            self.drawn = Some(point);
        } else {
            out.push(point);
        }
        true
    }

    fn row(&self, line: &str, at: At) -> Option<Point> {
        let (sort, columns) = self.open.as_ref()?;
        let cells: Vec<&str> = line.split(": ").next().unwrap_or(line).split_whitespace().collect();
        if cells.len() != columns.len() {
            return None;
        }
        let mut point = at.point();
        for (name, cell) in columns.iter().zip(&cells) {
            match name.as_str() {
                "Epoch" | "epoch" => point.epoch = Some(cell.split('/').next()?.parse::<f64>().ok()?),
                "Class" | "classes" if *cell != "all" => return None,
                "Class" | "classes" | "Images" | "Instances" | "Labels" | "labels" | "Size" | "img_size" | "time" => {}
                _ => {
                    let Some(n) = pairs::number(cell) else { continue };
                    let known = (*sort == Sort::Fastai).then(|| keys::canonical_name(name)).flatten();
                    point.canonical.extend(known.map(|(to, factor)| (to, n.value * factor)));
                    point.raw.push((Clean::new(name), n.value));
                }
            }
        }
        if *sort == Sort::Validation {
            (point.kind, point.epoch) = (PointKind::Eval, self.epoch);
        }
        (!point.raw.is_empty()).then_some(point)
    }

    /// Nothing more is drawn of the row.
    pub fn close(&mut self, out: &mut Vec<Point>) {
        out.extend(self.drawn.take());
    }
}
