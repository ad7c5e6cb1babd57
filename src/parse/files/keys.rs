//! What the keys of trackers mean: which part of the training they tell of, and their canonical names.

use std::collections::HashMap;

use crate::model::{
    Clean,
    metric::{CANONICAL, Point, PointKind, Shape},
};

/// Prefixes of validation keys; trackers write `eval/loss`, callbacks `eval_loss`, PyTorch users `Loss/val`.
const EVAL: &[&str] = &["eval", "val", "valid", "validation", "test", "evaluation", "dev"];
/// PPO's value function, not a validation.
const NOT_EVAL: &[&str] = &["val/clipfrac_avg", "val/ratio", "val/ratio_var", "val/num_eos_tokens"];
/// What transformers logs once, at the end.
const FINAL: &[&str] = &[
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_tokens_per_second",
    "train_loss",
    "total_flos",
];
/// Steps of the optimizer, best first, where a row has several counters.
const STEPS: &[&str] = &[
    "train/global_step",
    "trainer/global_step",
    "training/global_step",
    "global_step",
    "step",
    "iter",
    "iteration",
    "num_updates",
    "_step",
];
const EPOCHS: &[&str] = &["epoch", "train/epoch", "training/epoch", "trainer/epoch"];
/// Groups that say nothing about the meaning of what is in them.
const GROUPS: &[&str] =
    &["train/", "training/", "perf/", "performance/", "optim/", "optimizer/", "trainer/", "time/", "metrics/"];

/// Different keys of one file, and the length of one.
const MAX_KEYS: usize = 16 * 1024;
const MAX_NAME: usize = 1024;

const GIB: f64 = (1u64 << 30) as f64;

/// Printed name in small letters, canonical name, factor to the canonical unit; of several in one row the first wins.
const NAMES: &[(&str, &str, f64)] = &[
    ("loss", "loss", 1.0),
    ("train_loss", "loss", 1.0),
    ("train_loss_step", "loss", 1.0),
    ("loss_step", "loss", 1.0),
    ("total_loss", "loss", 1.0),
    ("reduced_train_loss", "loss", 1.0),
    ("lm loss", "loss", 1.0),
    ("lm_loss", "loss", 1.0),
    ("loss/train", "loss", 1.0),
    ("loss/train/total", "loss", 1.0),
    ("loss/total", "loss", 1.0),
    ("training_loss", "loss", 1.0),
    ("training loss", "loss", 1.0),
    ("train loss", "loss", 1.0),
    ("epoch_loss", "loss", 1.0),
    ("loss_metrics/global_avg_loss", "loss", 1.0),
    ("avr_loss", "loss", 1.0),
    ("gpt_loss", "loss", 1.0),
    ("loss_train", "loss", 1.0),
    ("train/loss_step", "loss", 1.0),
    ("loss/average", "loss", 1.0),
    ("loss/current", "loss", 1.0),
    ("step_loss", "loss", 1.0),
    ("actor/pg_loss", "loss", 1.0),
    ("act_loss", "loss", 1.0),
    ("loss/policy_avg", "loss", 1.0),
    ("policy_loss", "loss", 1.0),
    ("learning_rate", "learning_rate", 1.0),
    ("lr", "learning_rate", 1.0),
    ("learning-rate", "learning_rate", 1.0),
    ("learning rate", "learning_rate", 1.0),
    ("train_lr", "learning_rate", 1.0),
    ("actor/lr", "learning_rate", 1.0),
    ("act_lr", "learning_rate", 1.0),
    ("actor_lr", "learning_rate", 1.0),
    ("base_lr", "learning_rate", 1.0),
    ("lr/pg0", "learning_rate", 1.0),
    ("lr/unet", "learning_rate", 1.0),
    ("epoch_learning_rate", "learning_rate", 1.0),
    ("loss/learning_rate", "learning_rate", 1.0),
    ("grad_norm", "grad_norm", 1.0),
    ("grad-norm", "grad_norm", 1.0),
    ("grad norm", "grad_norm", 1.0),
    ("gradient_norm", "grad_norm", 1.0),
    ("gnorm", "grad_norm", 1.0),
    ("total_norm", "grad_norm", 1.0),
    ("grad_norm/total", "grad_norm", 1.0),
    ("train_gnorm", "grad_norm", 1.0),
    ("actor/grad_norm", "grad_norm", 1.0),
    ("actor_grad_norm", "grad_norm", 1.0),
    ("l2_norm/grad/global", "grad_norm", 1.0),
    ("grad_2.0_norm_total", "grad_norm", 1.0),
    ("reward", "reward", 1.0),
    ("mean_reward", "reward", 1.0),
    ("critic/rewards/mean", "reward", 1.0),
    ("critic/score/mean", "reward", 1.0),
    ("rollout/ep_rew_mean", "reward", 1.0),
    ("ep_rew_mean", "reward", 1.0),
    ("mean reward", "reward", 1.0),
    ("average reward", "reward", 1.0),
    ("avg_reward", "reward", 1.0),
    ("episode_reward", "reward", 1.0),
    ("objective/rlhf_reward", "reward", 1.0),
    ("objective/scores", "reward", 1.0),
    ("reward_std", "reward_std", 1.0),
    ("kl", "kl", 1.0),
    ("objective/kl", "kl", 1.0),
    ("actor/ppo_kl", "kl", 1.0),
    ("approx_kl", "kl", 1.0),
    ("policy/approxkl_avg", "kl", 1.0),
    ("entropy", "entropy", 1.0),
    ("objective/entropy", "entropy", 1.0),
    ("actor/entropy", "entropy", 1.0),
    ("actor/entropy_loss", "entropy", 1.0),
    ("policy/entropy_avg", "entropy", 1.0),
    ("clip_ratio/region_mean", "clip_ratio", 1.0),
    ("clip_ratio", "clip_ratio", 1.0),
    ("actor/pg_clipfrac", "clip_ratio", 1.0),
    ("policy/clipfrac_avg", "clip_ratio", 1.0),
    ("clip_fraction", "clip_ratio", 1.0),
    ("completions/mean_length", "completion_length", 1.0),
    ("completion_length", "completion_length", 1.0),
    ("response_length/mean", "completion_length", 1.0),
    ("response_length", "completion_length", 1.0),
    ("gen_len", "completion_length", 1.0),
    ("tokens_per_second", "tokens_per_second", 1.0),
    ("tokens_per_sec", "tokens_per_second", 1.0),
    ("tokens_per_second_per_gpu", "tokens_per_second", 1.0),
    ("tokens/train_per_sec_per_gpu", "tokens_per_second", 1.0),
    ("throughput/tokens_per_sec", "tokens_per_second", 1.0),
    ("throughput/device/tokens_per_sec", "tokens_per_second", 1.0),
    ("throughput(tps)", "tokens_per_second", 1.0),
    ("perf/throughput", "tokens_per_second", 1.0),
    ("tok_per_sec", "tokens_per_second", 1.0),
    ("tokens/sec", "tokens_per_second", 1.0),
    ("tok/sec", "tokens_per_second", 1.0),
    ("tok/s", "tokens_per_second", 1.0),
    ("tokens/s", "tokens_per_second", 1.0),
    ("tokens/s/device", "tokens_per_second", 1.0),
    ("train_tokens_per_second", "tokens_per_second", 1.0),
    ("tokens per gpu per second (tgs)", "tokens_per_second", 1.0),
    ("throughput", "tokens_per_second", 1.0),
    ("tps", "tokens_per_second", 1.0),
    ("wps", "tokens_per_second", 1.0),
    ("samples_per_second", "samples_per_second", 1.0),
    ("samples_per_sec", "samples_per_second", 1.0),
    ("train_samples_per_second", "samples_per_second", 1.0),
    ("throughput/samples_per_sec", "samples_per_second", 1.0),
    ("images_per_second", "samples_per_second", 1.0),
    ("samples per second", "samples_per_second", 1.0),
    ("samples/s", "samples_per_second", 1.0),
    ("img/s", "samples_per_second", 1.0),
    ("images/s", "samples_per_second", 1.0),
    ("runningavgsamplespersec", "samples_per_second", 1.0),
    ("samplespersec", "samples_per_second", 1.0),
    ("currsamplespersec", "samples_per_second", 1.0),
    ("fps", "samples_per_second", 1.0),
    ("steps_per_second", "steps_per_second", 1.0),
    ("train_speed(iter/s)", "steps_per_second", 1.0),
    ("it/sec", "steps_per_second", 1.0),
    ("it/s", "steps_per_second", 1.0),
    ("iter/s", "steps_per_second", 1.0),
    ("steps_per_sec", "steps_per_second", 1.0),
    ("iterations_per_second", "steps_per_second", 1.0),
    ("train_steps_per_second", "steps_per_second", 1.0),
    ("throughput/batches_per_sec", "steps_per_second", 1.0),
    ("step_time", "step_time_seconds", 1.0),
    ("step_time_seconds", "step_time_seconds", 1.0),
    ("timing_s/step", "step_time_seconds", 1.0),
    ("train_step_timing in s", "step_time_seconds", 1.0),
    ("time_metrics/end_to_end(s)", "step_time_seconds", 1.0),
    ("iteration-time", "step_time_seconds", 1.0),
    ("iter_time", "step_time_seconds", 1.0),
    ("batch_time", "step_time_seconds", 1.0),
    ("sec/step", "step_time_seconds", 1.0),
    ("time_per_step", "step_time_seconds", 1.0),
    ("seconds_per_step", "step_time_seconds", 1.0),
    ("elapsed time per iteration (s)", "step_time_seconds", 1.0),
    ("mfu", "mfu", 1.0),
    ("mfu/actor", "mfu", 1.0),
    ("throughput/device/mfu", "mfu", 1.0),
    ("mfu(%)", "mfu", 0.01),
    ("bf16_mfu", "mfu", 0.01),
    ("tflops", "tflops", 1.0),
    ("tflops_per_gpu", "tflops", 1.0),
    ("model_tflops_per_gpu", "tflops", 1.0),
    ("tflop/s/device", "tflops", 1.0),
    ("throughput per gpu (tflop/s/gpu)", "tflops", 1.0),
    ("max_memory_allocated_gb", "gpu_memory_bytes", GIB),
    ("memory(gib)", "gpu_memory_bytes", GIB),
    ("memory/max_active(gib)", "gpu_memory_bytes", GIB),
    ("memory/max_active (gib)", "gpu_memory_bytes", GIB),
    ("memory/max_allocated (gib)", "gpu_memory_bytes", GIB),
    ("peak_memory_active", "gpu_memory_bytes", GIB),
    ("peak_memory_alloc", "gpu_memory_bytes", GIB),
    ("max_memory_allocated", "gpu_memory_bytes", 1.0),
    ("max_memory_reserved", "gpu_memory_bytes", 1.0),
    ("vram_allocated", "gpu_memory_bytes", GIB),
    ("step_peak_memory_allocated_mb", "gpu_memory_bytes", 1_048_576.0),
    ("memory/peak_reserved_mem", "gpu_memory_bytes", 1e9),
    ("memory/peak_allocated_mem", "gpu_memory_bytes", 1e9),
    ("eval_loss", "eval_loss", 1.0),
    ("accuracy", "accuracy", 1.0),
    ("acc", "accuracy", 1.0),
    ("train_acc", "accuracy", 1.0),
    ("train_accuracy", "accuracy", 1.0),
    ("training_accuracy", "accuracy", 1.0),
    ("acc@1", "accuracy", 1.0),
    ("epoch_accuracy", "accuracy", 1.0),
    ("epoch_sparse_categorical_accuracy", "accuracy", 1.0),
    ("top1", "accuracy", 1.0),
    ("num_tokens", "num_tokens", 1.0),
    ("num_input_tokens_seen", "num_tokens", 1.0),
    ("n_tokens_seen", "num_tokens", 1.0),
    ("total_tokens", "num_tokens", 1.0),
    ("consumed_tokens", "num_tokens", 1.0),
    ("consumed tokens", "num_tokens", 1.0),
    ("trained tokens", "num_tokens", 1.0),
    ("tokens_seen", "num_tokens", 1.0),
    ("tokens/total", "num_tokens", 1.0),
    ("loss_scale", "loss_scale", 1.0),
    ("loss-scale", "loss_scale", 1.0),
    ("loss scale", "loss_scale", 1.0),
];

/// What a key tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Train,
    Eval,
    Final,
    /// Counters that stand in every row and are no metric.
    Step,
    Epoch,
    /// Unix seconds.
    Time,
    /// The tracker's own.
    Ignored,
}

/// Sorts a key into its family.
pub fn family(key: &str) -> Family {
    if STEPS.contains(&key) {
        return Family::Step;
    }
    if EPOCHS.contains(&key) {
        return Family::Epoch;
    }
    if key == "_timestamp" {
        return Family::Time;
    }
    if key.starts_with('_') || key == "hp_metric" || key.starts_with("system/") {
        return Family::Ignored;
    }
    let bare = key.strip_prefix("train/").unwrap_or(key);
    if FINAL.contains(&bare) && (bare.len() < key.len() || bare != "train_loss") {
        return Family::Final;
    }
    if is_eval(key) { Family::Eval } else { Family::Train }
}

fn is_eval(key: &str) -> bool {
    if NOT_EVAL.contains(&key) {
        return false;
    }
    let mut words = key.split(['/', '_', '-', ' ', '.']).map(str::to_ascii_lowercase);
    let first = words.next().unwrap_or_default();
    EVAL.contains(&first.as_str())
        || matches!(
            key.to_ascii_lowercase().as_str(),
            "loss_val" | "loss_valid" | "loss_eval" | "acc_val" | "accuracy_val"
        )
        || key.split(['/', ' ']).skip(1).any(|word| EVAL.contains(&word.to_ascii_lowercase().as_str()))
}

/// The rank of a key among [`NAMES`]; small is strong.
fn canonical(key: &str) -> Option<usize> {
    let key = key.to_ascii_lowercase();
    let find = |name: &str| NAMES.iter().position(|(printed, _, _)| *printed == name);
    let bare = GROUPS.iter().find_map(|group| key.strip_prefix(group));
    find(&key)
        .or_else(|| bare.and_then(find))
        // Lightning's monitor: lr-AdamW, lr-AdamW/pg1.
        .or_else(|| (key.starts_with("lr-") && !key.contains("momentum")).then(|| find("learning_rate")).flatten())
}

/// How strong a spelling is among those of its canonical name: small is strong.
pub fn strength(key: &str) -> usize {
    canonical(key).unwrap_or(NAMES.len())
}

/// How strongly a key is a counter of the run's steps: of several in one row the smallest wins.
pub fn step_rank(key: &str) -> usize {
    STEPS.iter().position(|step| *step == key).unwrap_or(STEPS.len())
}

/// The canonical name of a key and the factor to its unit.
pub fn canonical_name(key: &str) -> Option<(&'static str, f64)> {
    if is_eval(key) {
        return canonical_of_eval(key);
    }
    canonical(key).and_then(|at| NAMES.get(at)).map(|(_, to, factor)| (*to, *factor))
}

/// The canonical name and factor of a validation key.
fn canonical_of_eval(key: &str) -> Option<(&'static str, f64)> {
    let key = key.to_ascii_lowercase();
    let is = |names: &[&str]| {
        names.iter().any(|name| {
            EVAL.iter().any(|family| {
                let rest = key.strip_prefix(family).and_then(|rest| rest.strip_prefix(['/', '_', ' ', '-']));
                rest == Some(*name)
                    || key.strip_suffix(family).and_then(|rest| rest.strip_suffix(['/', '_', ' ', '-'])) == Some(*name)
            })
        })
    };
    if is(&["loss", "loss/total", "metrics/loss", "lm loss", "loss_epoch", "metrics/global_avg_loss"]) {
        Some(("eval_loss", 1.0))
    } else if is(&["accuracy", "acc", "top1", "accuracy/top1"]) {
        Some(("accuracy", 1.0))
    } else if key.strip_prefix("eval_").is_some_and(|rest| rest.ends_with("_loss")) {
        // transformers with several validation sets: eval_{set}_loss.
        Some(("eval_loss", 1.0))
    } else {
        None
    }
}

/// A key that was met, and what it means.
#[derive(Clone, Debug)]
struct Key {
    name: Clean,
    family: Family,
    /// Strength among the spellings of one canonical name (small is strong), the name, the factor to its unit.
    canonical: Option<(usize, &'static str, f64)>,
}

/// The keys of one file, each looked at once.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    by_name: HashMap<Box<str>, usize>,
    known: Vec<Key>,
    /// Every key is taken for a validation's, because the file lies in a validation's folder.
    pub all_eval: bool,
}

impl Keys {
    /// The number of a key; `None` if the file has too many different ones.
    pub fn id(&mut self, name: &str) -> Option<usize> {
        if let Some(id) = self.by_name.get(name) {
            return Some(*id);
        }
        if self.known.len() >= MAX_KEYS || name.len() > MAX_NAME {
            return None;
        }
        let mut family = family(name);
        if self.all_eval && family == Family::Train {
            family = Family::Eval;
        }
        let canonical = match family {
            Family::Eval => canonical_of_eval(name).map(|(to, factor)| (0, to, factor)).or_else(|| {
                let rank = canonical(name).filter(|_| self.all_eval)?;
                match NAMES[rank].1 {
                    "loss" => Some((rank, "eval_loss", 1.0)),
                    "accuracy" => Some((rank, "accuracy", 1.0)),
                    _ => None,
                }
            }),
            Family::Train | Family::Final => canonical(name).map(|rank| (rank, NAMES[rank].1, NAMES[rank].2)),
            _ => None,
        };
        self.known.push(Key { name: Clean::new(name), family, canonical });
        self.by_name.insert(name.into(), self.known.len() - 1);
        Some(self.known.len() - 1)
    }

    pub fn family(&self, id: usize) -> Family {
        self.known.get(id).map_or(Family::Ignored, |key| key.family)
    }

    /// The point that a row makes, if anything was measured: a validation's if it has nothing else.
    pub fn point(&self, row: &Row) -> Option<Point> {
        if row.pairs.is_empty() {
            return None;
        }
        let keys = || row.pairs.iter().filter_map(|(id, value)| Some((self.known.get(*id)?, *value)));
        let has = |family| keys().any(|(key, _)| key.family == family);
        let kind = if has(Family::Eval) && !has(Family::Train) {
            PointKind::Eval
        } else if keys().any(|(key, _)| key.family == Family::Final && key.name.as_str().ends_with("train_runtime")) {
            PointKind::Final
        } else {
            PointKind::Train
        };
        let mut best: Vec<(usize, &'static str, f64)> = Vec::new();
        for (key, value) in keys() {
            let Some((rank, name, factor)) = key.canonical else { continue };
            // The mean over a whole run is no loss of a step.
            if kind == PointKind::Final && name == "loss" {
                continue;
            }
            // More than the hardware can do is a percentage, as nanoGPT logs it.
            let factor = if name == "mfu" && value > 1.5 { 0.01 } else { factor };
            match best.iter_mut().find(|(_, known, _)| *known == name) {
                Some(known) if rank < known.0 => *known = (rank, name, value * factor),
                Some(_) => {}
                None => best.push((rank, name, value * factor)),
            }
        }
        best.sort_by_key(|(_, name, _)| CANONICAL.iter().position(|known| known == name));
        let renamed = keys().enumerate().take(128).filter(|(_, (key, _))| key.canonical.is_some());
        Some(Point {
            kind,
            renamed: renamed.fold(0, |bits, (i, _)| bits | 1 << i),
            step: row.step,
            epoch: row.epoch,
            time: row.time,
            raw: keys().map(|(key, value)| (key.name.clone(), value)).collect(),
            canonical: best.into_iter().map(|(_, name, value)| (name, value)).collect(),
            ..Point::default()
        })
    }
}

/// Looks at the keys of a row, and finds out what rows with the same keys mean.
pub fn shape(keys: &mut Keys, names: Vec<Clean>) -> Shape {
    let ids: Vec<Option<usize>> = names.iter().map(|name| keys.id(name.as_str())).collect();
    let row = Row { pairs: ids.iter().flatten().map(|id| (*id, 0.0)).collect(), ..Row::default() };
    let point = keys.point(&row).unwrap_or_default();
    let of = |wanted| ids.iter().position(|id| id.is_some_and(|id| keys.family(id) == wanted));
    let (step, epoch) = (of(Family::Step), of(Family::Epoch));
    let mut canonical = Vec::new();
    for (name, _) in point.canonical {
        let spellings = ids.iter().enumerate().filter_map(|(i, id)| {
            let (rank, to, factor) = keys.known.get((*id)?)?.canonical?;
            (to == name).then_some((rank, i, factor))
        });
        if let Some((_, i, factor)) = spellings.min_by_key(|(rank, _, _)| *rank) {
            canonical.push((i, name, factor));
        }
    }
    let places = canonical.iter().map(|(i, _, _)| *i).chain(step).chain(epoch).filter(|i| *i < 128);
    let renamed = places.fold(0, |bits, i| bits | 1 << i);
    Shape { kind: point.kind, names, renamed, canonical, step, epoch }
}

/// Keys and numbers that were logged together.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub step: Option<u64>,
    pub epoch: Option<f64>,
    pub time: Option<f64>,
    step_rank: Option<usize>,
    /// Numbers of keys, and values.
    pub pairs: Vec<(usize, f64)>,
}

impl Row {
    pub fn put(&mut self, keys: &mut Keys, name: &str, value: f64) {
        let Some(id) = keys.id(name) else { return };
        match keys.family(id) {
            Family::Ignored => {}
            Family::Time => self.time = Some(value),
            Family::Epoch => self.epoch = Some(value),
            Family::Step => {
                let rank = STEPS.iter().position(|step| *step == name);
                if (0.0..9e15).contains(&value) && self.step_rank.is_none_or(|known| rank < Some(known)) {
                    self.step = Some(value as u64);
                    self.step_rank = rank;
                }
            }
            _ => self.pairs.push((id, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fall_into_families() {
        let check = |key: &str, want| assert_eq!(family(key), want, "{key}");
        check("train/loss", Family::Train);
        check("eval/loss", Family::Eval);
        check("eval_loss", Family::Eval);
        check("val_loss", Family::Eval);
        check("Loss/val", Family::Eval);
        check("lm loss validation", Family::Eval);
        check("metrics/eval/Perplexity", Family::Eval);
        check("val-core/openai/gsm8k/acc/mean@1", Family::Eval);
        check("val/ratio_var", Family::Train);
        check("value_loss", Family::Train);
        check("evaluate_calls", Family::Train);
        check("train/train_runtime", Family::Final);
        check("train/train_loss", Family::Final);
        check("train_loss", Family::Train);
        check("train_runtime", Family::Final);
        check("train/epoch", Family::Epoch);
        check("train/global_step", Family::Step);
        check("_runtime", Family::Ignored);
    }

    fn point(pairs: &[(&str, f64)]) -> Point {
        let (mut row, mut keys) = (Row::default(), Keys::default());
        for (name, value) in pairs {
            row.put(&mut keys, name, *value);
        }
        keys.point(&row).unwrap()
    }

    #[test]
    fn rows_become_points() {
        let check = |pairs: &[(&str, f64)], kind, step, canonical: &[(&'static str, f64)]| {
            let p = point(pairs);
            assert_eq!((p.kind, p.step, p.canonical.as_slice()), (kind, step, canonical), "{pairs:?}");
        };
        check(
            &[("train/loss", 2.0), ("train/global_step", 10.0), ("_step", 3.0), ("train/epoch", 0.5)],
            PointKind::Train,
            Some(10),
            &[("loss", 2.0)],
        );
        check(
            &[("eval/loss", 2.0), ("eval/runtime", 3.0), ("_step", 3.0)],
            PointKind::Eval,
            Some(3),
            &[("eval_loss", 2.0)],
        );
        check(
            &[("iter", 100.0), ("train/loss", 2.0), ("val/loss", 3.0), ("lr", 1e-3), ("mfu", 40.0)],
            PointKind::Train,
            Some(100),
            &[("loss", 2.0), ("learning_rate", 1e-3), ("mfu", 0.4), ("eval_loss", 3.0)],
        );
        check(
            &[("train_runtime", 9.0), ("train_loss", 2.0), ("total_flos", 3.0), ("step", 40.0)],
            PointKind::Final,
            Some(40),
            &[],
        );
        check(&[("perf/max_memory_allocated_gb", 2.0)], PointKind::Train, None, &[("gpu_memory_bytes", 2.0 * GIB)]);
        check(&[("policy_loss", 2.0), ("loss", 1.0)], PointKind::Train, None, &[("loss", 1.0)]);
        check(&[("lr-AdamW/pg1", 2.0)], PointKind::Train, None, &[("learning_rate", 2.0)]);
    }

    #[test]
    fn every_name_is_canonical_and_stands_once() {
        for (i, (printed, name, _)) in NAMES.iter().enumerate() {
            assert!(CANONICAL.contains(name), "{name}");
            assert_eq!(NAMES.iter().position(|(p, _, _)| p == printed), Some(i), "{printed}");
        }
    }
}
