//! From bytes to meaning: log dialects, out-of-memory messages, facts about the job, configuration files.
//!
//! Parsing does not fail: a line gives records or is plain text. Knows only `model`; never opens a file, never reads
//! the clock, starts no thread.

pub mod bar;
pub mod config;
pub mod dialects;
pub mod dict_line;
pub mod facts;
pub mod files;
pub mod frames;
pub mod landmarks;
mod lines;
pub mod metrics;
pub mod number;
pub mod oom;
mod pattern;
mod phase;
pub mod pickle;
pub(crate) mod prefix;
pub mod prometheus;
mod runs;
pub mod snapshot;
mod text;
pub mod tokens;
mod traceback;
pub mod trainer_console;
pub mod utf16;
