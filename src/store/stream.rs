//! The bytes of one source on their way into a recording, with secrets masked.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::model::{SourceId, redact};

use super::database::{Batch, Row};

/// Bytes of one event that have not been written yet.
#[derive(Debug)]
pub struct Piece {
    pub row: i64,
    pub at: Timestamp,
    pub offset: u64,
    pub bytes: usize,
}

/// The bytes of one source on their way to the disk. A secret may lie across two events, so the end of an unfinished
/// line waits for the rest of the line; it is then written with the place and the time of the event that brought it.
#[derive(Debug, Default)]
pub struct Stream {
    mask: redact::Mask,
    /// Offset of the byte that follows on.
    next: u64,
    waiting: VecDeque<Piece>,
    /// Masked bytes of the first waiting piece.
    ready: Vec<u8>,
}

impl Stream {
    pub fn take(&mut self, source: SourceId, piece: Piece, data: &[u8], batch: &mut Batch) {
        if self.next != piece.offset {
            // Another stretch of the file: nothing follows on what was held back.
            self.finish(source, batch);
        }
        self.next = piece.offset + data.len() as u64;
        let masked = self.mask.apply(data);
        self.ready.extend_from_slice(&masked);
        self.write(source, batch);
        if !self.waiting.is_empty() || self.ready.is_empty() {
            self.waiting.push_back(piece);
            return;
        }
        let head = std::mem::take(&mut self.ready);
        let Piece { row, at, offset, bytes } = piece;
        let rest = bytes - head.len();
        if rest > 0 {
            let offset = offset + head.len() as u64;
            self.waiting.push_back(Piece { row: row + 1, at, offset, bytes: rest });
        }
        batch.events.push(Row::output(row, at, source, offset, head));
    }

    /// Writes the waiting pieces that are whole.
    fn write(&mut self, source: SourceId, batch: &mut Batch) {
        while self.waiting.front().is_some_and(|piece| piece.bytes <= self.ready.len())
            && let Some(piece) = self.waiting.pop_front()
        {
            let data = self.ready.drain(..piece.bytes).collect();
            batch.events.push(Row::output(piece.row, piece.at, source, piece.offset, data));
        }
    }

    pub fn finish(&mut self, source: SourceId, batch: &mut Batch) {
        let rest = self.mask.finish();
        self.ready.extend_from_slice(&rest);
        self.write(source, batch);
    }
}
