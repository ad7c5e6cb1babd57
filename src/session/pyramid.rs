//! One series of numbers of any length in bounded memory: the last stretch sample by sample, the past in stretches that
//! grow fourfold in length with age. Each stretch keeps its extremes, so a spike never vanishes.

use std::collections::VecDeque;

use crate::model::{Timestamp, metric::Head};

/// A cell whose step is not known.
const NO_STEP: u64 = u64::MAX;
/// Past this level, cells are merged over restarts of the run too, so that hostile segments cannot grow the pyramid.
const MERGE_ANYWAY: usize = 8;
/// Cells that become one at the next level.
const FAN: usize = 4;
/// Samples that gather before they are merged, to touch the levels seldom; fewer in a small room.
const BATCH: usize = 128;
/// The room of a series of which only the last samples are kept, two batches of them.
pub const ENDS: usize = 0;
/// Cells that a level keeps at least.
const LEAST: usize = 8;

/// One sample, or several that follow on each other. Values that are not finite are counted, and stand in `last`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    steps: (u64, u64),
    /// Unix milliseconds.
    times: (i64, i64),
    epochs: (f32, f32),
    tokens: (f32, f32),
    pub min: f64,
    pub max: f64,
    /// Sum of the finite values.
    sum: f64,
    pub last: f64,
    pub count: u32,
    pub nonfinite: u32,
    pub segment: u32,
    /// Number of the last sample's point in its log.
    order: u32,
}

/// Where a sample stands on each axis.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    pub step: Option<u64>,
    /// Unix milliseconds.
    pub time: i64,
    pub epoch: Option<f64>,
    pub tokens: Option<f64>,
    pub segment: u32,
    /// Number of the point in its log, from 1 on; an evaluation has that of the point before it.
    pub order: u32,
}

impl Place {
    pub fn new(head: &Head, at: Timestamp, tokens: Option<f64>, order: u32) -> Self {
        Self {
            order: order.max(1),
            step: head.step,
            time: head.time.map_or(at.as_millisecond(), |seconds| (seconds * 1e3) as i64),
            epoch: head.epoch,
            tokens,
            segment: head.segment,
        }
    }
}

impl Cell {
    pub fn one(place: Place, value: f64) -> Self {
        let step = place.step.unwrap_or(NO_STEP);
        let epoch = place.epoch.map_or(f32::NAN, |e| e as f32);
        let tokens = place.tokens.map_or(f32::NAN, |t| t as f32);
        let finite = if value.is_finite() { value } else { f64::NAN };
        Self {
            steps: (step, step),
            times: (place.time, place.time),
            epochs: (epoch, epoch),
            tokens: (tokens, tokens),
            min: finite,
            max: finite,
            sum: if value.is_finite() { value } else { 0.0 },
            last: value,
            count: 1,
            nonfinite: u32::from(!value.is_finite()),
            segment: place.segment,
            order: place.order,
        }
    }

    /// Numbers of the first and of the last point; `None` where they were not counted.
    pub fn orders(&self) -> Option<(f64, f64)> {
        (self.order > 0).then(|| (f64::from(self.order.saturating_sub(self.count - 1).max(1)), self.order.into()))
    }

    pub fn first_step(&self) -> Option<u64> {
        (self.steps.0 != NO_STEP).then_some(self.steps.0)
    }

    pub fn last_step(&self) -> Option<u64> {
        (self.steps.1 != NO_STEP).then_some(self.steps.1)
    }

    /// First and last time, in Unix milliseconds.
    pub fn times(&self) -> (i64, i64) {
        self.times
    }

    pub fn epochs(&self) -> Option<(f64, f64)> {
        (!self.epochs.0.is_nan()).then(|| (self.epochs.0.into(), self.epochs.1.into()))
    }

    pub fn tokens(&self) -> Option<(f64, f64)> {
        (!self.tokens.0.is_nan()).then(|| (self.tokens.0.into(), self.tokens.1.into()))
    }

    /// Mean of the finite values, NaN without one.
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count - self.nonfinite)
    }

    /// Another rank's value of the same step: widens the spread, and takes the sample's place if it has precedence.
    pub fn spread(&mut self, value: f64, takes_precedence: bool) {
        if value.is_finite() {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        if takes_precedence {
            self.last = value;
            self.sum = if value.is_finite() { value } else { 0.0 };
            self.nonfinite = u32::from(!value.is_finite());
        }
    }

    /// This cell and the one that follows it.
    #[must_use]
    pub fn join(self, next: &Self) -> Self {
        let or = |a: f32, b: f32| if a.is_nan() { b } else { a };
        Self {
            steps: (
                if self.steps.0 == NO_STEP { next.steps.0 } else { self.steps.0 },
                if next.steps.1 == NO_STEP { self.steps.1 } else { next.steps.1 },
            ),
            times: (self.times.0, next.times.1),
            epochs: (or(self.epochs.0, next.epochs.0), or(next.epochs.1, self.epochs.1)),
            tokens: (or(self.tokens.0, next.tokens.0), or(next.tokens.1, self.tokens.1)),
            min: self.min.min(next.min),
            max: self.max.max(next.max),
            sum: self.sum + next.sum,
            last: next.last,
            count: self.count.saturating_add(next.count),
            nonfinite: self.nonfinite.saturating_add(next.nonfinite),
            segment: next.segment,
            order: next.order,
        }
    }
}

/// The cells of one series, oldest first: single samples at level 0, and [`FAN`]`^k` of them in a cell of level `k`.
#[derive(Clone, Debug, Default)]
pub struct Pyramid {
    levels: Vec<VecDeque<Cell>>,
}

impl Pyramid {
    /// Adds the newest sample; at most about `room` cells are kept.
    pub fn push(&mut self, cell: Cell, room: usize) {
        if self.levels.is_empty() {
            self.levels.push(VecDeque::new());
        }
        append(&mut self.levels[0], cell);
        if room == ENDS {
            if self.levels[0].len() >= 2 * BATCH {
                self.levels[0].drain(..BATCH);
            }
        } else if self.levels[0].len() >= (room / 2).max(LEAST) + BATCH.min(room / 4) {
            self.settle(room);
        }
    }

    /// Adds a sample for each place.
    pub fn push_column(&mut self, places: &[Place], values: impl Iterator<Item = f64>, room: usize) {
        let skip = if room == ENDS { places.len().saturating_sub(BATCH) } else { 0 };
        for (place, value) in places.iter().zip(values).skip(skip) {
            self.push(Cell::one(*place, value), room);
        }
    }

    /// Merges what is oldest until about `room` cells remain: one half for single samples, the other for the levels of the
    /// past that there are, in equal parts. So it is full once, and a longer past takes no more.
    pub fn settle(&mut self, room: usize) {
        let mut level = 0;
        while level < self.levels.len() {
            let keep = if level == 0 { room / 2 } else { room / 2 / (self.levels.len() - 1) }.max(LEAST);
            while self.levels[level].len() > keep {
                let queue = &mut self.levels[level];
                let Some(mut joined) = queue.pop_front() else { break };
                for _ in 1..FAN {
                    match queue.front() {
                        Some(next) if next.segment == joined.segment || level >= MERGE_ANYWAY => {
                            joined = joined.join(next);
                            queue.pop_front();
                        }
                        _ => break,
                    }
                }
                if level + 1 == self.levels.len() {
                    self.levels.push(VecDeque::new());
                }
                append(&mut self.levels[level + 1], joined);
            }
            let spare = BATCH.min(room / 4) + LEAST;
            if self.levels[level].capacity() > (keep + spare) * 5 / 4 {
                self.levels[level].shrink_to(keep + spare);
            }
            level += 1;
        }
    }

    /// All cells, oldest first.
    pub fn cells(&self) -> impl DoubleEndedIterator<Item = &Cell> {
        self.levels.iter().rev().flatten()
    }

    /// The samples that are still kept one by one, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Cell> {
        self.levels.first().into_iter().flatten()
    }

    pub fn last(&self) -> Option<&Cell> {
        self.cells().next_back()
    }

    /// A recent sample of this step and segment, for a value that comes late.
    pub fn recent_mut(&mut self, segment: u32, step: u64, look_back: usize) -> Option<&mut Cell> {
        let recent = self.levels.first_mut()?;
        recent.iter_mut().rev().take(look_back).take_while(|c| c.segment == segment).find(|c| c.steps == (step, step))
    }

    /// A recent sample of this step, by halving; steps are taken to rise.
    pub fn at_step(&self, step: u64) -> Option<&Cell> {
        let recent = self.levels.first()?;
        let place = recent.partition_point(|c| c.steps.0 < step);
        recent.get(place).filter(|c| c.steps.0 == step)
    }
}

/// Puts a cell at the end. Room is made by a quarter, not by the double: there are many of these queues, for good.
fn append(queue: &mut VecDeque<Cell>, cell: Cell) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(queue.len() / 4 + LEAST);
    }
    queue.push_back(cell);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(step: u64) -> Place {
        Place { step: Some(step), time: step as i64 * 1000, ..Place::default() }
    }

    proptest! {
        #![proptest_config(crate::properties::config(256))]

        #[test]
        fn nothing_is_lost_but_detail(values in prop::collection::vec(-1e6..1e6f64, 1..3000), room in 64usize..600) {
            let mut pyramid = Pyramid::default();
            for (i, v) in values.iter().enumerate() {
                pyramid.push(Cell::one(place(i as u64), *v), room);
            }
            let cells: Vec<_> = pyramid.cells().copied().collect();
            prop_assert!(cells.len() <= room + 16 * LEAST + BATCH.min(room / 4));
            prop_assert_eq!(cells.iter().map(|c| c.count as usize).sum::<usize>(), values.len());
            for c in &cells {
                let part = &values[c.steps.0 as usize..=c.steps.1 as usize];
                prop_assert_eq!(part.len(), c.count as usize);
                prop_assert_eq!(c.max, part.iter().copied().fold(f64::MIN, f64::max));
                prop_assert_eq!(c.min, part.iter().copied().fold(f64::MAX, f64::min));
                prop_assert_eq!(c.last, part[part.len() - 1]);
                let mean = part.iter().sum::<f64>() / part.len() as f64;
                prop_assert!((c.mean() - mean).abs() < 1e-3);
            }
            for pair in cells.windows(2) {
                prop_assert_eq!(pair[0].steps.1 + 1, pair[1].steps.0);
            }
        }
    }

    #[test]
    fn a_longer_past_takes_no_more_room() {
        let mut pyramid = Pyramid::default();
        let mut most = [0; 2];
        for i in 0..400_000u64 {
            pyramid.push(Cell::one(place(i), 1.0), 4096);
            let taken = pyramid.levels.iter().map(VecDeque::capacity).sum::<usize>();
            let part = &mut most[usize::from(i >= 4 * 4096)];
            *part = (*part).max(taken);
        }
        assert!(most[1] <= most[0] * 5 / 4 && most[1] <= 4096 * 3 / 2, "{most:?}");
        assert!(pyramid.cells().count() <= 4096 + BATCH);
    }

    #[test]
    fn restarts_stay_apart_and_hostile_ones_stay_bounded() {
        let mut pyramid = Pyramid::default();
        for i in 0..1000u64 {
            pyramid.push(Cell::one(Place { segment: (i / 500) as u32, ..place(i % 500) }, i as f64), 64);
        }
        assert!(pyramid.cells().all(|c| (c.max < 500.0) == (c.segment == 0)));
        let mut pyramid = Pyramid::default();
        for i in 0..200_000u32 {
            pyramid.push(Cell::one(Place { segment: i, ..place(0) }, 1.0), 64);
        }
        assert!(pyramid.cells().count() < 1000, "{}", pyramid.cells().count());
    }

    #[test]
    fn what_is_not_finite_is_counted() {
        let cells = [1.0, f64::NAN, 3.0, f64::INFINITY].map(|v| Cell::one(place(0), v));
        let all = cells.into_iter().reduce(|a, b| a.join(&b)).unwrap();
        assert_eq!((all.min, all.max, all.mean(), all.count, all.nonfinite), (1.0, 3.0, 2.0, 4, 2));
        assert_eq!(all.last, f64::INFINITY);
    }
}
