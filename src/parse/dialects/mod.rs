//! Trainers' text dialects that are data: one TOML file each, with samples.

mod bars;
mod blocks;
mod dialect;
pub mod draft;
mod generic;
pub mod lines;
mod pairs;
pub mod rows;
mod tables;

use std::sync::{LazyLock, OnceLock};

use aho_corasick::AhoCorasick;
use serde::Serialize;

use crate::{
    model::{
        Clean,
        metric::{Point, PointKind},
    },
    parse::{files::keys, metrics::At},
};

use blocks::{Block, Blocks};
pub use dialect::{Dialect, Sample, read};
use pairs::Number;

/// Every built-in dialect.
const FILES: &[(&str, &str)] = &[
    ("accelerate-script", include_str!("accelerate-script.toml")),
    ("build-nanogpt", include_str!("build-nanogpt.toml")),
    ("caffe", include_str!("caffe.toml")),
    ("clu", include_str!("clu.toml")),
    ("composer", include_str!("composer.toml")),
    ("deepspeed", include_str!("deepspeed.toml")),
    ("detectron2", include_str!("detectron2.toml")),
    ("fairseq", include_str!("fairseq.toml")),
    ("imagenet", include_str!("imagenet.toml")),
    ("litgpt", include_str!("litgpt.toml")),
    ("llama-recipes", include_str!("llama-recipes.toml")),
    ("llmc", include_str!("llmc.toml")),
    ("maxtext", include_str!("maxtext.toml")),
    ("megatron", include_str!("megatron.toml")),
    ("metric-logger", include_str!("metric-logger.toml")),
    ("mlx", include_str!("mlx.toml")),
    ("mmcv", include_str!("mmcv.toml")),
    ("mmengine", include_str!("mmengine.toml")),
    ("modded-nanogpt", include_str!("modded-nanogpt.toml")),
    ("nanochat", include_str!("nanochat.toml")),
    ("nanogpt", include_str!("nanogpt.toml")),
    ("nanotron", include_str!("nanotron.toml")),
    ("nemo", include_str!("nemo.toml")),
    ("olmo", include_str!("olmo.toml")),
    ("openrlhf", include_str!("openrlhf.toml")),
    ("prime-rl", include_str!("prime-rl.toml")),
    ("rsl-rl", include_str!("rsl-rl.toml")),
    ("stable-baselines3", include_str!("stable-baselines3.toml")),
    ("tf1", include_str!("tf1.toml")),
    ("tfod", include_str!("tfod.toml")),
    ("timm", include_str!("timm.toml")),
    ("torchtitan", include_str!("torchtitan.toml")),
    ("torchtune", include_str!("torchtune.toml")),
    ("verl", include_str!("verl.toml")),
    ("yolact", include_str!("yolact.toml")),
];

/// Dialects that have readers of their own: name, where it is from, what tells it.
const READERS: &[(&str, &str, &str)] = &[
    (
        "hf-trainer",
        "https://github.com/huggingface/transformers",
        "Python dictionaries with a loss or an epoch, between frames of a bar",
    ),
    ("trl-sft", "https://github.com/huggingface/trl", "such dictionaries with mean_token_accuracy"),
    ("trl-dpo", "https://github.com/huggingface/trl", "such dictionaries with rewards/chosen"),
    ("trl-grpo", "https://github.com/huggingface/trl", "such dictionaries with completions/ or reward_std"),
    ("trl-ppo", "https://github.com/huggingface/trl", "such dictionaries with objective/"),
    (
        "Lightning",
        "https://github.com/Lightning-AI/pytorch-lightning",
        "bars named Epoch with metrics after their rate",
    ),
    ("tqdm", "https://github.com/tqdm/tqdm", "bars with metrics after their rate"),
    ("Keras", "https://github.com/keras-team/keras", "`Epoch 1/5`, then `n/N … - loss: …`"),
    ("fastai", "https://github.com/fastai/fastai", "a table headed epoch, train_loss, valid_loss"),
    (
        "Ultralytics YOLO",
        "https://github.com/ultralytics/ultralytics",
        "tables headed Epoch GPU_mem and Class Images Instances",
    ),
    (rows::JSON_LINES, "https://jsonlines.org", "an object a line with a step or an epoch"),
    (rows::CSV, "https://www.rfc-editor.org/rfc/rfc4180", "a header with a step or an epoch and a known name"),
    (generic::NAME, "", "a step or an epoch and something like a loss on one line"),
    ("tfevents", "https://github.com/tensorflow/tensorboard", "TensorBoard's record files"),
    ("wandb-offline", "https://github.com/wandb/wandb", "W&B's .wandb files"),
    ("trainer-state", "https://github.com/huggingface/transformers", "trainer_state.json"),
    ("trackio", "https://github.com/gradio-app/trackio", "trackio's SQLite databases"),
];

/// The user's own dialects, tried before all others.
static USER: OnceLock<Vec<Dialect>> = OnceLock::new();

/// Adds the user's own dialects. To be called once, before anything is read; false if it is too late.
pub fn add(user: Vec<Dialect>) -> bool {
    USER.set(user).is_ok()
}

static BUILT_IN: LazyLock<Vec<Dialect>> =
    LazyLock::new(|| FILES.iter().filter_map(|(_, text)| read(text).ok()).collect());

/// Every line kind of some dialects, found by one search for their literals.
struct Index {
    search: AhoCorasick,
    /// For each literal its dialect and line.
    places: Vec<(&'static Dialect, usize)>,
}

impl Index {
    fn of(dialects: &'static [Dialect]) -> Option<Self> {
        let places: Vec<_> = dialects.iter().flat_map(|d| (0..d.lines.len()).map(move |l| (d, l))).collect();
        let literals = places.iter().filter_map(|(d, l)| d.lines.get(*l)).map(|line| line.literal.as_str());
        let search = AhoCorasick::new(literals).ok()?;
        (!places.is_empty()).then_some(Self { search, places })
    }

    fn line(&self, text: &str, kept: Option<&str>) -> Option<Understood> {
        let mut hits: Vec<usize> = self.search.find_overlapping_iter(text).map(|m| m.pattern().as_usize()).collect();
        if hits.is_empty() {
            return None;
        }
        hits.sort_by_key(|at| (self.places.get(*at).map(|(d, _)| Some(d.name.as_str()) != kept), *at));
        hits.dedup();
        hits.into_iter().find_map(|at| self.places.get(at).and_then(|(dialect, line)| dialect.understand(*line, text)))
    }
}

/// The blocks of all dialects, the user's own first.
static BLOCKS: LazyLock<Vec<(&'static Dialect, &'static Block)>> =
    LazyLock::new(|| all().flat_map(Dialect::own_blocks).collect());

static INDEX: LazyLock<Option<Index>> = LazyLock::new(|| Index::of(&BUILT_IN));
static USER_INDEX: LazyLock<Option<Index>> = LazyLock::new(|| USER.get().and_then(|user| Index::of(user)));

/// The dialects that are data, the user's own first.
pub fn all() -> impl Iterator<Item = &'static Dialect> {
    USER.get().into_iter().flatten().chain(BUILT_IN.iter())
}

/// A dialect for a list: its name, where it is from, what tells it, and the file that holds it if the user made it.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    pub name: Clean,
    pub url: Clean,
    pub told_by: Clean,
    pub file: Option<Clean>,
}

/// Everything that is read, the user's own dialects first.
pub fn list() -> Vec<About> {
    let of_data = all().map(|d| {
        let literals = d.lines.iter().map(|l| &l.literal).chain(d.blocks.iter().map(|b| &b.literal));
        let mut literals: Vec<&str> = literals.map(|l| l.trim()).filter(|l| !l.is_empty()).collect();
        literals.dedup();
        About {
            name: Clean::new(&d.name),
            url: Clean::new(&d.url),
            told_by: Clean::new(&format!("`{}`", literals.join("`, `"))),
            file: d.file.clone(),
        }
    });
    let of_readers = READERS.iter().map(|(name, url, told_by)| About {
        name: Clean::new(name),
        url: Clean::new(url),
        told_by: Clean::new(told_by),
        file: None,
    });
    of_data.chain(of_readers).collect()
}

/// A line that a dialect understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Understood {
    pub dialect: &'static str,
    pub point: Point,
    /// Steps of the whole run, where the line says so.
    pub total: Option<u64>,
    /// It belongs to the point of the same step before it.
    pub merge: bool,
    /// It only says the step of the lines below it.
    pub begins: bool,
}

/// Lines of a log that a dialect which is data reads when it is asked alone.
#[derive(Clone, Debug, Serialize)]
pub struct Match {
    pub name: Clean,
    pub file: Option<Clean>,
    /// How many lines it reads, and the number and text of the first of them.
    pub lines: u64,
    pub first_line: u64,
    pub first_text: Clean,
    /// Words that stand in that line, and the pattern that found the rest.
    pub literal: Clean,
    pub pattern: Clean,
}

/// Which dialects read lines of a log, those with most lines first: numbers of lines and texts without prefixes.
pub fn matches(texts: &[(u64, String)]) -> Vec<Match> {
    let of = |dialect: &'static Dialect| {
        let read = |text: &str| {
            let lines = dialect.lines.iter().enumerate().filter(|(_, line)| text.contains(line.literal.as_str()));
            lines.map(|(nth, _)| nth).find(|nth| dialect.read(*nth, text).is_some())
        };
        let (known, mut blocks) = (dialect.own_blocks().collect::<Vec<_>>(), Blocks::default());
        let mut found = texts.iter().filter_map(|(number, text)| {
            let mut in_block = || blocks.line(&known, text, At::default(), &mut Vec::new());
            let nth = read(text);
            (nth.is_some() || in_block()).then_some((*number, text, nth))
        });
        let (first_line, text, nth) = found.next()?;
        let (literal, pattern) = match nth {
            Some(nth) => dialect.lines.get(nth).map(|line| (&line.literal, &line.pattern))?,
            None => dialect.blocks.iter().find_map(|block| {
                let pattern = block.head.as_ref().unwrap_or(&block.row);
                pattern.is_match(text).then_some((&block.literal, pattern))
            })?,
        };
        Some(Match {
            name: Clean::new(&dialect.name),
            file: dialect.file.clone(),
            first_line,
            first_text: Clean::new(text),
            literal: Clean::new(literal),
            pattern: Clean::new(pattern.as_str()),
            lines: 1 + found.count() as u64,
        })
    };
    let mut found: Vec<Match> = all().filter_map(of).collect();
    found.sort_by_key(|m| std::cmp::Reverse((m.file.is_some(), m.lines)));
    found
}

/// Reads a line without prefixes and colours. `kept` is the dialect that this log was found to speak; it is asked first.
pub fn line(text: &str, kept: Option<&str>) -> Option<Understood> {
    INDEX.as_ref()?.line(text, kept)
}

/// Whether the user has dialects of their own.
pub fn has_users() -> bool {
    USER_INDEX.is_some()
}

/// Reads a line in the user's own dialects.
pub fn user_line(text: &[u8]) -> Option<Understood> {
    let index = USER_INDEX.as_ref()?;
    // Nearly every frame ends here.
    index.search.find(text)?;
    index.line(&String::from_utf8_lossy(text), None)
}

impl Dialect {
    /// Reads a line of its kind number `line`.
    fn understand(&'static self, line: usize, text: &str) -> Option<Understood> {
        let (point, total) = self.read(line, text)?;
        let kind = self.lines.get(line)?;
        Some(Understood { dialect: self.name.as_str(), point, total, merge: kind.merge, begins: kind.begins })
    }

    /// Its blocks.
    fn own_blocks(&self) -> impl Iterator<Item = (&Self, &Block)> {
        self.blocks.iter().map(move |block| (self, block))
    }

    /// The point of a line, and the run's steps where it says so.
    fn read(&self, line: usize, text: &str) -> Option<(Point, Option<u64>)> {
        let line = self.lines.get(line)?;
        let c = line.pattern.captures(text)?;
        let whole = |name: &str| c.name(name).and_then(|m| m.as_str().replace(',', "").parse::<u64>().ok());
        let mut found: Vec<(String, Number)> = Vec::new();
        if let (Some(style), Some(rest)) = (line.pairs, c.name("pairs")) {
            found = pairs::read(rest.as_str(), style);
        }
        for name in line.pattern.capture_names().flatten() {
            if matches!(name, "step" | "total" | "epoch" | "pairs" | "at" | "of") {
                continue;
            }
            if let Some(number) = c.name(name).and_then(|m| pairs::number(&m.as_str().replace(' ', ""))) {
                found.push((self.rename.get(name).cloned().unwrap_or_else(|| name.to_string()), number));
            }
        }
        found.retain(|(name, number)| {
            !self.skip.contains(name) && !not_measured(name, number) && !matches!(name.as_str(), "eta" | "ETA")
        });
        if found.is_empty() && !line.begins {
            return None;
        }
        // A validation that is still going on has no result yet.
        let within = whole("at").zip(whole("of"));
        if line.kind == PointKind::Eval && within.is_some_and(|(at, of)| at < of) {
            found.clear();
        }
        let mut point = Point {
            kind: line.kind,
            step: whole("step"),
            epoch: c.name("epoch").and_then(|m| m.as_str().parse().ok()),
            ..Point::default()
        };
        if line.kind == PointKind::Train
            && let (None, Some((at, of)), Some(epoch)) = (point.step, within, whole("epoch"))
        {
            // The count begins again with each epoch: the run's step follows from the epochs before.
            point.step = epoch.checked_sub(self.first_epoch).and_then(|e| e.checked_mul(of)?.checked_add(at));
            point.step_guessed = point.step.is_some();
        }
        // Of several spellings of one canonical name the strongest wins, whatever was printed first.
        let meaning = |name: &str| match self.canonical.get(name) {
            Some(known) => known.map(|to| (0, to, 1.0)),
            None => keys::canonical_name(name).map(|(to, factor)| (1 + keys::strength(name), to, factor)),
        };
        let meanings: Vec<_> = found.iter().map(|(name, _)| meaning(name)).collect();
        for (nth, ((name, number), meaning)) in found.iter().zip(&meanings).enumerate() {
            let Some((rank, to, factor)) = *meaning else { continue };
            let beaten = meanings.iter().enumerate().any(|(other, meaning)| {
                meaning.is_some_and(|(theirs, name, _)| name == to && (theirs, other) < (rank, nth))
            });
            if beaten {
                continue;
            }
            let to = if to == "loss" && line.kind == PointKind::Eval { "eval_loss" } else { to };
            if !point.canonical.iter().any(|(known, _)| *known == to) {
                let grown = suffixed(to, number);
                let own = self.units.get(name).filter(|_| number.unit.is_empty());
                let value = match own {
                    Some(unit) => in_units(to, &Number { value: grown.value, unit: unit.clone() }),
                    None if number.unit.is_empty() => grown.value * factor_of(to, name, number.value, factor),
                    None => in_units(to, &grown) * factor,
                };
                point.canonical.push((to, value));
            }
        }
        if line.kind == PointKind::Train && found.iter().all(|(name, _)| is_validation(name)) {
            point.kind = PointKind::Eval;
        }
        let raw = |name: &str, number: &Number| {
            // A K or an M after a count is part of the number; after a size of memory it is a unit.
            let count = !name.contains("mem") && matches!(number.unit.as_str(), "K" | "k" | "M" | "B" | "G" | "T");
            if count { suffixed("", number).value } else { number.value }
        };
        point.raw = found.iter().map(|(name, number)| (Clean::new(name), raw(name, number))).collect();
        let total = if line.run_total { whole("total").filter(|t| *t > 0) } else { None };
        Some((point, total))
    }
}

fn is_validation(name: &str) -> bool {
    name.starts_with("val-") || keys::family(name) == keys::Family::Eval
}

/// `-100.00%` MFU and `nanms` say that nothing has been measured yet.
fn not_measured(name: &str, number: &Number) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("mfu") && number.value < 0.0 || number.value.is_nan() && matches!(number.unit.as_str(), "ms" | "s")
}

/// Counts with decimal suffixes: `634K`, `1.2M`.
fn suffixed(to: &str, number: &Number) -> Number {
    let factor = match (to, number.unit.as_str()) {
        ("gpu_memory_bytes" | "step_time_seconds", _) => 1.0,
        (_, "K" | "k") => 1e3,
        (_, "M") => 1e6,
        (_, "B" | "G") => 1e9,
        (_, "T") => 1e12,
        _ => 1.0,
    };
    Number { value: number.value * factor, unit: number.unit.clone() }
}

/// The value in the unit of the canonical name.
fn in_units(to: &str, number: &Number) -> f64 {
    let v = number.value;
    match (to, number.unit.as_str()) {
        ("step_time_seconds", "ms") => v / 1e3,
        ("step_time_seconds", "us") => v / 1e6,
        ("mfu", "%") => v / 100.0,
        (_, "negated") => -v,
        ("gpu_memory_bytes", "GiB" | "GB" | "G") => v * 1_073_741_824.0,
        ("gpu_memory_bytes", "MiB" | "MB" | "M") => v * 1_048_576.0,
        _ => v,
    }
}

/// Units that stand in the name.
fn factor_of(to: &str, name: &str, value: f64, factor: f64) -> f64 {
    match to {
        "step_time_seconds" if name.ends_with("(ms)") || name.ends_with("_ms") => 1e-3,
        // A fraction is at most one.
        "mfu" if value > 1.5 => 0.01,
        _ => factor,
    }
}

/// Reads a sample, prefixes and all, in its own dialect alone, and compares what it gives with what it must give.
///
/// # Errors
/// What differs, in words.
pub fn check(dialect: &Dialect, sample: &Sample) -> Result<(), String> {
    if sample.line.trim().contains('\n') {
        let (known, mut blocks, mut points) = (dialect.own_blocks().collect::<Vec<_>>(), Blocks::default(), Vec::new());
        for line in sample.line.lines().filter(|line| !line.trim().is_empty()) {
            blocks.line(&known, line, At::default(), &mut points);
        }
        blocks.close(&mut points);
        let first = points.first().ok_or("no [[block]] reads it: its `head` and a `row` must match lines of it")?;
        return compare(first, sample);
    }
    let start = crate::parse::prefix::find(sample.line.as_bytes()).end;
    let texts = [sample.line.get(start..).unwrap_or_default().trim_start(), sample.line.as_str()];
    let mut kinds = texts.iter().flat_map(|text| (0..dialect.lines.len()).map(move |nth| (nth, *text)));
    let found = kinds.find_map(|(nth, text)| {
        let literal = &dialect.lines.get(nth)?.literal;
        text.contains(literal.as_str()).then(|| dialect.read(nth, text)).flatten()
    });
    let Some((point, _)) = found else {
        return Err("no [[line]] reads it: its `literal` must stand in the text and its `pattern` match".into());
    };
    compare(&point, sample)
}

fn compare(point: &Point, sample: &Sample) -> Result<(), String> {
    let kind = if sample.eval { PointKind::Eval } else { PointKind::Train };
    if kind != point.kind {
        return Err(format!("it is read as {:?}, not {kind:?}", point.kind));
    }
    let step = point.step.filter(|_| !point.step_guessed);
    if step != sample.step {
        return Err(format!("step is {step:?}, not {:?}", sample.step));
    }
    for (name, want) in &sample.fields {
        let got = point.canonical.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let got = got.or_else(|| point.raw.iter().find(|(n, _)| n.as_str() == name).map(|(_, v)| *v));
        if !got.is_some_and(|g| (g - want).abs() <= 1e-9 * want.abs().max(1.0)) {
            return Err(format!("{name} is {got:?}, not {want}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_reads_and_is_listed() {
        for (name, text) in FILES {
            if let Err(error) = read(text) {
                panic!("{name}.toml: {error}");
            }
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/parse/dialects");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "toml"))
            .map(|p| p.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        there.sort();
        assert_eq!(there, FILES.iter().map(|(n, _)| (*n).to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn every_sample_gives_its_fields() {
        let mut wrong = Vec::new();
        for dialect in BUILT_IN.iter() {
            assert!(!dialect.samples.is_empty(), "{} has no sample", dialect.name);
            for sample in &dialect.samples {
                // Alone, and as a log among all dialects.
                let log = format!("{}\n", sample.line);
                let (mut reader, mut records) = (crate::parse::metrics::Reader::default(), Vec::new());
                reader.feed(log.as_bytes(), &mut records);
                reader.finish(&mut records);
                let point = crate::parse::metrics::points(records).next();
                let as_log = match point {
                    Some(point) => compare(&point, sample),
                    None => Err("no point".into()),
                };
                let spoken = if reader.dialects().contains(&dialect.name.as_str()) {
                    Ok(())
                } else {
                    Err(format!("read as {:?}", reader.dialects()))
                };
                let errors = [check(dialect, sample), as_log, spoken].into_iter().filter_map(Result::err);
                wrong.extend(errors.map(|what| format!("{}: {what}: {}", dialect.name, sample.line)));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn prose_is_no_metric() {
        for text in [
            "step by step we lower the loss = good",
            "Namespace(lr=0.1, epochs=3, loss='ce')",
            "  File \"train.py\", line 3, in step",
            "CUDA out of memory. Tried to allocate 1.90 GiB",
        ] {
            assert_eq!(line(text, None), None, "{text}");
        }
    }
}
