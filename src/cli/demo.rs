//! `oomph demo`: a recorded run in the real dashboard, with no GPU and no file.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{parse, store::demo};

use super::replay::{self, HowArgs};

/// Play a recorded GRPO run that fills its GPU, in the real dashboard.
///
/// The run is real: TRL GRPO of a 1.5B model on one H200, prompts that grow until the card is full. It takes about 45
/// seconds and stays on the screen afterwards; press d for the diagnosis, with a plan predicted to fit, and q to leave.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many times faster than it was
    #[arg(long, default_value_t = 3.5, value_name = "FACTOR", value_parser = replay::speed)]
    speed: f64,
    #[command(flatten)]
    how: HowArgs,
}

/// # Errors
/// When there is no terminal to show it on.
pub fn run(args: &DemoArgs) -> Result<ExitCode> {
    let given = parse::config::read(demo::CONFIG_NAME, demo::CONFIG)?;
    replay::play(demo::events(), given, args.speed, &args.how, "demo".into())
}
