//! Screens: keys in, cells out.
//!
//! [`cases`] is the table of pictures, each compared with its snapshot; [`sweep`] draws every screen in every size.
//! A picture is its text and a hash of the styles of its cells, so that a colour that changes is noticed too.

mod cases;
mod contrast;
mod pictures;
mod scenes;
mod svg;
mod sweep;

use oomph::{
    cli,
    model::knobs::Knobs,
    ui::{self, App, Msg, keymap::Key},
};
use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{Event as TerminalEvent, KeyEvent},
};

use scenes::Scene;

/// An app that shows a scene on a terminal of a size.
fn app(scene: Scene, size: (u16, u16)) -> App {
    let judge = |text: &str| cli::diagnose::judge_text("pasted text", text.as_bytes(), &Knobs::default());
    let mut app = App::new(scene.session).with_judge(Box::new(judge));
    app.size = size;
    // Long enough for what must hold for some seconds before it is said.
    for second in 0..=40 {
        ui::update(&mut app, Msg::Tick(scene.now + jiff::SignedDuration::from_secs(second)));
    }
    app.toast = None;
    app
}

/// Presses keys: characters as they are, `<enter>`, `<ctrl-p>` by name, `<paste NAME>` for a text of [`pasted`].
fn press(app: &mut App, keys: &str) {
    let mut rest = keys;
    while let Some(c) = rest.chars().next() {
        let mut name = c.to_string();
        if c == '<'
            && let Some(end) = rest.find('>')
        {
            name = rest[1..end].to_string();
            rest = &rest[end + 1..];
        } else {
            rest = &rest[c.len_utf8()..];
        }
        let event = if let Some(what) = name.strip_prefix("paste ") {
            TerminalEvent::Paste(pasted(what).to_string())
        } else {
            let name = if name == " " { "space" } else { &name };
            let key = Key::parse(name).unwrap_or_else(|| panic!("{name} is no key"));
            TerminalEvent::Key(KeyEvent::new(key.code, key.modifiers))
        };
        ui::update(app, Msg::Terminal(event));
    }
}

/// What people paste.
fn pasted(what: &str) -> &'static str {
    match what {
        "oom" => include_str!("../../diagnosis/grpo-1.5b-16gib.log"),
        "calm" => include_str!("../../logs/trl1-sft.log"),
        "blank" => "  \n\n",
        _ => panic!("no text {what}"),
    }
}

/// The cells of one frame.
fn drawn(app: &App, size: (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| ui::view(app, app.theme(), frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// FNV-1a over the style of every cell.
fn hash_of_styles(buffer: &Buffer) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for cell in buffer.content() {
        for byte in format!("{:?}{:?}{:?}", cell.fg, cell.bg, cell.modifier).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
