//! `oomph demo`: a recorded run in the real dashboard, with no GPU and no file.

use std::{process::ExitCode, sync::mpsc::channel, thread, time::Duration};

use anyhow::Result;
use clap::Args;

use crate::{
    model::knobs::Knobs,
    session::Session,
    store::demo,
    ui::{self, App, Msg},
};

use super::watch;

/// Play a recorded GRPO run that fills its GPU, in the real dashboard.
///
/// The run is real: TRL GRPO of a 1.5B model on one H200, prompts that grow until the card is full. It takes about 45
/// seconds and stays on the screen afterwards; press d for the diagnosis and q to leave.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many times faster than it was
    #[arg(long, default_value_t = 3.5, value_name = "FACTOR", value_parser = speed)]
    speed: f64,
    /// Print the last frame as plain text and leave
    #[arg(long)]
    once: bool,
    /// With --once: columns and rows of the frame
    #[arg(long, value_name = "COLUMNSxROWS", requires = "once", value_parser = watch::size)]
    size: Option<(u16, u16)>,
    /// Colours: dark, light, …
    #[arg(long, value_name = "NAME")]
    theme: Option<String>,
}

fn speed(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if (0.1..=1000.0).contains(&factor) { Ok(factor) } else { Err("between 0.1 and 1000".into()) }
}

/// # Errors
/// When there is no terminal to show it on.
pub fn run(args: &DemoArgs) -> Result<ExitCode> {
    let events = demo::events();
    let mut session = Session::new(Knobs::default());
    if args.once {
        let end = events.last().map(|e| e.at);
        for event in events {
            session.apply(event);
        }
        if let Some(end) = end {
            session.tick(end);
        }
        let (width, height) = args.size.unwrap_or((100, 40));
        let app = App::new(session);
        return super::print(&ui::frame_text(&app, width, height));
    }
    let speed = args.speed;
    let (messages, inbox) = channel();
    thread::spawn(move || {
        let Some(mut clock) = events.first().map(|e| e.at) else { return };
        for event in events {
            // Long waits are cut into ticks, so that the clocks on the screen go on.
            while clock < event.at {
                let step = event.at.duration_since(clock).min(jiff::SignedDuration::from_millis(500));
                thread::sleep(Duration::try_from(step).unwrap_or_default().div_f64(speed));
                clock += step;
                if messages.send(Msg::Tick(clock)).is_err() {
                    return;
                }
            }
            if messages.send(Msg::Event(event)).is_err() {
                return;
            }
        }
        // The screen stays: the sender lives until it is closed.
        while messages.send(Msg::Tick(clock)).is_ok() {
            thread::sleep(Duration::from_secs(1));
        }
    });
    watch::show(session, inbox, args.theme.as_deref(), Some("demo".into()))?;
    Ok(ExitCode::SUCCESS)
}
