//! The NVIDIA driver: is it there, does it answer, for which cards, and what does it keep back.

use std::{collections::BTreeMap, fmt::Write, path::Path, time::Duration};

use super::Check;
use crate::{
    model::{
        Clean,
        gpu::{GpuReading, GpuSample},
    },
    source::driver::{self, Look, Silent},
};

pub const AREA: &str = "GPUs";
/// A driver that needs longer would cost the dashboard its figures too.
const PATIENCE: Duration = Duration::from_secs(5);

/// The checks, and the newest CUDA that the driver runs.
pub fn checks() -> (Vec<Check>, Option<(i32, i32)>) {
    let look = match driver::look(PATIENCE) {
        Ok(look) => look,
        Err(silent) => return (vec![unanswered(silent)], None),
    };
    let cuda = look.cuda;
    let mut all = Vec::new();
    match &look.reading {
        GpuReading::Samples(samples) => {
            all.push(versions(&look));
            all.extend(cards(samples));
            all.extend(kept_back(samples));
        }
        GpuReading::Unavailable { why, advice } if look.library || has_hardware() => {
            all.push(Check::off(AREA, "driver", why.as_str()).advise(advice.as_str()));
        }
        _ => all.push(
            Check::note(
                AREA,
                "driver",
                "no NVIDIA GPU and no NVIDIA driver on this machine: logs are watched without GPU figures",
            )
            .advise("in a container: start it with --gpus all"),
        ),
    }
    all.extend(nodes());
    (all, cuda)
}

fn unanswered(silent: Silent) -> Check {
    match silent {
        Silent::Hung => Check::off(AREA, "driver", format!("the NVIDIA driver did not answer for {} s", PATIENCE.as_secs()))
            .advise("`dmesg | grep -i xid` may say why; a reboot or a reset of the GPU helps. oomph goes on without GPU figures"),
        Silent::Crashed => Check::off(AREA, "driver", "asking the NVIDIA driver crashed")
            .advise("install the driver again: its library and its kernel module may be of different versions"),
        Silent::NotStarted => Check::off(AREA, "driver", silent.to_string())
            .advise("run oomph from a path that still exists; the limit of processes (ulimit -u) may be reached"),
    }
}

fn versions(look: &Look) -> Check {
    let mut says = look.driver.as_ref().map_or("driver of unknown version".into(), |v| format!("driver {v}"));
    if let Some((major, minor)) = look.cuda {
        let _ = write!(says, ", runs CUDA up to {major}.{minor}");
    }
    if let Some(path) = &look.path {
        let _ = write!(says, " ({path})");
    }
    let module = module_version();
    let check = match (&module, &look.driver) {
        (Some(module), Some(driver)) if module != driver.as_str() => {
            Check::off(AREA, "driver", format!("{says}; its kernel module is {module}"))
                .advise("the driver was updated while it was in use: reboot, or reload its kernel module")
        }
        _ => Check::well(AREA, "driver", says),
    };
    check
        .fact("driver", look.driver.as_ref().map(|v| v.as_str().to_string()))
        .fact("nvml", look.nvml.as_ref().map(|v| v.as_str().to_string()))
        .fact("cuda", look.cuda.map(|(major, minor)| format!("{major}.{minor}")))
        .fact("kernel_module", module)
        .fact("library", look.path.as_ref().map(|p| p.as_str().to_string()))
}

/// The version of the driver's kernel module.
fn module_version() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_version = |word: &&str| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_string)
}

fn cards(samples: &[GpuSample]) -> Vec<Check> {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for sample in samples.iter().filter(|s| !s.lost) {
        let name = if sample.name.is_empty() { "GPU of unknown name" } else { sample.name.as_str() };
        let memory = sample.memory_total.map_or("memory unknown".to_string(), |bytes| bytes.to_string());
        *kinds.entry(format!("{name}, {memory}")).or_default() += 1;
    }
    let shown: Vec<String> =
        kinds.iter().map(|(kind, n)| if *n == 1 { kind.clone() } else { format!("{n} x {kind}") }).collect();
    let mut all = Vec::new();
    if !shown.is_empty() {
        all.push(
            Check::well(AREA, "cards", shown.join("; "))
                .fact("count", samples.len())
                .fact("uuids", samples.iter().map(|s| Clean::new(&s.uuid).as_str().to_string()).collect::<Vec<_>>()),
        );
    }
    let lost: Vec<String> = samples.iter().filter(|s| s.lost).map(|s| s.index.to_string()).collect();
    if !lost.is_empty() {
        let says = format!("lost: GPU {}", lost.join(", GPU "));
        let advice = "`dmesg | grep -i xid` says why; it comes back after a reset of the GPU or a reboot";
        all.push(Check::off(AREA, "lost", says).advise(advice));
    }
    all
}

/// Figures that the driver refuses.
fn kept_back(samples: &[GpuSample]) -> Vec<Check> {
    let mut refused: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for sample in samples.iter().filter(|s| !s.lost) {
        for (figure, why) in &sample.refused {
            refused.entry(figure).or_insert((why, 0)).1 += 1;
        }
    }
    let of = |n: usize| if n == samples.len() { String::new() } else { format!(" of {n} of {} GPUs", samples.len()) };
    let words: Vec<String> = refused.iter().map(|(figure, (why, n))| format!("{figure}{} ({why})", of(*n))).collect();
    let mut all = Vec::new();
    if !words.is_empty() {
        let says = format!("not told by the driver: {}", words.join(", "));
        let must = refused.keys().any(|figure| ["memory", "GPU"].contains(figure));
        all.push(if must {
            Check::off(AREA, "refused", says).advise("`nvidia-smi -q` shows whether it is the driver or a permission")
        } else {
            Check::note(AREA, "refused", says)
        });
    }
    if samples.iter().flat_map(|s| &s.processes).any(|p| p.foreign) {
        let says = "processes on the GPUs have pids of another pid namespace: they are counted, not named";
        all.push(Check::note(AREA, "pids", says).advise("in a container: --pid=host lets them be named"));
    }
    all
}

/// Device files that this user may not open.
fn nodes() -> Option<Check> {
    let entries = std::fs::read_dir("/dev").ok()?;
    let mut closed: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("nvidia")))
        .filter(|path| !path.is_dir())
        .filter(|path| rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_err())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    closed.sort();
    let advice = "ask whoever runs the machine for the group of these files (often video or render), or leave the container's limits";
    let says = format!("may not be opened by you: {}", closed.join(", "));
    (!closed.is_empty()).then(|| Check::off(AREA, "device_files", says).advise(advice))
}

/// Whether the machine has an NVIDIA card, whatever its driver says.
fn has_hardware() -> bool {
    let is_nvidia = |path: &Path| std::fs::read_to_string(path.join("vendor")).is_ok_and(|v| v.trim() == "0x10de");
    // Display controllers: an NVIDIA network card needs no driver for GPUs.
    let is_display = |path: &Path| std::fs::read_to_string(path.join("class")).is_ok_and(|c| c.starts_with("0x03"));
    let Ok(entries) = std::fs::read_dir("/sys/bus/pci/devices") else { return false };
    entries.flatten().map(|e| e.path()).any(|path| is_nvidia(&path) && is_display(&path))
}
