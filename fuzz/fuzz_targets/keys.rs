//! Bytes from a keyboard, in any chunks, to a dashboard that is drawn after each: no panic, no hoarding, and only clean cells.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use oomph::{
    session::Session,
    ui::{App, Msg, frame_text, keys::Keys, update},
};

fuzz_target!(|data: &[u8]| {
    let [chunk, width, height, bytes @ ..] = data else { return };
    let mut app = App::new(Session::default());
    let mut keys = Keys::default();
    for part in bytes.chunks(usize::from(*chunk) + 1) {
        let mut events = Vec::new();
        keys.feed(part, &mut events);
        for event in events {
            update(&mut app, Msg::Terminal(event));
        }
    }
    let mut events = Vec::new();
    keys.settle(Duration::from_secs(10), &mut events);
    for event in events {
        update(&mut app, Msg::Terminal(event));
    }
    let text = frame_text(&app, u16::from(*width) + 1, u16::from(*height) / 2 + 1);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
});
