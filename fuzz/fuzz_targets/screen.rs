//! A log of any bytes, drawn on every screen in any size: only clean characters reach the cells.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oomph::{
    model::{Event, EventKind, SourceId, Timestamp},
    session::Session,
    ui::{App, Msg, frame_text, keys::Keys, update},
};

fuzz_target!(|data: &[u8]| {
    let [width, height, bytes @ ..] = data else { return };
    let mut session = Session::default();
    let source = SourceId(0);
    let at = Timestamp::UNIX_EPOCH;
    let name = String::from_utf8_lossy(bytes.get(..12).unwrap_or_default()).into_owned();
    session.apply(Event { at, kind: EventKind::Opened { source, name: name.as_str().into(), path: None, size: None } });
    session.apply(Event { at, kind: EventKind::Output { source, offset: 0, data: bytes.to_vec() } });
    session.apply(Event { at, kind: EventKind::CaughtUp { source } });
    session.apply(Event { at, kind: EventKind::Ended { source } });
    let mut app = App::new(session);
    let mut keys = Keys::default();
    for screen in b"1234567?" {
        let mut events = Vec::new();
        keys.feed(&[*screen], &mut events);
        for event in events {
            update(&mut app, Msg::Terminal(event));
        }
        let text = frame_text(&app, u16::from(*width) + 1, u16::from(*height) / 2 + 1);
        for c in text.chars() {
            assert!(c == '\n' || oomph::model::Clean::new(&c.to_string()).as_str() == c.to_string(), "{c:?}");
        }
    }
});
