//! One binary for all integration tests: one file a subject.
#![allow(clippy::unwrap_used)]

mod attach;
mod captured;
mod diagnosis;
mod dialects;
mod export;
mod imports;
mod jobs;
mod measured;
mod mixed_sources;
mod replay;
mod run;
mod screens;
mod tail;
