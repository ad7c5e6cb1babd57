//! Files that trainers and trackers write for machines: TensorBoard's events, W&B's offline runs, transformers' state.
//!
//! Each is read from its first byte in any chunking, also while it is being written, and gives the same
//! [`Record`]s as a log does. [`AnyReader`] finds out from a file's first bytes what it is.

mod crc;
mod json;
pub mod keys;
#[cfg(test)]
mod sample;
mod tfevents;
pub mod trackio;
mod trainer_state;
mod wandb;
mod wire;

pub use json::parse as parse_json;
pub use tfevents::TfEvents;
pub use trainer_state::TrainerState;
pub use wandb::Wandb;

use crate::{
    model::metric::Progress,
    parse::{
        metrics::{Reader, Record},
        tokens::Tokens,
        utf16::Utf16,
    },
};

/// First bytes by which a file is recognised.
const LOOK: usize = 4 << 10;
/// What a SQLite database begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    TfEvents,
    Wandb,
    TrainerState,
    /// A database, such as trackio's: it cannot be read as a stream of bytes.
    Sqlite,
}

impl Format {
    /// Recognises a file by its first bytes; `None` while there are too few to say.
    pub fn recognise(start: &[u8]) -> Option<Self> {
        let sqlite = if start.len() >= SQLITE.len() {
            Some(start.starts_with(SQLITE))
        } else {
            (!SQLITE.starts_with(start)).then_some(false)
        };
        let answers = [
            (Self::TfEvents, TfEvents::recognise(start)),
            (Self::Wandb, Wandb::recognise(start)),
            (Self::TrainerState, TrainerState::recognise(start)),
            (Self::Sqlite, sqlite),
        ];
        if let Some((format, _)) = answers.iter().find(|(_, answer)| *answer == Some(true)) {
            return Some(*format);
        }
        answers.iter().all(|(_, answer)| answer.is_some()).then_some(Self::Text)
    }
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one reader a file")]
enum Inner {
    Text(Reader),
    TfEvents(TfEvents),
    Wandb(Wandb),
    TrainerState(TrainerState),
    Sqlite(u64),
}

/// Reads a log or a file of metrics, whatever it is.
#[derive(Debug, Default)]
pub struct AnyReader {
    start: Vec<u8>,
    inner: Option<Inner>,
    all_eval: bool,
    /// What makes UTF-8 of a text that is none.
    utf16: Option<Utf16>,
}

impl AnyReader {
    /// A reader for a file of this path: its folder may say that it holds a validation's values.
    pub fn for_path(path: &str) -> Self {
        let folder = path.rsplit('/').nth(1).unwrap_or_default();
        let all_eval = matches!(folder, "validation" | "eval" | "val" | "valid" | "test");
        Self { all_eval, ..Self::default() }
    }

    /// Reads the next bytes and puts what they complete into `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Record>) {
        if let Some(utf16) = &mut self.utf16 {
            let mut text = Vec::with_capacity(bytes.len());
            utf16.decode(bytes, &mut text);
            if let Some(inner) = &mut self.inner {
                inner.feed(&text, out);
            }
        } else if let Some(inner) = &mut self.inner {
            inner.feed(bytes, out);
        } else if self.start.is_empty()
            && Format::recognise(bytes) == Some(Format::Text)
            && Utf16::recognise(bytes).is_none()
        {
            self.decide(Format::Text).feed(bytes, out);
        } else {
            self.start.extend_from_slice(bytes);
            let format = Format::recognise(&self.start);
            if let Some(format) = format.or((self.start.len() > LOOK).then_some(Format::Text)) {
                let start = std::mem::take(&mut self.start);
                self.utf16 = Utf16::recognise(&start).filter(|_| format == Format::Text);
                self.decide(format);
                self.feed(&start, out);
            }
        }
    }

    /// Whether the bytes are a log's text as it stands: what follows may be looked through by a lexer first.
    pub fn is_plain_text(&self) -> bool {
        self.utf16.is_none() && matches!(self.inner, Some(Inner::Text(_)))
    }

    /// Reads the next bytes of a plain text, in which a lexer found these tokens.
    pub fn take(&mut self, bytes: &[u8], tokens: &Tokens, out: &mut Vec<Record>) {
        match &mut self.inner {
            Some(Inner::Text(reader)) if self.utf16.is_none() => reader.take(bytes, tokens, out),
            _ => self.feed(bytes, out),
        }
    }

    /// The next bytes are the first of another file, or of this one rewritten.
    pub fn restart(&mut self) {
        *self = Self { all_eval: self.all_eval, ..Self::default() };
    }

    fn decide(&mut self, format: Format) -> &mut Inner {
        self.inner.insert(match format {
            Format::Text => Inner::Text(Reader::default()),
            Format::TfEvents => {
                let mut reader = TfEvents::default();
                if self.all_eval {
                    reader.all_eval();
                }
                Inner::TfEvents(reader)
            }
            Format::Wandb => Inner::Wandb(Wandb::default()),
            Format::TrainerState => Inner::TrainerState(TrainerState::default()),
            Format::Sqlite => Inner::Sqlite(0),
        })
    }

    /// Everything that is there for now has been fed: what was gathered for a step is given out.
    pub fn settle(&mut self, out: &mut Vec<Record>) {
        match &mut self.inner {
            Some(Inner::TfEvents(reader)) => reader.settle(out),
            Some(Inner::Wandb(reader)) => reader.settle(out),
            _ => {}
        }
    }

    /// Nothing has come for a while: a log's line that waits for others of its step waits no longer.
    pub fn quiet(&mut self, out: &mut Vec<Record>) {
        if let Some(Inner::Text(reader)) = &mut self.inner {
            reader.quiet(out);
        }
    }

    /// The file ends here: what is unfinished is read as it stands.
    pub fn finish(&mut self, out: &mut Vec<Record>) {
        if self.inner.is_none() && !self.start.is_empty() {
            let start = std::mem::take(&mut self.start);
            self.utf16 = Utf16::recognise(&start);
            self.decide(Format::Text);
            self.feed(&start, out);
        }
        match &mut self.inner {
            Some(Inner::Text(reader)) => reader.finish(out),
            Some(Inner::TfEvents(reader)) => reader.settle(out),
            Some(Inner::Wandb(reader)) => reader.finish(out),
            Some(Inner::TrainerState(reader)) => reader.finish(),
            Some(Inner::Sqlite(_)) | None => {}
        }
    }

    /// What the file is; `None` before enough of it has been seen.
    pub fn format(&self) -> Option<Format> {
        self.inner.as_ref().map(|inner| match inner {
            Inner::Text(_) => Format::Text,
            Inner::TfEvents(_) => Format::TfEvents,
            Inner::Wandb(_) => Format::Wandb,
            Inner::TrainerState(_) => Format::TrainerState,
            Inner::Sqlite(_) => Format::Sqlite,
        })
    }

    /// Text that the file holds for people: of a W&B run its console.
    pub fn take_console(&mut self) -> Vec<u8> {
        if let Some(Inner::Wandb(reader)) = &mut self.inner { reader.take_console() } else { Vec::new() }
    }

    /// Steps of the whole run, where something says so.
    pub fn total_steps(&self) -> Option<u64> {
        match self.inner.as_ref()? {
            Inner::Text(reader) => reader.total_steps(),
            Inner::Wandb(reader) => reader.total_steps(),
            Inner::TrainerState(reader) => reader.total_steps(),
            Inner::TfEvents(_) | Inner::Sqlite(_) => None,
        }
    }

    /// How far the training has come, where something says so.
    pub fn progress(&self) -> Option<Progress> {
        match self.inner.as_ref()? {
            Inner::Text(reader) => reader.progress(),
            Inner::Wandb(reader) => reader.progress(),
            Inner::TrainerState(reader) => {
                Some(Progress { done: reader.global_step()?, total: reader.total_steps(), ..Progress::default() })
            }
            Inner::TfEvents(_) | Inner::Sqlite(_) => None,
        }
    }

    /// Runs and restarts in this file.
    pub fn segments(&self) -> u32 {
        match &self.inner {
            Some(Inner::Text(reader)) => reader.segments(),
            Some(Inner::TfEvents(reader)) => reader.segments(),
            Some(Inner::Wandb(reader)) => reader.segments(),
            Some(Inner::TrainerState(reader)) => reader.segments(),
            Some(Inner::Sqlite(_)) | None => 1,
        }
    }

    /// Bytes that were not understood.
    pub fn unparsed_bytes(&self) -> u64 {
        match &self.inner {
            Some(Inner::Text(reader)) => reader.unparsed_bytes(),
            Some(Inner::TfEvents(reader)) => reader.unparsed_bytes(),
            Some(Inner::Wandb(reader)) => reader.unparsed_bytes(),
            Some(Inner::TrainerState(reader)) => reader.unparsed_bytes(),
            Some(Inner::Sqlite(bytes)) => *bytes,
            None => self.start.len() as u64,
        }
    }

    /// Names of the dialects met, most frequent first.
    pub fn dialects(&self) -> &[&'static str] {
        match &self.inner {
            Some(Inner::Text(reader)) => reader.dialects(),
            Some(Inner::TfEvents(_)) => &["tfevents"],
            Some(Inner::Wandb(_)) => &["wandb-offline"],
            Some(Inner::TrainerState(_)) => &["trainer-state"],
            Some(Inner::Sqlite(_)) => &["sqlite"],
            None => &[],
        }
    }
}

impl Inner {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<Record>) {
        match self {
            Self::Text(reader) => reader.feed(bytes, out),
            Self::TfEvents(reader) => reader.feed(bytes, out),
            Self::Wandb(reader) => reader.feed(bytes, out),
            Self::TrainerState(reader) => reader.feed(bytes, out),
            Self::Sqlite(count) => *count += bytes.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let check = |start: &[u8], want| {
            assert_eq!(Format::recognise(start), want, "{:?}", String::from_utf8_lossy(start));
        };
        check(&sample::tf_event(1, "a", &[]), Some(Format::TfEvents));
        check(&sample::wandb_file(&[]), Some(Format::Wandb));
        check(b"{\n \"log_history\": [", Some(Format::TrainerState));
        check(b"SQLite format 3\0 ", Some(Format::Sqlite));
        check(b"step 1 loss 2\n", Some(Format::Text));
        check(b"{'loss': 1.0}\n", Some(Format::Text));
        check(b"{\"loss\": 1.0}\n", Some(Format::Text));
        check(b"", None);
        check(b":W", None);
        check(&[0x18, 0, 0, 0, 0, 0, 0, 0], None);
    }

    proptest::proptest! {
        #![proptest_config(crate::properties::config(256))]

        #[test]
        fn no_bytes_panic(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), chunk in 1usize..50) {
            let mut reader = AnyReader::default();
            let mut out = Vec::new();
            data.chunks(chunk).for_each(|part| reader.feed(part, &mut out));
            reader.finish(&mut out);
            let _ = (reader.total_steps(), reader.progress(), reader.unparsed_bytes(), reader.segments());
        }
    }
}
