//! Rows of one shape are taken in column by column: where each key goes is looked up once for all of them.

use crate::model::{
    SourceId, Timestamp,
    metric::{PointKind, Rows},
};

use super::{Metrics, Place, Precision, Series, Steps, To, Track};

impl Metrics {
    /// Takes the rows of a log, as [`Metrics::push_from`] would take each.
    pub fn push_rows(&mut self, at: Timestamp, source: SourceId, precision: Precision, rows: &Rows) {
        if rows.shape.kind == PointKind::Final || rows.heads.iter().any(|head| head.rank.is_some()) {
            for point in rows.points() {
                self.push_from(at, source, precision, point);
            }
            return;
        }
        let shape = &rows.shape;
        self.points += rows.heads.len() as u64;
        self.ended = self.ended.filter(|ended| *ended != source);
        let tokens = shape.canonical.iter().find(|(_, name, _)| *name == "num_tokens");
        let is_train = shape.kind == PointKind::Train;
        let mut order = self.orders.get(&source).copied().unwrap_or_default();
        let mut places = Vec::with_capacity(rows.heads.len());
        for (head, values) in rows.iter() {
            order = order.saturating_add(u32::from(is_train));
            let tokens = tokens.and_then(|(at, _, factor)| Some(values.get(*at)? * factor));
            let place = Place::new(head, at, tokens, order);
            if is_train {
                self.moments.trained(source, head.line, place);
            } else {
                self.moments.evaluated(source, precision, head.line, shape.canonical(values), place);
            }
            places.push(place);
        }
        self.orders.insert(source, order);
        let steps = places.iter().filter_map(|place| place.step).fold(None, |steps: Steps, step| {
            let (low, high) = steps.unwrap_or((step, step));
            Some((low.min(step), high.max(step)))
        });
        let column = |at: usize, factor: f64| {
            let values = rows.values.get(at..).unwrap_or_default();
            values.iter().step_by(shape.names.len().max(1)).map(move |value| value * factor)
        };
        let room = self.room;
        let before = self.train.len() + self.eval.len();
        let family = if shape.kind == PointKind::Eval { &mut self.eval } else { &mut self.train };
        let others = before - family.len();
        for (nth, (at, name, factor)) in shape.canonical.iter().enumerate() {
            match family.canonical(nth, name, Metrics::may_grow(others, family)) {
                Some(to) => {
                    family.series[to].push_column(source, precision, &places, steps, column(*at, *factor), room);
                }
                None => self.dropped += rows.heads.len() as u64,
            }
        }
        for (nth, name) in shape.names.iter().enumerate() {
            let renamed = nth < 128 && shape.renamed >> nth & 1 == 1;
            let known = |name: &str| shape.canonical.iter().any(|(_, known, _)| *known == name);
            let may_grow = Metrics::may_grow(others, family);
            match family.raw(nth, name, renamed, shape.canonical.len(), known, may_grow) {
                To::Series(to) => {
                    family.series[to].push_column(source, precision, &places, steps, column(nth, 1.0), room);
                }
                To::Nowhere => {}
                To::NoRoom => self.dropped += rows.heads.len() as u64,
            }
        }
        self.share_room();
        if let Some((head, values)) = rows.iter().last().filter(|_| is_train) {
            self.note_last(source, shape.point(head, values));
        }
    }
}

impl Series {
    /// Takes a value for each place.
    fn push_column(
        &mut self,
        source: SourceId,
        precision: Precision,
        places: &[Place],
        steps: Steps,
        values: impl Iterator<Item = f64> + Clone,
        room: usize,
    ) {
        let at = self.track(source, precision, room);
        if let [track] = &mut self.tracks[..] {
            track.push_column(places, steps, values, room);
        } else {
            places.iter().zip(values).for_each(|(place, value)| self.push_to(at, *place, None, value, room));
        }
    }
}

impl Track {
    fn push_column(&mut self, places: &[Place], steps: Steps, values: impl Iterator<Item = f64> + Clone, room: usize) {
        values.clone().for_each(|value| self.total.take(value));
        self.total.count += places.len() as u64;
        if let Some((first, last)) = steps {
            let (low, high) = self.steps.unwrap_or((first, last));
            self.steps = Some((low.min(first), high.max(last)));
        }
        self.cells.push_column(places, values, room);
    }
}
