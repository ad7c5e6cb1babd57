//! `oomph replay RUN`: the dashboard over a recording. `oomph demo` is one of these too.

use std::{path::PathBuf, process::ExitCode, sync::mpsc::sync_channel, thread, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;

use crate::{
    model::{Clean, Event, knobs::Knobs},
    store::{
        database::{Database, StoreError},
        runs,
    },
    ui::{self, App, Msg, Replay},
};

use super::{frame, watch};

/// How often the recording's clock goes on.
const TICK: Duration = Duration::from_millis(50);

/// Look at a recorded run again: the same dashboard, with its clock, seek and speed.
///
/// What is shown at a moment is what the dashboard knew at that moment (secrets, which are never recorded, aside).
/// The keys are at the foot of the screen; ? lists all of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph history                        the runs and their names
  oomph replay last                    the newest one
  oomph replay 20261124-113150-1472 --at 90 --speed 4
  oomph replay last --once --json --at 90")]
pub struct ReplayArgs {
    /// Name of a run, `last`, or a recording's path
    #[arg(value_name = "RUN")]
    recording: PathBuf,
    #[command(flatten)]
    how: HowArgs,
    /// How many times faster than it was
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", value_parser = speed)]
    speed: f64,
}

/// What playing a recording can be told.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// Begin so many seconds after the start; with --once, the moment to print (its end, where none is given)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    at: Option<f64>,
    /// Print one frame and leave
    #[arg(long)]
    once: bool,
    /// With --once: JSON (schema oomph.frame/1)
    #[arg(long, requires = "once")]
    json: bool,
    /// With --once: columns and rows of the frame
    #[arg(long, value_name = "COLUMNSxROWS", requires = "once", value_parser = watch::size)]
    size: Option<(u16, u16)>,
    /// Colours: dark, light, … (the key t lists them)
    #[arg(long, value_name = "NAME")]
    theme: Option<String>,
}

pub fn speed(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if (0.1..=4096.0).contains(&factor) { Ok(factor) } else { Err("between 0.1 and 4096".into()) }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    if (0.0..=1e9).contains(&seconds) { Ok(seconds) } else { Err("between 0 and a thousand million seconds".into()) }
}

/// # Errors
/// When there is no such recording, it cannot be read, or there is no terminal to show it on.
pub fn run(args: &ReplayArgs) -> Result<ExitCode> {
    let name = args.recording.to_string_lossy();
    let Some(path) = runs::find(&name)? else {
        bail!("there is no recording '{}'; `oomph history` lists the recorded runs", Clean::new(&name));
    };
    let (events, given) = read(&path).map_err(|error| match error {
        StoreError::Foreign { .. } => {
            anyhow::anyhow!("{error}; `oomph {}` watches a log or metrics file", Clean::new(&name))
        }
        error => error.into(),
    })?;
    let label = Clean::new("replay");
    play(events, given, args.speed, &args.how, label).with_context(|| format!("{}", Clean::new(&name)))
}

/// The events of a recording, and the settings that its run was watched with.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &std::path::Path) -> Result<(Vec<Event>, Knobs), StoreError> {
    let database = Database::open(path)?;
    let given = database.meta("given")?.and_then(|text| serde_json::from_str(text.as_str()).ok());
    Ok((database.events()?, given.unwrap_or_default()))
}

/// Plays events: one frame of them, or the dashboard over them.
///
/// # Errors
/// When there is nothing to play, or no terminal.
pub fn play(events: Vec<Event>, given: Knobs, speed: f64, how: &HowArgs, label: Clean) -> Result<ExitCode> {
    let Some(replay) = Replay::new(events, given) else {
        bail!("nothing was recorded in it");
    };
    let mut replay = replay.with_speed(speed);
    let mut session = replay.session();
    if how.once {
        let at = replay.after(how.at.unwrap_or_else(|| replay.seconds()));
        replay.jump(&mut session, at);
        if how.json {
            let mut text = serde_json::to_string_pretty(&frame::to_json(&session))?;
            text.push('\n');
            return super::print(&text);
        }
        let (width, height) = how.size.unwrap_or_else(watch::terminal_size);
        let mut app = App::new(session);
        app.zone = jiff::tz::TimeZone::system();
        app.label = Some(label);
        app.play(replay.paused());
        return super::print(&ui::frame_text(&app, width, height));
    }
    if let Some(at) = how.at {
        let at = replay.after(at);
        replay.jump(&mut session, at);
    }
    let (messages, inbox) = sync_channel(watch::ON_THE_WAY);
    thread::spawn(move || {
        while messages.send(Msg::Tick(Timestamp::now())).is_ok() {
            thread::sleep(TICK);
        }
    });
    let prepare = |app: &mut App| {
        app.label = Some(label);
        app.play(replay);
    };
    watch::show(session, inbox, watch::Look { theme: how.theme.as_deref(), slow: false }, prepare, &mut |_, _| Ok(()))?;
    Ok(ExitCode::SUCCESS)
}
