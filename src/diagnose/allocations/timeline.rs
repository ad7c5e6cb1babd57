//! The course of memory over the recorded events.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::snapshot::{Action, Owner, SnapshotDevice};

use super::lives::{BEFORE, Life};

/// Moments of a timeline: enough for a wide terminal's columns.
const MOMENTS: usize = 240;

/// Bytes in use and reserved after each event.
pub struct Curve {
    used: Vec<u64>,
    reserved: Vec<u64>,
    pub reserved_end: u64,
}

impl Curve {
    pub fn new(device: &SnapshotDevice, all: &[Life]) -> Self {
        let count = device.events.len();
        let mut change = vec![0i64; count];
        let mut used = 0i64;
        for life in all {
            let size = signed(life.size);
            match change.get_mut(life.born as usize) {
                Some(change) => *change += size,
                None => used = used.saturating_add(if life.born == BEFORE { size } else { 0 }),
            }
            if let Some(change) = change.get_mut(life.died as usize) {
                *change -= size;
            }
        }
        let used = change
            .iter()
            .map(|change| {
                used = used.saturating_add(*change);
                used.max(0) as u64
            })
            .collect();
        let reserved_end: u64 = device.segments.iter().fold(0, |sum, s| sum.saturating_add(s.size));
        // What is there at the end is known; before that the events tell.
        let mut reserved = vec![0; count];
        let mut now = signed(reserved_end);
        for (at, event) in device.events.iter().enumerate().rev() {
            reserved[at] = now.max(0) as u64;
            now = match event.action {
                Action::SegmentGrown => now.saturating_sub(signed(event.size)),
                Action::SegmentShrunk => now.saturating_add(signed(event.size)),
                _ => now,
            };
        }
        Self { used, reserved, reserved_end }
    }

    pub fn reserved_at(&self, at: usize) -> u64 {
        self.reserved.get(at).copied().unwrap_or(self.reserved_end)
    }

    /// The event after which most was in use.
    pub fn peak(&self) -> Option<u32> {
        let best = self.used.iter().enumerate().max_by_key(|(at, used)| (**used, std::cmp::Reverse(*at)))?;
        Some(best.0 as u32)
    }
}

/// Sizes come from a file: a sum of them must not overflow.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// The highest use within one stretch of the events.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Moment {
    pub event: u32,
    pub time_us: Option<i64>,
    pub bytes: u64,
    pub reserved_bytes: u64,
    pub categories: BTreeMap<&'static str, u64>,
    #[serde(skip)]
    pub owners: Vec<(Owner, u64)>,
    /// A request was refused within it.
    pub oom: bool,
}

/// The timeline in at most [`MOMENTS`] stretches of equal time, or of as many events where times were not written.
pub fn timeline(device: &SnapshotDevice, all: &[Life], curve: &Curve) -> Vec<Moment> {
    let count = device.events.len();
    if count == 0 {
        return Vec::new();
    }
    let (first, last) = (device.events[0].time_us, device.events[count - 1].time_us);
    let timed = first > 0 && last > first;
    let stretch = |at: usize| {
        if timed {
            let since = (device.events[at].time_us - first).clamp(0, last - first) as u128;
            (since * (MOMENTS as u128 - 1) / (last - first) as u128) as usize
        } else {
            at * MOMENTS / count
        }
    };
    let mut owner_at: Vec<Vec<(Owner, i64)>> = Vec::new();
    let mut now = [0i64; Owner::ALL.len()];
    let index = |owner: Owner| owner as usize;
    // What each event changes: at most one allocation ends and one begins at it.
    let mut changes: Vec<[(u8, i64); 2]> = vec![[(0, 0); 2]; count];
    for life in all {
        let size = signed(life.size);
        let owner = index(life.owner);
        match changes.get_mut(life.born as usize) {
            Some(change) => change[0] = (owner as u8, change[0].1.saturating_add(size)),
            None => now[owner] = now[owner].saturating_add(size),
        }
        if let Some(change) = changes.get_mut(life.died as usize) {
            change[1] = (owner as u8, change[1].1.saturating_sub(size));
        }
    }
    let mut moments: Vec<Moment> = Vec::new();
    let mut open = None;
    for (at, changes) in changes.into_iter().enumerate() {
        for (owner, bytes) in changes {
            now[usize::from(owner)] = now[usize::from(owner)].saturating_add(bytes);
        }
        let fresh = open != Some(stretch(at));
        open = Some(stretch(at));
        if fresh {
            moments.push(Moment::default());
            owner_at.push(Vec::new());
        }
        let Some((moment, owners)) = moments.last_mut().zip(owner_at.last_mut()) else { continue };
        moment.oom |= device.events[at].action == Action::Oom;
        if fresh || curve.used[at] > moment.bytes {
            moment.event = at as u32;
            moment.time_us = Some(device.events[at].time_us).filter(|t| *t > 0);
            moment.bytes = curve.used[at];
            moment.reserved_bytes = curve.reserved_at(at);
            owners.clear();
            owners.extend(Owner::ALL.into_iter().map(|o| (o, now[index(o)])).filter(|(_, bytes)| *bytes > 0));
        }
    }
    for (moment, owners) in moments.iter_mut().zip(owner_at) {
        moment.owners = owners.into_iter().map(|(owner, bytes)| (owner, bytes as u64)).collect();
        moment.categories = moment.owners.iter().map(|(owner, bytes)| (owner.id(), *bytes)).collect();
    }
    moments
}
