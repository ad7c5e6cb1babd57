//! Every logged key over time, from one source or several, in bounded memory.
//!
//! A key has one track for each source that logs it. What is shown comes from the best track: a side file with full
//! precision wins over the console's rounded print of the same steps, and the others only fill in what it lacks.

mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::model::{
    Clean, SourceId, Timestamp,
    metric::{Point, PointKind},
};

use super::{
    moments::Moments,
    pyramid::{Cell, ENDS, Place, Pyramid},
    ranks::Ranks,
    thinned::thinned,
};

/// Cells of all series together, 96 bytes each.
const ROOM: usize = 96 * 1024;
/// Cells of one series, at least and at most.
const ROOM_OF_ONE: (usize, usize) = (128, 32 * 1024);
/// Keys kept; what a log prints beyond is counted.
const MAX_KEYS: usize = 4096;
/// How far back another rank's value of the same step is looked for.
const RANK_LAG: usize = 64;

/// What a chart runs along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XAxis {
    #[default]
    Step,
    /// Unix seconds.
    Time,
    Epoch,
    /// Tokens trained on.
    Tokens,
    /// The points of the log, one after the other: where they tell no step.
    Points,
}

impl XAxis {
    pub const ALL: [Self; 5] = [Self::Step, Self::Time, Self::Epoch, Self::Tokens, Self::Points];

    /// Where a cell begins and ends.
    pub(super) fn span(self, cell: &Cell) -> Option<(f64, f64)> {
        match self {
            Self::Step => Some((cell.first_step()? as f64, cell.last_step()? as f64)),
            Self::Time => Some((cell.times().0 as f64 / 1e3, cell.times().1 as f64 / 1e3)),
            Self::Epoch => cell.epochs(),
            Self::Tokens => cell.tokens(),
            Self::Points => cell.orders(),
        }
    }
}

/// How exactly a source gives its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// Printed for people: rounded, often without a step.
    #[default]
    Console,
    /// Written for machines in single precision.
    Single,
    /// Written for machines in full.
    Full,
}

/// One value of one key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub step: Option<u64>,
    pub epoch: Option<f64>,
    pub at: Timestamp,
    pub segment: u32,
    pub value: f64,
}

/// The samples of one column of a chart. `min`, `max` and `mean` are of the finite values (NaN if there is none), over
/// all ranks; `last` is the last value as logged, finite or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Place on the axis of the last sample.
    pub x: f64,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub last: f64,
    pub count: u64,
    /// How many of them are not finite.
    pub nonfinite: u64,
    /// The run's restart that these samples are of.
    pub segment: u32,
}

/// The first and the last step of some samples.
type Steps = Option<(u64, u64)>;

/// The samples that one source gave for one key.
#[derive(Clone, Debug)]
struct Track {
    source: SourceId,
    precision: Precision,
    cells: Pyramid,
    total: Total,
    steps: Steps,
    /// The lowest rank, whose values are the samples, and whether there are others.
    rank: Option<u32>,
    ranks_differ: bool,
    /// Samples that were, or were not, the same number as a better track's at the same step.
    agrees: u32,
    differs: u32,
}

/// What is known of all samples of a track.
#[derive(Clone, Copy, Debug)]
struct Total {
    /// Of the finite values; NaN without one.
    min: f64,
    max: f64,
    count: u64,
    nonfinite: u64,
}

impl Total {
    const NONE: Self = Self { min: f64::NAN, max: f64::NAN, count: 0, nonfinite: 0 };

    /// Widens the span.
    fn take(&mut self, value: f64) {
        if value.is_finite() {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        } else {
            self.nonfinite += 1;
        }
    }
}

impl Track {
    /// Other numbers than a better track's: another rank, not another print of the same.
    fn is_another(&self) -> bool {
        self.differs > self.agrees
    }

    fn push(&mut self, place: Place, rank: Option<u32>, value: f64, room: usize) {
        if let Some(rank) = rank {
            let first = self.rank.is_none_or(|known| rank <= known);
            self.ranks_differ |= self.rank.is_some_and(|known| rank != known);
            if first {
                self.rank = Some(rank);
            }
            if self.ranks_differ
                && let Some(step) = place.step
                && let Some(cell) = self.cells.recent_mut(place.segment, step, RANK_LAG)
            {
                cell.spread(value, first);
                self.total.take(value);
                return;
            }
            if place.step.is_none() && !first {
                return;
            }
        }
        self.total.take(value);
        self.total.count += 1;
        if let Some(step) = place.step {
            let (low, high) = self.steps.unwrap_or((step, step));
            self.steps = Some((low.min(step), high.max(step)));
        }
        self.cells.push(Cell::one(place, value), room);
    }
}

/// The values of one key.
#[derive(Clone, Debug)]
pub struct Series {
    name: Clean,
    /// Best first.
    tracks: Vec<Track>,
}

impl Series {
    fn new(name: Clean) -> Self {
        Self { name, tracks: Vec::new() }
    }

    /// The name under which it is shown.
    pub fn name(&self) -> &Clean {
        &self.name
    }

    /// The track of a source, made at its first value.
    fn track(&mut self, source: SourceId, precision: Precision, room: usize) -> usize {
        self.tracks.iter().position(|t| t.source == source).unwrap_or_else(|| {
            let track = Track {
                source,
                precision,
                cells: Pyramid::default(),
                total: Total::NONE,
                steps: None,
                rank: None,
                ranks_differ: false,
                agrees: 0,
                differs: 0,
            };
            // Of two files of one precision the later is the newer.
            let at = self.tracks.iter().position(|t| t.precision <= precision).unwrap_or(self.tracks.len());
            self.tracks.insert(at, track);
            self.settle(room);
            at
        })
    }

    fn push_to(&mut self, at: usize, place: Place, rank: Option<u32>, value: f64, room: usize) {
        let room = room / self.tracks.len();
        let twin = place.step.filter(|_| self.tracks.len() > 1).and_then(|step| {
            let mut others = self.tracks.iter().enumerate().filter(|(i, _)| *i != at);
            others.find_map(|(i, t)| Some((i, t.cells.at_step(step)?.last)))
        });
        if let Some((other, known)) = twin {
            let worse = &mut self.tracks[at.max(other)];
            if equal_within_rounding(known, value) {
                worse.agrees += 1;
            } else {
                worse.differs += 1;
            }
        }
        let Some(track) = self.tracks.get_mut(at) else { return };
        track.push(place, rank, value, room);
    }

    fn settle(&mut self, room: usize) {
        let room = room / self.tracks.len().max(1);
        for track in &mut self.tracks {
            track.cells.settle(room);
        }
    }

    /// The cells that are shown, with whether they count or only widen the spread.
    fn shown(&self) -> impl Iterator<Item = (&Cell, bool)> {
        self.tracks.iter().enumerate().flat_map(move |(i, track)| {
            let better = &self.tracks[..i];
            track.cells.cells().filter_map(move |cell| {
                let covered = match (cell.first_step(), cell.last_step()) {
                    (Some(first), Some(last)) => {
                        better.iter().filter_map(|b| b.steps).any(|(low, high)| low <= first && last <= high)
                    }
                    // Without a step nobody can say where it would belong beside another source's.
                    _ => !better.is_empty(),
                };
                if covered { track.is_another().then_some((cell, false)) } else { Some((cell, true)) }
            })
        })
    }

    /// What a chart of `buckets` columns shows of `range` (its end included): one entry for each column and restart that
    /// has samples, in the order of restarts, then of the axis. A stretch that is kept merged stands where its last
    /// sample is.
    pub fn view(&self, x: XAxis, range: Range<f64>, buckets: usize) -> Vec<Bucket> {
        thinned(self.shown(), x, range, buckets)
    }

    /// The same of each source by itself, where several tell different numbers for the same steps: runs that are watched
    /// together, or ranks. Nothing where there is one. The sources in `apart` are runs of their own whatever this key says.
    pub fn runs(
        &self,
        apart: &BTreeSet<SourceId>,
        x: XAxis,
        range: Range<f64>,
        buckets: usize,
    ) -> Vec<(SourceId, Vec<Bucket>)> {
        let is_own = |track: &Track| track.is_another() || apart.contains(&track.source);
        let own = self.tracks.iter().enumerate().filter(|(i, track)| *i == 0 || is_own(track));
        let mut runs: Vec<_> = own
            .map(|(_, t)| (t.source, thinned(t.cells.cells().map(|cell| (cell, true)), x, range.clone(), buckets)))
            .collect();
        if runs.len() < 2 {
            return Vec::new();
        }
        runs.sort_by_key(|(source, _)| *source);
        runs
    }

    /// Where the samples begin and end on an axis; `None` if they do not stand on it.
    pub fn extent(&self, x: XAxis) -> Option<(f64, f64)> {
        self.shown().filter_map(|(cell, _)| x.span(cell)).reduce(|a, b| (a.0.min(b.0).min(b.1), a.1.max(b.1).max(b.0)))
    }

    /// The newest sample.
    pub fn last(&self) -> Option<Sample> {
        let newest = |cell: &&Cell| cell.last_step();
        let mut best: Option<&Cell> = None;
        for cell in self.tracks.iter().filter_map(|t| t.cells.last()) {
            let newer = best.is_none_or(|known| newest(&cell).zip(newest(&known)).is_some_and(|(a, b)| a > b));
            if newer {
                best = Some(cell);
            }
        }
        best.map(sample)
    }

    /// The samples of the last stretch, one by one, from the best source.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = Sample> {
        self.tracks.first().into_iter().flat_map(|t| t.cells.recent().map(sample))
    }

    /// Smallest and largest finite value ever.
    pub fn min_max(&self) -> Option<(f64, f64)> {
        let shown = self.tracks.iter().map(|t| t.total);
        let (low, high) = shown.fold((f64::NAN, f64::NAN), |(low, high), c| (low.min(c.min), high.max(c.max)));
        (!low.is_nan()).then_some((low, high))
    }

    /// Values that were `nan` or `inf`.
    pub fn nonfinite(&self) -> u64 {
        self.tracks.first().map_or(0, |t| t.total.nonfinite)
    }

    /// Samples of the source that has most.
    pub fn len(&self) -> usize {
        self.tracks.iter().map(|t| t.total.count as usize).max().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn sample(cell: &Cell) -> Sample {
    Sample {
        step: cell.last_step(),
        epoch: cell.epochs().map(|(_, last)| last),
        at: Timestamp::from_millisecond(cell.times().1).unwrap_or_default(),
        segment: cell.segment,
        value: cell.last,
    }
}

/// Whether two prints can be of one number: consoles keep three digits or four decimals.
fn equal_within_rounding(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= (5e-3 * a.abs().max(b.abs())).max(5e-5) || (a.is_nan() && b.is_nan())
}

/// Series by name.
#[derive(Debug, Default)]
pub struct Family {
    series: Vec<Series>,
    by_name: BTreeMap<Box<str>, usize>,
    /// Where the keys of the last point went: the next point mostly has the same.
    canonical: Vec<(&'static str, Option<usize>)>,
    raw: Vec<Route>,
}

/// Where the raw key at one place of a point went.
#[derive(Clone, Debug)]
struct Route {
    key: Clean,
    /// The conditions under which it did.
    renamed: bool,
    canonicals: usize,
    to: To,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Series(usize),
    /// It stands among the canonical ones.
    Nowhere,
    /// There are too many keys.
    NoRoom,
}

impl Family {
    pub fn get(&self, name: &str) -> Option<&Series> {
        self.by_name.get(name).and_then(|i| self.series.get(*i))
    }

    /// In the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&Clean, &Series)> {
        self.by_name.values().filter_map(|i| self.series.get(*i)).map(|s| (&s.name, s))
    }

    /// Names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Clean> {
        self.iter().map(|(name, _)| name)
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The place of a series; `None` if it is new and there is no room.
    fn place(&mut self, name: &str, may_grow: bool) -> Option<usize> {
        match self.by_name.get(name) {
            Some(at) => Some(*at),
            None if may_grow => {
                self.series.push(Series::new(Clean::new(name)));
                self.by_name.insert(name.into(), self.series.len() - 1);
                Some(self.series.len() - 1)
            }
            None => None,
        }
    }

    /// The place of the canonical key that stands `nth` in its point.
    fn canonical(&mut self, nth: usize, name: &'static str, may_grow: bool) -> Option<usize> {
        if let Some((known, to)) = self.canonical.get(nth)
            && std::ptr::eq(*known, name)
            && to.is_some()
        {
            return *to;
        }
        let to = self.place(name, may_grow);
        self.canonical.resize(self.canonical.len().max(nth + 1), ("", None));
        self.canonical[nth] = (name, to);
        to
    }

    /// Where the raw key that stands `nth` in its point goes.
    fn raw(
        &mut self,
        nth: usize,
        key: &Clean,
        renamed: bool,
        canonicals: usize,
        is_canonical: impl Fn(&str) -> bool,
        may_grow: bool,
    ) -> To {
        if let Some(route) = self.raw.get(nth)
            && route.key == *key
            && (route.renamed, route.canonicals) == (renamed, canonicals)
            && route.to != To::NoRoom
        {
            return route.to;
        }
        let name = shown_name(key.as_str());
        let to = if renamed || is_canonical(name) {
            To::Nowhere
        } else {
            self.place(name, may_grow).map_or(To::NoRoom, To::Series)
        };
        if nth < MAX_KEYS {
            let empty = Route { key: Clean::default(), renamed: false, canonicals: 0, to: To::NoRoom };
            self.raw.resize(self.raw.len().max(nth + 1), empty);
            self.raw[nth] = Route { key: key.clone(), renamed, canonicals, to };
        }
        to
    }
}

/// All series of a run, by the name under which they are shown: canonical where there is one, else as printed.
#[derive(Debug)]
pub struct Metrics {
    train: Family,
    eval: Family,
    /// Training points of each source.
    orders: BTreeMap<SourceId, u32>,
    /// How fast each rank goes.
    pub ranks: Ranks,
    /// What happened beside the values.
    pub moments: Moments,
    last_train: Option<(SourceId, Point)>,
    points: u64,
    dropped: u64,
    /// The source whose last point said that the run is over.
    ended: Option<SourceId>,
    room: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            train: Family::default(),
            eval: Family::default(),
            orders: BTreeMap::new(),
            ranks: Ranks::default(),
            moments: Moments::default(),
            last_train: None,
            points: 0,
            dropped: 0,
            ended: None,
            room: ROOM_OF_ONE.1,
        }
    }
}

impl Metrics {
    /// Keeps of each series what is known of all its samples, and its end, but no curve.
    pub fn without_curves() -> Self {
        Self { room: ENDS, ..Self::default() }
    }

    /// Takes a point of a log.
    pub fn push(&mut self, at: Timestamp, source: SourceId, point: Point) {
        self.push_from(at, source, Precision::Console, point);
    }

    /// Takes a point of a source that gives its numbers this exactly.
    pub fn push_from(&mut self, at: Timestamp, source: SourceId, precision: Precision, point: Point) {
        self.points += 1;
        if point.kind == PointKind::Final {
            self.ended = Some(source);
            self.moments.ended(source, &point);
            return;
        }
        // Another file of a run that ended may well be read later.
        if self.ended == Some(source) {
            self.ended = None;
        }
        let tokens = point.canonical.iter().find(|(key, _)| *key == "num_tokens").map(|(_, v)| *v);
        self.ranks.note(&point);
        let order = self.orders.entry(source).or_default();
        *order = order.saturating_add(u32::from(point.kind == PointKind::Train));
        let place = Place::new(&point.head(), at, tokens, *order);
        match point.kind {
            PointKind::Eval => {
                self.moments.evaluated(source, precision, point.line, point.canonical.iter().copied(), place);
            }
            _ => self.moments.trained(source, point.line, place),
        }
        let room = self.room;
        let before = self.train.len() + self.eval.len();
        let family = if point.kind == PointKind::Eval { &mut self.eval } else { &mut self.train };
        let others = before - family.len();
        let put = |series: Option<&mut Series>, value| {
            if let Some(series) = series {
                let at = series.track(source, precision, room);
                series.push_to(at, place, point.rank, value, room);
            }
        };
        for (nth, (name, value)) in point.canonical.iter().enumerate() {
            match family.canonical(nth, name, Self::may_grow(others, family)) {
                Some(at) => put(family.series.get_mut(at), *value),
                None => self.dropped += 1,
            }
        }
        for (nth, (key, value)) in point.raw.iter().enumerate() {
            let renamed = nth < 128 && point.renamed >> nth & 1 == 1;
            let known = |name: &str| point.canonical.iter().any(|(known, _)| *known == name);
            let may_grow = Self::may_grow(others, family);
            match family.raw(nth, key, renamed, point.canonical.len(), known, may_grow) {
                To::Series(at) => put(family.series.get_mut(at), *value),
                To::Nowhere => {}
                To::NoRoom => self.dropped += 1,
            }
        }
        self.share_room();
        if point.kind == PointKind::Train {
            self.note_last(source, point);
        }
    }

    fn may_grow(others: usize, family: &Family) -> bool {
        others + family.len() < MAX_KEYS
    }

    /// Shares out the room anew if there are more series than it was shared out for.
    fn share_room(&mut self) {
        let after = self.train.len() + self.eval.len();
        if after * self.room > ROOM && self.room > ROOM_OF_ONE.0 {
            // With something to spare: not at every new key.
            let room = (ROOM / after * 3 / 4).clamp(ROOM_OF_ONE.0, ROOM_OF_ONE.1);
            self.room = room;
            self.train.series.iter_mut().chain(&mut self.eval.series).for_each(|s| s.settle(room));
        }
    }

    fn note_last(&mut self, source: SourceId, point: Point) {
        let newer = self.last_train.as_ref().is_none_or(|(from, last)| {
            *from == source || last.step.zip(point.step).is_none_or(|(old, new)| new >= old)
        });
        if newer {
            self.last_train = Some((source, point));
        }
    }

    /// Drops what a source gave: it will be read again from its start.
    pub fn forget(&mut self, source: SourceId) {
        self.moments.forget(source);
        self.orders.remove(&source);
        for series in self.train.series.iter_mut().chain(&mut self.eval.series) {
            series.tracks.retain(|t| t.source != source);
        }
    }

    /// Takes in another reading of one source, from its start to its end, in place of what was known of that source.
    pub fn absorb(&mut self, whole: Self) {
        let room = self.room;
        for (mine, theirs) in [(&mut self.train, whole.train), (&mut self.eval, whole.eval)] {
            for series in theirs.series {
                let Some(at) = mine.place(series.name.as_str(), true) else { continue };
                let Some(own) = mine.series.get_mut(at) else { continue };
                for track in series.tracks {
                    own.tracks.retain(|t| t.source != track.source);
                    let better = own.tracks.iter().position(|t| t.precision <= track.precision);
                    own.tracks.insert(better.unwrap_or(own.tracks.len()), track);
                }
                own.settle(room);
            }
        }
        self.moments.absorb(whole.moments);
        self.orders.extend(whole.orders);
        self.ranks = whole.ranks;
        self.points = self.points.max(whole.points);
        self.dropped += whole.dropped;
        if self.last_train.is_none() {
            self.last_train = whole.last_train;
        }
    }

    pub fn train(&self) -> &Family {
        &self.train
    }

    pub fn eval(&self) -> &Family {
        &self.eval
    }

    /// A training series by name.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.train.get(name)
    }

    /// Sources that are runs of their own beside another one: most of what they tell differs at the same steps, or two
    /// logs have no step in common. A curve that is the same in both, such as a learning rate, is then drawn twice too.
    pub fn apart(&self) -> BTreeSet<SourceId> {
        let mut told: BTreeMap<SourceId, (u64, u64, bool)> = BTreeMap::new();
        for series in self.train.series.iter().filter(|s| s.tracks.len() > 1) {
            let steps = |t: &Track| t.precision == Precision::Console && t.steps.is_some();
            for (nth, track) in series.tracks.iter().enumerate().skip(1) {
                let beside = steps(track) && series.tracks[..nth].iter().all(steps);
                let (agrees, differs, logs) = told.entry(track.source).or_insert((0, 0, true));
                *agrees += u64::from(track.agrees);
                *differs += u64::from(track.differs);
                *logs &= beside;
            }
        }
        let apart = told.into_iter().filter(|(_, (agrees, differs, logs))| match agrees + differs {
            0 => *logs,
            _ => differs > agrees,
        });
        apart.map(|(source, _)| source).collect()
    }

    /// The axes on which the training's samples stand.
    pub fn axes(&self) -> impl Iterator<Item = XAxis> {
        XAxis::ALL.into_iter().filter(|x| self.train.iter().any(|(_, series)| series.extent(*x).is_some()))
    }

    /// The training point that is furthest.
    pub fn last_train(&self) -> Option<&Point> {
        self.last_train.as_ref().map(|(_, point)| point)
    }

    /// The newest point is the summary of a finished run.
    pub fn is_final(&self) -> bool {
        self.ended.is_some()
    }

    pub fn points(&self) -> u64 {
        self.points
    }

    /// Values not kept, because there were too many different keys.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// The name of a printed key that has no canonical one. Trackers put the family before it, consoles do not.
fn shown_name(key: &str) -> &str {
    ["train/", "eval/", "eval_"].iter().find_map(|prefix| key.strip_prefix(prefix)).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: Option<u64>, keys: &[(&'static str, f64)]) -> Point {
        Point { step, canonical: keys.to_vec(), ..Point::default() }
    }

    fn loss(metrics: &Metrics) -> Vec<(f64, f64, u64)> {
        let series = metrics.series("loss").unwrap();
        let (from, to) = series.extent(XAxis::Step).unwrap();
        series.view(XAxis::Step, from..to, 1000).iter().map(|b| (b.x, b.last, b.count)).collect()
    }

    const CONSOLE: SourceId = SourceId(0);
    const FILE: SourceId = SourceId(1);
    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_long_run_keeps_its_spikes_and_its_ends() {
        let mut metrics = Metrics::default();
        for step in 0..300_000u64 {
            let value = if step == 1234 { 1e6 } else { (step as f64).sqrt() };
            metrics.push(AT, CONSOLE, point(Some(step), &[("loss", value)]));
        }
        let series = metrics.series("loss").unwrap();
        assert_eq!(series.extent(XAxis::Step), Some((0.0, 299_999.0)));
        assert_eq!(series.min_max(), Some((0.0, 1e6)));
        let view = series.view(XAxis::Step, 0.0..299_999.0, 200);
        assert_eq!(view.len(), 200);
        assert_eq!(view.iter().map(|b| b.count).sum::<u64>(), 300_000);
        assert_eq!(view.iter().filter(|b| b.max == 1e6).count(), 1);
        assert_eq!(view.last().unwrap().last, 299_999f64.sqrt());
        assert!(view.windows(2).all(|w| w[0].x < w[1].x));
        let end = series.view(XAxis::Step, 299_990.0..299_999.0, 10);
        assert_eq!(
            end.iter().map(|b| (b.x, b.count)).collect::<Vec<_>>(),
            (299_990..300_000).map(|x| (f64::from(x), 1)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_side_file_wins_over_the_console_and_neither_is_doubled() {
        let check = |file_first: bool| {
            let mut metrics = Metrics::default();
            let file = |m: &mut Metrics| {
                for step in 1..=10 {
                    m.push_from(
                        AT,
                        FILE,
                        Precision::Full,
                        point(Some(step * 10), &[("loss", 2.0 + 1.0 / (step * 7) as f64)]),
                    );
                }
            };
            if file_first {
                file(&mut metrics);
            }
            for step in 1..=12 {
                let rounded = ((2.0 + 1.0 / (step * 7) as f64) * 1e4).round() / 1e4;
                metrics.push(AT, CONSOLE, point(Some(step * 10), &[("loss", rounded)]));
            }
            if !file_first {
                file(&mut metrics);
            }
            let seen = loss(&metrics);
            assert_eq!(seen.len(), 12, "{seen:?}");
            assert!(seen.iter().all(|(_, _, count)| *count == 1));
            assert_eq!(seen[0], (10.0, 2.0 + 1.0 / 7.0, 1));
            assert_eq!(seen[11], (120.0, 2.0119, 1));
            assert_eq!(metrics.series("loss").unwrap().last().unwrap().step, Some(120));
            assert_eq!(metrics.last_train().unwrap().step, Some(120));
        };
        check(true);
        check(false);
    }

    #[test]
    fn console_lines_without_a_step_yield_to_a_file_that_has_them() {
        let mut metrics = Metrics::default();
        for i in 1..=5 {
            metrics.push(AT, CONSOLE, point(None, &[("loss", f64::from(i))]));
            metrics.push_from(AT, FILE, Precision::Full, point(Some(i as u64), &[("loss", f64::from(i))]));
        }
        assert_eq!(loss(&metrics).len(), 5);
        let series = metrics.series("loss").unwrap();
        assert_eq!(series.view(XAxis::Time, -1.0..1.0, 1)[0].count, 5);
    }

    #[test]
    fn ranks_are_one_sample_with_a_spread() {
        let mut metrics = Metrics::default();
        for step in 0..4 {
            for (rank, value) in [(2, 30.0), (0, 10.0), (1, 20.0)] {
                let mut p = point(Some(step), &[("tokens_per_second", value)]);
                p.rank = Some(rank);
                metrics.push(AT, CONSOLE, p);
            }
        }
        let series = metrics.series("tokens_per_second").unwrap();
        let view = series.view(XAxis::Step, 0.0..3.0, 4);
        assert_eq!(view.len(), 4);
        assert!(view.iter().all(|b| (b.min, b.max, b.last, b.count) == (10.0, 30.0, 10.0, 1)), "{view:?}");
    }

    #[test]
    fn files_of_ranks_that_differ_widen_the_spread() {
        let mut metrics = Metrics::default();
        for (source, value) in [(CONSOLE, 100.0), (FILE, 140.0)] {
            for step in 0..10 {
                metrics.push(AT, source, point(Some(step), &[("tokens_per_second", value)]));
            }
        }
        let view = metrics.series("tokens_per_second").unwrap().view(XAxis::Step, 0.0..9.0, 2);
        assert_eq!(view.iter().map(|b| (b.min, b.max, b.count)).collect::<Vec<_>>(), [(100.0, 140.0, 5); 2]);
    }

    #[test]
    fn runs_with_other_numbers_are_told_apart() {
        let mut metrics = Metrics::default();
        for step in 0..50 {
            metrics.push(AT, CONSOLE, point(Some(step), &[("loss", 2.0), ("grad_norm", 1.0)]));
            metrics.push(AT, FILE, point(Some(step), &[("loss", 3.0), ("grad_norm", 1.0)]));
        }
        let runs = |key| metrics.series(key).unwrap().runs(&BTreeSet::new(), XAxis::Step, 0.0..49.0, 10);
        let seen: Vec<_> = runs("loss").iter().map(|(source, view)| (*source, view.len(), view[0].last)).collect();
        assert_eq!(seen, [(CONSOLE, 10, 2.0), (FILE, 10, 3.0)]);
        // Two prints of the same numbers are one run.
        assert!(runs("grad_norm").is_empty());
    }

    #[test]
    fn a_source_is_a_run_of_its_own_by_all_that_it_tells() {
        let rounded = |value: f64| (value * 100.0).round() / 100.0;
        let tell = |other: &dyn Fn(u64) -> Option<(u64, f64, f64)>, precision| {
            let mut metrics = Metrics::default();
            for step in 1..=50u64 {
                let rate = 1e-3 / step as f64;
                let own = [("loss", 2.0 + 0.1 / step as f64), ("grad_norm", 1.0), ("learning_rate", rate)];
                metrics.push(AT, CONSOLE, point(Some(step), &own));
                if let Some((at, loss, norm)) = other(step) {
                    let keys = [("loss", loss), ("grad_norm", norm), ("learning_rate", 1e-3 / at as f64)];
                    metrics.push_from(AT, FILE, precision, point(Some(at), &keys));
                }
            }
            metrics
        };
        let check = |metrics: &Metrics, apart: bool| {
            let told = metrics.apart();
            assert_eq!(!told.is_empty(), apart);
            let rates = metrics.series("learning_rate").unwrap().runs(&told, XAxis::Step, 0.0..99.0, 10);
            assert_eq!(rates.len(), if apart { 2 } else { 0 });
        };
        // Another, shorter run; its learning rates are the same.
        check(&tell(&|step| (step <= 20).then_some((step, 3.0, 2.0)), Precision::Console), true);
        // Two logs without a step in common.
        check(&tell(&|step| Some((step + 50, 1.0, 1.0)), Precision::Console), true);
        // The same numbers in a file, all of them and the later ones.
        check(&tell(&|step| Some((step, rounded(2.0 + 0.1 / step as f64), 1.0)), Precision::Full), false);
        check(&tell(&|step| Some((step + 50, 1.0, 1.0)), Precision::Full), false);
        // A file with the loss of each step beside a log with means.
        check(&tell(&|step| Some((step, 1.5, 1.0)), Precision::Full), false);
    }

    #[test]
    fn restarts_stay_apart() {
        let mut metrics = Metrics::default();
        for (segment, steps) in [(0, 0..100), (1, 60..80)] {
            for step in steps {
                let mut p = point(Some(step), &[("loss", f64::from(segment))]);
                p.segment = segment;
                metrics.push(AT, CONSOLE, p);
            }
        }
        let view = metrics.series("loss").unwrap().view(XAxis::Step, 0.0..99.0, 10);
        assert_eq!(view.iter().map(|b| b.segment).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert!(view.iter().all(|b| b.min == b.max));
    }

    #[test]
    fn keys_of_trackers_and_consoles_are_one_series() {
        let mut metrics = Metrics::default();
        let mut p = point(Some(1), &[("loss", 1.0)]);
        p.raw =
            vec![("train/loss".into(), 1.0), ("train/entropy_x".into(), 2.0), ("lr".into(), 3.0), ("trl".into(), 1.0)];
        p.renamed = 0b1000;
        metrics.push(AT, FILE, p);
        assert_eq!(metrics.train().keys().map(Clean::as_str).collect::<Vec<_>>(), ["entropy_x", "loss", "lr"]);
        assert_eq!(metrics.series("loss").unwrap().len(), 1);
    }

    #[test]
    fn hostile_keys_are_bounded_and_counted() {
        let mut metrics = Metrics::default();
        for i in 0..3 * MAX_KEYS {
            let raw = vec![(Clean::new(&format!("k{i}")), 1.0)];
            metrics.push(AT, CONSOLE, Point { raw, step: Some(i as u64), ..Point::default() });
        }
        assert_eq!(metrics.train().len(), MAX_KEYS);
        assert_eq!(metrics.dropped(), 2 * MAX_KEYS as u64);
    }

    #[test]
    fn points_without_a_step_stand_side_by_side() {
        let mut metrics = Metrics::default();
        for i in 0..10_000 {
            metrics.push(AT, CONSOLE, point(None, &[("loss", f64::from(i))]));
        }
        let eval = Point { kind: PointKind::Eval, ..point(None, &[("eval_loss", 1.0)]) };
        metrics.push(AT, CONSOLE, eval);
        let series = metrics.series("loss").unwrap();
        assert_eq!(series.extent(XAxis::Step), None);
        assert_eq!(series.extent(XAxis::Points), Some((1.0, 10_000.0)));
        assert_eq!(series.view(XAxis::Points, 1.0..10_000.0, 100).len(), 100);
        assert_eq!(metrics.eval().get("eval_loss").unwrap().extent(XAxis::Points), Some((10_000.0, 10_000.0)));
        metrics.forget(CONSOLE);
        metrics.push(AT, CONSOLE, point(None, &[("loss", 1.0)]));
        assert_eq!(metrics.series("loss").unwrap().extent(XAxis::Points), Some((1.0, 1.0)));
    }

    #[test]
    fn odd_ranges_give_nothing_and_do_not_panic() {
        let mut metrics = Metrics::default();
        metrics.push(AT, CONSOLE, point(Some(u64::MAX - 1), &[("loss", f64::NAN)]));
        let series = metrics.series("loss").unwrap();
        let check = |range: Range<f64>, buckets| series.view(XAxis::Step, range, buckets).len();
        assert_eq!(check(f64::NAN..1.0, 10), 0);
        assert_eq!(check(1.0..0.0, 10), 0);
        assert_eq!(check(0.0..1.0, 0), 0);
        assert_eq!(check(0.0..f64::INFINITY, 10), 1);
        assert_eq!(check(f64::NEG_INFINITY..f64::INFINITY, 10), 1);
        assert_eq!(series.min_max(), None);
        assert_eq!(series.nonfinite(), 1);
    }
}
