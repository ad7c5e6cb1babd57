//! The command line: one file a subcommand, and the only place that wires the parts together.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Watch a training job, and learn why it ran out of memory and what will make it fit.
#[derive(Debug, Parser)]
#[command(name = "oomph", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {}

/// Runs what was asked for and gives the exit code.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        None => Ok(ExitCode::SUCCESS),
        Some(command) => match command {},
    }
}
