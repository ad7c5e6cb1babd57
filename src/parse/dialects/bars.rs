//! Metrics that stand on progress bars: Lightning, kohya, diffusers, OpenRLHF (tqdm's postfix), torchtune, Keras.
//!
//! A bar is drawn many times for one step: its last frame is the point.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use regex::Regex;

use crate::{
    model::{Clean, metric::Point},
    parse::{files::keys, metrics::At},
};

use super::{
    generic::LOSS_LIKE,
    pairs::{self, Number, Style},
};

static TQDM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?<name>[^|%]*?):?\s*\d+%\|[^|]*\|\s*(?<done>[\d.]+[kMGT]?)/(?<total>[\d.]+[kMGT]?) \[[^\],]*(?:, *[^,\]]*(?:it/s|s/it|/s|ba/s)[^,\]]*)?(?:, (?<rest>[^\]]*))?\]").expect("tested")
});
/// A bar without a total: `Epoch 2: : 17671it [1:05:34,  4.49it/s, loss=2.15]`.
static ENDLESS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?<name>[^|%]*?)[: ]*(?<done>\d+)it \[[^\],]*, *[^,\]]*(?:it/s|s/it)(?:, (?<rest>[^\]]*))?\]")
        .expect("tested")
});
/// Lightning's rich bar: `Epoch 3/9  ━━━━ 500/500 0:01:02 • 0:00:00 8.05it/s v_num: 0.000 train_loss: 0.512`.
static RICH: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*Epoch (?<epoch>\d+)/\S+\s+[━╸╺─ ]+\s*(?<done>\d+)/(?<total>\d+)\s+[\d:\-]+ • [\d:\-]+\s+[\d.]+it/s\s*(?<rest>.*)$").expect("tested")
});
static EPOCH_NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)epoch\D{0,3}(?<epoch>\d+)").expect("tested"));
static TORCHTUNE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*(?<epoch>\d+)\|(?<step>\d+)\|Loss: (?<loss>[-\w.+]+?):").expect("tested"));
static KERAS_EPOCH: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^Epoch (?<epoch>\d+)/(?<epochs>\d+)\s*$").expect("tested"));
static KERAS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?<done>\d+)/(?<total>\d+|Unknown)\s+(?:\[[=>.]*\]\s+-|[━╸─╺ ]+|-)?\s*(?:[\d:hms]+\s+)?(?:-\s+)?(?:[\d.]+[mun]?s/(?:step|epoch|sample)\s+)?-\s+(?<rest>\w[\w ]*: .*)$").expect("tested")
});
/// torchtune's name; what is measured; a bar's rate. Built once, for every frame of every log is searched.
static WORDS: LazyLock<(Finder<'_>, [Finder<'_>; 2], [Finder<'_>; 2])> =
    LazyLock::new(|| (Finder::new("|Loss: "), ["oss", "acc"].map(Finder::new), ["it/s", "s/it"].map(Finder::new)));
/// Batches of epochs whose length nobody knows before they end.
#[derive(Debug, Default)]
struct Endless {
    /// Epoch and its last count; batches of the epochs before it, if the first one was seen.
    last: Option<(u64, u64)>,
    before: Option<u64>,
}

impl Endless {
    fn step(&mut self, epoch: Option<u64>, done: u64) -> Option<u64> {
        let epoch = epoch?;
        match self.last {
            None => self.before = (epoch == 0).then_some(0),
            Some((last, count)) if epoch == last + 1 => self.before = self.before.and_then(|b| b.checked_add(count)),
            Some((last, _)) if epoch != last => self.before = (epoch == 0).then_some(0),
            Some(_) => {}
        }
        self.last = Some((epoch, done));
        self.before?.checked_add(done)
    }
}

/// The bar that is being drawn.
#[derive(Debug, Default)]
pub struct Bars {
    /// Point of the newest frame, and what tells its step from the next one's.
    open: Option<(Point, (u64, u64))>,
    keras_epoch: Option<f64>,
    endless: Endless,
    /// The step whose point was given out while the bar stood still.
    given: Option<(u64, u64)>,
    pub dialect: Option<&'static str>,
}

impl Bars {
    /// Whether a frame can hold metrics; asked of every frame of every log.
    pub fn may(&self, frame: &[u8]) -> bool {
        let has = |word: &Finder<'_>| word.find(frame).is_some();
        let postfix = memchr::memchr2(b'=', b'{', frame).is_some() && memchr::memchr(b'[', frame).is_some();
        postfix
            || self.keras_epoch.is_some() && memchr::memchr(b'/', frame).is_some()
            || frame.trim_ascii_start().starts_with(b"Epoch ")
            || has(&WORDS.0)
            || WORDS.1.iter().any(has) && WORDS.2.iter().any(has)
    }

    /// Reads one frame; `give` gets the point of a step when the next step begins.
    pub fn frame(&mut self, text: &str, at: At, give: &mut dyn FnMut(Point)) -> bool {
        if let Some(c) = KERAS_EPOCH.captures(text) {
            self.close(give);
            self.keras_epoch = c.name("epoch").and_then(|m| m.as_str().parse().ok());
            return true;
        }
        if self.keras_epoch.is_some()
            && let Some(c) = KERAS.captures(text)
        {
            self.dialect = Some("Keras");
            let rest = c.name("rest").map_or("", |m| m.as_str());
            let mut point = point(at, &pairs::read(rest, Style::Colon));
            point.epoch = self.keras_epoch;
            self.draw(point, (self.keras_epoch.unwrap_or(0.0) as u64, 0), give);
            return true;
        }
        if let Some(c) = TORCHTUNE.captures(text) {
            self.dialect = Some("torchtune");
            let number = |name: &str| c.name(name).and_then(|m| m.as_str().parse::<u64>().ok());
            let Some(loss) = c.name("loss").and_then(|m| pairs::number(m.as_str())) else { return false };
            let mut point = point(at, &[("loss".to_string(), loss)]);
            point.epoch = number("epoch").map(|e| e as f64);
            point.step = number("step");
            let key = (0, point.step.unwrap_or(0));
            self.draw(point, key, give);
            return true;
        }
        if let Some(c) = RICH.captures(text) {
            let number = |name: &str| c.name(name).and_then(|m| m.as_str().parse::<u64>().ok()).unwrap_or(0);
            let mut found = pairs::read(c.name("rest").map_or("", |m| m.as_str()), Style::Colon);
            found.retain(|(name, _)| name != "v_num");
            let (epoch, done) = (number("epoch"), number("done"));
            if found.is_empty() || done == 0 {
                return true;
            }
            let mut point = point(at, &found);
            point.epoch = Some(epoch as f64);
            point.step = Some(epoch * number("total") + done);
            point.step_guessed = true;
            self.dialect = Some("Lightning");
            self.draw(point, (epoch, done), give);
            return true;
        }
        let Some(c) = TQDM.captures(text).or_else(|| ENDLESS.captures(text)) else { return false };
        let name = c.name("name").map_or("", |m| m.as_str());
        if crate::parse::bar::is_other_work(name.as_bytes()) {
            return false;
        }
        let rest = c.name("rest").map_or("", |m| m.as_str());
        let style = if rest.starts_with('{') { Style::Dict } else { Style::Postfix };
        let mut found = pairs::read(rest, style);
        if rest.is_empty() && LOSS_LIKE.is_match(name) {
            // `set_description(f"loss: {loss}")`.
            found = pairs::read(name, if name.contains('=') { Style::Equals } else { Style::Colon });
            found.retain(|(n, _)| LOSS_LIKE.is_match(n));
        }
        found.retain(|(n, _)| n != "v_num");
        if !found.iter().any(|(n, _)| LOSS_LIKE.is_match(n)) {
            return false;
        }
        let number = |name: &str| c.name(name).and_then(|m| count(m.as_str())).unwrap_or(0);
        let (done, total) = (number("done"), number("total"));
        if done == 0 {
            return true;
        }
        // `[1/3]` counts from one.
        let base = u64::from(name.contains('['));
        let epoch = EPOCH_NAME.captures(name).and_then(|c| c.name("epoch")?.as_str().parse::<u64>().ok());
        let mut point = point(at, &found);
        point.epoch = epoch.map(|e| e as f64);
        point.step = match epoch {
            None => Some(done),
            Some(_) if total == 0 => self.endless.step(epoch, done),
            Some(e) => e.saturating_sub(base).checked_mul(total).and_then(|before| before.checked_add(done)),
        };
        point.step_guessed = epoch.is_some() && point.step.is_some();
        self.dialect = Some(if epoch.is_some() { "Lightning" } else { "tqdm" });
        self.draw(point, (epoch.unwrap_or(0), done), give);
        true
    }

    fn draw(&mut self, point: Point, key: (u64, u64), give: &mut dyn FnMut(Point)) {
        if self.open.as_ref().is_some_and(|(_, k)| *k != key) {
            self.close(give);
        }
        if self.given == Some(key) {
            return;
        }
        match &mut self.open {
            // A redraw without its postfix says less than the one before.
            Some((open, _)) if open.raw.len() > point.raw.len() => {}
            open => *open = Some((point, key)),
        }
    }

    /// Takes away the point of the bar that is being drawn if `other` is the same one, printed in full.
    pub fn same_as(&mut self, other: &Point) -> Option<Point> {
        let loss = |p: &Point| p.canonical.iter().find(|(n, _)| *n == "loss").map(|(_, v)| v.to_bits());
        let same = |open: &Point| {
            open.step.is_some() && open.step == other.step && loss(open).is_some() && loss(open) == loss(other)
        };
        if self.open.as_ref().is_some_and(|(open, _)| same(open)) {
            self.open.take().map(|(open, _)| open)
        } else {
            None
        }
    }

    /// The bar stands still: its step's point is whole, unless the bar's numbers are an epoch's.
    pub fn quiet(&mut self, give: &mut dyn FnMut(Point)) {
        if self.keras_epoch.is_none()
            && let Some((point, key)) = self.open.take()
        {
            self.given = Some(key);
            give(point);
        }
    }

    /// The bar is not drawn any more.
    pub fn close(&mut self, give: &mut dyn FnMut(Point)) {
        if let Some((point, _)) = self.open.take() {
            give(point);
        }
    }
}

/// `250`, or `1.25k` where the bar scales its unit.
fn count(text: &str) -> Option<u64> {
    let (number, factor) = match text.char_indices().last()? {
        (at, 'k') => (text.get(..at)?, 1e3),
        (at, 'M') => (text.get(..at)?, 1e6),
        (at, 'G') => (text.get(..at)?, 1e9),
        (at, 'T') => (text.get(..at)?, 1e12),
        _ => return text.parse().ok(),
    };
    number.parse::<f64>().ok().map(|n| (n * factor).round() as u64)
}

fn point(at: At, found: &[(String, Number)]) -> Point {
    let mut point = at.point();
    for (name, number) in found {
        if let Some((to, factor)) = keys::canonical_name(name)
            && !point.canonical.iter().any(|(c, _)| *c == to)
        {
            point.canonical.push((to, super::in_units(to, number) * factor));
        }
        point.raw.push((Clean::new(name), number.value));
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frames: &[&str], want: &[(Option<u64>, Option<f64>, f64)]) {
        let mut bars = Bars::default();
        let mut got = Vec::new();
        for frame in frames {
            bars.frame(frame, At::default(), &mut |p| got.push(p));
        }
        bars.close(&mut |p| got.push(p));
        let loss = |p: &Point| p.canonical.iter().find(|(n, _)| *n == "loss").map_or(f64::NAN, |(_, v)| *v);
        let got: Vec<_> = got.iter().map(|p| (p.step, p.epoch, loss(p))).collect();
        assert_eq!(got, want, "{frames:?}");
    }

    #[test]
    fn the_last_frame_of_a_step_is_its_point() {
        check(
            &[
                "Epoch 0:   1%|          | 1/100 [00:01<01:40,  1.00it/s, v_num=3hqp]",
                "Epoch 0:   1%|          | 1/100 [00:01<01:40,  1.00it/s, v_num=3hqp, loss=2.50]",
                "Epoch 0:   2%|          | 2/100 [00:02<01:39,  1.00it/s, v_num=3hqp, loss=2.25]",
            ],
            &[(Some(1), Some(0.0), 2.5), (Some(2), Some(0.0), 2.25)],
        );
        check(&["Steps:   2%|▏ | 10/500 [00:30<20:00, 2.45s/it, loss=0.123, lr=0.0001]"], &[(Some(10), None, 0.123)]);
        check(&["Epoch 2: : 17671it [1:05:34,  4.49it/s, loss=2.15]"], &[(None, Some(2.0), 2.15)]);
        check(
            &["Epoch 3/9  ━━━━━━━━━━ 250/500 0:00:31 • 0:00:31 8.05it/s v_num: 0.000 train_loss: 0.625"],
            &[(Some(1750), Some(3.0), 0.625)],
        );
        check(&["steps:   5%|██ | 891/17824 [22:00<6:58:00,  1.49s/it, avr_loss=0.125]"], &[(Some(891), None, 0.125)]);
        check(
            &["1|25|Loss: 1.45:  10%|█ | 25/250 [00:10<01:30]", "1|25|Loss: 1.45:  10%|█ | 25/250 [00:10<01:30]"],
            &[(Some(25), Some(1.0), 1.45)],
        );
    }

    #[test]
    fn keras_counts_epochs() {
        check(
            &[
                "Epoch 1/5",
                " 100/1875 [>.............................] - ETA: 5s - loss: 1.5 - accuracy: 0.5",
                "1875/1875 [==============================] - 5s 3ms/step - loss: 0.5 - accuracy: 0.9",
                "Epoch 2/5",
                "1875/1875 ━━━━━━━━━━━━━━━━━━━━ 2s 1ms/step - accuracy: 0.95 - loss: 0.25 - val_loss: 0.3",
            ],
            &[(None, Some(1.0), 0.5), (None, Some(2.0), 0.25)],
        );
    }

    #[test]
    fn bars_without_metrics_are_left_to_others() {
        let mut bars = Bars::default();
        assert!(!bars.frame("  2%|▏ | 10/500 [00:30<20:00, 2.45s/it]", At::default(), &mut |_| {}));
        assert!(!bars.frame(
            "Validation DataLoader 0:  2%|▏ | 1/5 [00:01<00:04, 1.0it/s, loss=1]",
            At::default(),
            &mut |_| {}
        ));
    }
}
