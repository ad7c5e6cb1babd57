//! TensorBoard's event files: scalars of torch's, tensorboardX's and TensorFlow's writers.
//!
//! A record is a length, its masked CRC-32C, the bytes, their masked CRC-32C; an event holds a step and tagged values.
//! <https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto>

use std::collections::HashMap;

use crate::{model::metric::PointKind, parse::metrics::Record};

use super::{
    crc::MaskedCrc32c,
    keys::{Family, Keys, Row},
    wire::{Fields, Malformed, Value},
};

/// A record longer than this is refused: the length cannot be meant.
const MAX_RECORD: u64 = 64 << 20;
/// A record longer than this holds an image or a histogram, no scalars, and is passed over without being kept.
const MAX_KEPT: u64 = 1 << 20;
/// Length and its checksum.
const HEAD: usize = 12;

/// Where the reader is within a record.
#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    /// A record of this length, with its data and the last checksum to come.
    Data(usize),
    /// Bytes still to pass over of a long record, data checksum included.
    Skip {
        left: u64,
        crc: MaskedCrc32c,
    },
    /// Nothing after this place can be trusted.
    Stopped,
}

/// Reads one event file in any chunking.
#[derive(Debug)]
pub struct TfEvents {
    state: State,
    buffer: Vec<u8>,
    /// Offset of the first byte of `buffer` in the file.
    at: u64,
    records: u64,
    keys: Keys,
    /// Values of one step that are still being gathered: training, validation, the end's summary.
    open: [Open; 3],
    last_step: HashMap<usize, u64>,
    segment: u32,
    unparsed: u64,
    /// Records with a bad checksum, or that were no event.
    bad: u64,
    why_stopped: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Open {
    row: Row,
    line: u64,
    byte: u64,
    segment: u32,
}

impl Default for TfEvents {
    fn default() -> Self {
        Self {
            state: State::Head,
            buffer: Vec::new(),
            at: 0,
            records: 0,
            keys: Keys::default(),
            open: Default::default(),
            last_step: HashMap::new(),
            segment: 0,
            unparsed: 0,
            bad: 0,
            why_stopped: None,
        }
    }
}

impl TfEvents {
    /// Whether a file begins like an event file: a plausible first length with its right checksum. `None` while there
    /// are too few bytes to say.
    pub fn recognise(start: &[u8]) -> Option<bool> {
        let Some(head) = start.first_chunk::<HEAD>() else {
            // Text has no NUL among its first bytes; the length's high bytes are NULs.
            return (start.len() >= 8 && start[4..8] != [0; 4]).then_some(false);
        };
        let length = u64::from_le_bytes(head[..8].try_into().unwrap_or_default());
        Some(length <= MAX_RECORD && MaskedCrc32c::of(&head[..8]).to_le_bytes() == head[8..])
    }

    /// Takes every value for a validation's: the file lies in a validation's folder.
    pub fn all_eval(&mut self) {
        self.keys.all_eval = true;
    }

    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Record>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.state {
                State::Stopped => {
                    self.unparsed += rest.len() as u64;
                    return;
                }
                State::Skip { left, crc } => {
                    let take = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let data = usize::try_from(left.saturating_sub(4)).unwrap_or(usize::MAX).min(take);
                    crc.feed(&rest[..data]);
                    self.buffer.extend_from_slice(&rest[data..take]);
                    *left -= take as u64;
                    self.at += take as u64;
                    rest = &rest[take..];
                    if *left == 0 {
                        if self.buffer != crc.finish().to_le_bytes() {
                            self.bad += 1;
                        }
                        self.buffer.clear();
                        self.state = State::Head;
                    }
                }
                State::Head => {
                    let take = (HEAD - self.buffer.len()).min(rest.len());
                    self.buffer.extend_from_slice(&rest[..take]);
                    rest = &rest[take..];
                    if self.buffer.len() == HEAD {
                        self.head();
                    }
                }
                State::Data(length) => {
                    let take = (*length + 4 - self.buffer.len()).min(rest.len());
                    self.buffer.extend_from_slice(&rest[..take]);
                    rest = &rest[take..];
                    if self.buffer.len() == *length + 4 {
                        let buffer = std::mem::take(&mut self.buffer);
                        self.record(&buffer, out);
                        self.at += buffer.len() as u64;
                        self.buffer = buffer;
                        self.buffer.clear();
                        self.state = State::Head;
                    }
                }
            }
        }
    }

    /// A record's head is in the buffer.
    fn head(&mut self) {
        let length = self.buffer.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        let right = MaskedCrc32c::of(&self.buffer[..8]).to_le_bytes() == self.buffer[8..];
        if !right || length > MAX_RECORD {
            self.why_stopped = Some(if right { "a record of more than 64 MiB" } else { "a bad checksum of a length" });
            self.unparsed += self.buffer.len() as u64;
            self.state = State::Stopped;
        } else if length > MAX_KEPT {
            self.unparsed += length;
            self.records += 1;
            self.state = State::Skip { left: length + 4, crc: MaskedCrc32c::default() };
        } else {
            self.state = State::Data(length as usize);
        }
        self.at += HEAD as u64;
        self.buffer.clear();
    }

    fn record(&mut self, bytes: &[u8], out: &mut Vec<Record>) {
        self.records += 1;
        let Some((data, crc)) = bytes.split_last_chunk::<4>() else { return };
        if MaskedCrc32c::of(data).to_le_bytes() != *crc {
            self.bad += 1;
            self.unparsed += data.len() as u64;
        } else if self.event(data, out).is_err() {
            self.bad += 1;
        }
    }

    fn event(&mut self, data: &[u8], out: &mut Vec<Record>) -> Result<(), Malformed> {
        let mut step = 0u64;
        let mut time = None;
        for field in Fields(data) {
            match field? {
                (1, value) => time = value.float(),
                (2, value) => step = value.int().and_then(|s| u64::try_from(s).ok()).unwrap_or(0),
                _ => {}
            }
        }
        for field in Fields(data) {
            let (5, summary) = field? else { continue };
            for value in summary.fields() {
                let (1, value) = value? else { continue };
                if let Some((tag, number)) = scalar(value)? {
                    self.put(tag, number, step, time, out);
                }
            }
        }
        Ok(())
    }

    /// One scalar: values of one step become one point.
    fn put(&mut self, tag: &str, value: f64, step: u64, time: Option<f64>, out: &mut Vec<Record>) {
        let Some(id) = self.keys.id(tag) else { return };
        let family = self.keys.family(id);
        let (which, epoch) = match family {
            Family::Train => (0, false),
            Family::Eval => (1, false),
            Family::Final => (2, false),
            // An epoch belongs to the training's values; beside a validation's it was written for a later reader.
            Family::Epoch => (0, true),
            Family::Step | Family::Time | Family::Ignored => return,
        };
        if family == Family::Train {
            // One tag's own steps tell of a restart: others may be counted in epochs.
            let last = self.last_step.insert(id, step);
            if last.is_some_and(|last| step < last) {
                self.settle(out);
                self.segment += 1;
                self.last_step.clear();
                self.last_step.insert(id, step);
            }
        }
        let row = &self.open[which].row;
        let twice = row.pairs.iter().find(|(known, _)| *known == id);
        if row.step != Some(step) {
            self.settle(out);
        } else if !epoch && twice.is_some_and(|(_, known)| known.to_bits() != value.to_bits()) {
            self.flush(which, out);
        }
        let open = &mut self.open[which];
        if open.row.step.is_none() {
            open.row.step = Some(step);
            open.row.time = time;
            open.line = self.records;
            open.byte = self.at;
            open.segment = self.segment;
        }
        if epoch {
            open.row.epoch.get_or_insert(value);
        } else if !open.row.pairs.iter().any(|(known, _)| *known == id) {
            open.row.pairs.push((id, value));
        }
    }

    fn flush(&mut self, which: usize, out: &mut Vec<Record>) {
        let Open { row, line, byte, segment } = std::mem::take(&mut self.open[which]);
        if let Some(mut point) = self.keys.point(&row) {
            point.line = line;
            point.byte = byte;
            point.segment = segment;
            if which == 2 {
                point.kind = PointKind::Final;
            }
            out.push(Record::Point(point));
        }
    }

    /// Gives out what is still being gathered: nothing more is there for now.
    pub fn settle(&mut self, out: &mut Vec<Record>) {
        // In the order in which they were begun.
        let mut order = [0, 1, 2];
        order.sort_by_key(|i| self.open[*i].line);
        for which in order {
            self.flush(which, out);
        }
    }

    pub fn segments(&self) -> u32 {
        self.segment + 1
    }

    /// Bytes of records that could not be read or were passed over.
    pub fn unparsed_bytes(&self) -> u64 {
        self.unparsed
    }

    /// Records that were damaged, and why reading stopped if it did.
    pub fn damage(&self) -> (u64, Option<&'static str>) {
        (self.bad, self.why_stopped)
    }
}

/// The tag and number of a value, if it is a scalar.
fn scalar(value: Value<'_>) -> Result<Option<(&str, f64)>, Malformed> {
    let (mut tag, mut number) = ("", None);
    for field in value.fields() {
        match field? {
            (1, name) => tag = std::str::from_utf8(name.bytes()).map_err(|_| Malformed)?,
            (2, simple) => number = simple.float(),
            (8, tensor) => number = number_of_tensor(tensor)?,
            // Histogram, image, audio: not a scalar whatever else stands there.
            (4..=6, _) => return Ok(None),
            _ => {}
        }
    }
    Ok(number.filter(|_| !tag.is_empty()).map(|number| (tag, number)))
}

/// The number of a tensor that holds one.
fn number_of_tensor(tensor: Value<'_>) -> Result<Option<f64>, Malformed> {
    const FLOAT: i64 = 1;
    const DOUBLE: i64 = 2;
    const INT32: i64 = 3;
    const INT64: i64 = 9;
    const BFLOAT16: i64 = 14;
    const HALF: i64 = 19;
    let (mut dtype, mut content, mut number, mut elements) = (0, &[][..], None, 1u64);
    for field in tensor.fields() {
        match field? {
            (1, value) => dtype = value.int().unwrap_or(0),
            (2, shape) => {
                for dim in shape.fields() {
                    let (2, dim) = dim? else { continue };
                    for size in dim.fields() {
                        if let (1, size) = size? {
                            elements = elements.saturating_mul(size.int().unwrap_or(0).max(0) as u64);
                        }
                    }
                }
            }
            (4, value) => content = value.bytes(),
            (5, value) => number = number.or(value.first_float(4)),
            (6, value) => number = number.or(value.first_float(8)),
            (7, value) => number = number.or(value.first_int().map(|v| f64::from(v as i32))),
            (10, value) => number = number.or(value.first_int().map(|v| v as f64)),
            // Half and bfloat16 values stand as their bits in an integer.
            (13, value) => {
                let bits = value.first_int().unwrap_or(0) as u16;
                number = number.or(Some(if dtype == HALF { half(bits) } else { bfloat16(bits) }));
            }
            _ => {}
        }
    }
    if elements != 1 {
        return Ok(None);
    }
    Ok(number.or_else(|| match dtype {
        FLOAT => content.first_chunk().map(|b| f32::from_le_bytes(*b).into()),
        DOUBLE => content.first_chunk().map(|b| f64::from_le_bytes(*b)),
        INT32 => content.first_chunk().map(|b| i32::from_le_bytes(*b).into()),
        INT64 => content.first_chunk().map(|b| i64::from_le_bytes(*b) as f64),
        BFLOAT16 => content.first_chunk().map(|b| bfloat16(u16::from_le_bytes(*b))),
        HALF => content.first_chunk().map(|b| half(u16::from_le_bytes(*b))),
        _ => None,
    }))
}

fn bfloat16(bits: u16) -> f64 {
    f32::from_bits(u32::from(bits) << 16).into()
}

fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f64::from(bits & 0x3ff);
    match (bits >> 10) & 0x1f {
        0 => sign * fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => sign * f64::INFINITY,
        0x1f => f64::NAN,
        exponent => sign * (1024.0 + fraction) * 2f64.powi(i32::from(exponent) - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::metric::{
            Point,
            PointKind::{Eval, Final, Train},
        },
        parse::files::sample::{bytes, double, float, int, tf_event, tf_record},
    };

    fn read(file: &[u8], chunk: usize) -> (Vec<Point>, TfEvents) {
        let mut reader = TfEvents::default();
        let mut out = Vec::new();
        for part in file.chunks(chunk) {
            reader.feed(part, &mut out);
        }
        reader.settle(&mut out);
        let points = out.into_iter().filter_map(|r| if let Record::Point(p) = r { Some(p) } else { None });
        (points.collect(), reader)
    }

    /// Twenty records: ten steps of two scalars.
    fn records() -> Vec<Vec<u8>> {
        let step = |s: u64| [tf_event(s, "train/loss", &float(2, s as f32)), tf_event(s, "lr", &float(2, 0.5))];
        (0..10).flat_map(step).collect()
    }

    #[test]
    fn every_encoding_of_a_scalar_is_read() {
        let check = |value: Vec<u8>, want: Option<f64>| {
            let points = read(&tf_event(3, "loss", &value), 7).0;
            assert_eq!(points.first().map(|p| p.raw[0].1), want);
        };
        let tensor = |parts: &[Vec<u8>]| bytes(8, &parts.concat());
        check(float(2, 1.5), Some(1.5));
        check(tensor(&[int(1, 1), bytes(4, &1.5f32.to_le_bytes())]), Some(1.5));
        check(tensor(&[int(1, 1), bytes(2, &[]), bytes(5, &1.5f32.to_le_bytes())]), Some(1.5));
        check(tensor(&[int(1, 1), float(5, 1.5)]), Some(1.5));
        check(tensor(&[int(1, 2), bytes(4, &1.5f64.to_le_bytes())]), Some(1.5));
        check(tensor(&[int(1, 2), double(6, 1.5)]), Some(1.5));
        check(tensor(&[int(1, 3), int(7, (-7i64) as u64)]), Some(-7.0));
        check(tensor(&[int(1, 9), bytes(10, &[7])]), Some(7.0));
        check(tensor(&[int(1, 9), bytes(4, &7i64.to_le_bytes())]), Some(7.0));
        check(tensor(&[int(1, 14), bytes(4, &[0xc0, 0x3f])]), Some(1.5));
        check(tensor(&[int(1, 19), bytes(13, &[0x80, 0x7c])]), Some(1.5));
        // A vector, a histogram and a text are no scalars.
        check(tensor(&[int(1, 1), bytes(2, &bytes(2, &int(1, 3))), bytes(4, &[0; 12])]), None);
        check([bytes(5, &double(1, 2.0)), float(2, 1.0)].concat(), None);
        check(tensor(&[int(1, 7), bytes(8, b"text")]), None);
    }

    #[test]
    fn values_of_a_step_are_one_point_in_any_chunking() {
        let file = records().concat();
        let want = read(&file, file.len()).0;
        assert_eq!(want.len(), 10);
        assert_eq!(want[3].canonical, [("loss", 3.0), ("learning_rate", 0.5)]);
        for chunk in 1..200 {
            assert_eq!(read(&file, chunk).0, want, "{chunk}");
        }
    }

    #[test]
    fn a_cut_at_every_byte_waits_for_more() {
        let records = records();
        let file = records.concat();
        let mut ends = vec![0];
        for record in &records {
            ends.push(ends[ends.len() - 1] + record.len());
        }
        for cut in 0..file.len() {
            let (points, reader) = read(&file[..cut], 64);
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            assert_eq!(points.len(), whole.div_ceil(2), "{cut}");
            assert_eq!(reader.damage(), (0, None));
            assert_eq!(TfEvents::recognise(&file[..cut]), (cut >= HEAD).then_some(true));
        }
    }

    #[test]
    fn damage_is_told_apart() {
        let mut records = records();
        let last = records[4].len() - 6;
        records[4][last] ^= 1;
        let (points, reader) = read(&records.concat(), 13);
        assert_eq!((points.len(), reader.damage()), (10, (1, None)));
        assert_eq!(points[2].raw.len(), 1, "only the damaged value is missing");
        records[10][0] ^= 1;
        let (points, reader) = read(&records.concat(), 13);
        assert_eq!((points.len(), reader.damage()), (5, (1, Some("a bad checksum of a length"))));
        let mut file = records[..2].concat();
        let length = (1u64 << 62).to_le_bytes();
        file.extend(length);
        file.extend(MaskedCrc32c::of(&length).to_le_bytes());
        file.extend([0; 100]);
        let (points, reader) = read(&file, 13);
        assert_eq!((points.len(), reader.damage()), (1, (0, Some("a record of more than 64 MiB"))));
    }

    #[test]
    fn long_records_pass_without_being_kept() {
        let mut file = tf_event(1, "loss", &float(2, 1.0));
        file.extend(tf_record(&vec![7; 3 << 20]));
        file.extend(tf_event(2, "loss", &float(2, 2.0)));
        let (points, reader) = read(&file, 4096);
        assert_eq!((points.len(), reader.damage()), (2, (0, None)));
        assert!(reader.buffer.capacity() < 64 << 10);
    }

    #[test]
    fn validation_and_restarts_stand_apart() {
        let event = |step, tag, value| tf_event(step, tag, &float(2, value));
        let file = [
            event(10, "train/loss", 3.0),
            event(10, "train/epoch", 0.1),
            event(10, "eval/loss", 4.0),
            event(10, "train/epoch", 0.1),
            event(1, "epoch_summary", 1.0),
            event(20, "train/loss", 2.0),
            event(10, "train/loss", 2.5),
            event(20, "train/train_runtime", 9.0),
            event(20, "train/train_loss", 9.0),
        ];
        let (points, reader) = read(&file.concat(), 5);
        let seen: Vec<_> = points.iter().map(|p| (p.kind, p.step.unwrap(), p.segment)).collect();
        assert_eq!(
            seen,
            [(Train, 10, 0), (Eval, 10, 0), (Train, 1, 0), (Train, 20, 0), (Train, 10, 1), (Final, 20, 1)]
        );
        assert_eq!((reader.segments(), points[0].epoch, points[1].epoch), (2, Some(f64::from(0.1f32)), None));
    }

    proptest::proptest! {
        #![proptest_config(crate::properties::config(256))]

        #[test]
        fn no_bytes_panic(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            read(&data, 11);
            read(&tf_record(&data), 11);
            read(&tf_event(1, "x", &data), 11);
        }
    }
}
