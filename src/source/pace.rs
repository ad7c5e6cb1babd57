//! How soon memory is looked at again: seldom while there is room, up to twenty times a second just before it is full.

use std::time::{Duration, Instant};

/// The finest that is ever looked.
pub const FINEST: Duration = Duration::from_millis(50);
const FINE: Duration = Duration::from_millis(200);
/// Parts of the whole that are free: below these it is looked more finely.
const NEARLY_FULL: f64 = 0.05;
const FILLING: f64 = 0.15;
/// At the speed of the last two looks it is full within this time.
const SOON: Duration = Duration::from_secs(3);

/// The pace for one memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    last: Option<(Instant, u64)>,
}

impl Pace {
    /// After how long to look again, by the free bytes now; `None` when the usual look is soon enough.
    pub fn next(&mut self, at: Instant, free: u64, total: u64) -> Option<Duration> {
        let before = self.last.replace((at, free));
        let share = free as f64 / total.max(1) as f64;
        let fell = before.and_then(|(then, was)| {
            let seconds = at.duration_since(then).as_secs_f64();
            (seconds > 0.0).then(|| was.saturating_sub(free) as f64 / seconds)
        });
        let soon = fell.is_some_and(|speed| speed > 0.0 && free as f64 / speed < SOON.as_secs_f64());
        match share {
            _ if soon => Some(FINEST),
            s if s < NEARLY_FULL => Some(FINEST),
            s if s < FILLING => Some(FINE),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_room_the_finer() {
        let start = Instant::now();
        let after = |n: u64| start + Duration::from_secs(n);
        let mut pace = Pace::default();
        assert_eq!(pace.next(after(0), 50, 100), None);
        assert_eq!(pace.next(after(1), 50, 100), None);
        assert_eq!(pace.next(after(2), 14, 100), Some(FINEST), "at this speed it is full at once");
        assert_eq!(pace.next(after(3), 14, 100), Some(FINE));
        assert_eq!(pace.next(after(4), 4, 100), Some(FINEST));
        assert_eq!(pace.next(after(5), 60, 100), None);
        assert_eq!(pace.next(after(6), 0, 0), Some(FINEST));
    }
}
