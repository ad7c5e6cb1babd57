//! The cards as NVML tells of them: each look at every card, and finer ones at the memory of cards that are nearly full.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::{
    Device, EventSet, Nvml, bitmasks::event::EventTypes, enums::event::XidError, error::NvmlError,
    struct_wrappers::device::ProcessInfo,
};

use crate::{
    model::{
        Bytes,
        gpu::{GpuProcess, GpuReading, GpuSample, Listed, MigInstance},
    },
    source::pace::Pace,
};

use super::{
    figures::{self, Slow, reason},
    helper::{say, unavailable},
    holders::Holders,
    rates::Rates,
};

/// Figures that hardly move are asked this seldom.
const SLOW: Duration = Duration::from_secs(15);
/// Who holds memory is asked this seldom, however often the rest is looked at: each second, and clocks are not exact.
const WHO: Duration = Duration::from_millis(900);
/// Cards whose memory the system uses for pages of its own, of any program: their processes do not explain it.
const SHARED_WITH_SYSTEM: [&str; 4] = ["GH200", "GB200", "GB300", "GB10"];
/// The program that computes in the name of others, whose memory the driver may not tell apart.
const MPS: &str = "nvidia-cuda-mps";
/// A lost GPU is looked for again this seldom: asking one can hold up the driver.
const LOST: Duration = Duration::from_secs(10);
/// Events taken at one look.
const BURST: usize = 32;

/// A card that answers.
struct Card<'a> {
    device: Device<'a>,
    slow: Slow,
    rates: Rates<'a>,
    /// Processes that draw; they hardly change.
    graphics: (Option<Instant>, Result<Vec<GpuProcess>, String>),
    compute: (Option<Instant>, Result<Vec<GpuProcess>, String>),
    instances: (Option<Instant>, Vec<(Device<'a>, MigInstance)>),
}

pub struct Reader<'a> {
    nvml: &'a Nvml,
    cards: BTreeMap<u32, Card<'a>>,
    /// Who a card is, kept while it does not answer.
    known: BTreeMap<u32, GpuSample>,
    /// GPUs that were lost when they were last asked, and when that was.
    lost: BTreeMap<u32, (Instant, GpuSample)>,
    holders: Holders,
    /// How finely each GPU's memory is looked at, and what was told of it last: UUID, bytes in use and bytes in all.
    memory: BTreeMap<u32, (Pace, String, u64, u64)>,
    xids: Xids<'a>,
}

impl<'a> Reader<'a> {
    pub fn new(nvml: &'a Nvml) -> Self {
        Self {
            nvml,
            cards: BTreeMap::new(),
            known: BTreeMap::new(),
            lost: BTreeMap::new(),
            holders: Holders::of_this_machine(),
            memory: BTreeMap::new(),
            xids: Xids::default(),
        }
    }

    /// Waits for the next whole look, and meanwhile looks at the memory of those GPUs that are nearly full: with the one
    /// cheap call, and telling only what moved. False when nobody listens any more.
    pub fn look_at_memory(&mut self, started: Instant, interval: Duration) -> bool {
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
                // What went wrong the next whole look tells.
                let Some(Ok(info)) = self.cards.get(index).map(|card| card.device.memory_info()) else { continue };
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

    pub fn read(&mut self) -> GpuReading {
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
        self.holders.look_again();
        let mut samples = Vec::new();
        let mut silent = None;
        for index in 0..count {
            match self.sample(index) {
                Ok(sample) => samples.push(sample),
                Err(error) => {
                    self.cards.remove(&index);
                    samples.push(self.without_figures(index, &error));
                    silent = Some(error);
                }
            }
        }
        self.cards.retain(|index, _| *index < count);
        self.look_at_rates(count);
        self.xids.listen(self.nvml, &self.cards);
        self.xids.hear(&mut samples);
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
        if !self.cards.contains_key(&index) {
            match self.nvml.device_by_index(index) {
                Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => return Ok(self.lost(index, &error)),
                device => drop(self.cards.insert(index, Card::new(device?))),
            }
        }
        let Some(card) = self.cards.get_mut(&index) else { return Err(NvmlError::NotFound) };
        let memory = card.device.memory_info();
        if let Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) = memory {
            return Ok(self.lost(index, &error));
        }
        card.slow.look(&card.device, index, SLOW);
        let mut s = card.slow.sample.clone();
        if s.uuid.is_empty() {
            s.uuid = format!("index-{index}");
        }
        match memory {
            Ok(m) if m.total > 0 && m.used <= m.total => {
                s.memory_total = Some(Bytes(m.total));
                s.memory_used = Some(Bytes(m.used));
                s.memory_free = Some(Bytes(m.free)).filter(|free| free.0 <= m.total);
                s.memory_reserved = Some(Bytes(m.reserved)).filter(|reserved| reserved.0 <= m.total - m.used);
            }
            Ok(_) => s.refused.push(("memory".into(), "the driver's figures contradict each other".into())),
            Err(error) => s.refused.push(("memory".into(), reason(&error))),
        }
        if s.mig_enabled == Some(true) {
            card.divide(&mut s);
        }
        // Right behind the memory, for the two are compared.
        card.ask_who(&mut self.holders, &mut s);
        figures::fast(&card.device, &mut s)?;
        card.rates.fill(&mut s);
        self.lost.remove(&index);
        let who = |s: &GpuSample| (s.uuid.clone(), s.name.clone(), s.pci_bus_id.clone());
        let (uuid, name, pci_bus_id) = who(&s);
        self.known.insert(index, GpuSample { uuid, name, pci_bus_id, ..GpuSample::default() });
        Ok(s)
    }

    /// Asks few cards at each look, so that no look takes long: each one's turn comes about every ten seconds.
    fn look_at_rates(&mut self, count: u32) {
        let most = count.div_ceil(8) as usize;
        let due = self.cards.values_mut().filter(|card| card.rates.is_due());
        for card in due.take(most) {
            card.rates.look(self.nvml, &card.device);
        }
    }

    /// Who it is, as far as is known, and why nothing else is told of it.
    fn without_figures(&self, index: u32, error: &NvmlError) -> GpuSample {
        let mut s = self.known.get(&index).cloned().unwrap_or_default();
        s.index = index;
        if s.uuid.is_empty() {
            s.uuid = format!("index-{index}");
        }
        s.refused = vec![("GPU".into(), reason(error))];
        s
    }

    fn lost(&mut self, index: u32, error: &NvmlError) -> GpuSample {
        self.cards.remove(&index);
        let sample = GpuSample { lost: true, ..self.without_figures(index, error) };
        self.lost.insert(index, (Instant::now(), sample.clone()));
        sample
    }
}

impl<'a> Card<'a> {
    fn new(device: Device<'a>) -> Self {
        Self {
            device,
            slow: Slow::default(),
            rates: Rates::default(),
            graphics: (None, Ok(Vec::new())),
            compute: (None, Ok(Vec::new())),
            instances: (None, Vec::new()),
        }
    }

    fn of_instances(&self) -> Vec<ProcessInfo> {
        let told = self.instances.1.iter().filter_map(|(device, _)| device.running_compute_processes().ok());
        told.flatten().collect()
    }

    /// The parts of a divided card. Which there are changes seldom, what they hold does not.
    fn divide(&mut self, s: &mut GpuSample) {
        let (asked, instances) = &mut self.instances;
        if asked.is_none_or(|at| at.elapsed() >= SLOW) {
            *asked = Some(Instant::now());
            *instances = figures::instances(&self.device);
        }
        s.mig = instances.iter().map(|(device, instance)| figures::instance_now(device, instance)).collect();
    }

    /// Who holds memory on it: those that compute, and those that only draw.
    fn ask_who(&mut self, holders: &mut Holders, s: &mut GpuSample) {
        let is_old = |(asked, _): &(Option<Instant>, _), age| asked.is_none_or(|at: Instant| at.elapsed() >= age);
        let is_fresh = is_old(&self.compute, WHO);
        if is_fresh {
            let found = match self.device.running_compute_processes() {
                // Without rights over a divided card its instances still tell of their own.
                Ok(none) if none.is_empty() => Ok(self.of_instances()),
                Err(_) if !self.instances.1.is_empty() => Ok(self.of_instances()),
                found => found,
            };
            let found = found.map(|all| all.iter().map(|p| holders.process(p, false)).collect());
            self.compute = (Some(Instant::now()), found.map_err(|error| reason(&error)));
        }
        if is_old(&self.graphics, SLOW) {
            let found = self.device.running_graphics_processes();
            let found = found.map(|all| all.iter().map(|p| holders.process(p, true)).collect());
            self.graphics = (Some(Instant::now()), found.map_err(|error| reason(&error)));
        }
        match &self.compute.1 {
            Ok(processes) => s.processes.clone_from(processes),
            Err(why) => s.refused.push(("processes".into(), why.clone())),
        }
        match &self.graphics.1 {
            Ok(drawing) => {
                let computes = |p: &&GpuProcess| s.processes.iter().all(|other| other.pid != p.pid);
                let drawing: Vec<GpuProcess> = drawing.iter().filter(computes).cloned().collect();
                s.processes.extend(drawing);
            }
            Err(why) => s.refused.push(("graphics processes".into(), why.clone())),
        }
        let hides_some = |p: &GpuProcess| {
            p.used.is_none() || p.foreign || p.name.as_ref().is_some_and(|name| name.as_str().starts_with(MPS))
        };
        let is_shared = SHARED_WITH_SYSTEM.iter().any(|name| s.name.as_str().contains(name));
        s.listed = match () {
            // Of a divided card each sees its own instance.
            () if !holders.sees_all() || s.mig_enabled == Some(true) || is_shared => Listed::Partly,
            () if self.compute.1.is_err() || self.graphics.1.is_err() => Listed::Partly,
            () if s.processes.iter().any(hides_some) => Listed::Partly,
            () if is_fresh => Listed::Wholly,
            () => Listed::Earlier,
        };
    }
}

/// Errors that the driver reports of its cards. They are heard without the right to read the kernel's log.
#[derive(Default)]
struct Xids<'a> {
    set: Option<EventSet<'a>>,
    /// The cards that are listened to, and those that cannot be.
    heard: BTreeSet<u32>,
    refused: BTreeMap<u32, String>,
    /// Reported of a card that did not say which it is: it is lost.
    of_the_lost: Vec<u64>,
}

impl<'a> Xids<'a> {
    /// Listens to all cards that answer. A set with a card that refuses is of no use: it is made anew without that one.
    fn listen(&mut self, nvml: &'a Nvml, cards: &BTreeMap<u32, Card<'a>>) {
        if cards.keys().all(|index| self.heard.contains(index) || self.refused.contains_key(index)) {
            return;
        }
        self.set = None;
        while self.set.is_none() {
            self.heard.clear();
            let Ok(set) = nvml.create_event_set() else { break };
            let mut set = Some(set);
            for (index, card) in cards {
                if self.refused.contains_key(index) {
                    continue;
                }
                let Some(fresh) = set.take() else { break };
                match card.device.register_events(EventTypes::CRITICAL_XID_ERROR, fresh) {
                    Ok(registered) => {
                        self.heard.insert(*index);
                        set = Some(registered);
                    }
                    Err(error) => drop(self.refused.insert(*index, reason(&error.error))),
                }
            }
            self.set = set;
        }
        // Without a set nobody is asked again until another card comes.
        for index in cards.keys().filter(|index| !self.heard.contains(index)) {
            self.refused.entry(*index).or_insert_with(|| "not supported".into());
        }
    }

    fn hear(&mut self, samples: &mut [GpuSample]) {
        for s in samples.iter_mut().filter(|s| !s.lost) {
            if let Some(why) = self.refused.get(&s.index) {
                s.refused.push(("Xid events".into(), why.clone()));
            }
        }
        let Some(set) = self.set.as_ref().filter(|_| !self.heard.is_empty()) else { return };
        for _ in 0..BURST {
            let Ok(event) = set.wait(0) else { break };
            let number = match event.event_data {
                Some(XidError::Value(number)) => number,
                Some(XidError::Unknown) | None => continue,
            };
            match event.device.index().ok().and_then(|index| samples.iter_mut().find(|s| s.index == index)) {
                Some(sample) => sample.xids.push(number),
                None => self.of_the_lost.push(number),
            }
        }
        if let Some(lost) = samples.iter_mut().find(|s| s.lost) {
            lost.xids.append(&mut self.of_the_lost);
        }
    }
}
