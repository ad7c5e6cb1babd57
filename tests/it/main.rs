//! One binary for all integration tests: one file a subject.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::format_push_string,
    clippy::format_collect
)]

mod attach;
mod captured;
mod catalogue;
mod diagnosis;
mod dialects;
mod doctor;
mod estimates;
mod export;
mod fleet;
mod hygiene;
mod imports;
mod inputs;
mod jobs;
mod measured;
mod messages;
mod mixed_sources;
mod nuisances;
mod panels;
mod properties;
mod readme;
mod recording;
mod reliability;
mod replay;
mod run;
mod screens;
mod snapshot;
mod tail;
