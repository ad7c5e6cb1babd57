//! What a helper process says of the GPUs, whatever it says: figures or nothing, and a clean screen.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oomph::{
    model::{Event, EventKind, Timestamp, gpu::GpuReading},
    session::Session,
    ui::{App, Msg, frame_text, keys::Keys, update},
};

fuzz_target!(|data: &[u8]| {
    let mut session = Session::default();
    let mut any = false;
    for (nth, line) in data.split(|b| *b == b'\n').enumerate() {
        if let Ok(reading) = serde_json::from_slice::<GpuReading>(line) {
            any = true;
            let at = Timestamp::from_second(nth as i64).unwrap_or(Timestamp::UNIX_EPOCH);
            session.apply(Event { at, kind: EventKind::Gpu { reading } });
        }
    }
    if !any {
        return;
    }
    let mut app = App::new(session);
    let mut events = Vec::new();
    Keys::default().feed(b"4", &mut events);
    for event in events {
        update(&mut app, Msg::Terminal(event));
    }
    let text = frame_text(&app, 100, 30);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
});
