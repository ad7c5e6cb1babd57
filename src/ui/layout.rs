//! How the user arranged the screen, to be kept from one time to the next.

use serde::{Deserialize, Serialize};

use super::{App, Screen, screens::charts, theme::Glyphs};

/// What is kept. Everything has a default, so that a file of another version can be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Layout {
    /// Chosen by hand; without one the terminal decides.
    pub theme: Option<String>,
    pub glyphs: Option<Glyphs>,
    pub screen: Screen,
    pub charts: charts::Kept,
}

impl App {
    /// How the screen is arranged now. The log, the diagnosis and the paste are not where one begins.
    pub fn layout(&self) -> Layout {
        let screen = match self.screen {
            Screen::Log | Screen::Diagnosis | Screen::Paste => Screen::Overview,
            other => other,
        };
        Layout {
            theme: self.chosen.then(|| self.theme().name.clone()),
            glyphs: self.chosen_glyphs,
            screen,
            charts: self.charts.kept(),
        }
    }

    /// Arranges the screen as it was; what does not exist any more is passed over.
    pub fn restore(&mut self, layout: &Layout) {
        if let Some(name) = &layout.theme {
            self.chosen = self.set_theme(name);
        }
        if let Some(glyphs) = layout.glyphs {
            self.use_glyphs(glyphs);
            self.chosen_glyphs = Some(glyphs);
        }
        self.screen = layout.screen;
        self.charts.restore(&layout.charts);
    }
}
