//! How a memory filled before a failure, in figures and in words.

use super::Bytes;

/// What the curve of a memory looks like up to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Its high marks rose through the whole time: something holds on to what each step allocated.
    Growth { from: Bytes, bytes_per_minute: f64 },
    /// It rose at the very end, over what it had reached before.
    Spike { from: Bytes, seconds: f64 },
    /// It stood there: one more request did not fit.
    Level,
}

/// A memory's use up to a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Whose memory: `GPU 0`, `the host`, `the job's cgroup`, `/dev/shm`.
    pub of: String,
    pub shape: Shape,
    /// The most in use during the last seconds, and what there is.
    pub used: Bytes,
    pub total: Bytes,
    /// How long it was watched.
    pub seconds: f64,
}

impl Curve {
    /// `GPU 0 grew from 40.1 GiB to 78.9 GiB of 80.0 GiB over 42 min, 0.9 GiB a minute: a leak, not a spike`.
    pub fn text(&self) -> String {
        let Self { of, used, total, .. } = self;
        let long = duration(self.seconds);
        match self.shape {
            Shape::Growth { from, bytes_per_minute } => format!(
                "{of} grew from {from} to {used} of {total} over {long}, {} a minute: it leaks or piles up, it is no single spike",
                Bytes(bytes_per_minute.max(0.0) as u64)
            ),
            Shape::Spike { from, seconds } => format!(
                "{of} had not gone over {from} for {}, then rose to {used} of {total} within {}: a spike, no leak",
                duration(self.seconds - seconds),
                duration(seconds.max(0.1))
            ),
            Shape::Level => {
                format!("{of} stood at {used} of {total} for {long} before that: one request too many, no leak")
            }
        }
    }
}

/// `0.8 s`, `42 s`, `12 min`, `3.2 h`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
