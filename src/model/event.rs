use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Clean, gpu::GpuReading};

/// Which source an event came from; numbered in the order in which sources were opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceId(pub u16);

/// Something that happened, and when. Nothing below the sources reads the clock: this is where time comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub at: Timestamp,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// A file, a pipe or a child's output was opened (again, after a rotation).
    Opened { source: SourceId, name: Clean, path: Option<PathBuf>, size: Option<u64> },
    /// When the file that was just opened was written last: what it holds is no younger.
    Written { source: SourceId, at: Timestamp },
    /// Bytes of a source, as read. `offset` is the place of the first byte in the file; chunks of one stretch follow
    /// on each other, and a stretch that starts elsewhere (the past being filled in) says so by its offset.
    Output {
        source: SourceId,
        offset: u64,
        /// Written down apart from the rest, as it is.
        #[serde(skip)]
        data: Vec<u8>,
    },
    /// The file became shorter: `unread` bytes at most were lost.
    Truncated { source: SourceId, unread: u64 },
    /// Another file stands under the name now; the old one was read to its end.
    Rotated { source: SourceId },
    /// Bytes that exist and were not read, with the reason.
    Skipped { source: SourceId, offset: u64, bytes: u64, reason: Clean },
    /// The source cannot be read at present (permission, hung mount, gone); `None` when it is well again.
    Trouble { source: SourceId, what: Option<Clean> },
    /// The end of what was there has been reached; a large file's earlier part may still be on its way.
    CaughtUp { source: SourceId },
    /// The earlier part of a large file, before the place where reading began, is complete.
    Filled { source: SourceId },
    /// No more will come: the end of standard input, or the child's exit.
    Ended { source: SourceId },
    /// The trainer that `oomph run` started.
    Started { command: Vec<Clean>, pid: u32 },
    /// How the trainer ended: its exit code, or the number of the signal that killed it.
    Exited { code: Option<i32>, signal: Option<i32> },
    /// One sample of every GPU.
    Gpu { reading: GpuReading },
    /// One sample of the host.
    Host { sample: HostSample },
    /// A line of the kernel's log (Xid, OOM killer).
    Kernel { text: Clean },
    /// Why the kernel's log cannot be read; `None` when it can.
    KernelLog { trouble: Option<Clean> },
    /// What the recording of this run lacks: so much of it so far, and why. Told again under its number when it grows.
    Unrecorded { number: u32, events: u64, bytes: u64, reason: Clean },
    /// Why nothing is written down at present; `None` when it is.
    Recording { trouble: Option<Clean> },
}

/// Host memory at one moment. Unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSample {
    pub total_bytes: Option<u64>,
    pub available_bytes: Option<u64>,
    pub cgroup_limit_bytes: Option<u64>,
    pub cgroup_used_bytes: Option<u64>,
    pub shm_total_bytes: Option<u64>,
    pub shm_used_bytes: Option<u64>,
    /// Times that the kernel killed a process of the cgroup because its memory ran out, since the cgroup was made.
    pub cgroup_oom_kills: Option<u64>,
    /// Resident memory of the trainer's process tree: what each process has for itself, and once what they share.
    pub trainer_rss_bytes: Option<u64>,
    pub trainer_processes: Option<u32>,
    /// The process at the root of that tree.
    pub trainer_pid: Option<u32>,
    pub cpu_percent: Option<f32>,
    /// A look between two whole ones, taken because memory is nearly full.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fine: bool,
}

impl HostSample {
    /// The memory that will run out first: bytes in use and the limit, of the cgroup where it has one below the machine's.
    pub fn pressed(&self) -> Option<(u64, u64)> {
        let cgroup = self.cgroup_used_bytes.zip(self.cgroup_limit_bytes);
        let machine =
            self.total_bytes.zip(self.available_bytes).map(|(total, free)| (total.saturating_sub(free), total));
        let free = |(used, limit): &(u64, u64)| limit.saturating_sub(*used);
        cgroup.into_iter().chain(machine).min_by_key(free)
    }
}
