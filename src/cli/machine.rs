//! The machine beside the logs: GPUs, host memory and the kernel's log, as a dashboard watches them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    model::Event,
    source::{
        gpu::{self, Sampling},
        host::{self, Places, Watching, Worth},
        kernel::KernelLog,
    },
};

use super::jobs::proc_folder;

/// The kernel's log.
pub const KERNEL: &str = "/dev/kmsg";
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Everything that is sampled; dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    _gpus: Option<Sampling>,
    _host: Watching,
    stop: Arc<AtomicBool>,
}

impl Machine {
    /// Watches the GPUs each `gpu_interval`, where they are wanted, and the host with the family of `trainer`.
    pub fn watch(gpu_interval: Option<Duration>, trainer: Option<u32>, events: &SyncSender<Event>) -> Self {
        // Whoever only looks on is the first to go when the host's memory runs out.
        host::stand_back(Worth::Least);
        let gpus = gpu_interval.map(|interval| gpu::spawn(interval, events.clone()));
        let host = host::spawn(Places::of_this_machine(proc_folder()), trainer, events.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let (over, events) = (Arc::clone(&stop), events.clone());
        let _ = thread::Builder::new().name("kernel".into()).spawn(move || {
            let mut gone = false;
            let mut send = |kind| gone |= events.send(Event { at: Timestamp::now(), kind }).is_err();
            let mut log = KernelLog::open(Path::new(KERNEL), &mut send);
            while log.is_open() && !over.load(Ordering::Relaxed) {
                log.poll(&mut send);
                thread::sleep(LOOK);
            }
        });
        Self { _gpus: gpus, _host: host, stop }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
