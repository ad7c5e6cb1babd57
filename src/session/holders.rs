//! Who holds a card's memory: the job that is watched, others, and what nobody who lives explains.

use std::collections::BTreeMap;

use crate::model::{
    Bytes, Timestamp,
    gpu::{GpuProcess, GpuSample},
};

use super::Session;

/// Less than this is what every driver keeps for itself beside its processes.
const WORTH_A_WORD: Bytes = Bytes(1 << 30);

/// A card's memory, told apart. The parts make up the whole card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub total: Bytes,
    /// What the driver counts as in use.
    pub used: Bytes,
    pub job: Bytes,
    pub others: Bytes,
    /// In use, more than the driver needs for itself, and held by no process that lives and is named.
    pub unexplained: Bytes,
    /// In use, where the driver does not tell what each process holds.
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
    pub fn shares(&self, card: &GpuSample) -> Option<Shares> {
        shares(card, card.memory_used?, &card.processes, self)
    }

    /// A card's memory at its highest, as far as was seen.
    pub fn shares_at(&self, card: &GpuSample, peak: &Peak) -> Option<Shares> {
        shares(card, peak.used, &peak.processes, self)
    }
}

fn is_below(process: &GpuProcess, root: u32) -> bool {
    process.pid == root || process.parents.contains(&root)
}

fn shares(card: &GpuSample, used: Bytes, processes: &[GpuProcess], owner: &Owner) -> Option<Shares> {
    let total = card.memory_total?;
    let held = |mine: bool| {
        let of_these = processes.iter().filter(|p| !p.gone && owner.owns(card, p) == mine);
        of_these.filter_map(|p| p.used).sum::<Bytes>()
    };
    let job = Bytes(held(true).0.min(used.0));
    let others = Bytes(held(false).0.min(used.saturating_sub(job).0));
    let rest = used.saturating_sub(job).saturating_sub(others);
    let all_told =
        processes.iter().all(|p| p.used.is_some()) && !card.refused.iter().any(|(what, _)| what == "processes");
    let reserved = Bytes(card.memory_reserved.unwrap_or_default().0.min(total.saturating_sub(used).0));
    let (unexplained, untold, own) = match all_told {
        true if rest > WORTH_A_WORD => (rest, Bytes(0), Bytes(0)),
        // What the driver needs beside its processes.
        true => (Bytes(0), Bytes(0), rest),
        false => (Bytes(0), rest, Bytes(0)),
    };
    let free = total.saturating_sub(used).saturating_sub(reserved);
    Some(Shares { total, used, job, others, unexplained, untold, reserved: reserved + own, free })
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
            ..GpuSample::default()
        }
    }

    fn session(cards: Vec<GpuSample>) -> Session {
        let mut session = Session::default();
        session
            .apply(Event { at: Timestamp::UNIX_EPOCH, kind: EventKind::Gpu { reading: GpuReading::Samples(cards) } });
        session
    }

    fn gib(shares: Shares) -> [u64; 7] {
        [shares.total, shares.job, shares.others, shares.unexplained, shares.untold, shares.reserved, shares.free]
            .map(|b| b.0 / GIB)
    }

    #[test]
    fn the_ranks_of_one_launcher_are_one_job_on_every_card() {
        let cards = vec![
            card(0, 60, vec![process(31, 40, &[20]), process(90, 20, &[])]),
            card(1, 71, vec![process(32, 30, &[20]), process(91, 41, &[])]),
        ];
        let session = session(cards.clone());
        let owner = Owner::of(&session);
        assert_eq!((owner.root, owner.is_assumed), (Some(20), true), "70 GiB of two ranks, more than any one process");
        assert_eq!(gib(owner.shares(&cards[0]).unwrap()), [80, 40, 20, 0, 0, 1, 19]);
        assert_eq!(gib(owner.shares(&cards[1]).unwrap()), [80, 30, 41, 0, 0, 1, 8]);
    }

    #[test]
    fn the_trainer_that_is_known_is_the_job_however_small() {
        let cards = vec![card(0, 60, vec![process(31, 4, &[20, 7]), process(90, 50, &[])])];
        let mut session = session(cards.clone());
        session.child.pid = Some(7);
        let owner = Owner::of(&session);
        assert_eq!((owner.root, owner.is_assumed), (Some(7), false));
        assert_eq!(gib(owner.shares(&cards[0]).unwrap()), [80, 4, 50, 6, 0, 1, 19]);
    }

    #[test]
    fn the_dead_explain_nothing() {
        let dead = GpuProcess { gone: true, ..process(31, 40, &[]) };
        let cards = vec![card(0, 50, vec![dead, process(90, 8, &[])])];
        let owner = Owner::of(&session(cards.clone()));
        let shares = owner.shares(&cards[0]).unwrap();
        assert_eq!(gib(shares), [80, 8, 0, 42, 0, 1, 29]);
        assert_eq!(shares.to_call_out(), Some(Bytes(42 * GIB)));
    }

    #[test]
    fn what_is_not_told_is_not_called_unexplained() {
        let hidden = GpuProcess { used: None, ..process(31, 0, &[]) };
        let cards = vec![card(0, 50, vec![hidden])];
        let shares = Owner::of(&session(cards.clone())).shares(&cards[0]).unwrap();
        assert_eq!((gib(shares), shares.to_call_out()), ([80, 0, 0, 0, 50, 1, 29], None));
        // Inside a container the pids are the host's: the largest is taken for the job.
        let outside = |pid, gib| GpuProcess { foreign: true, ..process(pid, gib, &[]) };
        let cards = vec![card(0, 50, vec![outside(1, 9), outside(2, 41)])];
        let shares = Owner::of(&session(cards.clone())).shares(&cards[0]).unwrap();
        assert_eq!(gib(shares), [80, 41, 9, 0, 0, 1, 29]);
    }
}
