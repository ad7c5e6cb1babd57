//! Every logged key over time.

use std::collections::BTreeMap;

use crate::model::{
    Clean, SourceId, Timestamp,
    metric::{Point, PointKind},
};

/// One value of one key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub step: Option<u64>,
    pub epoch: Option<f64>,
    pub at: Timestamp,
    pub segment: u32,
    pub value: f64,
}

/// The values of one key, in order.
#[derive(Clone, Debug, Default)]
pub struct Series {
    samples: Vec<Sample>,
}

impl Series {
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    pub fn last(&self) -> Option<Sample> {
        self.samples.last().copied()
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// All series of a run, by the name under which they are shown: canonical where there is one, else as printed.
#[derive(Debug, Default)]
pub struct Metrics {
    train: BTreeMap<Clean, Series>,
    eval: BTreeMap<Clean, Series>,
    last_train: Option<Point>,
    points: u64,
}

impl Metrics {
    pub fn push(&mut self, at: Timestamp, _source: SourceId, point: Point) {
        self.points += 1;
        let family = if point.kind == PointKind::Eval { &mut self.eval } else { &mut self.train };
        let mut put = |name: Clean, value: f64| {
            let sample = Sample { step: point.step, epoch: point.epoch, at, segment: point.segment, value };
            family.entry(name).or_default().samples.push(sample);
        };
        if point.kind != PointKind::Final {
            for (key, value) in &point.canonical {
                put(Clean::new(key), *value);
            }
            for (key, value) in &point.raw {
                if !point.canonical.iter().any(|(name, _)| *name == key.as_str()) {
                    put(key.clone(), *value);
                }
            }
        }
        if point.kind == PointKind::Train {
            self.last_train = Some(point);
        }
    }

    /// Takes in what was read of an earlier part of another source.
    pub fn absorb(&mut self, earlier: Metrics) {
        for (mine, theirs) in [(&mut self.train, earlier.train), (&mut self.eval, earlier.eval)] {
            for (name, series) in theirs {
                let samples = &mut mine.entry(name).or_default().samples;
                samples.splice(0..0, series.samples);
            }
        }
        self.points += earlier.points;
    }

    pub fn train(&self) -> &BTreeMap<Clean, Series> {
        &self.train
    }

    pub fn eval(&self) -> &BTreeMap<Clean, Series> {
        &self.eval
    }

    /// A training series by name.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.train.get(&Clean::new(name))
    }

    pub fn last_train(&self) -> Option<&Point> {
        self.last_train.as_ref()
    }

    pub fn points(&self) -> u64 {
        self.points
    }
}
