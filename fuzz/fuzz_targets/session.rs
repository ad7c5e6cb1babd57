//! The fold over events: output in odd chunks, truncations, rotations, in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oomph::{
    model::{Event, EventKind, SourceId, Timestamp},
    session::Session,
};

fuzz_target!(|data: &[u8]| {
    let mut session = Session::default();
    let source = SourceId(0);
    let mut send = |kind| session.apply(Event { at: Timestamp::UNIX_EPOCH, kind });
    send(EventKind::Opened { source, name: "fuzz".into(), path: None, size: None });
    let mut offset = 0u64;
    for part in data.split_inclusive(|b| *b == 0xfe) {
        match part.first() {
            Some(0) => {
                send(EventKind::Truncated { source, unread: 3 });
                offset = 0;
            }
            Some(1) => {
                send(EventKind::Rotated { source });
                offset = 0;
            }
            Some(2) => send(EventKind::CaughtUp { source }),
            Some(3) => send(EventKind::Filled { source }),
            Some(4) => offset += 1000,
            _ => {}
        }
        send(EventKind::Output { source, offset, data: part.to_vec() });
        offset += part.len() as u64;
    }
    send(EventKind::Ended { source });
    if let Some(source) = session.sources.values().next() {
        for line in source.log.lines() {
            assert!(!line.text.as_str().chars().any(char::is_control));
        }
    }
});
