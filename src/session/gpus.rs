//! Every GPU over time, by UUID.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::SignedDuration;

use crate::model::{
    Bytes, Clean, Timestamp,
    gpu::{GpuReading, GpuSample},
};

/// Samples of memory kept for each GPU.
const KEEP: usize = 14_400;
/// Fine looks at memory are kept this long, and so many at most (twenty a second).
const FINE: SignedDuration = SignedDuration::from_mins(5);
const KEEP_FINE: usize = 6_000;
/// Errors of one GPU that are kept.
const KEEP_XIDS: usize = 64;

/// One GPU and its recent past.
#[derive(Clone, Debug, Default)]
pub struct Gpu {
    pub latest: GpuSample,
    pub seen: Option<Timestamp>,
    pub lost_since: Option<Timestamp>,
    pub peak_used: Option<Bytes>,
    /// Memory used and utilisation over time.
    pub history: VecDeque<(Timestamp, Option<Bytes>, Option<u32>)>,
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
        self.peak_used = self.peak_used.max(Some(used));
        self.latest.memory_used = Some(used);
        let taken = used + self.latest.memory_reserved.unwrap_or_default();
        self.latest.memory_free = self.latest.memory_total.map(|total| total.saturating_sub(taken));
        self.fine.push_back((at, used));
        while self.fine.len() > KEEP_FINE || self.fine.front().is_some_and(|(old, _)| at.duration_since(*old) > FINE) {
            self.fine.pop_front();
        }
    }

    /// The errors that the driver reported of it (Xid), the newest last.
    fn note_xids(&mut self, at: Timestamp, numbers: &[u64]) {
        self.xids.extend(numbers.iter().map(|number| (at, *number)));
        let old = self.xids.len().saturating_sub(KEEP_XIDS);
        self.xids.drain(..old);
    }

    fn lose(&mut self, at: Timestamp, why: &str) {
        if self.lost_since.is_none() {
            self.lost_since = Some(at);
            self.forget(why);
            self.latest.lost = true;
            // A gap in the curves from here on.
            self.history.push_back((at, None, None));
        }
    }

    /// Keeps who it is and what holds for good; the figures of a moment that has passed go.
    fn forget(&mut self, why: &str) {
        let GpuSample { uuid, index, name, pci_bus_id, lost, memory_total, power_limit_w, .. } =
            std::mem::take(&mut self.latest);
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
                    gpu.peak_used = gpu.peak_used.max(sample.memory_used);
                    gpu.history.push_back((at, sample.memory_used, sample.utilization));
                    if gpu.history.len() > KEEP {
                        gpu.history.pop_front();
                    }
                    gpu.latest = sample;
                }
            }
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
