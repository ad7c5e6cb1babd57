//! Other machines: over OpenSSH, or from whoever serves Prometheus metrics. One thread each, so that one that is slow or
//! gone costs only itself.

pub mod scrape;
pub mod ssh;

use std::{
    io::{BufRead, BufReader, Read},
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, Instant},
};

use crate::model::{
    Clean, Timestamp,
    fleet::{Heard, News},
};

/// Whoever asks; dropping it ends every question under way.
#[derive(Debug, Default)]
pub struct Asking {
    stop: Arc<AtomicBool>,
}

impl Asking {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The same for a thread.
    fn share(&self) -> Shared {
        Shared(Self { stop: Arc::clone(&self.stop) })
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A look at an [`Asking`] that does not end it.
struct Shared(Asking);

impl Shared {
    fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Sleeps for so long, or until it is over.
    fn rest(&self, span: Duration) {
        let start = Instant::now();
        while !self.is_over() && start.elapsed() < span {
            std::thread::sleep(Duration::from_millis(50).min(span));
        }
    }
}

/// Where news go.
#[derive(Clone, Debug)]
struct Desk {
    place: usize,
    news: SyncSender<News>,
}

impl Desk {
    /// False when nobody listens any more.
    fn tell(&self, heard: Heard) -> bool {
        self.news.send(News { at: Timestamp::now(), place: self.place, heard }).is_ok()
    }

    fn down(&self, why: &str, advice: &str) -> bool {
        self.tell(Heard::Down { why: Clean::new(why), advice: Clean::new(advice) })
    }
}

/// A line of at most `most` bytes; `None` at the end. A longer one is an error, and never held whole.
fn line(from: &mut impl BufRead, most: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.take(most as u64 + 1).read_until(b'\n', &mut line)?;
    if line.len() > most {
        return Err(std::io::Error::other("a line is too long"));
    }
    Ok((!line.is_empty()).then_some(line))
}

/// The last lines that a program complained with, few and short, in one; read to the end in a thread of its own.
fn complaints(child: &mut Child) -> std::thread::JoinHandle<String> {
    const KEPT: usize = 3;
    let from = child.stderr.take();
    std::thread::spawn(move || {
        let mut kept: std::collections::VecDeque<String> = std::collections::VecDeque::new();
        let Some(from) = from else { return String::new() };
        let mut from = BufReader::new(from);
        while let Ok(Some(line)) = line(&mut from, 4096) {
            let line = String::from_utf8_lossy(&line).trim().chars().take(300).collect::<String>();
            if !line.is_empty() {
                kept.push_back(line);
            }
            while kept.len() > KEPT {
                kept.pop_front();
            }
        }
        // What comes after an endless line is read away, so that nobody waits for a full pipe.
        let _ = std::io::copy(&mut from, &mut std::io::sink());
        Vec::from(kept).join("; ")
    })
}
