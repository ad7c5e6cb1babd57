//! What the NVIDIA driver says of itself, asked once: by a helper process with a deadline, as a driver may hang or crash.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::{Nvml, error::NvmlError};
use serde::{Deserialize, Serialize};

use super::gpu::{Reader, unavailable};
use crate::model::{Clean, gpu::GpuReading};

/// The answer of one look. Unknown is `None`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Look {
    /// Whether there is a library to ask at all.
    pub library: bool,
    /// Version of the driver, as the library knows it.
    pub driver: Option<Clean>,
    /// Version of NVML.
    pub nvml: Option<Clean>,
    /// The newest CUDA that the driver runs: major and minor.
    pub cuda: Option<(i32, i32)>,
    /// The file that was loaded.
    pub path: Option<Clean>,
    pub reading: GpuReading,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silent {
    #[error("oomph could not start itself again to ask the driver")]
    NotStarted,
    #[error("the driver did not answer")]
    Hung,
    #[error("asking the driver crashed")]
    Crashed,
}

/// Asks once and waits `patience` long at the most.
///
/// # Errors
/// When nothing is answered.
pub fn look(patience: Duration) -> Result<Look, Silent> {
    let oomph = std::env::current_exe().map_err(|_| Silent::NotStarted)?;
    let mut child = Command::new(oomph)
        .args(["nvml-helper", "--once"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| Silent::NotStarted)?;
    let (line, answer) = channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            let mut text = String::new();
            let _ = BufReader::new(output).read_line(&mut text).map(|_| line.send(text));
        });
    }
    let got = answer.recv_timeout(patience);
    let _ = child.kill();
    // One that cannot be killed hangs in the driver: nobody waits for it.
    let started = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && started.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(5));
    }
    let text = got.map_err(|_| Silent::Hung)?;
    serde_json::from_str(&text).map_err(|_| Silent::Crashed)
}

/// The helper process: one JSON line on standard output.
pub fn helper() {
    let found = match Nvml::init() {
        Ok(nvml) => Look {
            library: true,
            driver: nvml.sys_driver_version().ok().map(Clean::from),
            nvml: nvml.sys_nvml_version().ok().map(Clean::from),
            cuda: nvml.sys_cuda_driver_version().ok().map(|v| (v / 1000, v % 1000 / 10)),
            path: loaded(),
            reading: Reader::new(&nvml).read(),
        },
        Err(error) => Look {
            library: !matches!(error, NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound),
            driver: None,
            nvml: None,
            cuda: None,
            path: loaded(),
            reading: unavailable(&error),
        },
    };
    if let Ok(line) = serde_json::to_string(&found) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// Where the library of this process came from.
fn loaded() -> Option<Clean> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find(|line| line.contains("libnvidia-ml.so"))?;
    Some(Clean::new(path.get(path.find('/')?..)?))
}
