//! Lines of no known dialect: what counts up, and the names and numbers beside it.

use std::sync::LazyLock;

use regex::Regex;

use crate::{
    model::{
        Clean,
        metric::{Point, PointKind},
    },
    parse::{files::keys, metrics::At},
};

use super::pairs::{self, Number};

/// What such lines are called where a dialect is named.
pub const NAME: &str = "name=number";

/// Names of which one must stand in a line before it is believed at once.
pub static LOSS_LIKE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)loss|reward|accuracy|(?:\b|_)acc(?:\b|_)|perplexity|\bppl\b|\bscore\b|\b[rm]?mse\b")
        .expect("tested")
});
const WHOLE: &str = r"\d{1,3}(?:,\d{3})+|\d+";
static STEP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        r"(?i)(?:^|[\s\[|,(])(?:global[_ ]?steps?|steps?|iter(?:ation)?s?|episode)\s*[:=#]?\s*\[?\s*(?<step>{WHOLE})(?:\s*/\s*(?<of>{WHOLE}))?\b"
    ))
    .expect("tested")
});
static EPOCH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:^|[\s\[|,(])ep(?:och)?\s*[:=#]?\s*\[?(?<epoch>\d+(?:\.\d+)?)").expect("tested")
});
static BATCH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(?:^|[\s\[|,(])(?:batch|it)\s*[:=#]?\s*\[?\s*(?<step>\d+)\s*/\s*(?<of>\d+)\b").expect("tested")
});
static BATCHES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?<step>\d+)\s*/\s*(?<of>\d+) batches\b").expect("tested"));
/// `[0/25][10/1583] Loss_D: 0.5` of DCGAN and its many copies, and `[10/1000] loss: 2`.
static BRACKETS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:\[(?<epoch>\d+)/\d+\]\s*)?\[\s*(?<step>\d+)\s*/\s*(?<of>\d+)\s*\]").expect("tested")
});
/// `120 loss: 2.5`: a number without a name, which must count up before it is believed.
static BARE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*(?<step>\d{1,9})(?:\s*[:|,-]\s*|\s+)[A-Za-z]").expect("tested"));
/// Lines that name settings or tell of checkpoints, not of measurements; source text.
static SETTINGS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"Namespace\(|Config\(|Arguments\(|(?i)^\s*config\b|argument|^\s*--|https?://|improved|sav(?:ing|ed)\b|early.?stop|(?:new|current|so far)[: ]+best|best (?:model|checkpoint)|resum(?:e|ing)|self\.|^\s*(?:def|for|if|return|import|print)\b",
    )
    .expect("tested")
});
/// `Loss span/answer/total=2.3/0.5/2.8`: several names with as many numbers.
static SLASHED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?<word>[A-Za-z]+ )?(?<names>[A-Za-z_]+(?:/[A-Za-z_]+)+)\s*[=:]\s*(?<values>[-\d.eE+]+(?:/[-\d.eE+]+)+)",
    )
    .expect("tested")
});

/// Longest line that is looked at, and most names on it.
const MAX_LINE: usize = 4096;
const MAX_PAIRS: usize = 60;
/// How many lines of one shape must count up before they are believed without a loss.
const SIGHTINGS: usize = 3;

/// Reads line after line of one log.
#[derive(Debug, Default)]
pub struct Generic {
    batches: Batches,
    /// Points of one shape that are not believed yet.
    held: Vec<(Point, At)>,
    /// Names of the shape that was believed.
    believed: Vec<Clean>,
}

/// Tells a count that begins again with each epoch from one that goes on: `Epoch [2/5], Step [100/600]`.
#[derive(Debug, Default)]
struct Batches {
    /// The first epoch, and the last one with its count.
    first: Option<u64>,
    last: (u64, u64),
    goes_on: bool,
}

impl Batches {
    /// The run's step of the count `at` of `of` in an epoch.
    fn step(&mut self, epoch: u64, at: u64, of: u64) -> u64 {
        let first = *self.first.get_or_insert(epoch);
        if epoch > self.last.0 && self.last.1 > 0 {
            self.goes_on = at > self.last.1;
        }
        self.last = (epoch, at);
        let before = if self.goes_on { 0 } else { epoch.saturating_sub(first).saturating_mul(of) };
        before.saturating_add(at)
    }
}

/// What counts up in a line.
struct Counts {
    step: Option<u64>,
    of: Option<u64>,
    epoch: Option<f64>,
    is_named: bool,
}

impl Counts {
    fn of(line: &str) -> Option<Self> {
        let mut epoch: Option<f64> = EPOCH.captures(line).and_then(|c| c.name("epoch")?.as_str().parse().ok());
        let named = STEP.captures(line).or_else(|| {
            epoch?;
            BATCH.captures(line).or_else(|| BATCHES.captures(line))
        });
        let named = named.or_else(|| BRACKETS.captures(line));
        let is_named = named.is_some() || epoch.is_some();
        let counts = named.or_else(|| if epoch.is_none() { BARE.captures(line) } else { None });
        let count = |name: &str| counts.as_ref()?.name(name)?.as_str().replace(',', "").parse::<u64>().ok();
        if epoch.is_none() {
            epoch = count("epoch").map(|e| e as f64);
        }
        let counts = Self { step: count("step"), of: count("of"), epoch, is_named };
        (counts.step.is_some() || counts.epoch.is_some()).then_some(counts)
    }
}

impl Generic {
    /// Reads a line without prefixes: points that it made believable go into `out`, with their places. False if it is no
    /// measurement.
    pub fn line(&mut self, line: &str, at: At, out: &mut Vec<(Point, At)>) -> bool {
        // What stands in a table's box is somebody's text, and a bar without its end was cut.
        let boxed = line.contains(['│', '┃', '║']);
        let cut_bar = line.contains("%|") && !line.contains(']');
        if line.len() > MAX_LINE || boxed || cut_bar || !line.bytes().any(|b| b.is_ascii_digit()) {
            return false;
        }
        let Some(counts) = Counts::of(line) else { return false };
        if SETTINGS.is_match(line) {
            return false;
        }
        let found = metrics(line);
        if found.is_empty() || found.len() > MAX_PAIRS {
            return false;
        }
        let has_loss = found.iter().any(|(name, _)| LOSS_LIKE.is_match(name));
        if !has_loss && found.len() < 2 {
            return false;
        }
        let point = self.point(&counts, &found);
        if has_loss && counts.is_named {
            out.push((point, at));
            return true;
        }
        self.hold(point, at, out)
    }

    /// Keeps a point until enough of its shape have counted up.
    fn hold(&mut self, point: Point, at: At, out: &mut Vec<(Point, At)>) -> bool {
        let names = |p: &Point| p.raw.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let count = |p: &Point| (p.epoch.unwrap_or(0.0), p.step.unwrap_or(0));
        let own = names(&point);
        if own == self.believed {
            out.push((point, at));
            return true;
        }
        if self.held.last().is_some_and(|(last, _)| names(last) != own || count(last) >= count(&point)) {
            self.held.clear();
        }
        self.held.push((point, at));
        if self.held.len() < SIGHTINGS {
            return false;
        }
        self.believed = own;
        out.append(&mut self.held);
        true
    }

    fn point(&mut self, counts: &Counts, found: &[(String, Number)]) -> Point {
        let mut point = Point { step: counts.step, epoch: counts.epoch, ..Point::default() };
        if let (Some(at), Some(of), Some(epoch)) = (counts.step, counts.of, counts.epoch.filter(|e| e.fract() == 0.0)) {
            point.step = Some(self.batches.step(epoch as u64, at, of));
            point.step_guessed = point.step != counts.step;
        }
        let of_eval = |name: &str| keys::family(name) == keys::Family::Eval;
        let trains = found.iter().any(|(name, _)| !of_eval(name) && LOSS_LIKE.is_match(name));
        let evals = found.iter().any(|(name, _)| of_eval(name));
        point.kind = if evals && !trains { PointKind::Eval } else { PointKind::Train };
        for (name, number) in found {
            if let Some((to, factor)) = keys::canonical_name(name)
                && !point.canonical.iter().any(|(c, _)| *c == to)
            {
                point.canonical.push((to, super::in_units(to, number) * factor));
            }
        }
        point.raw = found.iter().map(|(name, number)| (Clean::new(name), number.value)).collect();
        point
    }
}

/// The names and numbers of a line that are no counters.
fn metrics(line: &str) -> Vec<(String, Number)> {
    let mut read = pairs::any(line);
    for c in SLASHED.captures_iter(line) {
        let part = |name: &str| c.name(name).map_or("", |m| m.as_str());
        let values: Vec<Number> = part("values").split('/').filter_map(pairs::number).collect();
        let names: Vec<&str> = part("names").split('/').collect();
        if values.len() == names.len() {
            read.retain(|(name, _)| name != part("names"));
            read.extend(names.iter().map(|n| format!("{}{n}", part("word"))).zip(values));
        }
    }
    let is_metric = |name: &str| {
        let lower = name.to_ascii_lowercase();
        let last = lower.rsplit(' ').next().unwrap_or_default();
        let counter = |name: &str| {
            matches!(keys::family(name), keys::Family::Step | keys::Family::Epoch)
                || matches!(name, "eta" | "batch" | "ep" | "iters" | "steps" | "episode" | "it")
        };
        let balanced = lower.matches('(').count() == lower.matches(')').count();
        // The best so far is none of now.
        !counter(&lower) && !counter(last) && balanced && !lower.split([' ', '_']).any(|word| word == "best")
    };
    read.retain(|(name, _)| is_metric(name));
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Step, epoch and values of the points of some lines.
    fn check(lines: &str, want: &[&str]) {
        let (mut generic, mut out) = (Generic::default(), Vec::new());
        for line in lines.lines() {
            generic.line(line, At::default(), &mut out);
        }
        let told = out.iter().map(|(p, _)| {
            let raw: Vec<String> = p.raw.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let count = |c: Option<String>| c.unwrap_or_else(|| "-".into());
            format!(
                "{} {} {}",
                count(p.step.map(|s| s.to_string())),
                count(p.epoch.map(|e| e.to_string())),
                raw.join(" ")
            )
        });
        assert_eq!(told.collect::<Vec<_>>(), want, "{lines}");
    }

    #[test]
    fn shapes_that_people_write() {
        check("Epoch: 3, Step: 10, Loss: 2.5, LR: 1e-4", &["10 3 Loss=2.5 LR=0.0001"]);
        check("Epoch 3 Step 10 Loss 2.5 LR 0.0001", &["10 3 Loss=2.5 LR=0.0001"]);
        check("step 1,000 | loss 2.5 | tok/s 529,882", &["1000 - loss=2.5 tok/s=529882"]);
        check(
            "| epoch   1 |   200/ 2983 batches | lr 20.00 | ms/batch 11.32 | loss  6.87 | ppl   965.97",
            &["200 1 lr=20 ms/batch=11.32 loss=6.87 ppl=965.97"],
        );
        check("[0/25][10/1583] Loss_D: 0.5 Loss_G: 4.1", &["10 0 Loss_D=0.5 Loss_G=4.1"]);
        check("[10/1000] loss: 2.5 lr=0.1", &["10 - loss=2.5 lr=0.1"]);
        check("iter 8 step 2: loss 2.5, iter time: 500ms", &["8 - loss=2.5 iter time=500"]);
        check("Episode 20\tAverage Score: 2.50", &["20 - Average Score=2.5"]);
        check("step 5 loss=2.5 best_loss=2.1", &["5 - loss=2.5"]);
        check("2024-01-01T10:00:00Z step=5 loss=2.5", &["5 - loss=2.5"]);
    }

    #[test]
    fn without_a_loss_a_shape_must_count_up() {
        let line = |n: u32| format!("(epoch: 1, iters: {n}, time: 0.1, data: 0.2) G_GAN: 0.5 G_L1: {n}.5 \n");
        let told = |n: u32| format!("{n} 1 time=0.1 data=0.2 G_GAN=0.5 G_L1={n}.5");
        check(&format!("{}{}", line(1), line(2)), &[]);
        check(&format!("{}{}{}{}", line(1), line(2), line(3), line(4)), &[&told(1), &told(2), &told(3), &told(4)]);
        check(&format!("{}{}{}", line(3), line(2), line(1)), &[]);
        check("10 loss: 2.5\n20 loss: 2.25\n30 loss: 2\n", &["10 - loss=2.5", "20 - loss=2.25", "30 - loss=2"]);
        check("404 loss: 2.5\n404 loss: 2.25\n404 loss: 2\n", &[]);
    }

    #[test]
    fn prose_and_source_are_none() {
        for line in [
            "step by step we lower the loss = good",
            "Namespace(lr=0.1, epochs=3, loss='ce', steps=5)",
            "    loss = self.compute_loss(step=5)",
            "best loss so far: 0.5 at epoch 3",
            "saved checkpoint at step 5 with loss 0.5",
            "GET /step/3?loss=2 HTTP/1.1 200 30",
            "step 5 of the guide",
        ] {
            check(line, &[]);
        }
    }
}
