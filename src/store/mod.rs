//! Recordings: events written down and read again. Keeps raw events, so that better parsers improve old recordings.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]

pub mod compact;
pub mod database;
pub mod demo;
pub mod disk;
pub mod folder;
mod gaps;
pub mod live;
pub mod recorder;
pub mod runs;
mod stream;
mod tables;
mod writer;
