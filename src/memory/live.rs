//! A job that runs has shown what it takes: its measured peak corrects the formulas, and says how much further it can go.

use std::fmt::Write;

use crate::model::{
    architecture::Architecture,
    estimate::GpuCapacity,
    knobs::{Knob, Knobs, Origin, Value},
};

use super::{Job, most, peak, resolve};

/// A prediction this far from the measured peak is of another job: sharded, offloaded, or with settings nobody told.
const BELIEVED: std::ops::RangeInclusive<f64> = 0.6..=1.3;
/// Kept free: the allocator's blocks fall differently at each length.
const MARGIN: f64 = 0.03;

/// What was seen of a running job on one card, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// The most that the job held on the card.
    pub peak: u64,
    /// What it could hold: the card without what others have.
    pub room: u64,
    pub card: u64,
    /// Tokens of the longest completion so far, where the log tells.
    pub longest_completion: Option<u64>,
}

/// How far a running job can go: the largest length and batch that still fit by the corrected formulas.
#[derive(Clone, Debug, PartialEq)]
pub struct Headroom {
    /// Measured over predicted, of the pool.
    pub correction: f64,
    /// The largest value that fits and the one that is set.
    pub largest: Vec<(Knob, u64, u64)>,
}

/// Corrects the estimate by what was measured. `None` where the two do not tell of the same job.
pub fn headroom(model: &Architecture, given: &Knobs, seen: &Watched) -> Option<Headroom> {
    if model.tower {
        return None;
    }
    let (knobs, _) = resolve(given);
    let job = Job::new(model.clone(), &knobs);
    let capacity = GpuCapacity { capacity_bytes: seen.card, from: "this card".into() };
    let with = |knob: Knob, value: u64| {
        let mut changed = knobs.clone();
        changed.put(knob, Value::Int(value.cast_signed()), Origin::Set);
        peak(model, &changed, Some(&capacity))
    };
    let length = if job.completion > 0 { Knob::MaxCompletionLength } else { Knob::SequenceLength };
    let now = knobs.u64(length)?;
    // Nobody knows how much of a limit was needed yet, unless the log tells it or the rows are filled up.
    let reached =
        if job.completion > 0 { seen.longest_completion.filter(|l| *l > 0).map(|l| l.min(now)) } else { None };
    let is_full = knobs.bool(Knob::Packing) == Some(true);
    let so_far = with(length, reached.unwrap_or(now));
    let outside = so_far.device_bytes.saturating_sub(so_far.reserved_bytes) as f64;
    let measured = (seen.peak as f64 - outside) / (so_far.reserved_bytes as f64).max(1.0);
    if !BELIEVED.contains(&measured) {
        return None;
    }
    let correction = if reached.is_some() || is_full { measured } else { measured.max(1.0) };
    let fits = |knob: Knob, value: u64| {
        let p = with(knob, value);
        let outside = p.device_bytes.saturating_sub(p.reserved_bytes) as f64;
        (p.reserved_bytes as f64 * correction).mul_add(1.0 + MARGIN, outside) <= seen.room as f64
    };
    let wanted: &[Knob] =
        if job.completion > 0 { &[Knob::MaxCompletionLength] } else { &[length, Knob::PerDeviceTrainBatchSize] };
    let largest: Vec<(Knob, u64, u64)> =
        wanted.iter().filter_map(|knob| Some((*knob, most(|value| fits(*knob, value))?, knobs.u64(*knob)?))).collect();
    (!largest.is_empty()).then_some(Headroom { correction, largest })
}

impl Headroom {
    /// Whether what is set may need more than there is.
    pub fn is_short(&self) -> bool {
        self.largest.iter().any(|(_, most, now)| most < now)
    }

    /// `completions up to about 900 tokens still fit`.
    pub fn sentence(&self) -> String {
        let mut text = String::new();
        for (knob, most, now) in &self.largest {
            let (what, unit) = match knob {
                Knob::MaxCompletionLength => ("completions", " tokens"),
                Knob::SequenceLength => ("sequences", " tokens"),
                _ => ("batches", ""),
            };
            let most = if unit.is_empty() { *most } else { about(*most) };
            if self.is_short() {
                if most < *now && text.is_empty() {
                    let word = if unit.is_empty() { "of more than" } else { "longer than about" };
                    let _ = write!(text, "{what} {word} {most}{unit} may not fit: {} is {now}", knob.as_str());
                }
            } else {
                let word = if unit.is_empty() { "of up to" } else { "up to about" };
                let _ = write!(text, "{}{what} {word} {most}{unit}", if text.is_empty() { "" } else { ", or " });
            }
        }
        if !self.is_short() {
            text += " still fit";
        }
        text
    }
}

/// Two figures that count, rounded down.
fn about(value: u64) -> u64 {
    let unit = 10u64.pow(value.max(1).ilog10().saturating_sub(1));
    value / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::models;

    const GIB: f64 = 1_073_741_824.0;

    fn knobs(settings: &str) -> Knobs {
        let mut knobs = Knobs::default();
        for setting in settings.split_whitespace() {
            let (knob, value) = setting.split_once('=').unwrap();
            knobs.put(knob.parse().unwrap(), Value::guess(value), Origin::Set);
        }
        knobs
    }

    fn check(settings: &str, room: f64, of_predicted: f64, reached: Option<u64>) -> Option<Headroom> {
        let model = models::find("Qwen/Qwen2.5-1.5B").unwrap();
        let knobs = knobs(settings);
        let mut at = knobs.clone();
        if let Some(length) = reached {
            at.put(Knob::MaxCompletionLength, Value::Int(length.cast_signed()), Origin::Set);
        }
        let p = peak(&model, &at, None);
        let outside = (p.device_bytes - p.reserved_bytes) as f64;
        let peak = (p.reserved_bytes as f64).mul_add(of_predicted, outside) as u64;
        let room = (room * GIB) as u64;
        headroom(&model, &knobs, &Watched { peak, room, card: room, longest_completion: reached })
    }

    const GRPO: &str = "method=grpo dtype=bfloat16 optimizer=adamw_8bit per_device_train_batch_size=16 \
                        num_generations=8 prompt_length=256 max_completion_length=1024 lora_rank=16";

    #[test]
    fn completions_have_room_as_far_as_the_measured_peak_says() {
        let as_predicted = check(GRPO, 40.0, 1.0, Some(400)).unwrap();
        let (_, most, now) = as_predicted.largest[0];
        assert!(now == 1024 && most > 1024, "{as_predicted:?}");
        assert_eq!(as_predicted.sentence(), format!("completions up to about {} tokens still fit", about(most)));
        // A job that needs a tenth more than predicted can go less far; one that needs less, further.
        let more = check(GRPO, 40.0, 1.1, Some(400)).unwrap().largest[0].1;
        let less = check(GRPO, 40.0, 0.9, Some(400)).unwrap().largest[0].1;
        assert!(more < most && most < less, "{more} {most} {less}");
        // Where nobody knows how long the completions were, a low peak proves nothing.
        assert_eq!(check(GRPO, 40.0, 0.8, None).unwrap().largest[0].1, most);
    }

    #[test]
    fn a_limit_that_will_not_be_reached_is_told() {
        let short = check(GRPO, 9.0, 1.05, Some(200)).unwrap();
        assert!(short.is_short());
        let text = short.sentence();
        assert!(text.starts_with("completions longer than about "), "{text}");
        assert!(text.ends_with(" tokens may not fit: max_completion_length is 1024"), "{text}");
    }

    #[test]
    fn supervised_runs_are_told_length_and_batch() {
        let sft = "method=sft dtype=bfloat16 per_device_train_batch_size=4 sequence_length=1024 optimizer=adamw_8bit";
        let text = check(sft, 40.0, 1.02, None).unwrap().sentence();
        assert!(text.starts_with("sequences up to about ") && text.contains(" tokens, or batches of up to "), "{text}");
        // Half or twice the prediction is another job.
        assert_eq!(check(sft, 40.0, 0.5, None), None);
        assert_eq!(check(sft, 80.0, 1.6, None), None);
    }

    #[test]
    fn two_figures_count() {
        assert_eq!([7, 99, 934, 1000, 12_345].map(about), [7, 99, 930, 1000, 12_000]);
    }
}
