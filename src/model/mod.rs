//! The words the whole program speaks: sizes, clean text, events, points, knobs, failures, estimates.
//!
//! Never does IO, never reads the clock, never knows another module of this crate.

pub mod architecture;
mod bytes;
mod clean;
pub mod curve;
pub mod estimate;
pub mod event;
pub mod failure;
pub mod fleet;
pub mod gpu;
pub mod incident;
pub mod knobs;
pub mod metric;
pub mod redact;
pub mod snapshot;

pub use bytes::{Bytes, ParseBytesError};
pub use clean::Clean;
pub use event::{Event, EventKind, SourceId};
pub use jiff::Timestamp;
