//! One file a screen: its state, its keys, its drawing.

pub mod charts;
pub mod diagnosis;
pub mod gpu;
pub mod log;
pub mod memory;
pub mod memory_panel;
pub mod overview;
pub mod paste;
