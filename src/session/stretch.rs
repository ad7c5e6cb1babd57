use crate::{
    model::{Clean, incident::Incident, knobs::Knobs, metric::Point},
    parse::{
        facts::Facts,
        metrics::{Reader, Record},
        oom::Scanner,
    },
};

/// Consecutive bytes of one source, read by all parsers. A large file has two: its end, read first, and its beginning.
#[derive(Debug)]
pub(super) struct Stretch {
    pub reader: Reader,
    scanner: Scanner,
    facts: Facts,
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
}

impl Stretch {
    pub fn new(source: Clean, next: Option<u64>) -> Self {
        Self {
            reader: Reader::default(),
            scanner: Scanner::new(source),
            facts: Facts::default(),
            before: None,
            start: 0,
            lines_before: 0,
            next,
            lines: 0,
            at_line_start: true,
            records: Vec::new(),
        }
    }

    /// Reads the next bytes. True when a failure was found or became clearer.
    pub fn feed(&mut self, offset: u64, data: &[u8], put: &mut dyn FnMut(Point)) -> bool {
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

    fn read(&mut self, data: &[u8], put: &mut dyn FnMut(Point)) {
        self.reader.feed(data, &mut self.records);
        self.pass_on(put);
        self.facts.feed(data);
        self.scanner.feed(data);
    }

    /// The text ends here.
    pub fn finish(&mut self, put: &mut dyn FnMut(Point)) {
        self.reader.finish(&mut self.records);
        self.pass_on(put);
        self.scanner.finish();
    }

    fn pass_on(&mut self, put: &mut dyn FnMut(Point)) {
        for record in self.records.drain(..) {
            if let Record::Point(point) = record {
                put(point);
            }
        }
    }

    /// Puts the stretch that comes before this one in front of it.
    pub fn follow(&mut self, mut before: Stretch) {
        before.finish(&mut |_| {});
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
