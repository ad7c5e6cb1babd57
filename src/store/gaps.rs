//! What a recording lacks: one row for each stretch and reason, with what was lost so far. A row is written when the
//! stretch begins, now and then while it lasts, and when it is over; a recording that is full does not grow by telling so.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::model::Clean;

use super::database::Gap;

/// Rows of stretches that go on are written again after this long.
const AGAIN: Duration = Duration::from_secs(10);
/// Losses this close together are one stretch.
const TOGETHER: Duration = Duration::from_secs(10);

/// Why something is not written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// More came than the recorder could take in.
    Behind,
    /// The recording, or its disk, may not be filled any more.
    Full,
    /// The disk refuses what is written.
    Disk,
    /// Old looks at memory were taken out to make room.
    Thinned,
}

#[derive(Debug)]
struct Stretch {
    why: Why,
    gap: Gap,
    began: Instant,
    /// When it last grew.
    grew: Instant,
    written: Option<Instant>,
    /// Told otherwise than it was last written.
    changed: bool,
    over: bool,
}

/// The stretches that go on, and those that are over and not written yet.
#[derive(Debug, Default)]
pub struct Gaps {
    stretches: Vec<Stretch>,
    numbers: i64,
}

impl Gaps {
    /// Nothing is written from now on; no new stretch where one for the same cause goes on.
    pub fn begin(&mut self, why: Why, at: Timestamp, reason: &str) {
        if self.open(why).is_none() {
            self.numbers += 1;
            let gap = Gap { number: self.numbers, at, events: 0, bytes: 0, reason: Clean::new(reason) };
            let now = Instant::now();
            self.stretches.push(Stretch { why, gap, began: now, grew: now, written: None, changed: true, over: false });
        }
    }

    /// So much is lost. `reason` is used where a stretch begins with it.
    pub fn lose(&mut self, why: Why, at: Timestamp, events: u64, bytes: u64, reason: &str) {
        self.begin(why, at, reason);
        if let Some(stretch) = self.open(why) {
            stretch.gap.events = stretch.gap.events.saturating_add(events);
            stretch.gap.bytes = stretch.gap.bytes.saturating_add(bytes);
            (stretch.changed, stretch.grew) = (true, Instant::now());
        }
    }

    /// It goes on as it should. `reason` makes of the seconds that it lasted what is kept of it.
    pub fn end(&mut self, why: Why, reason: impl FnOnce(u64) -> String) {
        if let Some(stretch) = self.open(why) {
            stretch.gap.reason = Clean::new(&reason(stretch.began.elapsed().as_secs()));
            (stretch.changed, stretch.over) = (true, true);
        }
    }

    fn open(&mut self, why: Why) -> Option<&mut Stretch> {
        self.stretches.iter_mut().find(|stretch| stretch.why == why && !stretch.over)
    }

    /// The rows to write now; `all` of them where it is for the last time.
    pub fn due(&mut self, all: bool) -> Vec<Gap> {
        for stretch in &mut self.stretches {
            stretch.over |= stretch.why == Why::Behind && stretch.grew.elapsed() > TOGETHER;
        }
        let is_due = |s: &&Stretch| s.changed && (all || s.over || s.written.is_none_or(|at| at.elapsed() > AGAIN));
        self.stretches.iter().filter(is_due).map(|stretch| stretch.gap.clone()).collect()
    }

    /// These rows are on the disk.
    pub fn wrote(&mut self, rows: &[Gap]) {
        for stretch in &mut self.stretches {
            if rows.contains(&stretch.gap) {
                (stretch.changed, stretch.written) = (false, Some(Instant::now()));
            }
        }
        self.stretches.retain(|stretch| !stretch.over || stretch.changed);
    }

    /// Every stretch that goes on or is not written yet.
    pub fn all(&self) -> impl Iterator<Item = &Gap> {
        self.stretches.iter().map(|stretch| &stretch.gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_one_row_however_much_is_lost() {
        let mut gaps = Gaps::default();
        let at = Timestamp::UNIX_EPOCH;
        gaps.begin(Why::Full, at, "full");
        let first = gaps.due(false);
        assert_eq!((first.len(), first[0].events), (1, 0));
        gaps.wrote(&first);
        for _ in 0..1000 {
            gaps.lose(Why::Full, at, 1, 10, "full");
            assert!(gaps.due(false).is_empty(), "its row is written again now and then only");
        }
        gaps.lose(Why::Behind, at, 7, 0, "behind");
        gaps.end(Why::Full, |_| "full for a while".into());
        let rows = gaps.due(false);
        let told: Vec<_> = rows.iter().map(|g| (g.number, g.events, g.bytes, g.reason.as_str())).collect();
        assert_eq!(told, [(1, 1000, 10_000, "full for a while"), (2, 7, 0, "behind")]);
        gaps.wrote(&rows);
        // The next one is another row.
        gaps.lose(Why::Full, at, 1, 1, "full");
        assert_eq!(gaps.due(true).last().map(|g| g.number), Some(3));
    }
}
