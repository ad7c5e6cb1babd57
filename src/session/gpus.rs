//! Every GPU over time, by UUID.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::SignedDuration;

use crate::model::{
    Bytes, Clean, Timestamp,
    gpu::{GpuReading, GpuSample},
};

use super::{
    holders::{Owner, Peak, Stray},
    xid,
};

/// Samples of memory kept for each GPU.
const KEEP: usize = 14_400;
/// Fine looks at memory are kept this long, and so many at most (twenty a second).
const FINE: SignedDuration = SignedDuration::from_mins(5);
const KEEP_FINE: usize = 6_000;
/// Samples for which it is kept what others held.
const KEEP_OTHERS: usize = 1024;
/// The same error told twice within so long is one.
const SAME: SignedDuration = SignedDuration::from_secs(15);
/// Errors of one GPU that are kept.
const KEEP_XIDS: usize = 64;

/// Hotter than this is worth a look, and hotter than that is wrong: cards slow themselves down from about 85 °C on.
pub const HOT_C: u32 = 83;
pub const TOO_HOT_C: u32 = 90;

/// Something about a GPU that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub is_severe: bool,
    pub text: String,
}

/// One GPU and its recent past.
#[derive(Clone, Debug, Default)]
pub struct Gpu {
    pub latest: GpuSample,
    pub seen: Option<Timestamp>,
    pub lost_since: Option<Timestamp>,
    pub peak_used: Option<Bytes>,
    /// When that was, and who held it.
    pub at_peak: Option<Peak>,
    /// Memory that no process explains.
    pub stray: Stray,
    /// Memory used and utilisation over time.
    pub history: VecDeque<(Timestamp, Option<Bytes>, Option<u32>)>,
    /// Of that what is not the watched job's, while the last [`KEEP_OTHERS`] samples came.
    pub others: VecDeque<(Timestamp, Bytes)>,
    /// Errors that the driver reported of it (Xid), and when; the newest last.
    pub xids: VecDeque<(Timestamp, u64)>,
    /// Memory between those samples, near the limit, of the last minutes.
    pub fine: VecDeque<(Timestamp, Bytes)>,
}

impl Gpu {
    /// Memory over time, the fine looks of the last minutes in their places.
    pub fn memory(&self) -> Vec<(Timestamp, Bytes)> {
        let whole = self.history.iter().filter_map(|(at, used, _)| Some((*at, (*used)?)));
        let mut all: Vec<_> = whole.chain(self.fine.iter().copied()).collect();
        all.sort_by_key(|(at, _)| *at);
        all
    }

    fn look(&mut self, at: Timestamp, used: Bytes) {
        if self.peak_used < Some(used) {
            self.peak_used = Some(used);
            let processes = std::mem::take(&mut self.at_peak).map(|peak| peak.processes);
            self.at_peak = Some(Peak { at, used, processes: processes.unwrap_or_default() });
        }
        self.latest.memory_used = Some(used);
        let taken = used + self.latest.memory_reserved.unwrap_or_default();
        self.latest.memory_free = self.latest.memory_total.map(|total| total.saturating_sub(taken));
        self.fine.push_back((at, used));
        while self.fine.len() > KEEP_FINE || self.fine.front().is_some_and(|(old, _)| at.duration_since(*old) > FINE) {
            self.fine.pop_front();
        }
    }

    /// What a program could still get: not what the driver set aside.
    pub fn free(&self) -> Option<Bytes> {
        let (total, used) = (self.latest.memory_total?, self.latest.memory_used?);
        Some(self.latest.memory_free.unwrap_or(total.saturating_sub(used)))
    }

    /// Everything about it that should not be, the worst first.
    pub fn troubles(&self) -> Vec<Trouble> {
        let s = &self.latest;
        let mut all = Vec::new();
        let mut put = |is_severe, text: String| all.push(Trouble { is_severe, text });
        if let Some((_, number)) = self.xids.back() {
            let meaning = xid::meaning(*number).map(|meaning| format!(": {meaning}")).unwrap_or_default();
            let more = if self.xids.len() > 1 { format!(" ({} such errors)", self.xids.len()) } else { String::new() };
            put(true, format!("Xid {number}{meaning}{more}"));
        }
        if let Some(errors @ 1..) = s.ecc_uncorrected {
            put(
                true,
                format!("{errors} memory errors that ECC could not correct; if they go on, have the card replaced"),
            );
        }
        if let Some(celsius) = s.temperature_c.filter(|c| *c >= TOO_HOT_C) {
            put(true, format!("too hot: {celsius} °C"));
        }
        if s.remap_pending == Some(true) {
            put(false, "a row of broken memory waits to be replaced: reset the GPU when it is free".into());
        }
        let slowed: Vec<&str> = s.slowed_by().collect();
        if !slowed.is_empty() {
            put(false, format!("slowed down by {}", slowed.join(", ")));
        }
        if let Some(celsius) = s.temperature_c.filter(|c| (HOT_C..TOO_HOT_C).contains(c)) {
            put(false, format!("hot: {celsius} °C"));
        }
        if let (Some(width), Some(most)) = (s.pcie_width, s.max_pcie_width)
            && width < most
        {
            put(false, format!("PCIe runs at x{width} of x{most}"));
        }
        if let (Some(up @ 1..), Some(links)) = (s.nvlink_active, s.nvlink_count)
            && up < links
        {
            put(false, format!("{up} of {links} NVLinks are up"));
        }
        all
    }

    /// The errors that the driver reported of it (Xid), the newest last. The kernel's log and the driver tell the same one.
    fn note_xids(&mut self, at: Timestamp, numbers: &[u64]) {
        for number in numbers {
            let told = |(then, known): &(Timestamp, u64)| *known == *number && at.duration_since(*then) < SAME;
            if !self.xids.iter().any(told) {
                self.xids.push_back((at, *number));
            }
        }
        let old = self.xids.len().saturating_sub(KEEP_XIDS);
        self.xids.drain(..old);
    }

    fn remember(&mut self, look: (Timestamp, Option<Bytes>, Option<u32>)) {
        self.history.push_back(look);
        if self.history.len() > KEEP {
            self.history.pop_front();
        }
    }

    fn lose(&mut self, at: Timestamp, why: &str) {
        if self.lost_since.is_none() {
            self.lost_since = Some(at);
            self.forget(why);
            self.latest.lost = true;
            // A gap in the curves from here on.
            self.remember((at, None, None));
        }
    }

    /// Keeps who it is and what holds for good; the figures of a moment that has passed go.
    fn forget(&mut self, why: &str) {
        let GpuSample { uuid, index, name, pci_bus_id, lost, memory_total, power_limit_w, .. } =
            std::mem::take(&mut self.latest);
        self.stray = Stray::default();
        let refused = vec![("figures".into(), why.to_string())];
        self.latest = GpuSample {
            uuid,
            index,
            name,
            pci_bus_id,
            lost,
            memory_total,
            power_limit_w,
            refused,
            ..GpuSample::default()
        };
    }
}

/// All GPUs that were ever seen.
#[derive(Clone, Debug, Default)]
pub struct Gpus {
    by_uuid: BTreeMap<String, Gpu>,
    /// Why there are none, and what to do.
    pub unavailable: Option<(Clean, Clean)>,
}

impl Gpus {
    pub fn apply(&mut self, at: Timestamp, reading: GpuReading) {
        match reading {
            GpuReading::Unavailable { why, advice } => {
                self.by_uuid.values_mut().for_each(|gpu| gpu.forget(why.as_str()));
                self.unavailable = Some((why, advice));
            }
            GpuReading::Memory(looks) => {
                for (uuid, used) in looks {
                    if let Some(gpu) = self.by_uuid.get_mut(&uuid).filter(|gpu| gpu.lost_since.is_none()) {
                        gpu.look(at, used);
                    }
                }
            }
            GpuReading::Samples(samples) => {
                self.unavailable = None;
                let named: BTreeSet<&str> = samples.iter().map(|s| s.uuid.as_str()).collect();
                // What went by its number until the driver told its UUID is another's entry now.
                self.by_uuid.retain(|uuid, _| named.contains(uuid.as_str()) || !uuid.starts_with("index-"));
                let missing = self.by_uuid.iter_mut().filter(|(uuid, _)| !named.contains(uuid.as_str()));
                missing.for_each(|(_, gpu)| gpu.lose(at, "the driver does not list this GPU any more"));
                for sample in samples {
                    let gpu = self.by_uuid.entry(sample.uuid.clone()).or_default();
                    gpu.note_xids(at, &sample.xids);
                    if sample.lost {
                        if gpu.latest.uuid.is_empty() {
                            gpu.latest = sample.clone();
                        }
                        gpu.latest.index = sample.index;
                        gpu.lose(at, "the driver does not answer for this GPU");
                        continue;
                    }
                    gpu.lost_since = None;
                    gpu.seen = Some(at);
                    if let Some(used) = sample.memory_used.filter(|used| gpu.peak_used < Some(*used)) {
                        gpu.peak_used = Some(used);
                        gpu.at_peak = Some(Peak { at, used, processes: sample.processes.clone() });
                    }
                    gpu.remember((at, sample.memory_used, sample.utilization));
                    gpu.stray.look(at, &sample);
                    gpu.latest = sample;
                }
            }
        }
    }

    /// What others than the job hold of each GPU now.
    pub fn note_others(&mut self, at: Timestamp, owner: &Owner) {
        for gpu in self.by_uuid.values_mut().filter(|gpu| gpu.lost_since.is_none()) {
            let Some(shares) = owner.shares(gpu) else { continue };
            gpu.others.push_back((at, shares.others + shares.unexplained));
            if gpu.others.len() > KEEP_OTHERS {
                gpu.others.pop_front();
            }
        }
    }

    /// A line of the kernel's log that tells an error of one of the GPUs.
    pub fn note_kernel(&mut self, at: Timestamp, line: &str) {
        let Some((address, number)) = xid::of_kernel_line(line) else { return };
        let its = |gpu: &&mut Gpu| xid::is_at(&address, gpu.latest.pci_bus_id.as_str());
        if let Some(gpu) = self.by_uuid.values_mut().find(its) {
            gpu.note_xids(at, &[number]);
        }
    }

    /// GPUs in the driver's order.
    pub fn iter(&self) -> impl Iterator<Item = &Gpu> {
        let mut gpus: Vec<&Gpu> = self.by_uuid.values().collect();
        gpus.sort_by_key(|g| g.latest.index);
        gpus.into_iter()
    }

    pub fn len(&self) -> usize {
        self.by_uuid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_uuid.is_empty()
    }
}
