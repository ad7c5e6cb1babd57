//! Host memory over time.

use std::collections::VecDeque;

use jiff::SignedDuration;

use crate::model::{Timestamp, event::HostSample};

/// Whole samples that are kept.
const KEEP: usize = 14_400;
/// Fine looks are kept this long, and so many at most (twenty a second).
const FINE: SignedDuration = SignedDuration::from_mins(5);
const KEEP_FINE: usize = 6_000;

/// One look in short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub at: Timestamp,
    /// Of the memory that is limited most: bytes in use and the limit.
    pub memory: Option<(u64, u64)>,
    pub shm: Option<(u64, u64)>,
    pub trainer_rss_bytes: Option<u64>,
}

/// The past of the host's memory.
#[derive(Clone, Debug, Default)]
pub struct Past {
    whole: VecDeque<Look>,
    fine: VecDeque<Look>,
    /// Kills that the cgroup had counted when it was first looked at.
    first_kills: Option<u64>,
    last_kills: Option<u64>,
}

impl Past {
    pub(super) fn apply(&mut self, at: Timestamp, sample: &HostSample) {
        let look = Look {
            at,
            memory: sample.pressed(),
            shm: sample.shm_used_bytes.zip(sample.shm_total_bytes),
            trainer_rss_bytes: sample.trainer_rss_bytes,
        };
        self.first_kills = self.first_kills.or(sample.cgroup_oom_kills);
        self.last_kills = sample.cgroup_oom_kills.or(self.last_kills);
        if sample.fine {
            self.fine.push_back(look);
            let is_old = |old: &Look| at.duration_since(old.at) > FINE;
            while self.fine.len() > KEEP_FINE || self.fine.front().is_some_and(is_old) {
                self.fine.pop_front();
            }
        } else {
            self.whole.push_back(look);
            if self.whole.len() > KEEP {
                self.whole.pop_front();
            }
        }
    }

    /// Every look that is kept, the oldest first.
    pub fn looks(&self) -> Vec<Look> {
        let mut all: Vec<Look> = self.whole.iter().chain(&self.fine).copied().collect();
        all.sort_by_key(|look| look.at);
        all
    }

    /// Processes of the cgroup that the kernel killed for want of memory since it has been watched.
    pub fn kills(&self) -> u64 {
        self.last_kills.unwrap_or(0).saturating_sub(self.first_kills.unwrap_or(0))
    }
}
