//! What a line of a log is, by its words: an error, a warning, a progress bar. Also whose line it is.

use crate::parse::prefix;

/// How loud a line is. The order is that of the alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A frame of a progress bar.
    Bar,
    Debug,
    Plain,
    Warning,
    Error,
}

/// Bytes of a line in which its level is looked for.
const HEAD: usize = 200;

/// The level of a line, by the words that loggers and exceptions put at its beginning.
pub fn level(text: &str) -> Level {
    let head = text.get(..text.floor_char_boundary(HEAD)).unwrap_or(text);
    let has = |words: &[&str]| words.iter().any(|w| head.contains(w));
    if is_bar(head) {
        return Level::Bar;
    }
    // A metric may be called anything: its line is no message.
    if head.trim_start().starts_with('{') {
        return Level::Plain;
    }
    if has(&[
        "Traceback (most",
        "ERROR",
        "FATAL",
        "CRITICAL",
        "out of memory",
        "Killed",
        "Segmentation fault",
        "panicked",
    ]) || raised(head)
        || glog(head, ['E', 'F'])
    {
        Level::Error
    } else if has(&["WARN", "Warning", "warning:"]) || glog(head, ['W', 'W']) {
        Level::Warning
    } else if has(&["DEBUG", "TRACE"]) {
        Level::Debug
    } else {
        Level::Plain
    }
}

/// `62%|██████    | 1240/2000 [4:01<2:27, 11.7s/it]`
fn is_bar(head: &str) -> bool {
    let Some(at) = head.find("%|") else { return false };
    head.get(..at).is_some_and(|before| before.ends_with(|c: char| c.is_ascii_digit()))
}

/// `RuntimeError: …`, `torch.OutOfMemoryError: …`, `Error: …`: a name that ends so, before a colon.
fn raised(head: &str) -> bool {
    ["Error:", "Exception:", "Interrupt:"].iter().any(|end| {
        head.find(end).is_some_and(|at| {
            let name = &head[..at];
            let word = name.rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).map_or(0, |i| i + 1);
            name.get(word..).is_some_and(|w| w.is_empty() || w.starts_with(|c: char| c.is_alphabetic()))
        })
    }) || head.trim_start().starts_with("Error ")
}

/// `[rank0]:[E1124 04:53:45.6 File.cpp:1]` or `E1124 04:53:45`: the letter of Google's logger.
fn glog(head: &str, letters: [char; 2]) -> bool {
    head.split(['[', ' ']).take(4).any(|word| {
        let mut chars = word.chars();
        chars.next().is_some_and(|c| letters.contains(&c))
            && (3..=4).contains(&chars.as_str().len())
            && chars.all(|c| c.is_ascii_digit())
    })
}

/// The rank that a launcher or a logger wrote before a line.
pub fn rank(text: &str) -> Option<u32> {
    let first = text.trim_start().as_bytes().first()?;
    // Nearly every line begins with its own text, and that is no prefix.
    let may = !matches!(first, b'{' | b'|' | b'%' | b'"' | b'\'' | b'-' | b'=');
    if may { prefix::find(text.as_bytes()).rank } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_level() {
        let check = |text: &str, want: Level| assert_eq!(level(text), want, "{text}");
        check("torch.OutOfMemoryError: CUDA out of memory. Tried", Level::Error);
        check("[rank1]: RuntimeError: x", Level::Error);
        check("KeyError: 'answer'", Level::Error);
        check("Traceback (most recent call last):", Level::Error);
        check("[rank0]:[E1124 04:53:45.6 ProcessGroupNCCL.cpp:1] watchdog", Level::Error);
        check("[W914 04:53:45.6 File.cpp:1] memory", Level::Warning);
        check("/x/y.py:3: UserWarning: lr_scheduler", Level::Warning);
        check("2026-11-27 WARNING reward_fn.py:31 timeout", Level::Warning);
        check("{'loss': '1.2', 'errors/Error: rate': '0'}", Level::Plain);
        check("mean_error: 0.12", Level::Plain);
        check("INFO 09:00 Error-free so far", Level::Plain);
        check(" 62%|██████    | 1240/2000 [4:01<2:27, 11.7s/it]", Level::Bar);
        check("DEBUG cache miss", Level::Debug);
    }

    #[test]
    fn lines_have_their_rank() {
        let check = |text: &str, want: Option<u32>| assert_eq!(rank(text), want, "{text}");
        check("[rank3]: ValueError", Some(3));
        check("[default7]:loss 1", Some(7));
        check("(WorkerDict rank=2 pid=12) step", Some(2));
        check("{'loss': 1}", None);
        check("12%|#| 1/2", None);
        check("", None);
    }
}
