//! The dashboard for a terminal that cannot move its cursor: a line when something changed, and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    session::{RunState, alerts::Alert},
    ui::{self, App, Cmd, End, Msg, lines},
};

/// A run that goes on is told this seldom.
const PAUSE: Duration = Duration::from_secs(10);

/// Prints until the run is over, the sources are gone or a signal asks to leave.
///
/// # Errors
/// When standard output fails.
pub fn follow(app: &mut App, messages: &Receiver<Msg>, alert: &mut dyn FnMut(&Alert)) -> Result<End> {
    let asked = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_usize(signal, Arc::clone(&asked), signal.unsigned_abs() as usize)?;
    }
    let (mut told, mut last) = (None, String::new());
    loop {
        match asked.load(Ordering::Relaxed) {
            0 => {}
            signal => return Ok(End::Signal(i32::try_from(signal).unwrap_or(SIGTERM))),
        }
        let ticked = match messages.recv_timeout(Duration::from_millis(200)) {
            Ok(msg) => {
                let ticked = matches!(msg, Msg::Tick(_));
                for cmd in ui::update(app, msg) {
                    match cmd {
                        Cmd::Quit => return Ok(End::Quit),
                        Cmd::Alert(news) => {
                            super::print(&(lines::plain(app, &format!("alert: {}", news.text)) + "\n"))?;
                            alert(&news);
                        }
                        _ => {}
                    }
                }
                ticked
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return Ok(End::Quit),
        };
        let state = app.session.state();
        let news = told.is_none_or(|(before, at): (RunState, Instant)| before != state || at.elapsed() >= PAUSE);
        // A clock that goes on is no news.
        let line = lines::line(app);
        let body = line.split_once("  ").map_or("", |(_, body)| body).to_string();
        if ticked && app.session.is_complete() && news && body != last {
            super::print(&(line + "\n"))?;
            (told, last) = (Some((state, Instant::now())), body);
        }
        let is_over = matches!(state, RunState::Finished | RunState::Failed) && told.is_some_and(|(s, _)| s == state);
        if is_over && (app.session.child.pid.is_none() || app.session.child.exited.is_some()) {
            return Ok(End::Quit);
        }
    }
}
