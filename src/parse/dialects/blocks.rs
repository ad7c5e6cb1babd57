//! Points that stand on several lines: Composer's blocks, Stable-Baselines3's boxes, rsl_rl's right-aligned lists.

use std::sync::LazyLock;

use regex::Regex;

use crate::{
    model::{
        Clean,
        metric::{Point, PointKind},
    },
    parse::{files::keys, metrics::At},
};

use super::pairs;

/// `[batch=366/48000]:`, `[epoch=1][batch=1/100]:`, `[token=1000/5000]:`, `[Eval batch=8/8] Eval on eval data:`.
static HEAD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^\s*(?:\[epoch=(?<epoch>\d+)(?:/\d+)?\])?(?:\[(?<eval>Eval )?batch=(?<step>\d+)/(?<total>\d+)\]|\[(?:token|sample|second|iteration|epoch)=\d+(?:/\d+)?\])+:?",
    )
    .expect("tested")
});
static ROW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*(?:Train|Eval) (?<name>[^:]+): (?<value>.*)$").expect("tested"));
/// `|    ep_rew_mean          | 204        |` and `| rollout/ |`.
static BOX_ROW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\|\s+(?<name>[\w ./\-]+?)(?<group>/)?\s*\|\s*(?<value>\S*)\s*\|$").expect("tested"));
/// Isaac Lab's and legged_gym's runner.
static ITERATION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*Learning iteration (?<step>\d+)/(?<total>\d+)\s*$").expect("tested"));

/// `Mean reward: 12.34`, whatever stands before it to make it right-aligned.
static LIST_ROW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*(?<name>[A-Z][\w /()\-]*):\s+(?<value>\S.*)$").expect("tested"));

/// TensorFlow's Object Detection: `Step 100 per-step time 0.813s`, and below it a dictionary on several lines.
static TF_STEP: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^Step (?<step>\d+) per-step time [\d.]+s\s*$").expect("tested"));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Dict,
    Composer,
    Box,
    List,
}

/// The block that is being read.
#[derive(Debug, Default)]
pub struct Blocks {
    open: Option<(Sort, Point)>,
    /// Groups of the open box.
    groups: Vec<String>,
    /// Step of the dictionary that follows.
    dict_step: Option<u64>,
    pub total: Option<u64>,
    pub dialect: Option<&'static str>,
}

impl Blocks {
    /// Reads a line without prefixes; what it ends goes into `out`. False if the line is no block's.
    pub fn line(&mut self, line: &str, at: At, out: &mut Vec<Point>) -> bool {
        if line.contains('[') && self.composer(line, at, out)
            || line.contains("Learning iteration ") && self.list(line, at, out)
        {
            return true;
        }
        if let Some(c) = TF_STEP.captures(line) {
            self.dict_step = c.name("step").and_then(|m| m.as_str().parse().ok());
            return true;
        }
        if line.starts_with("{'") && !line.ends_with('}') && self.dict_step.is_some() {
            self.close(out);
            self.open = Some((Sort::Dict, Point { step: self.dict_step, ..at.point() }));
            self.dialect.get_or_insert("TensorFlow Object Detection");
        }
        match self.open.as_mut().map(|(sort, point)| (*sort, point)) {
            Some((Sort::Dict, point)) if line.starts_with(['{', '\'', ' ']) => {
                let read = pairs::read(&format!("{line},"), pairs::Style::Dict);
                point.raw.extend(read.into_iter().map(|(name, number)| (Clean::new(&name), number.value)));
                if line.trim_end().ends_with('}') {
                    self.close(out);
                }
                return true;
            }
            Some((Sort::List, point)) => {
                let row = LIST_ROW.captures(line);
                let part = |name: &str| row.as_ref().and_then(|c| c.name(name)).map_or("", |m| m.as_str());
                match (part("name"), pairs::number(part("value"))) {
                    ("ETA", _) => self.close(out),
                    (name, Some(n)) if !name.is_empty() => point.raw.push((Clean::new(name), n.value)),
                    (name, _) if name.is_empty() && !line.trim().chars().all(|c| c == '-') => {
                        self.close(out);
                        return line.starts_with("####");
                    }
                    _ => {}
                }
                return true;
            }
            Some((Sort::Composer, point)) => {
                if let Some(c) = ROW.captures(line) {
                    let name = c.name("name").map_or("", |m| m.as_str());
                    if let Some(n) = c.name("value").and_then(|m| pairs::number(m.as_str())) {
                        point.raw.push((Clean::new(name), n.value));
                    }
                    return true;
                }
                self.close(out);
            }
            Some((Sort::Box, _)) if line.starts_with("-----") => {
                self.close(out);
                return true;
            }
            Some((Sort::Dict, _)) => self.close(out),
            Some((Sort::Box, _)) if !line.starts_with('|') => self.close(out),
            _ => {}
        }
        line.starts_with('|') && self.boxed(line, at)
    }

    fn composer(&mut self, line: &str, at: At, out: &mut Vec<Point>) -> bool {
        let Some(c) = HEAD.captures(line) else { return false };
        self.close(out);
        let number = |name: &str| c.name(name).and_then(|m| m.as_str().parse::<u64>().ok());
        let (epoch, step, total) = (number("epoch"), number("step"), number("total"));
        let mut point = at.point();
        if c.name("eval").is_some() {
            point.kind = PointKind::Eval;
        } else if let Some(epoch) = epoch {
            // The batches of an epoch.
            point.epoch = Some(epoch as f64);
            point.step = total.zip(step).and_then(|(of, at)| epoch.saturating_sub(1).checked_mul(of)?.checked_add(at));
            point.step_guessed = point.step.is_some();
        } else {
            point.step = step;
            self.total = total.or(self.total);
        }
        self.open = Some((Sort::Composer, point));
        self.dialect = Some("Composer");
        true
    }

    fn list(&mut self, line: &str, at: At, out: &mut Vec<Point>) -> bool {
        let Some(c) = ITERATION.captures(line) else { return false };
        self.close(out);
        let number = |name: &str| c.name(name).and_then(|m| m.as_str().parse::<u64>().ok());
        self.open = Some((Sort::List, Point { step: number("step"), ..at.point() }));
        self.total = number("total").or(self.total);
        self.dialect = Some("rsl_rl");
        true
    }

    fn boxed(&mut self, line: &str, at: At) -> bool {
        let Some(c) = BOX_ROW.captures(line) else { return false };
        self.dialect.get_or_insert("Stable-Baselines3");
        let name = c.name("name").map_or("", |m| m.as_str()).trim();
        let (_, point) = self.open.get_or_insert_with(|| (Sort::Box, at.point()));
        if let Some(n) = c.name("value").and_then(|m| pairs::number(m.as_str())) {
            if name == "total_timesteps" {
                point.step = Some(n.value as u64);
            }
            point.raw.push((Clean::new(name), n.value));
        } else if c.name("group").is_some() {
            self.groups.push(name.to_string());
        }
        true
    }

    /// The block ends here.
    pub fn close(&mut self, out: &mut Vec<Point>) {
        let groups = std::mem::take(&mut self.groups);
        let Some((_, mut point)) = self.open.take().filter(|(_, p)| !p.raw.is_empty()) else { return };
        if groups.iter().any(|g| g == "eval") && !groups.iter().any(|g| g == "train" || g == "rollout") {
            point.kind = PointKind::Eval;
        }
        for (name, value) in &point.raw {
            let known = match name.as_str() {
                "loss/train/total" | "Loss/total_loss" => Some(("loss", 1.0)),
                "ep_rew_mean" | "Mean reward" | "mean_reward" => Some(("reward", 1.0)),
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
        out.push(point);
    }
}
