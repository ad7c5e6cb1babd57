//! A line that is being typed.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Characters that a line may hold.
const LIMIT: usize = 256;

/// Text with a cursor at its end.
#[derive(Clone, Debug, Default)]
pub struct Input {
    text: String,
}

/// What a key did to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    Changed,
    Accepted,
    Cancelled,
    Ignored,
}

impl Input {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn clear(&mut self) {
        self.text.clear();
    }

    /// Takes pasted or typed text; what is no plain character is left out.
    pub fn push(&mut self, text: &str) {
        for c in text.chars().filter(|c| !c.is_control()) {
            if self.text.chars().count() < LIMIT {
                self.text.push(c);
            }
        }
    }

    pub fn key(&mut self, key: &KeyEvent) -> Typed {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => Typed::Accepted,
            KeyCode::Esc => Typed::Cancelled,
            KeyCode::Char('c') if control => Typed::Cancelled,
            KeyCode::Char('u') if control => {
                self.text.clear();
                Typed::Changed
            }
            KeyCode::Char('w') if control => {
                let kept = self.text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                self.text.truncate(kept);
                Typed::Changed
            }
            KeyCode::Backspace => {
                self.text.pop();
                Typed::Changed
            }
            KeyCode::Char(c) if !control && !key.modifiers.contains(KeyModifiers::ALT) => {
                self.push(&c.to_string());
                Typed::Changed
            }
            _ => Typed::Ignored,
        }
    }
}
