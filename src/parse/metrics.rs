//! Reads what trainers log: points, progress, totals.

use std::{ops::Range, sync::Arc};

use crate::model::metric::{Head, Point, Progress, Rows, Shape};

use super::{
    bar::Bar,
    dialects::{
        self,
        lines::{OtherLines, Taken},
    },
    files::keys::canonical_name,
    frames::{glued, is_boxed, not_repeated, rubbed_out, without_marks, wrapped},
    prefix,
    runs::Runs,
    tokens::{self, Drawn, Kind, Lexer, Token, Tokens},
    trainer_console::TrainerConsole,
};

/// What a stretch of a log gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Point(Point),
    /// Several points with the same keys.
    Rows(Rows),
    /// Another rank's print of a point that was given: it only widens the spread.
    Rank(Point),
    Progress(Progress),
}

/// The points that records hold, each by itself.
pub fn points(records: Vec<Record>) -> impl Iterator<Item = Point> {
    records.into_iter().flat_map(|record| match record {
        Record::Point(point) => vec![point],
        Record::Rows(rows) => rows.points().collect(),
        Record::Rank(_) | Record::Progress(_) => Vec::new(),
    })
}

/// Adds a row to those of its shape.
pub fn push_row(out: &mut Vec<Record>, shape: &Arc<Shape>, head: Head, values: &[f64]) {
    if let Some(Record::Rows(rows)) = out.last_mut()
        && Arc::ptr_eq(&rows.shape, shape)
    {
        rows.heads.push(head);
        rows.values.extend_from_slice(values);
    } else {
        out.push(Record::Rows(Rows { shape: Arc::clone(shape), heads: vec![head], values: values.to_vec() }));
    }
}

/// Bytes kept of one frame; of a longer one the end is not looked at.
const MAX_FRAME: usize = 64 << 10;

/// Where a frame stands in its source, and what its prefix said.
#[derive(Clone, Copy, Debug, Default)]
pub struct At {
    /// 1-based.
    pub line: u64,
    pub byte: u64,
    pub rank: Option<u32>,
    /// Unix seconds.
    pub time: Option<f64>,
}

impl At {
    /// An empty point at this place.
    pub fn point(self) -> Point {
        Point { line: self.line, byte: self.byte, rank: self.rank, time: self.time, ..Point::default() }
    }
}

/// Reads one log, from its first byte or from any line start, in any chunking.
#[derive(Debug, Default)]
pub struct Reader {
    /// The unfinished frame.
    partial: Vec<u8>,
    partial_at: u64,
    offset: u64,
    /// Line breaks so far.
    lines: u64,
    /// What prints without a rank, or with the lowest one.
    main: Stream,
    main_rank: Option<u32>,
    /// The rank that the first frame of this line named: a bar is drawn again without its prefix.
    line_rank: Option<u32>,
    /// What other ranks print: their lines stand between each other's, and a block or a bar is one rank's.
    ranks: Vec<(u32, Stream)>,
    /// The text that each line of a collector's JSON holds.
    wrapped: Option<Box<Reader>>,
    /// Where the line that holds this text stands.
    within: Option<(u64, u64)>,
    runs: Runs,
    /// What frames gave, before it is known which run it is of.
    given: Vec<Record>,
    lexer: Lexer,
    tokens: Tokens,
    /// Nothing is taken from the lexer: the truth that it is compared with.
    #[cfg(test)]
    plainly: bool,
    plain: Vec<u8>,
    /// Values on the last point of each kind; the frame that is being read was cut behind a number.
    usual: [usize; 3],
    is_cut: bool,
    told: Option<Progress>,
    unparsed_bytes: u64,
    dialects: Vec<&'static str>,
}

/// What one rank prints.
#[derive(Debug, Default)]
struct Stream {
    console: TrainerConsole,
    others: OtherLines,
}

impl Stream {
    fn frame(&mut self, raw: &[u8], text: &[u8], at: At, out: &mut Vec<Record>) -> bool {
        match self.others.takes(text, at, out) {
            Taken::Yes => true,
            Taken::ButItsBar => {
                self.console.bars(text, out);
                true
            }
            Taken::No => self.console.frame(text, at, out) || self.others.line(raw, text, at, out),
        }
    }

    fn quiet(&mut self, out: &mut Vec<Record>) {
        self.console.settle(out);
        self.others.quiet(out);
    }

    fn finish(&mut self, out: &mut Vec<Record>) {
        self.console.settle(out);
        self.others.finish(out);
    }

    fn total_steps(&self) -> Option<u64> {
        self.others.total_steps().or(self.console.total_steps())
    }

    fn progress(&self) -> Option<Progress> {
        self.console.progress().or_else(|| self.others.progress())
    }

    fn dialect(&self) -> Option<&'static str> {
        self.console.dialect().or(self.others.dialect())
    }
}

/// Ranks that are told from each other.
const MAX_RANKS: usize = 256;

impl Reader {
    /// Reads the next bytes and puts what they complete into `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Record>) {
        let begin = if self.partial.is_empty() { 0 } else { tokens::begin(bytes) };
        let mut tokens = std::mem::take(&mut self.tokens);
        self.lexer.read(bytes, begin, &mut tokens);
        self.take(bytes, &tokens, out);
        self.tokens = tokens;
    }

    /// Reads the next bytes, in which a lexer found these tokens.
    pub fn take(&mut self, bytes: &[u8], tokens: &Tokens, out: &mut Vec<Record>) {
        // The rest of a frame that began before.
        self.frames(bytes, 0..tokens.begin, out);
        let others = dialects::has_users();
        #[cfg(test)]
        let others = others || self.plainly;
        if others {
            self.frames(bytes, tokens.begin..tokens.end, out);
        } else {
            let lines = self.lines;
            for token in &tokens.all {
                if self.lines != lines + token.lines {
                    self.lines = lines + token.lines;
                    self.line_rank = None;
                }
                self.token(bytes, tokens, token, out);
            }
            if self.lines != lines + tokens.breaks {
                self.lines = lines + tokens.breaks;
                self.line_rank = None;
            }
        }
        if self.partial.is_empty() {
            self.partial_at = self.offset + tokens.end as u64;
        }
        self.keep(bytes.get(tokens.end..).unwrap_or_default());
        self.offset += bytes.len() as u64;
        self.sort(out);
        // Only the last frame of a bar is of interest.
        let progress = self.progress();
        if progress != self.told {
            self.told = progress;
            out.extend(progress.map(Record::Progress));
        }
    }

    /// Takes what a lexer found, if whoever else could be asked would find the same; reads the frame if not.
    fn token(&mut self, bytes: &[u8], tokens: &Tokens, token: &Token, out: &mut Vec<Record>) {
        let at =
            At { line: self.lines + 1, byte: self.offset + token.range.start as u64, rank: self.line_rank, time: None };
        let at = self.within.map_or(at, |(line, byte)| At { line, byte, ..at });
        let mut given = std::mem::take(&mut self.given);
        let stream = self.stream(at.rank, &mut given);
        let known = !stream.others.draws_table();
        match &token.kind {
            Kind::Blank if known => stream.console.blank(token.range.len()),
            Kind::Bars { first, last, total } if known => {
                for Drawn { done, times } in
                    [Some(first), Some(last).filter(|last| *last != first)].into_iter().flatten()
                {
                    let times = bytes.get(times.clone()).unwrap_or_default();
                    stream
                        .console
                        .plain_bar(&Bar { name: b"", done: *done, total: *total, times, length: 0 }, &mut given);
                }
            }
            Kind::Row { line, values } if known && let Some(line) = tokens.lines.get(*line) => {
                let values = tokens.values.get(*values..*values + line.shape.names.len()).unwrap_or_default();
                stream.console.row(line, bytes.get(token.range.clone()).unwrap_or_default(), values, at, &mut given);
            }
            _ => {
                self.given = given;
                // Bars of one line are several frames.
                return self.frames(bytes, token.range.start..token.range.end + 1, out);
            }
        }
        self.given = given;
        self.note_dialect();
    }

    /// Reads frames, each with its break; the first may have begun before, the last may end later.
    fn frames(&mut self, bytes: &[u8], range: Range<usize>, out: &mut Vec<Record>) {
        let (mut start, offset) = (range.start, self.offset);
        let Some(part) = bytes.get(range.clone()) else { return };
        for end in memchr::memchr2_iter(b'\n', b'\r', part) {
            let end = range.start + end;
            let bytes_of = &bytes[start..end];
            if self.partial.is_empty() {
                self.frame(bytes_of, offset + start as u64, out);
            } else {
                self.keep(bytes_of);
                let frame = std::mem::take(&mut self.partial);
                self.frame(&frame, self.partial_at, out);
                self.partial = frame;
                self.partial.clear();
            }
            if bytes[end] == b'\n' {
                self.lines += 1;
                self.line_rank = None;
            }
            start = end + 1;
        }
        self.keep(&bytes[start..range.end]);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_FRAME.saturating_sub(self.partial.len());
        self.unparsed_bytes += bytes.len().saturating_sub(room) as u64;
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn frame(&mut self, frame: &[u8], byte: u64, out: &mut Vec<Record>) {
        // A collector that drops carriage returns glues frames: each bar ends with its bracket, and Keras rubs a frame out.
        // In a collector's JSON they are still one text.
        let mut rest = frame;
        let mut at = byte;
        while !frame.starts_with(b"{\"")
            && let Some(end) = rubbed_out(rest).or_else(|| glued(rest))
        {
            self.one(&rest[..end], at, out);
            at += end as u64;
            rest = &rest[end..];
        }
        self.one(rest, at, out);
    }

    fn one(&mut self, frame: &[u8], byte: u64, out: &mut Vec<Record>) {
        let mut plain = std::mem::take(&mut self.plain);
        let marked = memchr::memchr3(0x1b, 0x08, 0, frame).is_some();
        if marked {
            without_marks(frame, &mut plain);
        }
        let mut text = if marked { &plain[..] } else { frame };
        if byte == 0 {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        let found = prefix::find(text);
        let raw = text;
        text = text.get(found.end..).unwrap_or_default();
        let inner = text.trim_ascii_start();
        // How many blanks a bar is overdrawn with is of interest.
        if found.end > 0 || !inner.is_empty() {
            text = inner;
        }
        if text.last() == Some(&b']') {
            text = not_repeated(text);
        }
        // Kaggle writes one list with an object a line.
        let json = text.strip_prefix(b"[").or_else(|| text.strip_prefix(b",")).unwrap_or(text);
        if json.starts_with(b"{\"")
            && let Some(said) = wrapped(json)
        {
            self.unwrap(&said, byte, out);
        } else {
            let (line, byte) = self.within.unwrap_or((self.lines + 1, byte));
            self.line_rank = found.rank.or(self.line_rank);
            let at = At { line, byte, rank: self.line_rank, time: found.time };
            let mut given = std::mem::take(&mut self.given);
            // What stands in a box is somebody's text.
            if is_boxed(text) || !self.stream(at.rank, &mut given).frame(raw, text, at, &mut given) {
                self.unparsed_bytes += frame.len() as u64;
            }
            self.given = given;
        }
        self.plain = plain;
        self.plain.clear();
        self.note_dialect();
    }

    fn note_dialect(&mut self) {
        if self.dialects.is_empty() {
            let inner = self.wrapped.as_ref().and_then(|r| r.dialects.first().copied());
            let ranks = || self.ranks.iter().find_map(|(_, stream)| stream.dialect());
            self.dialects.extend(self.main.dialect().or_else(ranks).or(inner));
        }
    }

    /// What a line of this rank belongs to.
    fn stream(&mut self, rank: Option<u32>, out: &mut Vec<Record>) -> &mut Stream {
        let Some(rank) = rank else { return &mut self.main };
        let main = *self.main_rank.get_or_insert(rank);
        if rank < main {
            // What a higher rank began is over.
            self.main.finish(out);
            self.main_rank = Some(rank);
        }
        if rank <= main {
            return &mut self.main;
        }
        let known = self.ranks.iter().position(|(known, _)| *known == rank);
        let place = known.unwrap_or_else(|| {
            if self.ranks.len() < MAX_RANKS {
                self.ranks.push((rank, Stream::default()));
            }
            self.ranks.len() - 1
        });
        self.ranks.get_mut(place).map_or(&mut self.main, |(_, stream)| stream)
    }

    /// Reads text that a collector wrapped in JSON, as if it stood in a log of its own.
    fn unwrap(&mut self, text: &str, byte: u64, out: &mut Vec<Record>) {
        self.sort(out);
        let line = self.lines + 1;
        let inner = self.wrapped.get_or_insert_default();
        let before = inner.unparsed_bytes;
        inner.within = Some((line, byte));
        inner.feed(text.as_bytes(), out);
        self.unparsed_bytes += inner.unparsed_bytes - before;
    }

    /// Finds out which run and which rank the points are of.
    fn sort(&mut self, out: &mut Vec<Record>) {
        let mut given = std::mem::take(&mut self.given);
        if self.is_cut {
            given = given
                .drain(..)
                .flat_map(|record| match record {
                    Record::Rows(rows) => rows.points().map(Record::Point).collect(),
                    other => vec![other],
                })
                .collect();
        }
        for record in given.drain(..) {
            match record {
                Record::Rows(rows) => {
                    self.usual[rows.shape.kind as usize] = rows.shape.names.len();
                    self.runs.take_rows(rows, out);
                }
                Record::Point(mut point) | Record::Rank(mut point) => {
                    let usual = &mut self.usual[point.kind as usize];
                    if self.is_cut && point.raw.len() < *usual {
                        let last = point.raw.pop();
                        let name = last.and_then(|(name, _)| canonical_name(name.as_str()));
                        point.canonical.retain(|(to, _)| name.is_none_or(|(cut, _)| cut != *to));
                        if point.raw.is_empty() {
                            continue;
                        }
                    }
                    *usual = point.raw.len();
                    self.runs.take(point, out);
                }
                progress @ Record::Progress(_) => out.push(progress),
            }
        }
        self.given = given;
    }

    /// Nothing has come for a while: points that wait for more lines of their step are given out.
    pub fn quiet(&mut self, out: &mut Vec<Record>) {
        if let Some(inner) = &mut self.wrapped {
            inner.quiet(out);
        }
        if self.partial.ends_with(b"]") {
            // A bar's last frame ends when the next one is drawn; read again then, it says nothing new.
            let (frame, unparsed) = (std::mem::take(&mut self.partial), self.unparsed_bytes);
            self.frame(&frame, self.partial_at, out);
            (self.partial, self.unparsed_bytes) = (frame, unparsed);
        }
        let mut given = std::mem::take(&mut self.given);
        self.main.quiet(&mut given);
        self.ranks.iter_mut().for_each(|(_, stream)| stream.quiet(&mut given));
        self.given = given;
        self.sort(out);
    }

    /// The text ends here: an unfinished last line is read as it stands.
    pub fn finish(&mut self, out: &mut Vec<Record>) {
        let frame = std::mem::take(&mut self.partial);
        // With less on it than on the lines before it, it was cut: so may be the number at its end.
        self.is_cut = frame.last().is_some_and(|b| b.is_ascii_digit() || b".-+eE".contains(b));
        self.frame(&frame, self.partial_at, out);
        self.sort(out);
        self.is_cut = false;
        let mut given = std::mem::take(&mut self.given);
        self.main.finish(&mut given);
        self.ranks.iter_mut().for_each(|(_, stream)| stream.finish(&mut given));
        self.given = given;
        self.sort(out);
        if let Some(inner) = &mut self.wrapped {
            inner.finish(out);
        }
    }

    fn streams(&self) -> impl Iterator<Item = &Stream> {
        std::iter::once(&self.main).chain(self.ranks.iter().map(|(_, stream)| stream))
    }

    /// Steps of the whole run, where something says so.
    pub fn total_steps(&self) -> Option<u64> {
        let inner = || self.wrapped.as_ref().and_then(|r| r.total_steps());
        self.streams().find_map(Stream::total_steps).or_else(inner)
    }

    /// Last state of the training's progress bar, or how many of its steps are done.
    pub fn progress(&self) -> Option<Progress> {
        let inner = || self.wrapped.as_ref().and_then(|r| r.progress());
        self.streams().find_map(Stream::progress).or_else(inner)
    }

    /// Runs and restarts in this log.
    pub fn segments(&self) -> u32 {
        self.wrapped.as_ref().map_or(1, |r| r.segments()).max(self.runs.segments())
    }

    /// Bytes that no dialect understood.
    pub fn unparsed_bytes(&self) -> u64 {
        self.unparsed_bytes
    }

    /// Names of the dialects met, most frequent first.
    pub fn dialects(&self) -> &[&'static str] {
        &self.dialects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and values of the last point of a log.
    fn check(log: &str, want: &str) {
        let (mut reader, mut out) = (Reader::default(), Vec::new());
        reader.feed(log.as_bytes(), &mut out);
        reader.finish(&mut out);
        let last = points(out).last().unwrap();
        let raw: Vec<String> = last.raw.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(format!("{} {}", last.step.unwrap_or(0), raw.join(" ")), want, "{log:?}");
    }

    #[test]
    fn a_number_at_the_cut_is_none() {
        let line = "step: 10  loss:  9.90123  grad_norm:  0.5\n";
        check(&format!("{line}step: 20  loss:  8.75123  grad_norm:  0.25\n"), "20 loss=8.75123 grad_norm=0.25");
        check(&format!("{line}step: 20  loss:  8.75123  grad_norm:  0.25"), "20 loss=8.75123 grad_norm=0.25");
        check(&format!("{line}step: 20  loss:  8.7"), "10 loss=9.90123 grad_norm=0.5");
        check("step=1, loss=2.5, lr=0.001\nstep=2, loss=2.25, lr=0.001\nstep=3, loss=2.1", "2 loss=2.25 lr=0.001");
        // The first line tells nothing of what is usual.
        check("step: 20  loss:  8.7", "20 loss=8.7");
    }

    /// Everything that a log gives, read in chunks.
    fn read(log: &[u8], chunk: usize, plainly: bool) -> Vec<String> {
        let (mut reader, mut out) = (Reader { plainly, ..Reader::default() }, Vec::new());
        log.chunks(chunk).for_each(|part| reader.feed(part, &mut out));
        reader.finish(&mut out);
        let mut all = Vec::new();
        for record in out {
            match record {
                Record::Rows(rows) => all.extend(rows.points().map(|point| format!("{:?}", Record::Point(point)))),
                other => all.push(format!("{other:?}")),
            }
        }
        all.push(format!("{:?} {:?}", reader.total_steps(), reader.dialects()));
        all.push(format!("{} {}", reader.unparsed_bytes(), reader.segments()));
        all
    }

    /// The captured and the made-up logs, the first bytes of each.
    fn logs() -> Vec<(String, Vec<u8>)> {
        let mut logs = Vec::new();
        for folder in ["catalogue", "dialects", "logs"] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
            for file in std::fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                if path.is_file() && !path.extension().is_some_and(|e| e == "truth" || e == "md") {
                    let mut log = std::fs::read(&path).unwrap();
                    log.truncate(6 << 10);
                    logs.push((path.display().to_string(), log));
                }
            }
        }
        logs.sort();
        logs
    }

    #[test]
    fn what_the_lexer_finds_is_what_every_reader_would_find() {
        const BITS: [&str; 22] = [
            "\r",
            "\n",
            " ",
            "          ",
            "%|",
            "[",
            "]",
            "{'",
            "}",
            "'",
            ", ",
            "nan",
            "-",
            "Epoch 1/5\n",
            "[rank1]:",
            "\x1b[A",
            "      Epoch    GPU_mem   box_loss\n",
            "  5%|# | 5/100 [00:01<00:20,  2.00it/s]",
            "{'loss': 1.5, 'epoch': 0.5}\n",
            "{'eval_loss': '2', 'epoch': 0.5}",
            "step: 3 loss: 4\n",
            "\x08",
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below.max(1) as u64) as usize
        };
        let (mut found, mut rounds) = (0, 0);
        for (name, log) in logs() {
            let with_rows = memchr::memmem::find(&log, b"{'").is_some() || memchr::memmem::find(&log, b"%|").is_some();
            for round in 0..if with_rows { 24 } else { 2 } {
                let mut log = log.clone();
                for _ in 0..round.min(12) {
                    let at = next(log.len() + 1);
                    match next(4) {
                        0 => drop(log.splice(at..at, BITS[next(BITS.len())].bytes())),
                        1 => drop(log.drain(at..(at + next(30)).min(log.len()))),
                        2 => {
                            let part = log[at..(at + next(300)).min(log.len())].to_vec();
                            let to = next(log.len() + 1);
                            log.splice(to..to, part);
                        }
                        _ => log.get_mut(at).into_iter().for_each(|b| *b = b"0123456789.-e' ,[]{}"[next(20)]),
                    }
                }
                let chunk = [1, 50, 700, 1 << 20][next(4)];
                let want = read(&log, chunk, true);
                let got = read(&log, chunk, false);
                if let Some((got, want)) = got.iter().zip(&want).find(|(got, want)| got != want) {
                    let log = String::from_utf8_lossy(&log);
                    panic!("{name} round {round} by {chunk}: {got}\n{want}\n{log}");
                }
                assert_eq!(got.len(), want.len(), "{name} round {round}");
                rounds += 1;
                let mut tokens = Tokens::default();
                Lexer::default().read(&log, 0, &mut tokens);
                found += tokens.all.iter().filter(|token| token.kind != Kind::Other).count();
            }
        }
        assert!(rounds > 1000 && found > 10_000, "{rounds} rounds, {found} tokens");
    }
}
