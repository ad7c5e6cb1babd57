//! What the screen shows and in which state: no drawing, no IO, no clock.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::{
    model::{Clean, Timestamp, failure::Diagnosis},
    session::{Session, alerts::Alerts},
};

use super::{
    chooser::Chooser,
    fleet,
    keymap::Keymap,
    overlays::Overlay,
    replay::Replay,
    screens,
    theme::{Depth, Glyphs, Theme, Tone},
};

/// The views, in the order of their keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Screen {
    #[default]
    Overview,
    Charts,
    Memory,
    Gpus,
    Log,
    Diagnosis,
    Paste,
}

impl Screen {
    pub const ALL: [Self; 7] =
        [Self::Overview, Self::Charts, Self::Memory, Self::Gpus, Self::Log, Self::Diagnosis, Self::Paste];

    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Charts => "Charts",
            Self::Memory => "Memory",
            Self::Gpus => "GPUs",
            Self::Log => "Log",
            Self::Diagnosis => "Diagnosis",
            Self::Paste => "Paste",
        }
    }

    /// The screen `by` places further in the row, round and round.
    #[must_use]
    pub fn beside(self, by: isize) -> Self {
        let at = Self::ALL.iter().position(|s| *s == self).unwrap_or(0) as isize;
        Self::ALL[(at + by).rem_euclid(Self::ALL.len() as isize) as usize]
    }
}

/// A text that only the program's own words or cleaned ones make up, shown for some seconds.
#[derive(Clone, Debug)]
pub struct Toast {
    pub text: Clean,
    pub tone: Tone,
    pub until: Option<Timestamp>,
}

/// How a pasted text is judged; the command line supplies it, as this module knows no parser.
pub type Judge = Box<dyn Fn(&str) -> Diagnosis + Send>;

/// Everything that the screen depends on.
pub struct App {
    pub session: Session,
    /// What deserved a look, and what does now.
    pub alerts: Alerts,
    pub screen: Screen,
    pub overlay: Option<Overlay>,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    pub zone: TimeZone,
    pub keymap: Keymap,
    themes: Vec<Theme>,
    theme: usize,
    /// How many colours the terminal shows.
    pub depth: Depth,
    /// The user picked the theme, or the characters, by hand.
    pub(super) chosen: bool,
    pub(super) chosen_glyphs: Option<Glyphs>,
    pub toast: Option<Toast>,
    pub charts: screens::charts::State,
    pub log: screens::log::State,
    pub diagnosis: screens::diagnosis::State,
    pub gpus: screens::gpu::State,
    pub memory: screens::memory::State,
    pub paste: screens::paste::State,
    pub(super) judge: Option<Judge>,
    /// A word at the right end of the tabs: "demo", "replay 4x".
    pub label: Option<Clean>,
    /// The recording that is played, where it is not a live run.
    pub(super) replay: Option<Replay>,
    /// A list to choose from, before there is anything to show.
    pub chooser: Option<Chooser>,
    /// Many machines, in the place of one run.
    pub fleet: Option<fleet::State>,
}

impl App {
    pub fn new(session: Session) -> Self {
        Self {
            session,
            alerts: Alerts::default(),
            screen: Screen::default(),
            overlay: None,
            size: (80, 24),
            zone: TimeZone::UTC,
            keymap: Keymap::default(),
            themes: Theme::built_in(Depth::True, Glyphs::Braille),
            theme: 0,
            depth: Depth::True,
            chosen: false,
            chosen_glyphs: None,
            toast: None,
            charts: screens::charts::State::default(),
            log: screens::log::State::default(),
            diagnosis: screens::diagnosis::State::default(),
            gpus: screens::gpu::State::default(),
            memory: screens::memory::State::default(),
            paste: screens::paste::State::default(),
            judge: None,
            label: None,
            replay: None,
            chooser: None,
            fleet: None,
        }
    }

    /// Chooses colours, characters and theme by what the environment says of the terminal.
    #[must_use]
    pub fn for_terminal(mut self, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let depth = Depth::detect(env);
        self.depth = depth;
        self.themes = Theme::built_in(depth, Glyphs::detect(env));
        self.set_theme(Theme::first_choice(depth, env));
        self
    }

    #[must_use]
    pub fn with_judge(mut self, judge: Judge) -> Self {
        self.judge = Some(judge);
        self
    }

    /// Whether what is shown happens now.
    pub fn is_live(&self) -> bool {
        self.replay.is_none()
    }

    /// Shows a recording from where it stands; the session must be one that it has played. It begins at a glance.
    pub fn play(&mut self, replay: Replay) {
        self.screen = Screen::Overview;
        self.keymap.replaying = true;
        self.replay = Some(replay);
    }

    pub fn themes(&self) -> &[Theme] {
        &self.themes
    }

    pub fn theme(&self) -> &Theme {
        &self.themes[self.theme]
    }

    pub(super) fn theme_index(&self) -> usize {
        self.theme
    }

    pub(super) fn set_theme_index(&mut self, index: usize) {
        self.theme = index.min(self.themes.len() - 1);
    }

    /// Chooses a theme by name; an unknown name changes nothing and gives `false`.
    pub fn set_theme(&mut self, name: &str) -> bool {
        match self.themes.iter().position(|t| t.name == name) {
            Some(index) => {
                self.theme = index;
                true
            }
            None => false,
        }
    }

    /// The terminal told its ground: a theme for it, unless somebody chose one. True when that changed anything.
    pub fn suit_ground(&mut self, is_light: bool) -> bool {
        let name = if is_light { "light" } else { "dark" };
        !self.chosen && self.theme().name != name && self.set_theme(name)
    }

    /// Whether the terminal is worth asking for its ground: it shows many colours, and nothing else decided the theme.
    pub fn asks_for_ground(&self, env: &dyn Fn(&str) -> Option<String>) -> bool {
        let term = env("TERM").unwrap_or_default();
        // The Linux console and the old VTs print what they do not understand.
        let answers = !(term.is_empty() || term == "linux" || term.starts_with("vt"));
        let given = env("COLORFGBG").is_some() || self.chosen;
        answers && !given && matches!(self.depth, Depth::Indexed | Depth::True)
    }

    /// Draws with these characters from now on.
    pub fn use_glyphs(&mut self, glyphs: Glyphs) {
        for theme in &mut self.themes {
            theme.glyphs = glyphs;
        }
    }

    /// Puts a user's own theme before the built-in ones.
    pub fn add_theme(&mut self, theme: Theme) {
        self.themes.insert(0, theme);
        self.theme += 1;
    }

    /// Time of the newest event or tick.
    pub fn now(&self) -> Option<Timestamp> {
        self.session.now
    }

    /// The judgement that is shown: of the pasted text while that is open, else of the run.
    pub fn shown_diagnosis(&self) -> Option<&Diagnosis> {
        self.paste.diagnosis.as_ref().filter(|_| self.diagnosis.pasted).or_else(|| self.session.diagnosis())
    }

    /// Says something at the foot of the screen for some seconds.
    pub fn say(&mut self, text: &str, tone: Tone) {
        let until = self.now().and_then(|now| now.checked_add(jiff::SignedDuration::from_secs(4)).ok());
        self.toast = Some(Toast { text: Clean::new(text), tone, until });
    }
}
