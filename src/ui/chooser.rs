//! A list to choose one of several things from: the training jobs that were found.

use ratatui::{
    Frame,
    crossterm::event::KeyEvent,
    layout::Rect,
    text::{Line, Span},
    widgets::Paragraph,
};

use crate::model::Clean;

use super::{App, Cmd, Screen, Theme, Tone, format::fit, keymap::Action, widgets::panel::panel_in};

/// Rows that one choice takes: its title, its lines, a blank.
const ROWS: usize = 4;

/// One thing that can be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub title: Clean,
    pub facts: Clean,
    /// Two lines about it.
    pub lines: Vec<Clean>,
    /// Whether there is anything to open.
    pub usable: bool,
}

/// The list, while it is on the screen.
#[derive(Clone, Debug, Default)]
pub struct Chooser {
    pub title: &'static str,
    pub choices: Vec<Choice>,
    /// What is to be known about the list itself.
    pub notes: Vec<Clean>,
    selected: usize,
}

impl Chooser {
    pub fn new(title: &'static str, choices: Vec<Choice>, notes: Vec<Clean>) -> Self {
        Self { title, choices, notes, selected: 0 }
    }
}

/// A key while the list is shown.
pub fn key(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    let action = app.keymap.action(Screen::Paste, key);
    let Some(chooser) = &mut app.chooser else { return Vec::new() };
    let last = chooser.choices.len().saturating_sub(1);
    match action {
        Some(Action::Quit | Action::Back) => return vec![Cmd::Quit],
        Some(Action::Suspend) => return vec![Cmd::Suspend],
        Some(Action::Redraw) => return vec![Cmd::Redraw],
        Some(Action::Down | Action::NextScreen) => chooser.selected = (chooser.selected + 1).min(last),
        Some(Action::Up | Action::PreviousScreen) => chooser.selected = chooser.selected.saturating_sub(1),
        Some(Action::Top | Action::PageUp) => chooser.selected = 0,
        Some(Action::Bottom | Action::PageDown) => chooser.selected = last,
        Some(Action::Open) => return vec![Cmd::Choose(chooser.selected)],
        _ => {}
    }
    Vec::new()
}

/// ```text
/// ╭ Training jobs on this machine ───────────────────────────────────────╮
/// │ > train.py   pid 4711, torchrun, 8 ranks, for 3 h 12 min, 8 GPUs     │
/// │     torchrun --nproc_per_node 8 train.py                             │
/// │     ~/runs/a/train.log and 2 more                                    │
/// ╰──────────────────────────────────────────────────────────────────────╯
///  enter opens it   up down   q quit
/// ```
pub fn render(frame: &mut Frame, area: Rect, app: &App, theme: &Theme) {
    let Some(chooser) = &app.chooser else { return };
    let footer = Rect { y: area.y + area.height - 1, height: 1, ..area };
    let notes = (chooser.notes.len() as u16).min(area.height / 4);
    let list = Rect { height: area.height - 1 - notes, ..area };
    let inner = panel_in(frame, list, chooser.title, Vec::new(), theme, theme.accent);
    let room = (usize::from(inner.height) / ROWS).max(1);
    let top = (chooser.selected + 1).saturating_sub(room);
    let width = usize::from(inner.width).saturating_sub(6);
    let cut = |text: &str, width: usize| fit(text, width, theme.glyphs.pick("…", "~"));
    let mut lines = Vec::new();
    for (n, choice) in chooser.choices.iter().enumerate().skip(top).take(room) {
        let here = n == chooser.selected;
        let mark = if here { " > " } else { "   " };
        let title = format!("{mark}{} ", choice.title);
        let left = usize::from(inner.width).saturating_sub(title.chars().count() + 2);
        lines.push(Line::from(vec![
            Span::styled(cut(&title, usize::from(inner.width)), if here { theme.selection } else { theme.bright }),
            Span::styled(format!("  {}", cut(choice.facts.as_str(), left)), theme.text),
        ]));
        for (nth, line) in choice.lines.iter().take(ROWS - 2).enumerate() {
            let warns = nth > 0 && !choice.usable;
            let style = if warns { theme.tone(Tone::Warning) } else { theme.muted };
            lines.push(Line::from(Span::styled(format!("     {}", cut(line.as_str(), width)), style)));
        }
        lines.push(Line::default());
    }
    frame.render_widget(Paragraph::new(lines), inner);
    for (n, note) in chooser.notes.iter().take(usize::from(notes)).enumerate() {
        let row = Rect { y: list.y + list.height + n as u16, height: 1, ..area };
        let text = cut(note.as_str(), usize::from(area.width).saturating_sub(2));
        frame.render_widget(Line::from(Span::styled(format!(" {text}"), theme.muted)), row);
    }
    let foot = match &app.toast {
        Some(toast) => {
            let text = cut(toast.text.as_str(), usize::from(area.width).saturating_sub(2));
            Line::from(Span::styled(format!(" {text}"), theme.tone(toast.tone)))
        }
        None => Line::from(vec![
            Span::styled(" enter", theme.accent),
            Span::styled(" opens it  ", theme.muted),
            Span::styled("up down", theme.accent),
            Span::styled(" choose  ", theme.muted),
            Span::styled("q", theme.accent),
            Span::styled(" quit", theme.muted),
        ]),
    };
    frame.render_widget(foot, footer);
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::{Event as TerminalEvent, KeyCode, KeyModifiers};

    use super::*;
    use crate::{
        session::Session,
        ui::{Msg, frame_text, update},
    };

    fn app(count: usize) -> App {
        let choice = |n| Choice {
            title: format!("train{n}.py").as_str().into(),
            facts: format!("pid {n}").as_str().into(),
            lines: vec!["python train.py".into(), "runs/train.log".into()],
            usable: true,
        };
        let mut app = App::new(Session::default());
        app.chooser = Some(Chooser::new("Training jobs", (0..count).map(choice).collect(), vec!["a note".into()]));
        app
    }

    fn press(app: &mut App, code: KeyCode) -> Vec<Cmd> {
        update(app, Msg::Terminal(TerminalEvent::Key(KeyEvent::new(code, KeyModifiers::NONE))))
    }

    #[test]
    fn the_chosen_one_is_always_on_the_screen() {
        let mut app = app(30);
        for n in 0..30 {
            let text = frame_text(&app, 80, 24);
            assert!(text.contains(&format!(" > train{n}.py")), "{n}: {text}");
            assert!(text.contains("a note"));
            assert_eq!(press(&mut app, KeyCode::Enter), [Cmd::Choose(n)]);
            press(&mut app, KeyCode::Down);
        }
        press(&mut app, KeyCode::Home);
        assert_eq!(press(&mut app, KeyCode::Enter), [Cmd::Choose(0)]);
        assert_eq!(press(&mut app, KeyCode::Char('q')), [Cmd::Quit]);
    }

    #[test]
    fn any_size_can_be_drawn() {
        for count in [0, 1, 5] {
            for size in [(30, 8), (31, 9), (500, 200), (80, 24)] {
                let _ = frame_text(&app(count), size.0, size.1);
            }
        }
    }
}
