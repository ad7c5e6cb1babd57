//! One binary for all integration tests: one file a subject.
#![allow(clippy::unwrap_used)]

mod imports;
mod run;
mod tail;
