//! NVIDIA GPUs through NVML, read by a helper process: a driver that hangs or crashes costs the figures, nothing else.

mod figures;
mod helper;
mod holders;
mod rates;
mod reader;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::model::{Event, EventKind, gpu::GpuReading};

pub use helper::helper;
pub(super) use {helper::unavailable, reader::Reader};

/// Helpers that did not end when killed; with so many no further one is started.
const MAX_STUCK: u32 = 3;

/// The sampling; dropping it ends it without waiting.
#[derive(Debug)]
pub struct Sampling {
    stop: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Child>>>,
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = child.kill();
        }
    }
}

/// Samples every GPU each `interval` and sends what it reads.
pub fn spawn(interval: Duration, events: SyncSender<Event>) -> Sampling {
    let stop = Arc::new(AtomicBool::new(false));
    let child = Arc::new(Mutex::new(None));
    let sampling = Sampling { stop: Arc::clone(&stop), child: Arc::clone(&child) };
    let _ = thread::Builder::new().name("gpu".into()).spawn(move || watch(interval, &events, &stop, &child));
    sampling
}

/// Starts helpers, one after the other, and passes on what they say.
fn watch(interval: Duration, events: &SyncSender<Event>, stop: &AtomicBool, slot: &Mutex<Option<Child>>) {
    let deadline = (interval * 3).max(Duration::from_secs(5));
    // Figures are old after two looks that brought none; a helper that is late may still answer.
    let old = (interval * 2).max(Duration::from_secs(2));
    let mut pause = Duration::from_secs(1);
    let mut stuck = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(mut child) = start(interval) else {
            tell(events, "oomph could not start itself again to read the GPUs", "restart oomph; everything else works");
            return;
        };
        let (lines, inbox) = channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if lines.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        // The helper ends when this pipe closes.
        let keep = child.stdin.take();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let mut late = false;
        let hung = loop {
            match inbox.recv_timeout(if late { deadline.saturating_sub(old) } else { old }) {
                Ok(line) => {
                    late = false;
                    if let Ok(reading) = serde_json::from_str::<GpuReading>(&line) {
                        pause = Duration::from_secs(1);
                        let event = Event { at: Timestamp::now(), kind: EventKind::Gpu { reading } };
                        if events.send(event).is_err() {
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) if late => break true,
                Err(RecvTimeoutError::Timeout) => {
                    late = true;
                    tell(events, "the NVIDIA driver has not answered for a while", "oomph waits a little longer");
                }
                Err(RecvTimeoutError::Disconnected) => break false,
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        };
        drop(keep);
        let child = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let started = Instant::now();
            while matches!(child.try_wait(), Ok(None)) && started.elapsed() < Duration::from_secs(1) {
                thread::sleep(Duration::from_millis(10));
            }
            if matches!(child.try_wait(), Ok(None)) {
                stuck += 1;
            }
        }
        if stuck >= MAX_STUCK {
            tell(
                events,
                "the NVIDIA driver does not answer and cannot be interrupted",
                "see dmesg; the GPU or its driver needs a reset",
            );
            return;
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let why = if hung { "the NVIDIA driver stopped answering" } else { "reading the NVIDIA driver crashed" };
        tell(events, why, "oomph asks again by itself; see dmesg for Xid lines");
        thread::sleep(pause.min(Duration::from_mins(1)));
        pause *= 2;
    }
}

fn start(interval: Duration) -> Option<Child> {
    let oomph = std::env::current_exe().ok()?;
    let milliseconds = interval.as_millis().to_string();
    Command::new(oomph)
        .args(["nvml-helper", "--interval-ms", &milliseconds])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

fn tell(events: &SyncSender<Event>, why: &str, advice: &str) {
    let reading = GpuReading::Unavailable { why: why.into(), advice: advice.into() };
    let _ = events.send(Event { at: Timestamp::now(), kind: EventKind::Gpu { reading } });
}
