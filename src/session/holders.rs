//! Who holds a card's memory: the job that is watched, others, and what nobody who lives explains.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::model::{
    Bytes, Timestamp,
    gpu::{GpuProcess, GpuSample, Listed},
};

use super::{Session, gpus::Gpu};

/// What the driver needs beside its processes, beyond what it says that it set aside: for itself, and for each process.
const OWN: Bytes = Bytes(1 << 30);
const OWN_EACH: Bytes = Bytes(512 << 20);
/// A process that ends gives its memory back within seconds: what nobody explains is called out when it lasted longer, in
/// so many looks at least.
const LASTING: SignedDuration = SignedDuration::from_secs(10);
const LOOKS: u32 = 4;

/// A card's memory, told apart. The parts make up the whole card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub total: Bytes,
    /// What the driver counts as in use.
    pub used: Bytes,
    pub job: Bytes,
    pub others: Bytes,
    /// In use for longer than a process takes to end, more than the driver needs for itself, and held by none that lives.
    pub unexplained: Bytes,
    /// In use, and the driver does not tell by whom, or not yet.
    pub untold: Bytes,
    /// Set aside by the driver and its firmware.
    pub reserved: Bytes,
    pub free: Bytes,
}

impl Shares {
    /// What is in use and nobody's, where there is any.
    pub fn to_call_out(&self) -> Option<Bytes> {
        (self.unexplained.0 > 0).then_some(self.unexplained)
    }
}

/// Which processes are the job's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The process that the job began with: known, or the one whose family holds most memory.
    pub root: Option<u32>,
    /// Taken for the job because it holds most: nothing tells which job the log is of.
    pub is_assumed: bool,
}

impl Owner {
    /// The job that the session watches: the trainer that oomph started or was pointed at, else the largest on all cards.
    pub fn of(session: &Session) -> Self {
        let known = session.child.pid.or(session.host.as_ref().and_then(|host| host.trainer_pid));
        let all = || session.gpus.iter().flat_map(|gpu| &gpu.latest.processes);
        if let Some(pid) = known.filter(|pid| all().any(|p| is_below(p, *pid))) {
            return Self { root: Some(pid), is_assumed: false };
        }
        let mut jobs: BTreeMap<u32, u64> = BTreeMap::new();
        for p in all().filter(|p| !p.graphics && !p.gone && !p.foreign) {
            *jobs.entry(p.job()).or_default() += p.used.unwrap_or_default().0;
        }
        let largest = jobs.into_iter().max_by_key(|(pid, bytes)| (*bytes, std::cmp::Reverse(*pid)));
        Self { root: largest.map(|(pid, _)| pid), is_assumed: largest.is_some() }
    }

    /// Whether a process on a card is the job's. Inside a container, where pids say nothing, the largest on the card is.
    pub fn owns(&self, card: &GpuSample, process: &GpuProcess) -> bool {
        if process.gone {
            return false;
        }
        if process.foreign {
            let largest = card.processes.iter().filter(|p| !p.graphics).max_by_key(|p| p.used);
            return largest.is_some_and(|p| p.pid == process.pid);
        }
        self.root.is_some_and(|root| is_below(process, root))
    }

    /// A card's memory now. `None` where the driver does not tell it.
    pub fn shares(&self, gpu: &Gpu) -> Option<Shares> {
        let card = &gpu.latest;
        shares(card, card.memory_used?, &card.processes, gpu.stray.lasting(), self)
    }

    /// A card's memory at its highest, as far as was seen.
    pub fn shares_at(&self, gpu: &Gpu, peak: &Peak) -> Option<Shares> {
        shares(&gpu.latest, peak.used, &peak.processes, Bytes(0), self)
    }
}

fn is_below(process: &GpuProcess, root: u32) -> bool {
    process.pid == root || process.parents.contains(&root)
}

/// The parts of a card, of which `stray` at most is known to be nobody's.
fn shares(card: &GpuSample, used: Bytes, processes: &[GpuProcess], stray: Bytes, owner: &Owner) -> Option<Shares> {
    let total = card.memory_total?;
    let held = |mine: bool| {
        let of_these = processes.iter().filter(|p| !p.gone && owner.owns(card, p) == mine);
        of_these.filter_map(|p| p.used).sum::<Bytes>()
    };
    let job = Bytes(held(true).0.min(used.0));
    let others = Bytes(held(false).0.min(used.saturating_sub(job).0));
    let rest = used.saturating_sub(job).saturating_sub(others);
    let unexplained = Bytes(stray.0.min(rest.0));
    let rest = rest.saturating_sub(unexplained);
    let is_own = card.listed != Listed::Partly && rest <= own(card, processes);
    let (untold, own) = if is_own { (Bytes(0), rest) } else { (rest, Bytes(0)) };
    let reserved = Bytes(card.memory_reserved.unwrap_or_default().0.min(total.saturating_sub(used).0));
    let free = total.saturating_sub(used).saturating_sub(reserved);
    Some(Shares { total, used, job, others, unexplained, untold, reserved: reserved + own, free })
}

/// As much as the driver may use for itself. Some count what it set aside as in use, too.
fn own(card: &GpuSample, processes: &[GpuProcess]) -> Bytes {
    OWN + card.memory_reserved.unwrap_or_default() + Bytes(OWN_EACH.0.saturating_mul(processes.len() as u64))
}

/// Memory in use that no process explains which lives, and for how long that has been so.
///
/// It is judged only where the driver listed every process with its figure at the moment of the memory in use: where it
/// hides some, as in a container, memory is explained by what cannot be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stray {
    since: Option<Timestamp>,
    until: Timestamp,
    looks: u32,
    least: Bytes,
}

impl Stray {
    /// Takes one whole look at the card.
    pub fn look(&mut self, at: Timestamp, card: &GpuSample) {
        let rest = match card.listed {
            Listed::Partly => None,
            // Says nothing, and takes nothing back.
            Listed::Earlier => return,
            Listed::Wholly => card.memory_used.map(|used| {
                let living = card.processes.iter().filter(|p| !p.gone).filter_map(|p| p.used).sum::<Bytes>();
                used.saturating_sub(living)
            }),
        };
        let Some(rest) = rest.filter(|rest| *rest > own(card, &card.processes)) else {
            *self = Self::default();
            return;
        };
        let least = if self.looks == 0 { rest } else { self.least.min(rest) };
        let since = self.since.or(Some(at));
        *self = Self { since, until: at, looks: self.looks.saturating_add(1), least };
    }

    /// What is nobody's, once it lasted.
    pub fn lasting(&self) -> Bytes {
        let lasted = self.since.map_or(SignedDuration::ZERO, |since| self.until.duration_since(since));
        if self.looks >= LOOKS && lasted >= LASTING { self.least } else { Bytes(0) }
    }
}

/// The most that was ever in use on a card, and who held it then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peak {
    pub at: Timestamp,
    pub used: Bytes,
    pub processes: Vec<GpuProcess>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, EventKind, gpu::GpuReading};

    const GIB: u64 = 1 << 30;

    fn process(pid: u32, gib: u64, parents: &[u32]) -> GpuProcess {
        GpuProcess { pid, used: Some(Bytes(gib * GIB)), parents: parents.to_vec(), ..GpuProcess::default() }
    }

    fn card(index: u32, used: u64, processes: Vec<GpuProcess>) -> GpuSample {
        GpuSample {
            uuid: format!("GPU-{index}"),
            index,
            memory_total: Some(Bytes(80 * GIB)),
            memory_used: Some(Bytes(used * GIB)),
            memory_reserved: Some(Bytes(GIB)),
            processes,
            listed: Listed::Wholly,
            ..GpuSample::default()
        }
    }

    fn gone(process: GpuProcess) -> GpuProcess {
        GpuProcess { gone: true, ..process }
    }

    fn look(session: &mut Session, second: i64, reading: GpuReading) {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        session.apply(Event { at, kind: EventKind::Gpu { reading } });
    }

    fn session(cards: Vec<GpuSample>) -> Session {
        let mut session = Session::default();
        look(&mut session, 0, GpuReading::Samples(cards));
        session
    }

    /// What is shown of the cards of a session: all, job, others, nobody's, not told, the driver's, free.
    fn gib(session: &Session) -> Vec<[u64; 7]> {
        let owner = Owner::of(session);
        let of = |shares: Shares| {
            let Shares { total, job, others, unexplained, untold, reserved, free, .. } = shares;
            [total, job, others, unexplained, untold, reserved, free].map(|b| b.0 / GIB)
        };
        session.gpus.iter().filter_map(|gpu| owner.shares(gpu)).map(of).collect()
    }

    /// What is called out of one card that looks the same each second, second by second.
    fn called_out(seconds: i64, card: impl Fn(i64) -> GpuSample) -> Vec<u64> {
        let mut session = Session::default();
        let one = |second| {
            look(&mut session, second, GpuReading::Samples(vec![card(second)]));
            let owner = Owner::of(&session);
            let shares = session.gpus.iter().next().and_then(|gpu| owner.shares(gpu));
            shares.and_then(|shares| shares.to_call_out()).map_or(0, |bytes| bytes.0 / GIB)
        };
        (0..seconds).map(one).collect()
    }

    #[test]
    fn the_ranks_of_one_launcher_are_one_job_on_every_card() {
        let cards = vec![
            card(0, 60, vec![process(31, 40, &[20]), process(90, 20, &[])]),
            card(1, 71, vec![process(32, 30, &[20]), process(91, 41, &[])]),
        ];
        let session = session(cards);
        let owner = Owner::of(&session);
        assert_eq!((owner.root, owner.is_assumed), (Some(20), true), "70 GiB of two ranks, more than any one process");
        assert_eq!(gib(&session), [[80, 40, 20, 0, 0, 1, 19], [80, 30, 41, 0, 0, 1, 8]]);
    }

    #[test]
    fn the_trainer_that_is_known_is_the_job_however_small() {
        let mut session = session(vec![card(0, 54, vec![process(31, 4, &[20, 7]), process(90, 50, &[])])]);
        session.child.pid = Some(7);
        let owner = Owner::of(&session);
        assert_eq!((owner.root, owner.is_assumed), (Some(7), false));
        assert_eq!(gib(&session), [[80, 4, 50, 0, 0, 1, 25]]);
    }

    #[test]
    fn memory_that_a_dead_process_left_is_called_out_when_it_lasts() {
        // Listed still, as long as the driver counts its memory, or not at all.
        let seen = called_out(14, |_| card(0, 50, vec![gone(process(31, 40, &[])), process(90, 8, &[])]));
        assert_eq!(seen, [[0; 10].as_slice(), &[42; 4]].concat());
        assert_eq!(called_out(12, |_| card(0, 50, vec![]))[9..], [0, 50, 50]);
        // One look in a minute needs as many looks.
        let mut session = Session::default();
        for minute in 0..4 {
            assert_eq!(gib(&session).iter().map(|parts| parts[3]).sum::<u64>(), 0, "{minute}");
            look(&mut session, minute * 60, GpuReading::Samples(vec![card(0, 50, vec![])]));
        }
        assert_eq!(gib(&session), [[80, 0, 0, 50, 0, 1, 29]]);
        // Gone as soon as it is given back.
        look(&mut session, 240, GpuReading::Samples(vec![card(0, 1, vec![])]));
        assert_eq!(gib(&session), [[80, 0, 0, 0, 0, 2, 78]]);
    }

    #[test]
    fn a_process_that_ends_is_no_riddle() {
        // Gone from the list, and the driver takes eight seconds to give its memory back.
        let ending = |second| match second {
            0..5 => card(0, 70, vec![process(31, 69, &[])]),
            5..13 => card(0, 70, vec![]),
            _ => card(0, 0, vec![]),
        };
        assert_eq!(called_out(40, ending), [0; 40]);
        // Each step's peak falls between the two questions now and then.
        let racing = |second| card(0, if second % 2 == 0 { 60 } else { 75 }, vec![process(31, 60, &[])]);
        assert_eq!(called_out(40, racing), [0; 40]);
    }

    #[test]
    fn what_the_driver_keeps_is_not_called_out() {
        assert_eq!(called_out(40, |_| card(0, 2, vec![])), [0; 40], "its reserve, counted as in use");
        let many: Vec<_> = (0..8).map(|pid| process(30 + pid, 5, &[])).collect();
        assert_eq!(called_out(40, |_| card(0, 45, many.clone())), [0; 40], "a context for each process");
    }

    #[test]
    fn what_is_not_told_is_not_called_out() {
        let hidden = GpuProcess { used: None, ..process(31, 0, &[]) };
        let partly = |processes| GpuSample { listed: Listed::Partly, ..card(0, 50, processes) };
        assert_eq!(called_out(40, |_| partly(vec![hidden.clone()])), [0; 40]);
        assert_eq!(called_out(40, |_| partly(vec![])), [0; 40], "of another container, or of an instance");
        assert_eq!(gib(&session(vec![partly(vec![hidden])])), [[80, 0, 0, 0, 50, 1, 29]]);
        // Asked at another moment.
        let earlier = |_| GpuSample { listed: Listed::Earlier, ..card(0, 50, vec![]) };
        assert_eq!(called_out(40, earlier), [0; 40]);
        // Inside a container the pids are the host's: the largest is taken for the job.
        let outside = |pid, gib| GpuProcess { foreign: true, ..process(pid, gib, &[]) };
        assert_eq!(gib(&session(vec![partly(vec![outside(1, 9), outside(2, 41)])])), [[80, 41, 9, 0, 0, 1, 29]]);
    }

    #[test]
    fn what_grew_since_the_processes_were_asked_is_nobodys_yet() {
        let mut session = Session::default();
        for second in 0..30 {
            look(&mut session, second, GpuReading::Samples(vec![card(0, 70, vec![process(31, 69, &[])])]));
            let finer = GpuReading::Memory(vec![("GPU-0".into(), Bytes(78 * GIB))]);
            look(&mut session, second, finer);
            assert_eq!(gib(&session), [[80, 69, 0, 0, 9, 1, 1]]);
        }
    }
}
