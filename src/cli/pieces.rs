//! A long file in pieces: several threads make something of each, and one takes what they made in order.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

/// From this size on threads are worth it.
const LONG: u64 = 8 << 20;
const MOST_THREADS: usize = 8;

/// A regular file, not compressed, long enough.
pub fn is_long(file: &File) -> bool {
    let regular = file.metadata().is_ok_and(|about| about.is_file() && about.len() >= LONG);
    let mut first = [0; 2];
    regular && file.read_exact_at(&mut first, 0).is_ok() && first != [0x1f, 0x8b]
}

/// Makes something of each piece, with what is left of one that was taken; takes them in order.
///
/// # Errors
/// The first one of either, in the order of the pieces.
pub fn in_order<Made: Send, Left: Send + Default, Error: From<io::Error>>(
    pieces: u64,
    make: impl Fn(u64, Left) -> io::Result<Made> + Sync,
    mut take: impl FnMut(u64, Made) -> Result<Left, Error>,
) -> Result<(), Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let (send, made) = mpsc::channel::<(u64, io::Result<Made>)>();
    // A thread takes something left over first and a piece then: the earliest piece always has some.
    let (give, spare) = mpsc::channel::<Left>();
    for _ in 0..threads * 2 + 2 {
        let _ = give.send(Left::default());
    }
    let spare = Mutex::new(spare);
    thread::scope(|scope| {
        for _ in 0..threads {
            let send = send.clone();
            let (next, stop, spare, make) = (&next, &stop, &spare, &make);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(left) = spare.lock().ok().and_then(|spare| spare.recv().ok()) else { return };
                    let piece = next.fetch_add(1, Ordering::Relaxed);
                    if piece >= pieces || send.send((piece, make(piece, left))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let result = take_all(made, &give, &mut take);
        stop.store(true, Ordering::Relaxed);
        // Who waits for something left over waits no longer.
        drop(give);
        result
    })
}

fn take_all<Made, Left, Error: From<io::Error>>(
    made: mpsc::Receiver<(u64, io::Result<Made>)>,
    give: &mpsc::Sender<Left>,
    take: &mut impl FnMut(u64, Made) -> Result<Left, Error>,
) -> Result<(), Error> {
    let mut waiting = BTreeMap::new();
    let mut at = 0;
    for (number, piece) in made {
        waiting.insert(number, piece);
        while let Some(piece) = waiting.remove(&at) {
            let _ = give.send(take(at, piece?)?);
            at += 1;
        }
    }
    Ok(())
}
