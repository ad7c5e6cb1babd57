//! The lines of a text among which a few are looked for: nearly all bytes are passed over by one search.

use aho_corasick::AhoCorasick;

/// The largest unfinished line that is kept.
const LONGEST: usize = 64 << 10;

/// Splits a text into lines, in order, in any chunking.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    /// Line breaks seen.
    count: u64,
    /// Every line is asked for, whatever its words.
    all: bool,
}

impl Lines {
    /// Gives the lines in which one of `words` may stand, with their numbers. `take` says whether it wants every line
    /// that follows, until it says otherwise.
    pub fn feed(&mut self, bytes: &[u8], words: &AhoCorasick, take: &mut dyn FnMut(u64, &[u8]) -> bool) {
        let mut rest = bytes;
        // The line that began before these bytes is a case of its own: it may hold a word across the two.
        while self.all || !self.partial.is_empty() {
            let Some(end) = memchr::memchr(b'\n', rest) else { return self.keep(rest) };
            self.line(&rest[..end], words, take);
            rest = &rest[end + 1..];
        }
        if let Some(last) = memchr::memrchr(b'\n', rest)
            && !words.is_match(rest)
        {
            self.count += memchr::memchr_iter(b'\n', rest).count() as u64;
            self.keep(&rest[last + 1..]);
            return;
        }
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.line(&rest[..end], words, take);
            rest = &rest[end + 1..];
        }
        self.keep(rest);
    }

    /// The end of a line.
    fn line(&mut self, end: &[u8], words: &AhoCorasick, take: &mut dyn FnMut(u64, &[u8]) -> bool) {
        self.keep(end);
        let line = std::mem::take(&mut self.partial);
        self.count += 1;
        if self.all || words.is_match(&line) {
            self.all = take(self.count, &line);
        }
    }

    /// Counts the lines of the next bytes, which have so many line breaks, and gives none.
    pub fn pass_over(&mut self, bytes: &[u8], breaks: u64) {
        let Some(last) = memchr::memrchr(b'\n', bytes) else { return self.keep(bytes) };
        self.count += breaks;
        self.partial.clear();
        self.keep(&bytes[last + 1..]);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The unfinished last line is complete.
    pub fn finish(&mut self, take: &mut dyn FnMut(u64, &[u8]) -> bool) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.count += 1;
            self.all = take(self.count, &line);
        }
    }
}
