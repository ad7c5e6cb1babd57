//! The helper process: asks NVML and says what it reads, until nobody listens any more.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::{Nvml, error::NvmlError};

use crate::model::{Clean, gpu::GpuReading};

use super::reader::Reader;

/// A driver that was there is asked anew after this long, and after twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// Without a driver it is looked for again after this long.
const RETRY: Duration = Duration::from_secs(30);

/// One JSON line a sample on standard output, until standard input ends.
pub fn helper(interval: Duration) {
    thread::spawn(|| {
        let mut byte = [0];
        while std::io::stdin().read(&mut byte).is_ok_and(|n| n > 0) {}
        std::process::exit(0);
    });
    let mut again = AGAIN;
    loop {
        let pause = match Nvml::init() {
            Ok(nvml) => {
                let mut reader = Reader::new(&nvml);
                loop {
                    let started = Instant::now();
                    let reading = reader.read();
                    let gone = matches!(reading, GpuReading::Unavailable { .. });
                    if !gone {
                        again = AGAIN;
                    }
                    if !say(&reading) {
                        return;
                    }
                    if gone {
                        break;
                    }
                    if !reader.look_at_memory(started, interval) {
                        return;
                    }
                }
                let pause = again;
                again = (again * 2).min(Duration::from_mins(1));
                pause
            }
            Err(error) => {
                if !say(&unavailable(&error)) {
                    return;
                }
                RETRY
            }
        };
        // The parent's deadline must not take a missing driver for a hanging one.
        let waited = Instant::now();
        while waited.elapsed() < pause {
            thread::sleep(Duration::from_secs(1).min(pause.saturating_sub(waited.elapsed())));
            if !heartbeat() {
                return;
            }
        }
    }
}

/// One line for the parent. False when it is gone.
pub(super) fn say(reading: &GpuReading) -> bool {
    let Ok(line) = serde_json::to_string(reading) else { return true };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// An empty line: nothing new, still alive.
fn heartbeat() -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out).and_then(|()| out.flush()).is_ok()
}

/// Why there are no GPUs, in words, and what to do.
pub(in crate::source) fn unavailable(error: &NvmlError) -> GpuReading {
    let (why, advice) = match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => (
            "no NVIDIA driver on this machine (libnvidia-ml.so.1 was not found)",
            "install its driver; in a container: start it with --gpus all",
        ),
        NvmlError::DriverNotLoaded => {
            ("the NVIDIA driver is not loaded", "run `nvidia-smi` as root once, or `modprobe nvidia`")
        }
        NvmlError::LibRmVersionMismatch => (
            "the driver and its library are of different versions",
            "the driver was updated: reboot, or reload its kernel module",
        ),
        NvmlError::NoPermission => ("no permission to ask the driver", "check the permissions of /dev/nvidia*"),
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
            ("the NVIDIA driver is too old", "update the driver")
        }
        _ => ("the NVIDIA driver answers with an error", "run `nvidia-smi` to see it"),
    };
    GpuReading::Unavailable { why: why.into(), advice: Clean::new(&format!("{advice} ({error})")) }
}
