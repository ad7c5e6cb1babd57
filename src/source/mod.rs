//! Where events come from: files, standard input, a child, GPUs, the host. The only place below `cli` that does IO.
//!
//! Every source is a plain thread that sends [`crate::model::Event`]s into a bounded channel. Sources never parse and
//! never know the screen.

pub mod child;
pub mod database;
pub mod driver;
pub mod file;
pub mod fleet;
pub mod gpu;
pub mod host;
pub mod kernel;
mod kernel_file;
pub mod leftovers;
pub mod pace;
pub mod processes;
pub mod run_folder;
