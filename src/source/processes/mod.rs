//! Finds the training jobs that run on this machine: which processes they are, which GPUs they see, what they write.
//!
//! Reads `/proc` and sends nothing to anybody: no signal, no trace. A process is known by its pid and its start time.

pub mod environment;
mod files;
mod job;
pub mod table;
pub mod visible;

pub use files::{Files, Why, Written};
pub use job::{Job, Launcher, Member, Role, jobs, of_pid};
pub use table::{Process, Table};
pub use visible::{Card, Visible, visible};

#[cfg(test)]
mod tests;
