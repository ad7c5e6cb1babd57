//! A long log, looked through by several threads: each takes a piece, finds what deserves attention in it, and hands it to
//! the one that reads in order.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::parse::{
    facts::Facts,
    oom::{Found, Scanner, Sieve, known},
};

use super::pieces;

/// What a thread takes at once, and reads at once.
const SIZES: Sizes = Sizes { piece: 2 << 20, read: 256 << 10, head: 2 << 20 };
/// A message may lie across two pieces: so much of the end of one is looked at with the next.
const OVERLAP: u64 = 512;
/// Text before a message that tells what ran.
const TRACEBACK: usize = 64 << 10;

/// How a file is divided.
#[derive(Clone, Copy)]
struct Sizes {
    piece: u64,
    read: usize,
    /// The beginning of a log, which is read for what it says of its job.
    head: u64,
}

/// A piece of the file that was looked through.
struct Piece {
    /// With the end of the piece before, up to `from`.
    bytes: Vec<u8>,
    from: usize,
    /// From here on it deserves to be read.
    message: usize,
    /// Line breaks before that.
    breaks: u64,
    banner: bool,
}

/// Reads the whole file.
///
/// # Errors
/// When it cannot be read to its end.
pub fn file(file: &File, scanner: &mut Scanner, facts: &mut Facts) -> io::Result<()> {
    in_pieces(file, SIZES, scanner, facts)
}

fn in_pieces(file: &File, sizes: Sizes, scanner: &mut Scanner, facts: &mut Facts) -> io::Result<()> {
    let count = file.metadata()?.len().div_ceil(sizes.piece);
    let sieve = Sieve::new(known());
    let make = |piece, buffer| look(file, &sieve, sizes, piece, buffer);
    pieces::in_order(count, make, |at, piece| {
        read(&piece, at * sizes.piece < sizes.head, scanner, facts);
        Ok(piece.bytes)
    })
}

/// Reads a piece and looks through it, with the end of the one before.
fn look(file: &File, sieve: &Sieve, sizes: Sizes, piece: u64, mut bytes: Vec<u8>) -> io::Result<Piece> {
    let begin = piece * sizes.piece;
    let before = begin.min(OVERLAP);
    bytes.resize((sizes.piece + before) as usize, 0);
    let from = before as usize;
    let mut found = Found::default();
    let (mut filled, mut breaks) = (0, 0);
    while filled < bytes.len() {
        let end = (filled + sizes.read).min(bytes.len());
        let Some(room) = bytes.get_mut(filled..end) else { break };
        let got = match file.read_at(room, begin - before + filled as u64) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if got == 0 {
            break;
        }
        let (old, now) = (filled, filled + got);
        filled = now;
        if found.message.is_none() {
            let here = sieve.look(bytes.get(..now).unwrap_or_default(), old.saturating_sub(OVERLAP as usize));
            found.message = here.message;
            found.banner |= here.banner;
            let quiet = here.message.unwrap_or(now);
            breaks += count(bytes.get(old.max(from)..quiet).unwrap_or_default());
            // It began before what was read last.
            breaks -= count(bytes.get(quiet.max(from)..old).unwrap_or_default());
        }
    }
    bytes.truncate(filled);
    let from = from.min(filled);
    Ok(Piece { message: found.message.unwrap_or(filled).max(from), from, breaks, banner: found.banner, bytes })
}

fn count(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// In order: what deserves it is read, the rest passed over. The head of a log tells of its job, and so does a banner.
fn read(piece: &Piece, head: bool, scanner: &mut Scanner, facts: &mut Facts) {
    let quiet = piece.bytes.get(piece.from..piece.message).unwrap_or_default();
    let rest = piece.bytes.get(piece.message..).unwrap_or_default();
    scanner.pass_over(quiet, piece.breaks);
    scanner.feed(rest);
    if head || piece.banner {
        facts.feed(quiet);
    } else {
        // The traceback of a failure names the framework.
        let (far, near) = quiet.split_at(quiet.len().saturating_sub(if rest.is_empty() { 0 } else { TRACEBACK }));
        facts.pass_over(far, piece.breaks - count(near));
        if rest.is_empty() { facts.pass_over(near, count(near)) } else { facts.feed(near) }
    }
    facts.feed(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 64 << 10;
    const READ: usize = 8 << 10;

    /// A long log with a failure at each of the offsets, read by threads and read through.
    fn check(at: &[usize]) {
        const NOISE: &[u8] = b"{'loss': 0.5, 'rewards/format': 1.0, 'memory/max_active (GiB)': 21.5, 'epoch': 0.1}\n";
        const FAILURE: &str = "Traceback (most recent call last):\n  File \"/x/packages/trl/trainer/grpo_trainer.py\", line 3, in f\n    loss.backward()\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of 79.19 GiB of which 512.00 MiB is free.\n";
        let mut log = b"***** Running training *****\n  Instantaneous batch size per device = 8\n".to_vec();
        for (nth, at) in at.iter().enumerate() {
            while log.len() < *at {
                log.extend_from_slice(NOISE);
            }
            log.extend_from_slice(FAILURE.replace("1.16", &format!("1.{nth}6")).as_bytes());
        }
        let mut log_file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut log_file, &log).unwrap();
        let (mut scanner, mut facts) = (Scanner::default(), Facts::default());
        let sizes = Sizes { piece: PIECE as u64, read: READ, head: 1000 };
        in_pieces(&log_file, sizes, &mut scanner, &mut facts).unwrap();
        scanner.finish();
        let (mut all, mut told) = (Scanner::default(), Facts::default());
        for chunk in log.chunks(1 << 18) {
            all.feed(chunk);
            told.feed(chunk);
        }
        all.finish();
        // How many lines around a message are kept depends on the chunks, what it says does not.
        let essence = |scanner: &Scanner| -> Vec<_> {
            let all = scanner.incidents().iter();
            all.map(|i| (i.kind.clone(), i.place.clone(), i.numbers.clone(), i.phase.id, i.frames.clone())).collect()
        };
        assert_eq!(essence(&scanner), essence(&all));
        assert_eq!(scanner.incidents().len(), at.len());
        assert_eq!(facts.knobs().iter().count(), told.knobs().iter().count());
    }

    #[test]
    fn threads_find_what_one_reader_finds() {
        check(&[9 * PIECE]);
        // Across the borders of reads and pieces.
        check(&[PIECE - 300, 2 * PIECE - 100, 3 * PIECE - 40, 3 * PIECE + READ - 150, 5 * PIECE]);
        check(&[8 * PIECE, 8 * PIECE + 400, 11 * PIECE + 7]);
    }
}
