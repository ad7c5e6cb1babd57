//! `trainer_state.json` of transformers: the whole log of a run, rewritten at each checkpoint.
//!
//! Entries are read as soon as they are complete, so that a file that is just being written gives what it has.

use crate::parse::metrics::Record;

use super::{
    json,
    keys::{Keys, Row},
};

/// Nesting past this is no state of a trainer.
const MAX_DEPTH: usize = 128;
/// Bytes kept of what stands outside of the log.
const MAX_HEAD: usize = 64 << 10;
/// The log of steps, an object an entry.
const LOG: &[u8] = b"\"log_history\"";

/// Reads one file in any chunking.
#[derive(Debug, Default)]
pub struct TrainerState {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Depth 1, outside of lists: settings and counters.
    head: Vec<u8>,
    /// The list at depth 2 is the log.
    in_log: bool,
    entry: Vec<u8>,
    entry_at: u64,
    offset: u64,
    line: u64,
    entry_line: u64,
    keys: Keys,
    last_step: Option<u64>,
    segment: u32,
    unparsed: u64,
    broken: bool,
}

impl TrainerState {
    /// Whether a file begins like a trainer's state; `None` while there are too few bytes to say.
    pub fn recognise(start: &[u8]) -> Option<bool> {
        let trimmed = start.trim_ascii_start();
        if trimmed.is_empty() {
            return (!start.is_empty() && start.len() > 64).then_some(false);
        }
        if trimmed[0] != b'{' {
            return Some(false);
        }
        if memchr::memmem::find(trimmed, LOG).is_some() {
            return Some(true);
        }
        // JSON lines have a whole object on the first; a document goes on.
        let first = trimmed.split(|b| *b == b'\n').next().unwrap_or(trimmed);
        let first_ended = first.len() < trimmed.len();
        ((first_ended && first.trim_ascii_end().len() > 1) || trimmed.len() > 4096).then_some(false)
    }

    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Record>) {
        for byte in bytes {
            self.offset += 1;
            if self.broken {
                self.unparsed += 1;
                continue;
            }
            if *byte == b'\n' {
                self.line += 1;
            }
            self.byte(*byte, out);
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<Record>) {
        if self.in_string {
            self.keep(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(byte);
            }
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    self.broken = true;
                    return;
                }
                if self.depth == 2 {
                    let name = self.head.trim_ascii_end();
                    let name = name.strip_suffix(b":").unwrap_or(name).trim_ascii_end();
                    self.in_log = byte == b'[' && name.ends_with(LOG);
                }
                if self.in_log && self.depth == 3 {
                    self.entry.clear();
                    self.entry_at = self.offset - 1;
                    self.entry_line = self.line + 1;
                }
                self.keep(byte);
            }
            b'}' | b']' => {
                self.keep(byte);
                self.depth = self.depth.saturating_sub(1);
                if self.in_log && self.depth == 2 && byte == b'}' {
                    self.entry(out);
                }
                if self.depth < 2 {
                    self.in_log = false;
                }
            }
            _ => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.in_log && self.depth >= 3 {
            if self.entry.len() <= json::MAX {
                self.entry.push(byte);
            }
        } else if self.depth == 1 && self.head.len() < MAX_HEAD {
            self.head.push(byte);
        }
    }

    fn entry(&mut self, out: &mut Vec<Record>) {
        let entry = std::mem::take(&mut self.entry);
        let Some(value) = json::parse(&entry) else {
            self.unparsed += entry.len() as u64;
            return;
        };
        let mut row = Row::default();
        let keys = &mut self.keys;
        json::numbers(&mut String::new(), &value, &mut |key, number| row.put(keys, key, number));
        let Some(mut point) = self.keys.point(&row) else { return };
        if point.step.zip(self.last_step).is_some_and(|(new, last)| new < last) {
            self.segment += 1;
        }
        self.last_step = point.step.or(self.last_step);
        point.segment = self.segment;
        point.line = self.entry_line;
        point.byte = self.entry_at;
        out.push(Record::Point(point));
    }

    /// The file ends here, or is cut here: an unfinished entry is not understood.
    pub fn finish(&mut self) {
        self.unparsed += self.entry.len() as u64;
        self.entry.clear();
    }

    fn number(&self, name: &str) -> Option<f64> {
        let at = memchr::memmem::find(&self.head, format!("\"{name}\"").as_bytes())?;
        let rest = self.head.get(at + name.len() + 2..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let end = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'))?;
        std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> Option<u64> {
        self.number("max_steps").filter(|n| *n > 0.0).map(|n| n as u64)
    }

    /// The step at which the state was saved.
    pub fn global_step(&self) -> Option<u64> {
        self.number("global_step").filter(|n| *n >= 0.0).map(|n| n as u64)
    }

    pub fn segments(&self) -> u32 {
        self.segment + 1
    }

    pub fn unparsed_bytes(&self) -> u64 {
        self.unparsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::metric::{Point, PointKind};

    const STATE: &str = r#"{
  "best_metric": null,
  "epoch": 1.0,
  "global_step": 20,
  "log_history": [
    {
      "epoch": 0.5,
      "loss": 2.5,
      "note": "} ] \" {",
      "step": 10
    },
    {
      "epoch": 0.5,
      "eval_loss": NaN,
      "step": 10
    },
    {
      "epoch": 1.0,
      "loss": Infinity,
      "nested": {"a": 1},
      "step": 20
    }
  ],
  "max_steps": 40,
  "stateful_callbacks": {"x": {"log_history": [{"loss": 7}]}}
}
"#;

    fn read(text: &str, chunk: usize) -> (Vec<Point>, TrainerState) {
        let mut reader = TrainerState::default();
        let mut out = Vec::new();
        for part in text.as_bytes().chunks(chunk) {
            reader.feed(part, &mut out);
        }
        reader.finish();
        let points = out.into_iter().filter_map(|r| if let Record::Point(p) = r { Some(p) } else { None });
        (points.collect(), reader)
    }

    #[test]
    fn the_whole_log_is_read() {
        let (points, reader) = read(STATE, 1000);
        assert_eq!(points.len(), 3);
        assert_eq!((points[0].step, points[0].epoch, points[0].line), (Some(10), Some(0.5), 6));
        assert_eq!(points[1].kind, PointKind::Eval);
        assert!(points[1].canonical[0].1.is_nan());
        assert_eq!(points[2].raw[1].0.as_str(), "nested/a");
        assert_eq!((reader.total_steps(), reader.global_step(), reader.unparsed_bytes()), (Some(40), Some(20), 0));
    }

    #[test]
    fn a_cut_anywhere_keeps_what_is_complete() {
        let whole: Vec<String> = read(STATE, 3).0.iter().map(|p| format!("{p:?}")).collect();
        for cut in 0..STATE.len() {
            let points = read(&STATE[..cut], 5).0;
            let seen: Vec<String> = points.iter().map(|p| format!("{p:?}")).collect();
            assert!(whole.starts_with(&seen), "{cut}");
        }
        let end = STATE.find("\"nested\"").unwrap();
        assert_eq!(read(&STATE[..end], 5).0.len(), 2);
    }

    #[test]
    fn one_line_is_as_good_as_many() {
        let one_line = STATE.replace('\n', "");
        assert_eq!(read(&one_line, 5).0.len(), 3);
        assert_eq!(TrainerState::recognise(one_line.as_bytes()), Some(true));
    }

    #[test]
    fn other_json_is_not_taken_for_it() {
        let check = |text: &str, want| assert_eq!(TrainerState::recognise(text.as_bytes()), want, "{text}");
        check("{\n  \"best_metric\": nu", None);
        check(STATE, Some(true));
        check("{\"step\": 1}\n", Some(false));
        check("{\"step\": 1", None);
        check("{'loss': 1}\n", Some(false));
        check("step 1", Some(false));
        check("", None);
    }

    #[test]
    fn a_depth_bomb_ends_it() {
        // Longer than an entry may be: all of it is told, not only what would have been kept.
        let bomb = format!("{{\"log_history\": {}", "[".repeat(4 * json::MAX));
        let (points, reader) = read(&bomb, 4096);
        assert_eq!(points.len(), 0);
        assert!(reader.unparsed_bytes() as usize > bomb.len() - 1000);
    }
}
