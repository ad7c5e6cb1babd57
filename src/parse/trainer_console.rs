//! The console of transformers' Trainer and of everything built upon it: dictionary lines between the frames of a bar.
//!
//! The lines carry no step. `tqdm.write` blanks the bar, prints the line and draws the bar again, with the step that the
//! trainer has reached; a print leaves only the bar before it. Frames are drawn ten times a second at most, so the one
//! before a line may be old.

use std::sync::Arc;

use crate::model::metric::{Head, PointKind, Progress, Shape};

use super::{
    bar::{Bar, progress},
    dict_line::{DictLines, Line},
    metrics::{At, Record, push_row},
};

/// Reads frames: what stands between line breaks and carriage returns.
#[derive(Debug, Default)]
pub struct TrainerConsole {
    lines: DictLines,
    /// The training's bar, and another one that was seen last.
    training: Option<Counts>,
    times: Vec<u8>,
    other: Option<Counts>,
    total_steps: Option<u64>,
    /// A bar was just blanked for a line.
    blanked: bool,
    /// A row that waits for the bar to be drawn again.
    pending: Option<Pending>,
    /// Its values, and room for those of the line that is being read.
    waiting: Vec<f64>,
    scratch: Vec<f64>,
    points: u64,
    finished: bool,
    dialect: Option<&'static str>,
    /// The rank that the prefix of the line names.
    rank: Option<u32>,
}

#[derive(Debug)]
struct Pending {
    line: Arc<Line>,
    head: Head,
    /// What the bar said before.
    before: Option<u64>,
}

/// Twice the time between two frames of a bar at the least (tqdm's `mininterval` is 0.1 s).
const FRAME_SECONDS: f64 = 0.2;

#[derive(Clone, Copy, Debug)]
struct Counts {
    done: u64,
    total: u64,
}

impl TrainerConsole {
    /// Reads one frame without colours; false if nothing in it was understood.
    pub fn frame(&mut self, frame: &[u8], at: At, out: &mut Vec<Record>) -> bool {
        let mut rest = frame.trim_ascii();
        if rest.is_empty() {
            self.blank(frame.len());
            return true;
        }
        let mut understood = false;
        while !rest.is_empty() {
            let dict = memchr::memchr_iter(b'{', rest).find(|at| rest.get(at + 1) == Some(&b'\''));
            let before = dict.unwrap_or(rest.len());
            self.rank = at.rank.or_else(|| rank_of(&rest[..before]));
            understood |= before > 0 && self.before(&rest[..before], out);
            let Some(dict) = dict else { break };
            let Some(length) = self.dict(&rest[dict..], at, out) else { break };
            understood = true;
            rest = rest[dict + length..].trim_ascii_start();
        }
        understood
    }

    /// Bars and banners.
    fn before(&mut self, text: &[u8], out: &mut Vec<Record>) -> bool {
        self.bars(text, out) || memchr::memchr(b'=', text).is_some() && self.banner(text)
    }

    /// Reads the bars of a frame, and nothing else.
    pub fn bars(&mut self, mut text: &[u8], out: &mut Vec<Record>) -> bool {
        let mut understood = false;
        while let Some(bar) = Bar::find(text) {
            self.bar(&bar, out);
            // CR lost: the next frame, or the blanks that tqdm.write draws over the bar.
            text = &text[bar.length..];
            self.blanked = text.len() > 8 && text.iter().all(|b| *b == b' ');
            understood = true;
        }
        understood
    }

    /// `  Total optimization steps = 1,250`.
    fn banner(&mut self, text: &[u8]) -> bool {
        // transformers and Unsloth.
        const BANNERS: [&[u8]; 2] = [b"Total optimization steps = ", b"Total steps = "];
        let place = BANNERS.iter().find_map(|banner| Some(memchr::memmem::find(text, banner)? + banner.len()));
        let Some(place) = place else { return false };
        let digits = text[place..].iter().take_while(|b| b.is_ascii_digit() || **b == b',');
        let add = |n: u64, b: &u8| n.saturating_mul(10).saturating_add(u64::from(b - b'0'));
        let total = digits.filter(|b| **b != b',').fold(0, add);
        self.total_steps = Some(total).filter(|n| *n > 0);
        true
    }

    /// Takes a bar that is a whole frame.
    pub fn plain_bar(&mut self, bar: &Bar<'_>, out: &mut Vec<Record>) {
        self.bar(bar, out);
        self.blanked = false;
    }

    fn bar(&mut self, bar: &Bar<'_>, out: &mut Vec<Record>) {
        if !bar.can_be_training() {
            return;
        }
        let same = self.training.is_none_or(|known| known.total == bar.total);
        let counts = Counts { done: bar.done, total: bar.total };
        if same {
            self.training = Some(counts);
            self.times.clear();
            self.times.extend_from_slice(bar.times);
            self.other = None;
            // A bar that counts an epoch's batches does not count the run's.
            if !bar.name.to_ascii_lowercase().windows(5).any(|word| word == b"epoch") {
                self.total_steps = Some(bar.total);
            }
        } else {
            self.other = Some(counts);
        }
        if let Some(mut pending) = self.pending.take() {
            // The bar before the line may be old only where steps are faster than frames are drawn.
            let slow = progress(bar.done, bar.total, bar.times).seconds_per_step.is_some_and(|s| s >= FRAME_SECONDS);
            if same && slow && pending.head.step.is_none() {
                pending.head.step = pending.before;
                pending.head.step_guessed = true;
            }
            self.give_waiting(&pending, out);
        }
    }

    /// One dictionary; `None` if it is none of a trainer's.
    fn dict(&mut self, text: &[u8], at: At, out: &mut Vec<Record>) -> Option<usize> {
        let mut values = std::mem::take(&mut self.scratch);
        values.clear();
        let read = self.lines.read(text, &mut values).filter(|(_, line)| line.of_trainer && !values.is_empty());
        let read = read.map(|(length, line)| (length, Arc::clone(line)));
        if let Some((length, line)) = &read {
            let at = At { rank: self.rank, ..at };
            self.row(line, text.get(..*length).unwrap_or_default(), &values, at, out);
        }
        self.scratch = values;
        read.map(|(length, _)| length)
    }

    /// Takes a trainer's dictionary that was read.
    pub fn row(&mut self, line: &Arc<Line>, text: &[u8], values: &[f64], at: At, out: &mut Vec<Record>) {
        self.settle(out);
        let mut head = line.shape.head(values);
        (head.line, head.byte, head.rank, head.time) = (at.line, at.byte, at.rank, at.time);
        if line.says_total
            && let Some((step, total)) = step_of_total(text)
        {
            head.step = Some(step);
            self.total_steps = Some(total);
        }
        if line.shape.kind == PointKind::Train && self.dialect.is_none() {
            self.dialect = Some(dialect(&line.shape));
        }
        if std::mem::take(&mut self.blanked) && head.step.is_none() && self.training.is_some() {
            let before = self.training.map(|counts| counts.done);
            self.waiting.clear();
            self.waiting.extend_from_slice(values);
            self.pending = Some(Pending { line: Arc::clone(line), head, before });
        } else {
            self.give(line, head, values, out);
        }
    }

    /// A frame of nothing but this many blanks.
    pub fn blank(&mut self, length: usize) {
        self.blanked |= length > 8;
    }

    fn give(&mut self, line: &Arc<Line>, mut head: Head, values: &[f64], out: &mut Vec<Record>) {
        let kind = line.shape.kind;
        if kind == PointKind::Train && (self.points == 0 || self.finished) && self.other.is_some() {
            // The first bar was some other work, or another run's: points are logged beside this one.
            self.training = self.other.take();
            self.total_steps = self.training.map(|p| p.total);
            self.times.clear();
        }
        if head.step.is_none() {
            head.step = self.training.map(|p| p.done);
            head.step_guessed = head.step.is_some();
        }
        self.points += u64::from(kind == PointKind::Train);
        self.finished = kind == PointKind::Final;
        push_row(out, &line.shape, head, values);
    }

    fn give_waiting(&mut self, pending: &Pending, out: &mut Vec<Record>) {
        let values = std::mem::take(&mut self.waiting);
        self.give(&pending.line, pending.head, &values, out);
        self.waiting = values;
    }

    /// Gives out the point that waits for its step.
    pub fn settle(&mut self, out: &mut Vec<Record>) {
        if let Some(pending) = self.pending.take() {
            self.give_waiting(&pending, out);
        }
    }

    pub fn total_steps(&self) -> Option<u64> {
        self.total_steps
    }

    pub fn progress(&self) -> Option<Progress> {
        self.training.map(|counts| progress(counts.done, counts.total, &self.times))
    }

    /// Points of the training so far.
    pub fn points(&self) -> u64 {
        self.points
    }

    pub fn dialect(&self) -> Option<&'static str> {
        self.dialect
    }
}

/// The rank that stands right before a dictionary, after a bar: `… 1.65s/it][rank1]:{'loss': …`.
fn rank_of(before: &[u8]) -> Option<u32> {
    let start = memchr::memrchr(b'[', before)?;
    super::prefix::find(&before[start..]).rank
}

/// The step and the total that ms-swift puts into one value.
fn step_of_total(dict: &[u8]) -> Option<(u64, u64)> {
    const KEY: &[u8] = b"global_step/max_steps";
    let at = memchr::memmem::find(dict, KEY)? + KEY.len();
    let text = std::str::from_utf8(dict.get(at..(at + 60).min(dict.len()))?).ok()?;
    let (step, rest) = text.trim_start_matches(['\'', '"', ':', ' ']).split_once('/')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((step.parse().ok()?, rest[..end].parse().ok()?))
}

fn dialect(shape: &Shape) -> &'static str {
    let has = |name: &str| shape.names.iter().any(|key| key.as_str().starts_with(name));
    if has("objective/") {
        "trl-ppo"
    } else if has("rewards/chosen") {
        "trl-dpo"
    } else if has("completions/") || has("completion_length") || has("reward_std") {
        "trl-grpo"
    } else if has("mean_token_accuracy") {
        "trl-sft"
    } else {
        "hf-trainer"
    }
}

#[cfg(test)]
mod tests {
    use crate::parse::metrics::{Reader, points};

    /// Kind, step and segment of each point, in any chunking.
    fn check(log: &str, want: &str, total: Option<u64>) {
        for chunk in [1, 7, log.len()] {
            let (mut reader, mut out) = (Reader::default(), Vec::new());
            log.as_bytes().chunks(chunk).for_each(|part| reader.feed(part, &mut out));
            reader.finish(&mut out);
            let seen: Vec<String> = points(out)
                .map(|p| format!("{:?} {:?} {}", p.kind, p.step.map_or(-1, |s| s as i64), p.segment))
                .collect();
            assert_eq!(seen.join(", "), want, "{log:?} by {chunk}");
            assert_eq!(reader.total_steps(), total, "{log:?}");
        }
    }

    #[test]
    fn steps_come_from_the_bar_that_is_drawn_again() {
        // Fast steps: the frame before the line is old.
        check(
            "\r  0%|  | 0/20 [00:00<?, ?it/s]\r                    \r{'loss': 2.0, 'epoch': 0.1}\n\r 10%|# | 2/20 [00:00<00:01, 9it/s]\r 20%|# | 4/20 [00:00<00:01, 9it/s]",
            "Train 2 0",
            Some(20),
        );
        // Printed without tqdm: the frame after the line is a later step's.
        check(
            " 10%|# | 2/20 [00:00<00:01, 9it/s]\n{'loss': '2.0', 'epoch': '0.1'}\n 20%|# | 4/20 [00:00<00:01, 9it/s]\n{'loss': '1.0', 'epoch': '0.2'}\n",
            "Train 2 0, Train 4 0",
            Some(20),
        );
        // No bar, no step.
        check("{'loss': 2.0, 'epoch': 0.1}\n", "Train -1 0", None);
        // A collector that drops carriage returns.
        check(
            "  0%|  | 0/20 [00:00<?, ?it/s]                    {'loss': 2.0, 'epoch': 0.1} 10%|# | 2/20 [00:00<00:01, 9it/s]\n",
            "Train 2 0",
            Some(20),
        );
    }

    #[test]
    fn other_bars_are_not_the_run() {
        check(
            "Map: 100%|##| 500/500 [00:01<00:00, 9it/s]\n 50%|# | 5/10 [00:00<00:01, 9it/s]\n{'loss': 1, 'epoch': 1}\n\r  0%|  | 0/800 [00:00<?, ?it/s]\r 50%|# | 400/800 [00:00<?, ?it/s]\n{'eval_loss': 1, 'epoch': 1}\n",
            "Train 5 0, Eval 5 0",
            Some(10),
        );
        // A bar without a name that was no training.
        check(
            "\r  0%|  | 0/7 [00:00<?, ?it/s]\r 50%|# | 3/7 [00:00<?, ?it/s]\n 10%|# | 1/10 [00:00<00:01, 9it/s]\n{'loss': 1, 'epoch': 1}\n",
            "Train 1 0",
            Some(10),
        );
    }

    #[test]
    fn a_second_run_is_another_segment() {
        check(
            "100%|##| 2/2 [00:00<?, 9it/s]\n{'loss': 1, 'epoch': 1}\n{'train_runtime': 5, 'train_loss': 1, 'epoch': 1}\n  0%|  | 0/4 [00:00<?, ?it/s]\n 50%|# | 2/4 [00:00<?, 9it/s]\n{'loss': 1, 'epoch': 1}\n",
            "Train 2 0, Final 2 0, Train 2 1",
            Some(4),
        );
        check(
            "{'loss': 1, 'epoch': 1}\n{'loss': 1, 'epoch': 2}\n{'loss': 1, 'epoch': 1.5}\n",
            "Train -1 0, Train -1 0, Train -1 1",
            None,
        );
    }

    #[test]
    fn prefixes_and_colours_do_not_hide_a_line() {
        check(
            "[rank0]:{'loss': 2.0, 'epoch': 0.1}\n\x1b[A\x1b[32m{'eval_loss': 2.0}\x1b[0m\n",
            "Train -1 0, Eval -1 0",
            None,
        );
        check("{'a': 1}\n{'lr': 0.1, 'seed': 3}\nConfig {'loss_type': 'grpo'}\n", "", None);
        check("  Total optimization steps = 1,250\n", "", Some(1250));
    }
}
