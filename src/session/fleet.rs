//! The fold over what was heard of many machines. Never reads the clock.

use std::collections::BTreeMap;

use crate::model::{
    Clean, Timestamp,
    fleet::{Heard, HostReport},
};

/// Machines that one server may tell of.
const MOST: usize = 4096;

/// Machines, in the order in which they were named.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    targets: Vec<Target>,
    /// Without news for so many seconds a machine is stale.
    stale_after: f64,
    pub now: Option<Timestamp>,
}

/// Whoever is asked: a machine, or a server that knows of several.
#[derive(Clone, Debug, Default, PartialEq)]
struct Target {
    name: Clean,
    /// Why it cannot be asked at present, since when, and what helps.
    down: Option<(Timestamp, Clean, Clean)>,
    answered: bool,
    hosts: BTreeMap<Clean, (Timestamp, HostReport)>,
}

/// How a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// Nothing has been heard yet.
    Asking,
    Up,
    /// Nothing has been heard for too long.
    Stale,
    Down,
}

impl HostState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Up => "up",
            Self::Stale => "stale",
            Self::Down => "down",
        }
    }
}

/// One machine as it is known now.
#[derive(Clone, Debug, PartialEq)]
pub struct Host<'a> {
    pub name: &'a Clean,
    pub state: HostState,
    /// What it told last, and when; it may be old.
    pub report: Option<(Timestamp, &'a HostReport)>,
    /// Why it cannot be asked, since when, and what helps.
    pub down: Option<(Timestamp, &'a Clean, &'a Clean)>,
}

impl Host<'_> {
    /// How bad it is: 0 all well, 1 deserves a look, 2 is broken.
    pub fn severity(&self) -> u8 {
        let told = self.report.map_or(0, |(_, report)| {
            let jobs = report.jobs.iter().map(|job| job.severity).max().unwrap_or(0);
            let gpus = report.gpus.iter().any(|gpu| gpu.lost || gpu.trouble.is_some());
            jobs.max(u8::from(gpus))
        });
        match self.state {
            HostState::Down => 2,
            HostState::Stale => told.max(1),
            _ => told,
        }
    }
}

impl Fleet {
    pub fn new(names: &[Clean], stale_after: f64) -> Self {
        let targets = names.iter().map(|name| Target { name: name.clone(), ..Target::default() }).collect();
        Self { targets, stale_after, now: None }
    }

    /// Takes what was heard of the target at this place of the list.
    pub fn hear(&mut self, at: Timestamp, place: usize, heard: Heard) {
        self.tick(at);
        let Some(target) = self.targets.get_mut(place) else { return };
        match heard {
            Heard::Asking => {}
            Heard::Down { why, advice } => {
                target.answered = true;
                let since = target.down.as_ref().map_or(at, |(since, ..)| *since);
                target.down = Some((since, why, advice));
            }
            Heard::Reports(reports) => {
                target.answered = true;
                target.down = None;
                for report in reports.into_iter().take(MOST) {
                    if target.hosts.len() < MOST || target.hosts.contains_key(&report.host) {
                        target.hosts.insert(report.host.clone(), (at, report));
                    }
                }
            }
        }
    }

    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(Some(now));
    }

    /// Whether everybody has answered, be it that it cannot be asked.
    pub fn is_complete(&self) -> bool {
        self.targets.iter().all(|target| target.answered)
    }

    /// Every machine, in the order in which they were named. A server that cannot be asked stands for those that it
    /// never told of.
    pub fn hosts(&self) -> Vec<Host<'_>> {
        let mut all = Vec::new();
        for target in &self.targets {
            let down = target.down.as_ref().map(|(since, why, advice)| (*since, why, advice));
            if target.hosts.is_empty() {
                let state = if down.is_some() { HostState::Down } else { HostState::Asking };
                all.push(Host { name: &target.name, state, report: None, down });
            }
            let single = target.hosts.len() == 1;
            for (name, (at, report)) in &target.hosts {
                let old = self.now.map_or(0.0, |now| (now.as_millisecond() - at.as_millisecond()) as f64 / 1e3);
                let state = match down {
                    Some(_) => HostState::Down,
                    None if old > self.stale_after => HostState::Stale,
                    None => HostState::Up,
                };
                // A machine is called what the user calls it; what a server tells of has names of its own.
                let name =
                    if single && report.schema.as_str() == crate::model::fleet::SCHEMA { &target.name } else { name };
                all.push(Host { name, state, report: Some((*at, report)), down });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fleet::SCHEMA;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn report(host: &str) -> HostReport {
        HostReport { schema: SCHEMA.into(), host: host.into(), ..HostReport::default() }
    }

    #[test]
    fn a_machine_is_asked_up_stale_down_and_up_again() {
        let mut fleet = Fleet::new(&["a".into(), "b".into()], 10.0);
        let states = |fleet: &Fleet| fleet.hosts().iter().map(|h| h.state.as_str()).collect::<Vec<_>>().join(" ");
        assert_eq!(states(&fleet), "asking asking");
        fleet.hear(at(0), 0, Heard::Reports(vec![report("node-1")]));
        assert_eq!(states(&fleet), "up asking");
        assert!(!fleet.is_complete());
        assert_eq!(fleet.hosts()[0].name.as_str(), "a", "the user's own name");
        fleet.hear(at(5), 1, Heard::Down { why: "refused".into(), advice: "".into() });
        assert!(fleet.is_complete());
        assert_eq!(states(&fleet), "up down");
        fleet.tick(at(11));
        assert_eq!(states(&fleet), "stale down");
        fleet.hear(at(12), 1, Heard::Down { why: "refused again".into(), advice: "".into() });
        assert_eq!(fleet.hosts()[1].down.unwrap().0, at(5), "since the first time");
        // What was told before stays to be seen.
        fleet.hear(at(13), 0, Heard::Down { why: "gone".into(), advice: "".into() });
        assert_eq!(states(&fleet), "down down");
        assert!(fleet.hosts()[0].report.is_some());
        fleet.hear(at(14), 0, Heard::Reports(vec![report("node-1")]));
        assert_eq!(states(&fleet), "up down");
        fleet.hear(at(14), 7, Heard::Asking);
    }

    #[test]
    fn a_server_tells_of_many_and_the_missing_grow_stale() {
        let mut fleet = Fleet::new(&["http://prom".into()], 10.0);
        let told = |names: &[&str]| {
            Heard::Reports(names.iter().map(|n| HostReport { host: (*n).into(), ..HostReport::default() }).collect())
        };
        fleet.hear(at(0), 0, told(&["x", "y"]));
        fleet.hear(at(20), 0, told(&["y"]));
        let hosts = fleet.hosts();
        let seen: Vec<_> = hosts.iter().map(|h| (h.name.as_str(), h.state)).collect();
        assert_eq!(seen, [("x", HostState::Stale), ("y", HostState::Up)]);
    }
}
