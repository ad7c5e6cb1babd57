//! How the recording of the run stands: what it lacks, and why nothing is written at present.

use std::collections::BTreeMap;

use crate::model::{Bytes, Clean, Timestamp};

/// Gaps kept one by one.
const KEEP: usize = 64;

/// One stretch that the recording lacks.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    pub since: Timestamp,
    /// Events and points.
    pub events: u64,
    pub bytes: u64,
    pub reason: Clean,
}

/// How the recording stands, as far as anybody told. A run that is not recorded has none of this.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Why nothing is written at present.
    pub trouble: Option<Clean>,
    gaps: BTreeMap<u32, Gap>,
    /// Of gaps that are not kept one by one any more.
    older: (u64, u64),
}

impl Record {
    pub(super) fn lacks(&mut self, at: Timestamp, number: u32, events: u64, bytes: u64, reason: Clean) {
        let gap = self.gaps.entry(number).or_insert(Gap { since: at, events, bytes, reason: Clean::default() });
        (gap.events, gap.bytes, gap.reason) = (events, bytes, reason);
        if self.gaps.len() > KEEP
            && let Some((_, old)) = self.gaps.pop_first()
        {
            self.older = (self.older.0.saturating_add(old.events), self.older.1.saturating_add(old.bytes));
        }
    }

    /// The gaps, the oldest first.
    pub fn gaps(&self) -> impl DoubleEndedIterator<Item = &Gap> {
        self.gaps.values()
    }

    /// Events and points, and bytes of output, that are lost.
    pub fn lost(&self) -> (u64, u64) {
        self.gaps.values().fold(self.older, |(events, bytes), gap| {
            (events.saturating_add(gap.events), bytes.saturating_add(gap.bytes))
        })
    }

    /// What is lost and why it was lost last, in a sentence; `None` where nothing is.
    pub fn sentence(&self) -> Option<String> {
        let (events, bytes) = self.lost();
        let why = self.gaps.values().rev().find(|gap| gap.events > 0).map_or("", |gap| gap.reason.as_str());
        let output = if bytes > 0 { format!(" ({} of output)", Bytes(bytes)) } else { String::new() };
        match events {
            0 => None,
            1 => Some(format!("the recording lacks 1 event{output}: {why}")),
            n => Some(format!("the recording lacks {n} events{output}: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_stay_true_however_many_gaps_there_are() {
        let mut record = Record::default();
        assert_eq!(record.sentence(), None);
        for number in 0..1000 {
            record.lacks(Timestamp::UNIX_EPOCH, number, 1, 10, "first".into());
            record.lacks(Timestamp::UNIX_EPOCH, number, 3, 30, "the disk failed".into());
        }
        assert_eq!((record.lost(), record.gaps().count()), ((3000, 30_000), KEEP));
        assert_eq!(
            record.sentence().as_deref(),
            Some("the recording lacks 3000 events (29 KiB of output): the disk failed")
        );
    }
}
