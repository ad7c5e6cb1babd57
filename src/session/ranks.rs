//! How fast each rank goes, where ranks tell it: one that lags holds up all others.

use std::collections::{BTreeMap, VecDeque};

use crate::model::metric::Point;

use super::trends::median;

/// Steps of a rank that are compared.
const STEPS: usize = 10;
/// Ranks that are followed.
const MOST: usize = 4096;

/// Seconds of the last steps by rank.
#[derive(Debug, Default)]
pub struct Ranks {
    by_rank: BTreeMap<u32, VecDeque<f64>>,
}

impl Ranks {
    /// Takes what a rank says of its pace.
    pub(super) fn note(&mut self, point: &Point) {
        let Some(rank) = point.rank else { return };
        let of = |key: &str| point.canonical.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let rate = || of("tokens_per_second").or_else(|| of("samples_per_second")).map(|rate| 1.0 / rate);
        let Some(seconds) = of("step_time_seconds").or_else(rate).filter(|s| s.is_finite() && *s > 0.0) else { return };
        if self.by_rank.len() >= MOST && !self.by_rank.contains_key(&rank) {
            return;
        }
        let own = self.by_rank.entry(rank).or_default();
        own.push_back(seconds);
        if own.len() > STEPS {
            own.pop_front();
        }
    }

    /// The slowest rank, and by which share it is slower than the middle of the others.
    pub fn slowest(&self) -> Option<(u32, f64)> {
        let all: Vec<(u32, f64)> = self
            .by_rank
            .iter()
            .filter(|(_, own)| own.len() >= STEPS)
            .filter_map(|(rank, own)| Some((*rank, median(own.iter().copied())?)))
            .collect();
        let (rank, slow) = all.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let others = median(all.iter().filter(|(other, _)| *other != rank).map(|(_, pace)| *pace))?;
        (others > 0.0).then(|| (rank, slow / others - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(key: &'static str, values: &[f64], steps: usize) -> Ranks {
        let mut ranks = Ranks::default();
        for _ in 0..steps {
            for (rank, value) in values.iter().enumerate() {
                let canonical = vec![(key, *value)];
                ranks.note(&Point { rank: Some(rank as u32), canonical, ..Point::default() });
            }
        }
        ranks
    }

    #[test]
    fn the_rank_that_lags_is_named() {
        let check = |key, values: &[f64], steps, want: Option<(u32, f64)>| {
            let got = ranks(key, values, steps).slowest();
            assert_eq!(got.map(|(rank, share)| (rank, (share * 100.0).round() / 100.0)), want, "{key} {values:?}");
        };
        check("step_time_seconds", &[2.0, 2.0, 2.5, 2.0], 12, Some((2, 0.25)));
        check("tokens_per_second", &[1000.0, 800.0], 12, Some((1, 0.25)));
        // Too few steps, one rank, no figure that could be compared.
        check("step_time_seconds", &[2.0, 4.0], 9, None);
        check("step_time_seconds", &[2.0], 12, None);
        check("loss", &[2.0, 4.0], 12, None);
        check("step_time_seconds", &[2.0, f64::NAN], 12, None);
    }
}
