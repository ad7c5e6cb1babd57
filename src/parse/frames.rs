//! What of a log's bytes is one frame, and what of a frame is its text.

use super::prefix;

/// The texts of a log with the numbers of their lines (1-based), without prefixes and colours: for people who write a
/// dialect. [`super::metrics::Reader`] does the same, but without a copy of each.
pub fn texts(log: &[u8]) -> Vec<(u64, String)> {
    let (mut out, mut plain) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(log.split(|b| *b == b'\n')) {
        for frame in line.split(|b| matches!(b, b'\r' | 0x08)).filter(|frame| !frame.trim_ascii().is_empty()) {
            without_marks(frame, &mut plain);
            let text = plain.get(prefix::find(&plain).end..).unwrap_or_default();
            match wrapped(text) {
                Some(said) => out.extend(texts(said.as_bytes()).into_iter().map(|(_, text)| (number, text))),
                None => out.push((number, String::from_utf8_lossy(not_repeated(text.trim_ascii())).into_owned())),
            }
        }
    }
    out
}

/// The end of a frame over which another one was drawn with a run of backspaces.
pub fn rubbed_out(frame: &[u8]) -> Option<usize> {
    const RUN: usize = 8;
    let start =
        memchr::memchr_iter(0x08, frame).find(|at| *at > 0 && frame.get(*at..*at + RUN) == Some(&[0x08; RUN]))?;
    // The backspaces go with what they rub out, so that the rest does not begin with them.
    let run = frame.get(start..)?.iter().take_while(|b| **b == 0x08).count();
    Some(start + run).filter(|end| *end < frame.len())
}

/// The end of the first of several bars with metrics in one frame.
pub fn glued(frame: &[u8]) -> Option<usize> {
    let mut bars = memchr::memchr_iter(b'%', frame).filter(|at| frame.get(at + 1) == Some(&b'|'));
    let (first, second) = (bars.next()?, bars.next()?);
    let end = first + memchr::memchr(b']', frame.get(first..second)?)? + 1;
    // Bars without a postfix, and the blanks between them, are read together: they tell the step of a line between.
    memchr::memchr(b'=', frame.get(first..end)?).map(|_| end).or_else(|| {
        let name = frame.get(..first)?;
        memchr::memmem::find(name, b"|Loss: ").map(|_| end)
    })
}

/// The text that a collector wrapped in a line of JSON: Docker's and Kubernetes' `log`, journald's `MESSAGE`, and what
/// loggers that write JSON call their message. A line of metrics is none.
pub fn wrapped(line: &[u8]) -> Option<String> {
    const NAMES: [&str; 8] = ["log", "message", "MESSAGE", "msg", "textPayload", "line", "data", "text"];
    let line = line.trim_ascii_end();
    let names = NAMES.iter().any(|name| memchr::memmem::find(line, name.as_bytes()).is_some());
    if !line.ends_with(b"}") || !names {
        return None;
    }
    let serde_json::Value::Object(mut map) = super::files::parse_json(line)? else { return None };
    let counts = |name: &str| map.get(name).is_some_and(serde_json::Value::is_number);
    if ["step", "epoch", "global_step", "iteration", "iter"].into_iter().any(counts) {
        return None;
    }
    let name = NAMES.into_iter().find(|name| map.get(*name).is_some_and(serde_json::Value::is_string))?;
    let serde_json::Value::String(mut text) = map.remove(name)? else { return None };
    // Docker leaves the line break in: without it the line is not over. Others cut it off.
    if name != "log" && !text.ends_with(['\n', '\r']) {
        text.push('\n');
    }
    Some(text)
}

/// Whether a text is a row of a table that rich draws: what stands in it is somebody's text.
pub fn is_boxed(text: &[u8]) -> bool {
    const EDGES: [&str; 6] = ["│", "┃", "║", "╭", "╰", "├"];
    EDGES.iter().any(|edge| text.starts_with(edge.as_bytes()))
}

/// Drops escape sequences, the backspaces with which Keras redraws, and the NULs that network file systems leave.
pub fn without_marks(frame: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut bytes = frame.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            0x08 | 0 => {}
            0x1b => match bytes.next() {
                // CSI: parameters, then a letter.
                Some(b'[') => drop(bytes.by_ref().find(|b| (0x40..=0x7e).contains(b))),
                // OSC: a title or a link, up to BEL or `ESC \`.
                Some(b']') => {
                    let end = bytes.by_ref().find(|b| matches!(b, 0x07 | 0x1b));
                    if end == Some(0x1b) {
                        bytes.next();
                    }
                }
                _ => {}
            },
            _ => out.push(byte),
        }
    }
}

/// Drops what Ray says of a line that others printed too: ` [repeated 7x across cluster]`.
pub fn not_repeated(text: &[u8]) -> &[u8] {
    if !text.ends_with(b"x across cluster]") {
        return text;
    }
    let end = memchr::memmem::rfind(text, b"[repeated ");
    end.map_or(text, |end| text[..end].trim_ascii_end())
}
