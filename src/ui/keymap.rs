//! Which key does what: one table that the loop, the help screen, the palette and the footer all read.

use std::{collections::BTreeMap, fmt};

use super::{Screen, replay::Control};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Everything that a key can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Quit,
    Suspend,
    Redraw,
    Help,
    Palette,
    Themes,
    Glyphs,
    Show(Screen),
    NextScreen,
    PreviousScreen,
    Back,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Top,
    Bottom,
    Open,
    Choose,
    Filter,
    Search,
    NextMatch,
    PreviousMatch,
    Follow,
    Wrap,
    NextSource,
    Levels,
    Ranks,
    Pin,
    MoveUp,
    MoveDown,
    Single,
    Smooth,
    LogScale,
    Robust,
    Axis,
    ZoomIn,
    ZoomOut,
    ZoomReset,
    NextEvent,
    PreviousEvent,
    PanLeft,
    PanRight,
    Evidence,
    Alerts,
    CopyCommand,
    CopyPatch,
    CopyReport,
    SaveReport,
    NextFailure,
    Clear,
    Replay(Control),
}

/// Where a binding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Everywhere,
    On(Screen),
    /// On every screen, while a recording is played.
    Replay,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Binding {
    pub action: Action,
    pub scope: Scope,
    /// Name in the key file and the palette.
    pub id: &'static str,
    pub keys: Vec<Key>,
    pub help: &'static str,
    /// Word in the footer, where the binding is worth a place there.
    pub footer: Option<&'static str>,
}

type Row = (Action, Scope, &'static str, &'static [&'static str], &'static str, Option<&'static str>);

const ALL: Scope = Scope::Everywhere;
const CHARTS: Scope = Scope::On(Screen::Charts);
const LOG: Scope = Scope::On(Screen::Log);
const DIAGNOSIS: Scope = Scope::On(Screen::Diagnosis);
const REPLAY: Scope = Scope::Replay;
const MEMORY: Scope = Scope::On(Screen::Memory);
const GPUS: Scope = Scope::On(Screen::Gpus);
const PASTE: Scope = Scope::On(Screen::Paste);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    (Action::Pin, CHARTS, "charts.pin", &["space"], "Pin or unpin the key; pinned keys form the grid", Some("pin")),
    (Action::MoveUp, CHARTS, "charts.move_up", &["K"], "Move the pinned key to an earlier place in the grid", None),
    (Action::MoveDown, CHARTS, "charts.move_down", &["J"], "Move it to a later one", None),
    (Action::Filter, CHARTS, "charts.filter", &["/"], "Show only keys that match a regular expression", Some("filter")),
    (Action::Single, CHARTS, "charts.single", &["enter"], "One large chart, or the grid; under the cursor: the log at that place", Some("single")),
    (Action::NextEvent, CHARTS, "charts.next_event", &["n"], "To the next event: evaluation, checkpoint, restart, error", Some("events")),
    (Action::PreviousEvent, CHARTS, "charts.previous_event", &["N"], "To the event before", None),
    (Action::Smooth, CHARTS, "charts.smooth", &["s"], "Smoothing: off, 0.6, 0.9, 0.98, beside the raw values", Some("smooth")),
    (Action::LogScale, CHARTS, "charts.log", &["y"], "Logarithmic values", Some("log")),
    (Action::Robust, CHARTS, "charts.robust", &["r"], "Fit the range to most values, or to all", None),
    (Action::Axis, CHARTS, "charts.axis", &["x"], "Along the bottom: step, time, epoch, points", Some("x axis")),
    (Action::ZoomIn, CHARTS, "charts.zoom_in", &["+", "="], "Zoom in", Some("zoom")),
    (Action::ZoomOut, CHARTS, "charts.zoom_out", &["-"], "Zoom out", None),
    (Action::ZoomReset, CHARTS, "charts.zoom_reset", &["0"], "Show everything", None),
    (Action::PanLeft, CHARTS, "charts.pan_left", &["[", "shift-left"], "Move the window to earlier steps", None),
    (Action::PanRight, CHARTS, "charts.pan_right", &["]", "shift-right"], "Move the window to later steps", None),
    (Action::Left, CHARTS, "charts.cursor_left", &["left", "h"], "Cursor to earlier values", None),
    (Action::Right, CHARTS, "charts.cursor_right", &["right", "l"], "Cursor to later values", None),

    (Action::Search, LOG, "log.search", &["/"], "Search by regular expression", Some("search")),
    (Action::NextMatch, LOG, "log.next", &["n"], "Next match", None),
    (Action::PreviousMatch, LOG, "log.previous", &["N"], "Match before", None),
    (Action::Filter, LOG, "log.filter", &["&"], "Show only matching lines", Some("filter")),
    (Action::Follow, LOG, "log.follow", &["f", "F"], "Follow the end", Some("follow")),
    (Action::Wrap, LOG, "log.wrap", &["w"], "Wrap long lines", Some("wrap")),
    (Action::Levels, LOG, "log.levels", &["v"], "Everything, no bars, warnings and errors, errors alone", Some("levels")),
    (Action::Ranks, LOG, "log.ranks", &["r"], "The lines of one rank, then the next", Some("ranks")),
    (Action::NextSource, LOG, "log.source", &["s"], "Next file", None),
    (Action::Left, LOG, "log.left", &["left", "h"], "Scroll left", None),
    (Action::Right, LOG, "log.right", &["right", "l"], "Scroll right", None),

    (Action::Choose, DIAGNOSIS, "diagnosis.choose", &["space"], "Try a fix: see the predicted peak", Some("try fix")),
    (Action::Open, DIAGNOSIS, "diagnosis.open", &["enter"], "Open the evidence in the log", Some("evidence")),
    (Action::CopyCommand, DIAGNOSIS, "diagnosis.command", &["c"], "Copy the chosen fixes as words to type", Some("copy")),
    (Action::CopyPatch, DIAGNOSIS, "diagnosis.patch", &["y"], "Copy the configuration patch", None),
    (Action::CopyReport, DIAGNOSIS, "diagnosis.markdown", &["m"], "Copy the whole report as Markdown", Some("markdown")),
    (Action::SaveReport, DIAGNOSIS, "diagnosis.save", &["s"], "Save the report to a file", Some("save")),
    (Action::NextFailure, DIAGNOSIS, "diagnosis.next", &["n"], "Next failure", None),

    (Action::Open, MEMORY, "memory.picture", &["enter"], "The card as a picture instead of its curve, where both find no room", Some("picture")),
    (Action::Open, GPUS, "gpus.process", &["enter"], "The next process: what started it, and its whole command", Some("process")),
    (Action::Open, PASTE, "paste.diagnose", &["enter"], "Diagnose the pasted text", Some("diagnose")),
    (Action::Clear, PASTE, "paste.clear", &["x"], "Empty the paste", Some("clear")),

    (Action::Replay(Control::Pause), REPLAY, "replay.pause", &["space", "P"], "Pause or go on; at the end: from the start", Some("pause")),
    (Action::Replay(Control::Next), REPLAY, "replay.next", &["."], "To the next failure, evaluation, loss of output …", Some("next event")),
    (Action::Replay(Control::Previous), REPLAY, "replay.previous", &[","], "To the event before", None),
    (Action::Replay(Control::Forward), REPLAY, "replay.forward", &[">", "right"], "A sixtieth of the recording forwards", Some("seek")),
    (Action::Replay(Control::Back), REPLAY, "replay.back", &["<", "left"], "A sixtieth of the recording back", None),
    (Action::Replay(Control::Faster), REPLAY, "replay.faster", &["}", "+"], "Twice as fast", Some("faster")),
    (Action::Replay(Control::Slower), REPLAY, "replay.slower", &["{", "-"], "Half as fast", None),
    (Action::Replay(Control::Start), REPLAY, "replay.start", &["("], "To the start of the recording", None),
    (Action::Replay(Control::End), REPLAY, "replay.end", &[")"], "To the end of the recording", None),

    (Action::Show(Screen::Overview), ALL, "overview", &["1"], "Overview", None),
    (Action::Show(Screen::Charts), ALL, "charts", &["2"], "Charts of every key", None),
    (Action::Show(Screen::Memory), ALL, "memory", &["3"], "Memory", None),
    (Action::Show(Screen::Gpus), ALL, "gpus", &["g", "4"], "GPUs and their processes", None),
    (Action::Show(Screen::Log), ALL, "log", &["5"], "Log", None),
    (Action::Show(Screen::Diagnosis), ALL, "diagnosis", &["d", "6"], "Diagnosis: why it failed, what to change", Some("diagnosis")),
    (Action::Show(Screen::Paste), ALL, "paste", &["p", "7"], "Paste the text of a dead run", Some("paste")),
    (Action::NextScreen, ALL, "next_screen", &["tab"], "Next screen", None),
    (Action::PreviousScreen, ALL, "previous_screen", &["shift-tab"], "Screen before", None),
    (Action::Evidence, ALL, "evidence", &["e"], "What the verdict rests on", None),
    (Action::Alerts, ALL, "alerts", &["a"], "Alerts: what stands, and what was", None),
    (Action::Up, ALL, "up", &["up", "k"], "Up", None),
    (Action::Down, ALL, "down", &["down", "j"], "Down", None),
    (Action::PageUp, ALL, "page_up", &["pgup", "ctrl-u", "ctrl-b"], "A page up", None),
    (Action::PageDown, ALL, "page_down", &["pgdn", "ctrl-d", "ctrl-f"], "A page down", None),
    (Action::Top, ALL, "top", &["home"], "To the beginning", None),
    (Action::Bottom, ALL, "bottom", &["end", "G"], "To the end", None),
    (Action::Back, ALL, "back", &["esc", "backspace"], "Back", None),
    (Action::Help, ALL, "help", &["?", "f1"], "This help", Some("help")),
    (Action::Palette, ALL, "palette", &[":", "ctrl-p"], "Find any command by name", Some("commands")),
    (Action::Themes, ALL, "themes", &["t"], "Choose a theme", None),
    (Action::Glyphs, ALL, "glyphs", &["b"], "Draw with braille, blocks or ASCII", None),
    (Action::Redraw, ALL, "redraw", &["ctrl-l"], "Draw everything anew", None),
    (Action::Suspend, ALL, "suspend", &["ctrl-z"], "Suspend to the shell", None),
    (Action::Quit, ALL, "quit", &["q", "ctrl-c"], "Leave; the training goes on", Some("quit")),
];

/// A key with its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub code: KeyCode,
    pub modifiers: KeyModifiers,
}

impl Key {
    /// Reads `q`, `G`, `ctrl-c`, `shift-tab`, `space`, `f1`, `pgup`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut modifiers = KeyModifiers::NONE;
        let mut rest = text;
        loop {
            let (modifier, tail) = if let Some(tail) = rest.strip_prefix("ctrl-") {
                (KeyModifiers::CONTROL, tail)
            } else if let Some(tail) = rest.strip_prefix("alt-") {
                (KeyModifiers::ALT, tail)
            } else if let Some(tail) = rest.strip_prefix("shift-") {
                (KeyModifiers::SHIFT, tail)
            } else {
                break;
            };
            modifiers |= modifier;
            rest = tail;
        }
        let code = match rest {
            "enter" => KeyCode::Enter,
            "esc" => KeyCode::Esc,
            "space" => KeyCode::Char(' '),
            "tab" if modifiers.contains(KeyModifiers::SHIFT) => KeyCode::BackTab,
            "tab" => KeyCode::Tab,
            "backspace" => KeyCode::Backspace,
            "delete" => KeyCode::Delete,
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "home" => KeyCode::Home,
            "end" => KeyCode::End,
            "pgup" => KeyCode::PageUp,
            "pgdn" => KeyCode::PageDown,
            _ => {
                let mut chars = rest.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => KeyCode::Char(c),
                    (Some('f'), Some(_)) => KeyCode::F(rest.get(1..)?.parse().ok()?),
                    _ => return None,
                }
            }
        };
        Some(Self { code, modifiers })
    }

    /// Does an event press this key? Shift counts only where it does not already show in the character.
    pub fn matches(self, event: &KeyEvent) -> bool {
        let shift_shows = matches!(event.code, KeyCode::Char(_) | KeyCode::BackTab);
        let drop_shift = |m: KeyModifiers| if shift_shows { m - KeyModifiers::SHIFT } else { m };
        self.code == event.code && drop_shift(self.modifiers) == drop_shift(event.modifiers)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.modifiers.contains(KeyModifiers::CONTROL) {
            f.write_str("ctrl-")?;
        }
        if self.modifiers.contains(KeyModifiers::ALT) {
            f.write_str("alt-")?;
        }
        if self.modifiers.contains(KeyModifiers::SHIFT) {
            f.write_str("shift-")?;
        }
        match self.code {
            KeyCode::Char(' ') => f.write_str("space"),
            KeyCode::Char(c) => write!(f, "{c}"),
            KeyCode::F(n) => write!(f, "f{n}"),
            KeyCode::PageUp => f.write_str("pgup"),
            KeyCode::PageDown => f.write_str("pgdn"),
            KeyCode::BackTab => f.write_str("tab"),
            code => f.write_str(&format!("{code:?}").to_ascii_lowercase()),
        }
    }
}

/// Keys of a user that are impossible.
#[derive(Debug, thiserror::Error)]
pub enum KeymapError {
    #[error("'{0}' is not a command; the help screen lists them")]
    UnknownCommand(String),
    #[error("'{0}' is not a key: write q, G, ctrl-c, shift-tab, space, enter, f1 or pgup")]
    UnknownKey(String),
    #[error("'{0}' and '{1}' share the key {2}")]
    Shared(&'static str, &'static str, String),
    #[error("'quit' must keep a key")]
    NoWayOut,
}

/// The table in force.
#[derive(Clone, Debug)]
pub struct Keymap {
    bindings: Vec<Binding>,
    /// A recording is played: its keys hold.
    pub(super) replaying: bool,
}

impl Default for Keymap {
    fn default() -> Self {
        let bindings = TABLE
            .iter()
            .map(|(action, scope, id, keys, help, footer)| Binding {
                action: *action,
                scope: *scope,
                id,
                keys: keys.iter().filter_map(|k| Key::parse(k)).collect(),
                help,
                footer: *footer,
            })
            .collect();
        Self { bindings, replaying: false }
    }
}

impl Keymap {
    /// The default table with a user's changes: a command's list replaces its keys.
    ///
    /// # Errors
    /// When a command or a key is unknown.
    pub fn changed(keys: &BTreeMap<String, Vec<String>>) -> Result<Self, KeymapError> {
        let mut map = Self::default();
        for (id, keys) in keys {
            let Some(binding) = map.bindings.iter_mut().find(|b| b.id == id) else {
                return Err(KeymapError::UnknownCommand(id.clone()));
            };
            binding.keys = keys
                .iter()
                .map(|k| Key::parse(k).ok_or_else(|| KeymapError::UnknownKey(k.clone())))
                .collect::<Result<_, _>>()?;
        }
        for (i, a) in map.bindings.iter().enumerate() {
            for b in map.bindings[i + 1..].iter().filter(|b| b.scope == a.scope) {
                if let Some(key) = a.keys.iter().find(|key| b.keys.contains(key)) {
                    return Err(KeymapError::Shared(a.id, b.id, key.to_string()));
                }
            }
        }
        if map.hint(Action::Quit).is_empty() {
            return Err(KeymapError::NoWayOut);
        }
        Ok(map)
    }

    /// What a key means on a screen: the screen's own meaning first.
    pub fn action(&self, screen: Screen, event: &KeyEvent) -> Option<Action> {
        let meant = |scope: Scope| {
            self.bindings.iter().find(|b| b.scope == scope && b.keys.iter().any(|k| k.matches(event))).map(|b| b.action)
        };
        let replay = || if self.replaying { meant(Scope::Replay) } else { None };
        meant(Scope::On(screen)).or_else(replay).or_else(|| meant(Scope::Everywhere))
    }

    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// What holds on a screen, its own bindings first.
    pub fn on(&self, screen: Screen) -> impl Iterator<Item = &Binding> {
        let own = self.bindings.iter().filter(move |b| b.scope == Scope::On(screen));
        let replay = self.bindings.iter().filter(|b| self.replaying && b.scope == Scope::Replay);
        own.chain(replay).chain(self.bindings.iter().filter(|b| b.scope == Scope::Everywhere))
    }

    /// The first key of an action, for a hint such as "press d".
    pub fn hint(&self, action: Action) -> String {
        self.bindings
            .iter()
            .filter(|b| b.action == action)
            .flat_map(|b| b.keys.iter())
            .next()
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_table_reads_and_prints_back() {
        for (_, _, id, keys, ..) in TABLE {
            for text in *keys {
                let key = Key::parse(text).unwrap_or_else(|| panic!("{id}: {text}"));
                assert_eq!(key.to_string(), *text, "{id}");
            }
        }
    }

    #[test]
    fn no_key_means_two_things_in_one_scope() {
        for (i, a) in TABLE.iter().enumerate() {
            for b in &TABLE[i + 1..] {
                let both = a.1 == b.1 && a.3.iter().any(|key| b.3.contains(key));
                assert!(!both, "{} and {} share a key", a.2, b.2);
            }
        }
    }

    #[test]
    fn a_users_keys_replace_the_defaults() {
        let changed = |id: &str, key: &str| Keymap::changed(&BTreeMap::from([(id.to_string(), vec![key.to_string()])]));
        let map = changed("quit", "ctrl-x").unwrap();
        let press = |c, modifiers| map.action(Screen::Overview, &KeyEvent::new(KeyCode::Char(c), modifiers));
        assert_eq!(press('x', KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(press('q', KeyModifiers::NONE), None);
        assert!(changed("fly", "q").is_err());
        assert!(changed("quit", "qq").is_err());
        assert_eq!(changed("help", "q").unwrap_err().to_string(), "'help' and 'quit' share the key q");
        assert!(changed("log.search", "q").is_ok(), "a screen's own key goes before the one that holds everywhere");
        assert!(Keymap::changed(&BTreeMap::from([("quit".to_string(), Vec::new())])).is_err());
    }

    #[test]
    fn shift_counts_once() {
        let map = Keymap::default();
        let press = |code, modifiers| map.action(Screen::Log, &KeyEvent::new(code, modifiers));
        assert_eq!(press(KeyCode::Char('N'), KeyModifiers::SHIFT), Some(Action::PreviousMatch));
        assert_eq!(press(KeyCode::BackTab, KeyModifiers::SHIFT), Some(Action::PreviousScreen));
        assert_eq!(press(KeyCode::BackTab, KeyModifiers::NONE), Some(Action::PreviousScreen));
    }
}
