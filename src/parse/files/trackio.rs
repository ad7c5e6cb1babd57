//! Rows of trackio's database, which keeps one file a project. The reading of it is the caller's: parsing does no IO.
//! <https://github.com/gradio-app/trackio/blob/main/trackio/sqlite_storage.py>

use std::collections::HashMap;

use jiff::Timestamp;

use crate::{model::metric::Point, parse::metrics::Record};

use super::{
    json,
    keys::{Keys, Row},
};

/// Lists the metrics of every run in the order in which runs were begun; columns as [`Rows::put`] takes them.
pub const QUERY: &str = "SELECT m.run_name, m.step, m.timestamp, m.metrics, m.id FROM metrics m JOIN \
    (SELECT run_name, MIN(id) AS first FROM metrics GROUP BY run_name) r ON r.run_name = m.run_name \
    ORDER BY r.first, m.id";

/// Makes points of rows. Each run is a segment: of several in one project the newest is the last.
#[derive(Debug, Default)]
pub struct Rows {
    keys: Keys,
    runs: HashMap<Box<[u8]>, u32>,
    last_step: Option<u64>,
    segment: u32,
    run: Option<u32>,
    seen: u64,
    unparsed: u64,
}

impl Rows {
    /// Takes one row: the run's name, the step, the time (RFC 3339), the metrics as JSON.
    pub fn put(&mut self, run: &[u8], step: Option<i64>, time: &[u8], metrics: &[u8], out: &mut Vec<Record>) {
        self.seen += 1;
        let Some(value) = json::parse(metrics) else {
            self.unparsed += metrics.len() as u64;
            return;
        };
        let mut row = Row::default();
        let keys = &mut self.keys;
        json::numbers(&mut String::new(), &value, &mut |key, number| row.put(keys, key, number));
        row.step = row.step.or(step.and_then(|s| u64::try_from(s).ok()));
        row.time = row.time.or_else(|| parse_time(time));
        let Some(mut point) = self.keys.point(&row) else { return };
        point.line = self.seen;
        point.segment = self.segment_of(run, &point);
        out.push(Record::Point(point));
    }

    fn segment_of(&mut self, run: &[u8], point: &Point) -> u32 {
        let next = self.runs.len() as u32;
        let number = *self.runs.entry(run.into()).or_insert(next);
        let backwards = point.step.zip(self.last_step).is_some_and(|(new, last)| new < last);
        if self.run.is_some_and(|known| known != number) || (self.run.is_some() && backwards) {
            self.segment += 1;
        }
        self.run = Some(number);
        self.last_step = point.step;
        self.segment
    }

    pub fn segments(&self) -> u32 {
        self.segment + 1
    }

    /// Bytes of metrics that were no JSON.
    pub fn unparsed_bytes(&self) -> u64 {
        self.unparsed
    }
}

fn parse_time(time: &[u8]) -> Option<f64> {
    let time: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
    Some(time.as_millisecond() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric::PointKind;

    #[test]
    fn rows_become_points() {
        let mut rows = Rows::default();
        let mut out = Vec::new();
        rows.put(b"a", Some(0), b"2026-01-02T03:04:05+00:00", b"{\"train/loss\": 2.5, \"train/epoch\": 0.5}", &mut out);
        rows.put(b"a", Some(1), b"", b"{\"eval/loss\": \"NaN\", \"train/global_step\": 20}", &mut out);
        rows.put(b"b", Some(0), b"", b"{\"loss\": 1}", &mut out);
        rows.put(b"b", Some(1), b"", b"{\"loss\": ", &mut out);
        let points: Vec<_> = out.iter().filter_map(|r| if let Record::Point(p) = r { Some(p) } else { None }).collect();
        assert_eq!(points.len(), 3);
        assert_eq!((points[0].step, points[0].epoch, points[0].canonical[0]), (Some(0), Some(0.5), ("loss", 2.5)));
        assert_eq!(points[0].time, Some(1767323045.0));
        assert_eq!((points[1].kind, points[1].step, points[1].segment), (PointKind::Eval, Some(20), 0));
        assert!(points[1].canonical[0].1.is_nan());
        assert_eq!((points[2].segment, rows.segments(), rows.unparsed_bytes()), (1, 2, 9));
    }
}
