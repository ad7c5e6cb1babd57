use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_width::UnicodeWidthChar;

/// One line of text from outside, safe to show anywhere.
///
/// Logs, file names, process names, tags and argv are hostile until they are this type: control characters (C0, DEL,
/// C1), bidirectional controls, zero-width and tag characters stand in it as visible escapes (`\x1b`, `\u{202e}`). So do
/// the skin tones of emoji, which one terminal joins to the sign before and another puts into cells of their own. At
/// most eight combining marks follow one character, and a tab is a blank. Only this type may reach a widget, a print
/// or an export; the raw text stays with the parsers. Cloning shares the text: the key of a metric is kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clean(Arc<str>);

/// Combining marks kept after one base character.
const MAX_MARKS: usize = 8;

impl Clean {
    /// Cleans one line; a line break inside becomes a visible escape.
    pub fn new(raw: &str) -> Self {
        if raw.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Self(raw.into());
        }
        let mut out = String::with_capacity(raw.len() + 8);
        let mut marks = 0;
        for c in raw.chars() {
            if c == '\t' {
                out.push(' ');
                marks = 0;
            } else if must_escape(c) {
                out.extend(c.escape_default());
                marks = 0;
            } else if c.width() == Some(0) {
                marks += 1;
                if marks <= MAX_MARKS {
                    out.push(c);
                }
            } else {
                out.push(c);
                marks = 0;
            }
        }
        Self(out.into())
    }

    /// Cleans bytes that should be UTF-8; what is not becomes U+FFFD.
    pub fn from_bytes(raw: &[u8]) -> Self {
        Self::new(&String::from_utf8_lossy(raw))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Characters that move the cursor, hide, or turn text around: control characters, and what Unicode calls
/// Default_Ignorable_Code_Point (with the line separators and annotation marks), less the variation selectors of emoji;
/// and skin tones.
fn must_escape(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0000}'..='\u{e0fff}')
}

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for Clean {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Clean {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|raw| Self::new(&raw))
    }
}

impl From<&str> for Clean {
    fn from(raw: &str) -> Self {
        Self::new(raw)
    }
}

impl From<String> for Clean {
    fn from(raw: String) -> Self {
        Self::new(&raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_becomes_visible() {
        let check = |raw: &str, want: &str| assert_eq!(Clean::new(raw).as_str(), want);
        check("plain text", "plain text");
        check("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}");
        check("a\u{202e}b", "a\\u{202e}b");
        check("\u{9b}31m", "\\u{9b}31m");
        check("loss\t1", "loss 1");
        check("多言語 ok", "多言語 ok");
        check("a\nb", "a\\nb");
        check("👍🏽", "👍\\u{1f3fd}");
    }

    #[test]
    fn cleaning_twice_changes_nothing() {
        let once = Clean::new("a\u{1b}[0m\u{202e} b\tc é");
        assert_eq!(Clean::new(once.as_str()), once);
    }

    #[test]
    fn combining_stacks_are_capped() {
        let raw = format!("a{}", "\u{301}".repeat(100));
        assert_eq!(Clean::new(&raw).as_str().chars().count(), 1 + MAX_MARKS);
    }

    #[test]
    fn nothing_that_moves_a_cursor_survives() {
        for code in 0..=0x10_ffffu32 {
            let Some(c) = char::from_u32(code) else { continue };
            let clean = Clean::new(&c.to_string());
            assert!(!clean.as_str().chars().any(must_escape), "U+{code:04x}");
        }
    }
}
