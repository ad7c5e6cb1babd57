//! NVIDIA GPUs through NVML, read by a helper process: a driver that hangs or crashes costs the figures, nothing else.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
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
use nvml_wrapper::{
    Device, Nvml,
    enum_wrappers::device::{Clock, TemperatureSensor},
    enums::device::UsedGpuMemory,
    error::NvmlError,
};

use super::pace::Pace;
use crate::model::{
    Bytes, Clean, Event, EventKind,
    gpu::{GpuProcess, GpuReading, GpuSample},
};

/// Figures that hardly move are asked this seldom.
const SLOW: Duration = Duration::from_secs(10);
/// A lost GPU is looked for again this seldom: asking one can hold up the driver.
const LOST: Duration = Duration::from_secs(10);
/// A driver that was there is asked anew after this long, and after twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
/// Without a driver it is looked for again after this long.
const RETRY: Duration = Duration::from_secs(30);
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

/// The helper process: one JSON line a sample on standard output, until standard input ends.
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

fn say(reading: &GpuReading) -> bool {
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
pub(super) fn unavailable(error: &NvmlError) -> GpuReading {
    let (why, advice) = match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => (
            "no NVIDIA driver on this machine (libnvidia-ml.so.1 was not found)",
            "on a GPU machine: install the driver; in a container: start it with --gpus all",
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

/// Figures that hardly move, kept between two slow looks.
#[derive(Clone, Default)]
struct Slow {
    sample: GpuSample,
    looked: Option<Instant>,
}

/// Program, user and command line.
type Who = (Option<Clean>, Option<Clean>, Option<Clean>);

pub(super) struct Reader<'a> {
    nvml: &'a Nvml,
    slow: BTreeMap<u32, Slow>,
    names: BTreeMap<u32, Who>,
    /// GPUs that were lost when they were last asked, and when that was.
    lost: BTreeMap<u32, (Instant, GpuSample)>,
    foreign: bool,
    /// How finely each GPU's memory is looked at, and what was told of it last: UUID, bytes in use and bytes in all.
    memory: BTreeMap<u32, (Pace, String, u64, u64)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(nvml: &'a Nvml) -> Self {
        // The number of the first pid namespace of a Linux system, where the driver's pids are ours.
        let own = std::fs::read_link("/proc/self/ns/pid").is_ok_and(|l| l.to_string_lossy() == "pid:[4026531836]");
        Self {
            nvml,
            slow: BTreeMap::new(),
            names: BTreeMap::new(),
            lost: BTreeMap::new(),
            foreign: !own,
            memory: BTreeMap::new(),
        }
    }

    /// Waits for the next whole look, and meanwhile looks at the memory of those GPUs that are nearly full: with the one
    /// cheap call, and telling only what moved. False when nobody listens any more.
    fn look_at_memory(&mut self, started: Instant, interval: Duration) -> bool {
        loop {
            let now = Instant::now();
            let fine = self.memory.values_mut().filter_map(|(pace, _, used, total)| {
                let free = total.saturating_sub(*used);
                pace.next(now, free, *total)
            });
            let fine = fine.min();
            let left = interval.saturating_sub(started.elapsed());
            let Some(fine) = fine.filter(|fine| *fine < left) else {
                thread::sleep(left);
                return true;
            };
            thread::sleep(fine);
            let mut moved = Vec::new();
            for (index, (_, uuid, told, total)) in &mut self.memory {
                let info = self.nvml.device_by_index(*index).and_then(|device| device.memory_info());
                // What went wrong the next whole look tells.
                let Ok(info) = info else { continue };
                if info.used <= info.total && info.used.abs_diff(*told) > *total / 2000 {
                    *told = info.used;
                    moved.push((uuid.clone(), Bytes(info.used)));
                }
            }
            if !moved.is_empty() && !say(&GpuReading::Memory(moved)) {
                return false;
            }
        }
    }

    pub(super) fn read(&mut self) -> GpuReading {
        let count = match self.nvml.device_count() {
            Ok(count) => count.min(256),
            Err(error) => return unavailable(&error),
        };
        if count == 0 {
            return GpuReading::Unavailable {
                why: "the driver sees no GPU".into(),
                advice: "in a container: start it with --gpus all; see `nvidia-smi -L`".into(),
            };
        }
        let mut samples = Vec::new();
        let mut silent = None;
        for index in 0..count {
            match self.sample(index) {
                Ok(sample) => samples.push(sample),
                Err(error) => {
                    samples.push(self.without_figures(index, &error));
                    silent = Some(error);
                }
            }
        }
        self.memory.retain(|index, _| *index < count);
        for s in &samples {
            match (s.memory_used, s.memory_total) {
                (Some(used), Some(total)) => {
                    let known = self.memory.entry(s.index).or_default();
                    (known.1, known.2, known.3) = (s.uuid.clone(), used.0, total.0);
                }
                _ => drop(self.memory.remove(&s.index)),
            }
        }
        match silent {
            // Not a card but the driver: it was reloaded, or taken from this container.
            Some(error) if samples.iter().all(|s| s.refused.iter().any(|(what, _)| what == "GPU")) => {
                unavailable(&error)
            }
            _ => GpuReading::Samples(samples),
        }
    }

    fn sample(&mut self, index: u32) -> Result<GpuSample, NvmlError> {
        if let Some((_, sample)) = self.lost.get(&index).filter(|(asked, _)| asked.elapsed() < LOST) {
            return Ok(sample.clone());
        }
        let device = match self.nvml.device_by_index(index) {
            Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => return Ok(self.lost(index, &error)),
            device => device?,
        };
        let slow = self.slow.get(&index).cloned().unwrap_or_default();
        let mut s = if slow.looked.is_some_and(|at| at.elapsed() < SLOW) {
            slow.sample
        } else {
            let sample = slow_figures(&device, index, slow.sample);
            self.slow.insert(index, Slow { sample: sample.clone(), looked: Some(Instant::now()) });
            sample
        };
        s.lost = false;
        if s.uuid.is_empty() {
            s.uuid = format!("index-{index}");
        }
        match device.memory_info() {
            Ok(m) if m.total > 0 && m.used <= m.total => {
                s.memory_total = Some(Bytes(m.total));
                s.memory_used = Some(Bytes(m.used));
                s.memory_free = Some(Bytes(m.free));
            }
            Ok(_) => s.refused.push(("memory".into(), "the driver's figures contradict each other".into())),
            Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => return Ok(self.lost(index, &error)),
            Err(error) => s.refused.push(("memory".into(), error.to_string())),
        }
        if let Some(rates) = ask(&mut s, "utilization", device.utilization_rates()) {
            s.utilization = Some(rates.gpu).filter(|u| *u <= 100);
            s.memory_utilization = Some(rates.memory).filter(|u| *u <= 100);
        }
        s.temperature_c = ask(&mut s, "temperature", device.temperature(TemperatureSensor::Gpu)).filter(|t| *t < 200);
        s.power_w = ask(&mut s, "power", device.power_usage()).map(|mw| mw as f32 / 1000.0);
        s.sm_clock_mhz = ask(&mut s, "SM clock", device.clock_info(Clock::SM));
        s.throttle = ask(&mut s, "throttle reasons", device.current_throttle_reasons()).map(|t| t.bits());
        let compute = ask(&mut s, "processes", device.running_compute_processes()).unwrap_or_default();
        s.processes = compute.into_iter().map(|p| self.process(p.pid, &p.used_gpu_memory)).collect();
        Ok(s)
    }

    /// Who it is, as far as is known, and why nothing else is told of it.
    fn without_figures(&self, index: u32, error: &NvmlError) -> GpuSample {
        let known = self.slow.get(&index).map(|s| s.sample.clone()).unwrap_or_default();
        let uuid = if known.uuid.is_empty() { format!("index-{index}") } else { known.uuid };
        GpuSample {
            uuid,
            index,
            name: known.name,
            pci_bus_id: known.pci_bus_id,
            refused: vec![("GPU".into(), error.to_string())],
            ..GpuSample::default()
        }
    }

    fn lost(&mut self, index: u32, error: &NvmlError) -> GpuSample {
        let sample = GpuSample { lost: true, ..self.without_figures(index, error) };
        self.lost.insert(index, (Instant::now(), sample.clone()));
        sample
    }

    fn process(&mut self, pid: u32, used: &UsedGpuMemory) -> GpuProcess {
        let used = match used {
            UsedGpuMemory::Used(bytes) => Some(Bytes(*bytes)),
            UsedGpuMemory::Unavailable => None,
        };
        if self.foreign {
            // The driver's pids are those of the host: a local process of the same number is another one.
            return GpuProcess { pid, used, foreign: true, ..GpuProcess::default() };
        }
        if self.names.len() > 4096 {
            self.names.clear();
        }
        let (name, user, command) = self.names.entry(pid).or_insert_with(|| who(pid)).clone();
        GpuProcess { pid, used, name, user, command, ..GpuProcess::default() }
    }
}

/// A call's answer; its refusal is noted with the reason.
fn ask<T>(sample: &mut GpuSample, what: &'static str, answer: Result<T, NvmlError>) -> Option<T> {
    answer.map_err(|error| sample.refused.push((what.into(), error.to_string()))).ok()
}

fn slow_figures(device: &Device<'_>, index: u32, before: GpuSample) -> GpuSample {
    let mut s = GpuSample { index, uuid: before.uuid, ..GpuSample::default() };
    if let Some(uuid) = ask(&mut s, "UUID", device.uuid()) {
        s.uuid = uuid;
    }
    s.name = ask(&mut s, "name", device.name()).map(|n| Clean::new(&n)).unwrap_or_default();
    s.pci_bus_id = ask(&mut s, "PCI address", device.pci_info()).map(|p| Clean::new(&p.bus_id)).unwrap_or_default();
    s.power_limit_w = ask(&mut s, "power limit", device.enforced_power_limit()).map(|mw| mw as f32 / 1000.0);
    s.max_sm_clock_mhz = ask(&mut s, "largest clock", device.max_clock_info(Clock::SM));
    s.memory_clock_mhz = ask(&mut s, "memory clock", device.clock_info(Clock::Memory));
    s.fan_percent = device.fan_speed(0).ok().filter(|f| *f <= 200);
    s.pcie_generation = device.current_pcie_link_gen().ok();
    s.pcie_width = device.current_pcie_link_width().ok();
    s
}

/// Program, user and command line of a process of this machine.
fn who(pid: u32) -> Who {
    use std::os::unix::fs::MetadataExt;
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    let name = read("comm").map(|b| Clean::from_bytes(b.trim_ascii()));
    let command = read("cmdline").map(|b| {
        let shown: Vec<u8> = b.iter().take(400).map(|c| if *c == 0 { b' ' } else { *c }).collect();
        Clean::from_bytes(shown.trim_ascii())
    });
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok().map(|m| m.uid());
    let user = uid.and_then(|uid| {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let found = users.lines().find(|l| l.split(':').nth(2) == Some(uid.to_string().as_str()))?;
        found.split(':').next().map(Clean::from)
    });
    (name, user.or_else(|| uid.map(|u| u.to_string().into())), command)
}
