//! oomph: a terminal dashboard and out-of-memory diagnoser to run beside a training job.
//!
//! Sources produce events. A session folds events into what is known about a run. Diagnosis is a pure function of what
//! a session knows. The screen, `diagnose`, `estimate`, `metrics`, `run` and `replay` are thin fronts over those three.
//!
//! Modules, in the order in which data flows:
//!
//! | module | what it does | may use |
//! |---|---|---|
//! | [`model`] | the words everybody speaks | nothing |
//! | [`source`] | files, pipes, children, GPUs to events | model |
//! | [`parse`] | bytes to points, incidents, facts, knobs | model |
//! | [`memory`] | the memory model | model |
//! | [`diagnose`] | incidents to causes, fixes, plans | model, memory |
//! | [`session`] | the fold over events | model, parse, diagnose, memory |
//! | [`store`] | recordings | model |
//! | [`ui`] | the screen | model, session, memory, diagnose |
//! | [`cli`] | wires the parts together | everything |

#![cfg_attr(test, allow(clippy::unwrap_used))]
// Text from outside reaches a terminal through `cli::say` and `cli::print` alone, and neither panics on a closed one.
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

pub mod cli;
pub mod diagnose;
pub mod memory;
pub mod model;
pub mod parse;
pub mod session;
pub mod source;
pub mod store;
pub mod ui;

#[cfg(test)]
#[path = "../tests/it/properties.rs"]
mod properties;
