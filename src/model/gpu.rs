//! What a GPU says of itself. Every figure that could not be read is `None`, never 0.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Bytes, Clean};

/// All GPUs at one moment, or why there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuReading {
    Samples(Vec<GpuSample>),
    /// No library, no driver, no permission: a state that the screen explains, not an error.
    Unavailable {
        why: Clean,
        advice: Clean,
    },
    /// Memory alone, between two whole samples, because a card is nearly full: UUID and bytes in use of those that moved.
    Memory(Vec<(String, Bytes)>),
}

/// One GPU at one moment. Known by its UUID; the index is only the driver's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuSample {
    pub uuid: String,
    pub index: u32,
    pub name: Clean,
    pub pci_bus_id: Clean,
    /// The driver no longer answers for it (Xid 79): nothing else in the sample is known.
    pub lost: bool,
    pub memory_total: Option<Bytes>,
    pub memory_used: Option<Bytes>,
    pub memory_free: Option<Bytes>,
    /// Set aside by the driver and its firmware: neither in use nor free.
    pub memory_reserved: Option<Bytes>,
    /// Percent of the last sample period with a kernel running.
    pub utilization: Option<u32>,
    pub memory_utilization: Option<u32>,
    pub temperature_c: Option<u32>,
    pub memory_temperature_c: Option<u32>,
    pub power_w: Option<f32>,
    pub power_limit_w: Option<f32>,
    pub sm_clock_mhz: Option<u32>,
    pub memory_clock_mhz: Option<u32>,
    pub max_sm_clock_mhz: Option<u32>,
    pub fan_percent: Option<u32>,
    /// NVML's throttle-reason bits.
    pub throttle: Option<u64>,
    pub performance_state: Option<u8>,
    pub pcie_rx_kib_s: Option<u32>,
    pub pcie_tx_kib_s: Option<u32>,
    pub pcie_generation: Option<u32>,
    pub pcie_width: Option<u32>,
    pub max_pcie_generation: Option<u32>,
    pub max_pcie_width: Option<u32>,
    /// NVLinks that are up, of those that the card has.
    pub nvlink_active: Option<u32>,
    pub nvlink_count: Option<u32>,
    pub nvlink_rx_kib_s: Option<u32>,
    pub nvlink_tx_kib_s: Option<u32>,
    /// Percent of the cycles of the last seconds in which the multiprocessors, and their tensor cores, worked.
    pub sm_active_percent: Option<f32>,
    pub tensor_active_percent: Option<f32>,
    pub ecc_enabled: Option<bool>,
    /// Memory errors since the driver was loaded.
    pub ecc_corrected: Option<u64>,
    pub ecc_uncorrected: Option<u64>,
    /// Rows of memory that were replaced because of errors, and whether one waits for a reset of the GPU.
    pub remapped_rows: Option<u32>,
    pub remap_pending: Option<bool>,
    pub mig_enabled: Option<bool>,
    /// The instances that the card is divided into.
    pub mig: Vec<MigInstance>,
    /// Errors (Xid) that the driver reported since the last sample.
    pub xids: Vec<u64>,
    pub processes: Vec<GpuProcess>,
    /// How far `processes` are all that can explain `memory_used`.
    pub listed: Listed,
    /// Figures that this driver or card refuses, with the reason: (figure, reason).
    pub refused: Vec<(Cow<'static, str>, String)>,
}

/// NVML's throttle-reason bits in words (`nvmlClocksEventReasons`), and whether each is a trouble: heat and failing power
/// are; the power cap, which every busy card meets, is not.
const THROTTLE: &[(u64, &str, bool)] = &[
    (0x2, "application clocks", false),
    (0x4, "power cap", false),
    (0x8, "hardware slowdown", true),
    (0x10, "sync boost", false),
    (0x20, "software thermal limit", true),
    (0x40, "hardware thermal limit", true),
    (0x80, "power brake", true),
    (0x100, "display clocks", false),
];

impl GpuSample {
    /// What holds the clocks back, in words; idleness is no reason.
    pub fn held_back_by(&self) -> impl Iterator<Item = &'static str> + use<> {
        let bits = self.throttle.unwrap_or(0);
        THROTTLE.iter().filter(move |(bit, ..)| bits & bit != 0).map(|(_, words, _)| *words)
    }

    /// What slows it down that should not.
    pub fn slowed_by(&self) -> impl Iterator<Item = &'static str> + use<> {
        let bits = self.throttle.unwrap_or(0);
        THROTTLE.iter().filter(move |(bit, _, bad)| *bad && bits & bit != 0).map(|(_, words, _)| *words)
    }
}

/// A part of a card that programs see as a GPU of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MigInstance {
    pub uuid: String,
    /// Its profile: `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
    pub name: Clean,
    pub memory_total: Option<Bytes>,
    pub memory_used: Option<Bytes>,
}

/// Whether a card's list of processes tells of everything that holds its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listed {
    /// Others may hold memory too: they are of another container or instance, were refused, or came without a figure.
    #[default]
    Partly,
    /// All of them, each with its figure, but as of an earlier look than the memory in use.
    Earlier,
    /// All of them, each with its figure, asked right after the memory in use.
    Wholly,
}

/// A process that holds memory on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuProcess {
    pub pid: u32,
    pub used: Option<Bytes>,
    /// It draws (a desktop, a renderer) and does not compute.
    pub graphics: bool,
    pub name: Option<Clean>,
    pub user: Option<Clean>,
    pub command: Option<Clean>,
    /// The pid belongs to another pid namespace: it must not be matched with a local process.
    pub foreign: bool,
    /// The driver still counts memory for it, but no such process lives any more.
    pub gone: bool,
    /// Its rank, as its environment says.
    pub rank: Option<u32>,
    /// The processes that started it, the nearest first, up to the one that began the job.
    pub parents: Vec<u32>,
    /// The program of the last of them: `torchrun`.
    pub launcher: Option<Clean>,
    /// The container or the batch job that it runs in: `docker 3f2a91c04b1e`, `slurm 4711`.
    pub container: Option<Clean>,
    /// GPU instance (MIG) that it runs on.
    pub instance: Option<u32>,
}

impl GpuProcess {
    /// The process that began the job which it belongs to.
    pub fn job(&self) -> u32 {
        self.parents.last().copied().unwrap_or(self.pid)
    }
}
