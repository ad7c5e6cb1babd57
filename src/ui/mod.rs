//! The screen: state, update and view.
//!
//! [`update`] takes what happened and touches only the [`App`]; what must be done outside comes back as [`Cmd`]s.
//! [`view`] draws and touches nothing. [`run`] is the loop that binds both to a terminal. Never reads files, sources
//! or the wall clock: time comes with [`Msg::Tick`].

mod app;
mod chooser;
pub mod config;
mod curves;
mod evidence;
pub mod fleet;
pub mod format;
mod input;
pub mod keymap;
pub mod keys;
pub mod layout;
pub mod lines;
mod log_text;
mod names;
mod overlays;
mod pen;
pub mod probe;
mod replay;
pub mod report;
pub mod screens;
mod standing;
mod terminal;
pub mod theme;
mod update;
mod view;
pub mod widgets;

#[cfg(test)]
mod tests;

use ratatui::crossterm;

use crate::{
    model::{Event, Timestamp, fleet::News},
    session::alerts::Alert,
};

pub use app::{App, Judge, Screen, Toast};
pub use chooser::{Choice, Chooser};
pub use replay::Replay;
pub use standing::{Standing, Tempo, standing, tempo};
pub use terminal::{End, FRAME, Outside, SLOW_FRAME, is_dumb, run};
pub use theme::{Theme, Tone};
pub use update::update;
pub use view::{frame_text, view};

/// Everything that can happen.
#[derive(Debug)]
pub enum Msg {
    Terminal(crossterm::event::Event),
    Event(Event),
    /// Something was heard of one of many machines.
    Fleet(News),
    /// The clock goes on: about once a second.
    Tick(Timestamp),
    /// The command line wants to leave: the demo is over, the child is gone and nobody should stay.
    Quit,
}

/// Everything that [`update`] may ask of the loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Cmd {
    /// Put a text on the user's clipboard.
    Copy(String),
    /// Save a text under a file name.
    Save {
        name: String,
        text: String,
    },
    /// Open the thing at this place of the list.
    Choose(usize),
    /// Call somebody: this deserves a look, and is new.
    Alert(Alert),
    Redraw,
    Suspend,
    Quit,
}
