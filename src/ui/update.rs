//! From what happened to the next state.

use ratatui::crossterm::event::{
    Event as TerminalEvent, KeyEvent, KeyEventKind, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::layout::Rect;

use crate::session::alerts::Severity;

use super::{
    App, Cmd, Msg, Screen, Tone, chooser, fleet,
    keymap::Action,
    keys,
    overlays::{self, Overlay},
    replay, screens, view,
};

/// Takes one thing that happened. Touches only `app`.
pub fn update(app: &mut App, msg: Msg) -> Vec<Cmd> {
    match msg {
        Msg::Event(event) => app.session.apply(event),
        Msg::Fleet(news) => {
            if let Some(state) = &mut app.fleet {
                state.fleet.hear(news.at, news.place, news.heard);
            }
        }
        Msg::Tick(now) => {
            if let Some(state) = &mut app.fleet {
                state.fleet.tick(now);
            }
            match &mut app.replay {
                Some(replay) => replay.tick(&mut app.session, now),
                None => app.session.tick(now),
            }
            fade_toast(app);
            return look(app);
        }
        Msg::Quit => return vec![Cmd::Quit],
        Msg::Terminal(event) => return terminal(app, event),
    }
    fade_toast(app);
    Vec::new()
}

fn fade_toast(app: &mut App) {
    if let (Some(toast), Some(now)) = (&app.toast, app.now())
        && toast.until.is_some_and(|until| now >= until)
    {
        app.toast = None;
    }
}

/// Looks whether something deserves a look. What is news goes to whoever is to be called, and to the footer.
fn look(app: &mut App) -> Vec<Cmd> {
    let news: Vec<_> = app.alerts.look(&app.session).into_iter().filter(|a| !a.old).collect();
    if let Some(worst) = news.iter().max_by_key(|a| a.severity) {
        let text = format!("{} {}", if worst.severity == Severity::Info { "note:" } else { "alert:" }, worst.text);
        app.say(&text, tone_of(worst.severity));
    }
    news.into_iter().map(Cmd::Alert).collect()
}

/// How an alert of a severity looks.
pub fn tone_of(severity: Severity) -> Tone {
    match severity {
        Severity::Info => Tone::Quiet,
        Severity::Warning => Tone::Warning,
        Severity::Critical => Tone::Critical,
    }
}

fn terminal(app: &mut App, event: TerminalEvent) -> Vec<Cmd> {
    match event {
        TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => pressed(app, &key),
        TerminalEvent::Resize(columns, rows) => {
            app.size = (columns, rows);
            Vec::new()
        }
        TerminalEvent::Paste(text) => {
            pasted(app, &text);
            Vec::new()
        }
        TerminalEvent::Mouse(mouse) => pointed(app, mouse),
        _ => Vec::new(),
    }
}

fn pressed(app: &mut App, key: &KeyEvent) -> Vec<Cmd> {
    app.toast = None;
    if app.chooser.is_some() {
        return chooser::key(app, key);
    }
    if app.fleet.is_some() {
        return fleet::key(app, key);
    }
    if app.overlay.is_some() {
        return overlays::key(app, key);
    }
    let typing = match app.screen {
        Screen::Charts => screens::charts::type_key(app, key),
        Screen::Log => screens::log::type_key(app, key),
        _ => false,
    };
    if typing {
        return Vec::new();
    }
    match app.keymap.action(app.screen, key) {
        Some(action) => act(app, action),
        None => Vec::new(),
    }
}

/// A paste goes into the line that is being typed, else it is diagnosed on the spot. It never presses keys.
fn pasted(app: &mut App, text: &str) {
    if app.chooser.is_some() || app.fleet.is_some() {
        return;
    }
    if app.screen == Screen::Charts && screens::charts::type_text(app, text) {
        return;
    }
    if app.screen == Screen::Log && screens::log::type_text(app, text) {
        return;
    }
    if text.len() >= keys::LONGEST_PASTE {
        app.say("more than 8 MiB: save it to a file and run oomph diagnose FILE", Tone::Warning);
        return;
    }
    app.overlay = None;
    screens::paste::take(app, text);
}

/// Does what an action says.
pub fn act(app: &mut App, action: Action) -> Vec<Cmd> {
    match action {
        Action::Quit => return vec![Cmd::Quit],
        Action::Suspend => return vec![Cmd::Suspend],
        Action::Redraw => return vec![Cmd::Redraw],
        Action::Help => app.overlay = Some(Overlay::Help { scroll: 0 }),
        Action::Palette => app.overlay = Some(Overlay::Palette(overlays::palette::State::default())),
        Action::Themes => app.overlay = Some(Overlay::Themes(overlays::themes::State { before: app.theme_index() })),
        Action::Glyphs => {
            let next = app.theme().glyphs.next();
            app.use_glyphs(next);
            app.chosen_glyphs = Some(next);
        }
        Action::Show(screen) => show(app, screen),
        Action::NextScreen => show(app, app.screen.beside(1)),
        Action::PreviousScreen => show(app, app.screen.beside(-1)),
        Action::Replay(control) => replay::control(app, control),
        Action::Evidence => app.overlay = Some(Overlay::Evidence { selected: 0 }),
        Action::Alerts => app.overlay = Some(Overlay::Alerts { selected: 0 }),
        _ => return on_screen(app, action),
    }
    Vec::new()
}

/// Opens a screen. The diagnosis opened by its key is the run's, where the run has one.
pub fn show(app: &mut App, screen: Screen) {
    app.log.forget_way_back();
    app.screen = screen;
    if screen == Screen::Diagnosis && app.session.diagnosis().is_some() {
        app.diagnosis.show_pasted(false);
    }
}

fn on_screen(app: &mut App, action: Action) -> Vec<Cmd> {
    match app.screen {
        Screen::Overview => {
            if action == Action::Back {
                app.toast = None;
            }
            Vec::new()
        }
        Screen::Charts => screens::charts::act(app, action),
        Screen::Memory => screens::memory::act(app, action),
        Screen::Gpus => screens::gpu::act(app, action),
        Screen::Log => screens::log::act(app, action),
        Screen::Diagnosis => screens::diagnosis::act(app, action),
        Screen::Paste => screens::paste::act(app, action),
    }
}

fn pointed(app: &mut App, mouse: MouseEvent) -> Vec<Cmd> {
    if app.overlay.is_some() || app.chooser.is_some() || app.fleet.is_some() {
        return Vec::new();
    }
    let area = Rect::new(0, 0, app.size.0, app.size.1);
    match mouse.kind {
        MouseEventKind::ScrollUp => (0..3).flat_map(|_| on_screen(app, Action::Up)).collect(),
        MouseEventKind::ScrollDown => (0..3).flat_map(|_| on_screen(app, Action::Down)).collect(),
        MouseEventKind::Down(MouseButton::Left) => {
            let (tabs, middle, _) = view::body(area);
            if tabs.is_some_and(|row| row.y == mouse.row) {
                let hit = view::tabs(area.width, app.screen)
                    .into_iter()
                    .find(|(_, x, text)| mouse.column >= *x && mouse.column < x + text.len() as u16);
                if let Some((screen, ..)) = hit {
                    show(app, screen);
                }
            } else {
                match app.screen {
                    Screen::Charts => screens::charts::press(app, middle, mouse.column, mouse.row),
                    Screen::Gpus => screens::gpu::press(app, middle, mouse.column, mouse.row),
                    Screen::Memory => screens::memory::press(app, middle, mouse.row),
                    Screen::Diagnosis => screens::diagnosis::press(app, middle, mouse.column, mouse.row),
                    _ => {}
                }
            }
            Vec::new()
        }
        MouseEventKind::Up(MouseButton::Left) if app.screen == Screen::Charts => {
            let (_, middle, _) = view::body(area);
            screens::charts::release(app, middle, mouse.column);
            Vec::new()
        }
        _ => Vec::new(),
    }
}
