use crate::{
    model::{Clean, incident::Incident, knobs::Knobs, metric::Point},
    parse::{
        dialects::rows,
        facts::Facts,
        files::{AnyReader, Format},
        landmarks::{Landmark, Landmarks},
        metrics::Record,
        oom::Scanner,
        utf16::Utf16,
    },
};

use super::series::Precision;

/// What is done with a point, and how exact its numbers are.
pub(super) type Put<'a> = &'a mut dyn FnMut(Precision, Point);

/// Consecutive bytes of one source, read by all parsers. A large file has two: its end, read first, and its beginning.
#[derive(Debug)]
pub(super) struct Stretch {
    pub reader: AnyReader,
    scanner: Scanner,
    facts: Facts,
    landmarks: Landmarks,
    /// Facts and incidents of the stretch before this one.
    before: Option<(Knobs, Vec<Incident>)>,
    /// Offset of the first byte in the file, and the line breaks before it.
    pub start: u64,
    lines_before: u64,
    /// Offset of the byte that follows on; `None` while any will do.
    pub next: Option<u64>,
    /// Line breaks seen.
    pub lines: u64,
    at_line_start: bool,
    records: Vec<Record>,
    console: Vec<u8>,
    /// What makes UTF-8 of a text that is none, as its first bytes say.
    utf16: Option<Utf16>,
    begun: bool,
}

impl Stretch {
    pub fn new(source: Clean, next: Option<u64>) -> Self {
        Self {
            reader: AnyReader::default(),
            scanner: Scanner::new(source),
            facts: Facts::default(),
            landmarks: Landmarks::default(),
            before: None,
            start: 0,
            lines_before: 0,
            next,
            lines: 0,
            at_line_start: true,
            records: Vec::new(),
            console: Vec::new(),
            utf16: None,
            begun: false,
        }
    }

    /// Reads the next bytes. True when a failure was found or became clearer.
    pub fn feed(&mut self, offset: u64, data: &[u8], put: Put<'_>) -> bool {
        if self.next != Some(offset) && !self.at_line_start {
            // Another text begins: the unfinished line of the last one ends here.
            self.read(b"\n", put);
        }
        self.next = Some(offset + data.len() as u64);
        self.lines += memchr::memchr_iter(b'\n', data).count() as u64;
        self.at_line_start = data.last() == Some(&b'\n');
        let before = self.scanner.revision();
        self.read(data, put);
        self.scanner.revision() != before
    }

    fn read(&mut self, data: &[u8], put: Put<'_>) {
        self.reader.feed(data, &mut self.records);
        self.pass_on(put);
        if !std::mem::replace(&mut self.begun, true) {
            self.utf16 = Utf16::recognise(data);
        }
        if let Some(utf16) = &mut self.utf16 {
            self.console.clear();
            utf16.decode(data, &mut self.console);
            self.facts.feed(&self.console);
            self.scanner.feed(&self.console);
            self.landmarks.feed(&self.console);
        } else if self.is_text() {
            self.facts.feed(data);
            self.scanner.feed(data);
            self.landmarks.feed(data);
        } else {
            self.console = self.reader.take_console();
            self.facts.feed(&self.console);
            self.scanner.feed(&self.console);
            self.landmarks.feed(&self.console);
        }
    }

    /// The bytes are what is to be shown, as far as can be told yet.
    pub fn is_text(&self) -> bool {
        self.utf16.is_none() && matches!(self.reader.format(), None | Some(Format::Text))
    }

    /// Text that the last bytes held for people, in a file that is not UTF-8 text itself.
    pub fn console(&self) -> &[u8] {
        &self.console
    }

    /// The file is rewritten whole as it grows: when it is, what it gave before is void.
    pub fn is_rewritten(&self) -> bool {
        matches!(self.reader.format(), Some(Format::TrainerState)) || self.reader.dialects().first() == Some(&rows::CSV)
    }

    /// Everything that is there for now has been fed.
    pub fn settle(&mut self, put: Put<'_>) {
        self.reader.settle(&mut self.records);
        self.pass_on(put);
    }

    /// Nothing has come for a while.
    pub fn quiet(&mut self, put: Put<'_>) {
        self.reader.quiet(&mut self.records);
        self.pass_on(put);
    }

    fn precision(&self) -> Precision {
        match self.reader.format() {
            Some(Format::TfEvents) => Precision::Single,
            Some(Format::Text) | None => {
                let main = self.reader.dialects().first();
                let for_machines = main.is_some_and(|name| [rows::CSV, rows::JSON_LINES].contains(name));
                if for_machines { Precision::Full } else { Precision::Console }
            }
            Some(Format::Wandb | Format::TrainerState | Format::Sqlite) => Precision::Full,
        }
    }

    /// The text ends here.
    pub fn finish(&mut self, put: Put<'_>) {
        self.reader.finish(&mut self.records);
        self.pass_on(put);
        self.scanner.finish();
        self.landmarks.finish();
    }

    /// Marked lines that were found since this was asked last, with places in the whole file.
    pub fn landmarks(&mut self) -> impl Iterator<Item = Landmark> {
        let before = self.lines_before;
        self.landmarks.take().into_iter().map(move |mark| Landmark { line: mark.line + before, ..mark })
    }

    fn pass_on(&mut self, put: Put<'_>) {
        let precision = self.precision();
        let before = self.lines_before;
        let mut put = |mut point: Point| {
            // What is read without lines has none in front of it either.
            point.line += if point.line > 0 { before } else { 0 };
            put(precision, point);
        };
        for record in self.records.drain(..) {
            match record {
                Record::Point(point) | Record::Rank(point) => put(point),
                Record::Rows(rows) => rows.points().for_each(&mut put),
                Record::Progress(_) => {}
            }
        }
    }

    /// Puts the stretch that comes before this one in front of it.
    pub fn follow(&mut self, mut before: Stretch) {
        before.finish(&mut |_, _| {});
        self.lines_before = before.lines;
        self.before = Some((before.facts.knobs().clone(), before.scanner.incidents().to_vec()));
    }

    pub fn facts_into(&self, knobs: &mut Knobs) {
        if let Some((facts, _)) = &self.before {
            knobs.merge(facts);
        }
        knobs.merge(self.facts.knobs());
    }

    /// Every incident, with places in the whole file.
    pub fn incidents(&self) -> Vec<Incident> {
        let mut all = self.before.as_ref().map_or_else(Vec::new, |(_, incidents)| incidents.clone());
        all.extend(self.scanner.incidents().iter().cloned().map(|mut incident| {
            incident.shift(self.lines_before, self.start);
            incident
        }));
        all
    }
}
