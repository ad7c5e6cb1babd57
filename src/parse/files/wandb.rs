//! W&B's offline files: history, configuration and the console of a run.
//!
//! After a header of seven bytes the file is a LevelDB log (blocks of 32 KiB, records in chunks) with plain CRC-32
//! checksums, and each record is a protobuf message.
//! <https://github.com/wandb/wandb/blob/main/wandb/sdk/internal/datastore.py>

use crate::{
    model::metric::{Point, Progress},
    parse::metrics::{Reader, Record},
};

use super::{
    crc::crc32,
    json,
    keys::{Keys, Row},
    wire::{Fields, Malformed, Value},
};

/// What every file begins with, before a version byte.
const MAGIC: &[u8] = b":W&B\xe1\xbe";
const FILE_HEAD: u64 = 7;
const BLOCK: u64 = 32 << 10;
const CHUNK_HEAD: usize = 7;
/// A record longer than this holds no metrics of interest and is passed over.
const MAX_RECORD: usize = 4 << 20;
/// Points of the console that are held back until it is clear whether the run logs a history.
const MAX_HELD: usize = 16;
/// Bytes of the console kept for a caller who may never ask.
const MAX_CONSOLE: usize = 4 << 20;

/// Reads one `.wandb` file in any chunking.
#[derive(Debug, Default)]
pub struct Wandb {
    buffer: Vec<u8>,
    /// Offset of the first byte of `buffer` in the file.
    at: u64,
    /// The chunks of a record so far; `None` while no record is open.
    record: Option<Vec<u8>>,
    record_at: u64,
    records: u64,
    keys: Keys,
    last_step: Option<u64>,
    segment: u32,
    total_steps: Option<u64>,
    console: Reader,
    console_bytes: Vec<u8>,
    scratch: Vec<Record>,
    held: Vec<Point>,
    has_history: bool,
    unparsed: u64,
    bad: u64,
}

impl Wandb {
    /// Whether a file begins like a `.wandb` file; `None` while there are too few bytes to say.
    pub fn recognise(start: &[u8]) -> Option<bool> {
        if start.len() >= MAGIC.len() {
            Some(start.starts_with(MAGIC))
        } else {
            (!MAGIC.starts_with(start)).then_some(false)
        }
    }

    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Record>) {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        loop {
            let used = self.chunk(rest, out);
            if used == 0 {
                break;
            }
            self.at += used as u64;
            rest = &rest[used..];
        }
        self.buffer = rest.to_vec();
    }

    /// Reads one chunk, or passes over what is none; gives the bytes used, 0 when more are needed.
    fn chunk(&mut self, rest: &[u8], out: &mut Vec<Record>) -> usize {
        if self.at < FILE_HEAD {
            return rest.len().min((FILE_HEAD - self.at) as usize);
        }
        let left = (BLOCK - self.at % BLOCK) as usize;
        if left < CHUNK_HEAD {
            return left.min(rest.len());
        }
        let Some(([c0, c1, c2, c3, l0, l1, kind], body)) = rest.split_first_chunk::<CHUNK_HEAD>() else { return 0 };
        let length = usize::from(u16::from_le_bytes([*l0, *l1]));
        if !(1..=4).contains(kind) || CHUNK_HEAD + length > left {
            // Not a chunk: padding, or a length that was damaged. The next block can be trusted again.
            if *kind != 0 {
                self.bad += 1;
            }
            self.record = None;
            self.unparsed += left.min(rest.len()) as u64;
            return left.min(rest.len());
        }
        let Some(data) = body.get(..length) else { return 0 };
        if crc32(&[*kind], data) != u32::from_le_bytes([*c0, *c1, *c2, *c3]) {
            self.bad += 1;
            self.unparsed += (CHUNK_HEAD + length) as u64;
            self.record = None;
            return CHUNK_HEAD + length;
        }
        // Full, first, middle, last.
        match kind {
            1 => {
                self.record = None;
                self.whole(data, self.at, out);
            }
            2 => {
                self.record = Some(data.to_vec());
                self.record_at = self.at;
            }
            _ => {
                if let Some(record) = &mut self.record
                    && record.len() + length <= MAX_RECORD
                {
                    record.extend_from_slice(data);
                } else {
                    self.record = None;
                    self.unparsed += length as u64;
                }
                if *kind == 4
                    && let Some(record) = self.record.take()
                {
                    self.whole(&record, self.record_at, out);
                }
            }
        }
        CHUNK_HEAD + length
    }

    fn whole(&mut self, data: &[u8], at: u64, out: &mut Vec<Record>) {
        self.records += 1;
        if self.message(data, at, out).is_err() {
            self.bad += 1;
            self.unparsed += data.len() as u64;
        }
    }

    fn message(&mut self, data: &[u8], at: u64, out: &mut Vec<Record>) -> Result<(), Malformed> {
        for field in Fields(data) {
            match field? {
                (2, history) => self.history(history, at, out)?,
                (5, config) => self.config(config)?,
                // The console as lines, or as it was written; each client writes one of the two.
                (4 | 13, output) => self.output(output, out)?,
                (17, run) => {
                    for field in run.fields() {
                        if let (4, config) = field? {
                            self.config(config)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn history(&mut self, history: Value<'_>, at: u64, out: &mut Vec<Record>) -> Result<(), Malformed> {
        let mut row = Row::default();
        let mut step = None;
        let mut items = Vec::new();
        for field in history.fields() {
            match field? {
                (1, item) => items.push(Item::read(item)?),
                (2, wrapped) => {
                    for field in wrapped.fields() {
                        if let (1, number) = field? {
                            step = number.int().and_then(|s| u64::try_from(s).ok());
                        }
                    }
                }
                _ => {}
            }
        }
        // Histograms, images and tables say what they are in a part of their own: their sizes are no metrics.
        let media: Vec<String> =
            items.iter().filter_map(|i| i.key.strip_suffix("/_type").map(|name| format!("{name}/"))).collect();
        items.retain(|item| !media.iter().any(|prefix| item.key.starts_with(prefix)));
        let keys = &mut self.keys;
        for Item { mut key, json, number } in items {
            if let Some(number) = number {
                row.put(keys, &key, number);
            } else if let Some(value) = json::parse(json) {
                json::numbers(&mut key, &value, &mut |key, number| row.put(keys, key, number));
            }
        }
        row.step = row.step.or(step);
        let Some(mut point) = self.keys.point(&row) else { return Ok(()) };
        if point.step.zip(self.last_step).is_some_and(|(new, last)| new < last) {
            self.segment += 1;
        }
        self.last_step = point.step.or(self.last_step);
        point.segment = self.segment;
        point.line = self.records;
        point.byte = at;
        self.has_history = true;
        self.held.clear();
        out.push(Record::Point(point));
        Ok(())
    }

    /// Settings: the trainer's arguments say how many steps it will make, if they limit them.
    fn config(&mut self, config: Value<'_>) -> Result<(), Malformed> {
        for field in config.fields() {
            let (1, item) = field? else { continue };
            let Item { key, json, .. } = Item::read(item)?;
            if key == "max_steps"
                && let Some(steps) = json::parse(json).and_then(|v| v.as_u64())
                && steps > 0
            {
                self.total_steps = Some(steps);
            }
        }
        Ok(())
    }

    fn output(&mut self, output: Value<'_>, out: &mut Vec<Record>) -> Result<(), Malformed> {
        for field in output.fields() {
            let (3, line) = field? else { continue };
            let line = line.bytes();
            self.console.feed(line, &mut self.scratch);
            self.console_bytes.extend_from_slice(line);
            // The client cuts the console into lines and may drop their ends.
            if !line.ends_with(b"\n") && !line.contains(&b'\r') {
                self.console.feed(b"\n", &mut self.scratch);
                self.console_bytes.push(b'\n');
            }
        }
        if self.console_bytes.len() > MAX_CONSOLE {
            self.console_bytes.drain(..MAX_CONSOLE / 2);
        }
        self.pass_on_console(out);
        Ok(())
    }

    /// A history has every point of the console in full precision; without one the console is all there is.
    fn pass_on_console(&mut self, out: &mut Vec<Record>) {
        for record in self.scratch.drain(..) {
            match record {
                Record::Point(point) if !self.has_history => self.held.push(point),
                Record::Rows(rows) if !self.has_history => self.held.extend(rows.points()),
                Record::Point(_) | Record::Rows(_) | Record::Rank(_) => {}
                other @ Record::Progress(_) => out.push(other),
            }
        }
        if self.held.len() > MAX_HELD {
            out.extend(self.held.drain(..).map(Record::Point));
        }
    }

    /// Gives out what is held back: nothing more is there for now.
    pub fn settle(&mut self, out: &mut Vec<Record>) {
        out.extend(self.held.drain(..).map(Record::Point));
    }

    pub fn finish(&mut self, out: &mut Vec<Record>) {
        self.unparsed += self.buffer.len() as u64;
        self.console.finish(&mut self.scratch);
        self.pass_on_console(out);
        self.settle(out);
    }

    /// The run's console as far as it was read and not yet taken.
    pub fn take_console(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.console_bytes)
    }

    pub fn total_steps(&self) -> Option<u64> {
        self.total_steps.or(self.console.total_steps())
    }

    pub fn progress(&self) -> Option<Progress> {
        self.console.progress()
    }

    pub fn segments(&self) -> u32 {
        self.segment + 1
    }

    pub fn unparsed_bytes(&self) -> u64 {
        self.unparsed
    }

    /// Records that were damaged.
    pub fn damage(&self) -> u64 {
        self.bad
    }
}

/// A key with its value: JSON, or in newer files a number.
struct Item<'a> {
    key: String,
    json: &'a [u8],
    number: Option<f64>,
}

impl<'a> Item<'a> {
    fn read(item: Value<'a>) -> Result<Self, Malformed> {
        let (mut key, mut json, mut number) = (String::new(), &[][..], None);
        for field in item.fields() {
            match field? {
                (1, name) => key = text(name)?.to_string(),
                // The parts of a nested key.
                (2, part) => {
                    if !key.is_empty() {
                        key.push('/');
                    }
                    key.push_str(text(part)?);
                }
                // Zigzag: the sign is the lowest bit.
                (5, value) => number = value.int().map(|v| ((v as u64 >> 1) as i64 ^ -(v & 1)) as f64),
                (6, value) => number = value.float(),
                (8 | 16, value) => json = value.bytes(),
                _ => {}
            }
        }
        Ok(Self { key, json, number })
    }
}

fn text(value: Value<'_>) -> Result<&str, Malformed> {
    std::str::from_utf8(value.bytes()).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::metric::PointKind,
        parse::files::sample::{bytes, double, int, wandb_file, wandb_history, wandb_output},
    };

    fn read(file: &[u8], chunk: usize) -> (Vec<Point>, Wandb) {
        let mut reader = Wandb::default();
        let mut out = Vec::new();
        for part in file.chunks(chunk) {
            reader.feed(part, &mut out);
        }
        reader.finish(&mut out);
        let points = out.into_iter().filter_map(|r| if let Record::Point(p) = r { Some(p) } else { None });
        (points.collect(), reader)
    }

    fn history(steps: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        steps
            .map(|s| wandb_history(s, &[("train/loss", "2.5"), ("train/global_step", &(s * 10).to_string())]))
            .collect()
    }

    #[test]
    fn keys_and_numbers_in_every_spelling() {
        let nested = bytes(1, &[bytes(2, b"a"), bytes(2, b"b"), bytes(16, b"{\"c\": 1, \"d\": \"NaN\"}")].concat());
        let record = bytes(2, &nested);
        let (points, _) =
            read(&wandb_file(&[record, wandb_history(4, &[("_step", "5"), ("eval/loss", "Infinity")])]), 9);
        let raw: Vec<_> = points[0].raw.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(raw, ["a/b/c=1", "a/b/d=NaN"]);
        assert_eq!((points[1].kind, points[1].step), (PointKind::Eval, Some(5)));
        assert_eq!(points[1].canonical, [("eval_loss", f64::INFINITY)]);
    }

    #[test]
    fn numbers_that_are_no_json() {
        let item = |parts: &[Vec<u8>]| bytes(1, &parts.concat());
        let record = bytes(
            2,
            &[
                item(&[bytes(1, b"loss"), double(6, f64::NAN)]),
                item(&[bytes(1, b"down"), int(5, 3)]),
                item(&[bytes(1, b"_step"), int(5, 14)]),
                item(&[bytes(1, b"flag"), int(4, 1)]),
                item(&[bytes(2, b"hist"), bytes(2, b"_type"), bytes(16, b"\"histogram\"")]),
                item(&[bytes(2, b"hist"), bytes(2, b"packedBins"), bytes(2, b"min"), bytes(16, b"0.5")]),
                item(&[bytes(1, b"deep"), bytes(8, b"{\"a\": 2}")]),
            ]
            .concat(),
        );
        let point = &read(&wandb_file(&[record]), 9).0[0];
        let raw: Vec<_> = point.raw.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!((raw.join(" "), point.step), ("loss=NaN down=-2 deep/a=2".to_string(), Some(7)));
    }

    #[test]
    fn any_chunking_over_blocks_gives_the_same() {
        let mut records = history(0..300);
        records.insert(100, wandb_output(&"x".repeat(100_000)));
        let file = wandb_file(&records);
        assert!(file.len() > 3 * 32768);
        let (want, reader) = read(&file, file.len());
        assert_eq!((want.len(), want[299].step, reader.damage(), reader.unparsed_bytes()), (300, Some(2990), 0, 0));
        for chunk in [1, 2, 3, 7, 100, 32768, 32769] {
            assert_eq!(read(&file, chunk).0, want, "{chunk}");
        }
    }

    #[test]
    fn a_cut_at_every_byte_waits_for_more() {
        let file = wandb_file(&history(0..5));
        for cut in 0..file.len() {
            let (points, reader) = read(&file[..cut], 50);
            assert!(points.len() <= 5 && reader.damage() == 0, "{cut}");
        }
        assert_eq!(read(&file[..file.len() - 1], 50).0.len(), 4);
    }

    #[test]
    fn a_damaged_record_is_dropped_alone() {
        let records = history(0..1000);
        let mut file = wandb_file(&records);
        file[200] ^= 1;
        let (points, reader) = read(&file, 1000);
        assert_eq!((points.len(), reader.damage()), (999, 1));
        // A damaged length costs the rest of its block.
        let mut file = wandb_file(&records);
        file[12] ^= 0x80;
        let (points, reader) = read(&file, 1000);
        assert!(points.len() > 300 && reader.damage() >= 1 && reader.unparsed_bytes() > 1000, "{}", points.len());
    }

    #[test]
    fn settings_and_console() {
        let config = bytes(1, &[bytes(1, b"max_steps"), bytes(16, b"200")].concat());
        for max_steps in [bytes(5, &config), bytes(17, &bytes(4, &config))] {
            assert_eq!(read(&wandb_file(&[max_steps]), 10).1.total_steps(), Some(200));
        }
        let max_steps = bytes(5, &config);
        let file = wandb_file(&[max_steps, wandb_output("Traceback (most recent call last):\n"), wandb_output("oops")]);
        let (points, mut reader) = read(&file, 10);
        assert_eq!((points.len(), reader.total_steps()), (0, Some(200)));
        assert_eq!(reader.take_console(), b"Traceback (most recent call last):\noops\n");
    }

    proptest::proptest! {
        #![proptest_config(crate::properties::config(256))]

        #[test]
        fn no_bytes_panic(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            read(&data, 11);
            read(&[b":W&B\xe1\xbe\0", data.as_slice()].concat(), 11);
            read(&wandb_file(&[data.clone(), bytes(2, &data), bytes(2, &bytes(1, &data))]), 11);
        }
    }
}
