//! A line of a log in colours: by its level, by what a traceback or a metric line is made of, or by the colours that
//! the trainer asked for, made anew from the theme.

use std::ops::Range;

use ratatui::{
    style::{Modifier, Style},
    text::Span,
};
use regex::Regex;
use unicode_width::UnicodeWidthChar;

use crate::session::{
    ink::Ink,
    level::{Level, level},
    log::LogLine,
};

use super::Theme;

/// A text, and the byte up to which each style holds; together they cover it.
#[derive(Clone, Debug, Default)]
pub struct Inked<'a> {
    text: &'a str,
    runs: Vec<(usize, Style)>,
}

impl<'a> Inked<'a> {
    /// A line of a log.
    pub fn line(line: &'a LogLine, theme: &Theme) -> Self {
        let text = line.text.as_str();
        if line.number.is_none() {
            return Self::plain(text, theme.accent);
        }
        if line.inks.is_empty() || level(text) == Level::Error { Self::of(text, theme) } else { Self::own(line, theme) }
    }

    /// Any text, as if it stood in a log.
    pub fn of(text: &'a str, theme: &Theme) -> Self {
        match level(text) {
            Level::Error => Self::plain(text, theme.critical),
            Level::Warning => Self::plain(text, theme.warning),
            Level::Debug => Self::plain(text, theme.muted),
            Level::Bar => Self::bar(text, theme),
            Level::Plain => {
                let trimmed = text.trim_start();
                if trimmed.starts_with("File \"") {
                    Self::frame(text, theme)
                } else if is_underline(trimmed) {
                    Self::plain(text, theme.faint)
                } else if trimmed.starts_with('{') && trimmed.contains(':') {
                    Self::pairs(text, theme)
                } else {
                    Self::plain(text, if trimmed.starts_with("INFO") { theme.muted } else { theme.text })
                }
            }
        }
    }

    pub fn plain(text: &'a str, style: Style) -> Self {
        Self { text, runs: vec![(text.len(), style)] }
    }

    /// The trainer's own colours.
    fn own(line: &'a LogLine, theme: &Theme) -> Self {
        let style = |ink: Ink| match ink {
            Ink::Plain | Ink::White => theme.text,
            Ink::Black => theme.muted,
            Ink::Red => theme.critical,
            Ink::Green => theme.good,
            Ink::Yellow => theme.warning,
            Ink::Blue | Ink::Cyan => theme.accent,
            Ink::Magenta => theme.series(3),
        };
        let text = line.text.as_str();
        let mut runs = Vec::new();
        let mut before = theme.text;
        for (at, ink) in &line.inks {
            let at = text.floor_char_boundary(*at as usize);
            if runs.last().map_or(at > 0, |(end, _)| at > *end) {
                runs.push((at, before));
            }
            before = style(*ink);
        }
        runs.push((text.len(), before));
        Self { text, runs }
    }

    /// `62%|██████    | 1240/2000 [4:01<2:27, 11.7s/it]`: what is done stands out, the bar does not.
    fn bar(text: &'a str, theme: &Theme) -> Self {
        let Some(open) = text.find("%|").map(|at| at + 1) else { return Self::plain(text, theme.muted) };
        let close = text[open + 1..].find('|').map_or(text.len(), |at| open + 1 + at + 1);
        let counted = text[close..].find('[').map_or(text.len(), |at| close + at);
        let runs = vec![(open, theme.text), (close, theme.faint), (counted, theme.text), (text.len(), theme.muted)];
        Self { text, runs }
    }

    /// `  File "/home/ada/train.py", line 12, in step`: one's own code stands out from what is installed.
    fn frame(text: &'a str, theme: &Theme) -> Self {
        let installed = ["site-packages", "dist-packages", "/lib/python", "<frozen", "<string>"];
        let own = !installed.iter().any(|part| text.contains(part));
        Self::plain(text, if own { theme.bright } else { theme.muted })
    }

    /// `{'loss': '1.9', 'grad_norm': '0.5'}`: keys and signs step back behind the values.
    fn pairs(text: &'a str, theme: &Theme) -> Self {
        let mut runs: Vec<(usize, Style)> = Vec::new();
        let mut put = |end: usize, style: Style| match runs.last_mut() {
            Some((last, same)) if *same == style => *last = end,
            _ => runs.push((end, style)),
        };
        let mut in_value = false;
        for (at, c) in text.char_indices() {
            let end = at + c.len_utf8();
            match c {
                '{' | '}' | ',' | ':' | '\'' | '"' => {
                    in_value = if c == ':' { true } else { in_value && c != ',' };
                    put(end, theme.faint);
                }
                _ => put(end, if in_value { theme.text } else { theme.muted }),
            }
        }
        Self { text, runs }
    }

    /// The whole line in one style, where it stands under the cursor.
    #[must_use]
    pub fn overall(self, style: Style) -> Self {
        Self::plain(self.text, style)
    }

    /// The columns of the text from `left` on, at most `width` of them.
    pub fn columns(&self, left: usize, width: usize) -> Range<usize> {
        let (mut at, mut used, mut from) = (0, 0, None);
        for (byte, c) in self.text.char_indices() {
            let w = c.width().unwrap_or(0);
            if at >= left {
                let from = *from.get_or_insert(byte);
                if used + w > width {
                    return from..byte;
                }
                used += w;
            }
            at += w;
        }
        from.unwrap_or(self.text.len())..self.text.len()
    }

    /// The text in pieces of at most `width` columns, at most `most` of them.
    pub fn wrapped(&self, width: usize, most: usize) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let (mut from, mut used) = (0, 0);
        for (byte, c) in self.text.char_indices() {
            let w = c.width().unwrap_or(0);
            if used + w > width && used > 0 {
                pieces.push(from..byte);
                if pieces.len() >= most {
                    return pieces;
                }
                (from, used) = (byte, 0);
            }
            used += w;
        }
        pieces.push(from..self.text.len());
        pieces
    }

    /// The same, broken behind a blank where one stands in the last third of a row: no figure is cut in two.
    fn wrapped_at_blanks(&self, width: usize, most: usize) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let mut from = 0;
        while from < self.text.len() && pieces.len() < most {
            let rest = Self::plain(&self.text[from..], Style::new());
            let mut end = rest.wrapped(width, 1)[0].end;
            if end < rest.text.len()
                && let Some(blank) = rest.text[..end].rfind(' ').filter(|at| at * 3 >= end * 2)
            {
                end = blank + 1;
            }
            pieces.push(from..from + end);
            from += end;
        }
        pieces
    }

    /// The text in rows of `width` columns, at most `most` of them; an ellipsis ends the last one where text is left.
    pub fn rows(&self, width: usize, most: usize, theme: &Theme) -> Vec<Vec<Span<'static>>> {
        let pieces = self.wrapped_at_blanks(width.max(1), most.max(1));
        if pieces.is_empty() {
            return Vec::new();
        }
        let left = pieces.last().is_some_and(|p| p.end < self.text.len());
        let last = pieces.len() - 1;
        let row = |(n, part): (usize, Range<usize>)| {
            if !left || n < last {
                return self.spans(part, None, theme);
            }
            let cut = self.text[part.clone()].char_indices().next_back().map_or(part.start, |(at, _)| part.start + at);
            let mut spans = self.spans(part.start..cut, None, theme);
            spans.push(Span::styled(theme.glyphs.pick("…", "~"), theme.muted));
            spans
        };
        pieces.into_iter().enumerate().map(row).collect()
    }

    /// A part of the text in its styles, what matches `search` reversed.
    pub fn spans(&self, part: Range<usize>, search: Option<&Regex>, theme: &Theme) -> Vec<Span<'static>> {
        let found = theme.accent.add_modifier(Modifier::REVERSED);
        let slice = self.text.get(part.clone()).unwrap_or_default();
        let hits: Vec<Range<usize>> = search
            .into_iter()
            .flat_map(|s| s.find_iter(slice).filter(|hit| !hit.is_empty()).take(64))
            .map(|hit| hit.start() + part.start..hit.end() + part.start)
            .collect();
        let mut spans: Vec<Span<'static>> = Vec::new();
        let mut at = part.start;
        let mut hits = hits.into_iter().peekable();
        for (end, style) in &self.runs {
            while at < (*end).min(part.end) {
                let in_hit = hits.peek().is_some_and(|hit| hit.start <= at);
                let limit = hits.peek().map_or(part.end, |hit| if in_hit { hit.end } else { hit.start });
                let stop = limit.min(*end).min(part.end);
                let text = self.text.get(at..stop).unwrap_or_default();
                spans.push(Span::styled(text.to_string(), if in_hit { found } else { *style }));
                if in_hit && hits.peek().is_some_and(|hit| stop >= hit.end) {
                    hits.next();
                }
                at = stop;
            }
        }
        spans
    }

    /// The beginning of the text in `width` columns, with an ellipsis where it is cut.
    pub fn fitted(&self, width: usize, theme: &Theme) -> Vec<Span<'static>> {
        let whole = self.columns(0, width);
        if whole.end == self.text.len() {
            return self.spans(whole, None, theme);
        }
        let part = self.columns(0, width.saturating_sub(1));
        let mut spans = self.spans(part, None, theme);
        if width > 0 {
            spans.push(Span::styled(theme.glyphs.pick("…", "~"), theme.muted));
        }
        spans
    }
}

/// `    ~~~~^^^^`: the marks of a traceback under a line of code.
pub fn is_underline(trimmed: &str) -> bool {
    !trimmed.is_empty() && trimmed.chars().all(|c| matches!(c, '~' | '^' | ' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::theme::{Depth, Glyphs};

    fn theme() -> Theme {
        Theme::built_in(Depth::True, Glyphs::Braille).remove(0)
    }

    #[test]
    fn styles_cover_every_line_whole() {
        let theme = theme();
        let pattern = Regex::new("é|1").ok();
        for text in [
            "",
            "plain",
            "{'loss': '1.9', 'é': 2, 'x",
            " 62%|██████    | 1240/2000 [4:01<2:27, 11.7s/it]",
            " 5%|",
            "  File \"/home/é/train.py\", line 1, in x",
            "   ~~~^^^",
            "KeyError: 'é'",
            "多言語 1",
        ] {
            let inked = Inked::of(text, &theme);
            let joined = |spans: Vec<Span>| spans.iter().map(|s| s.content.to_string()).collect::<String>();
            assert_eq!(joined(inked.spans(0..text.len(), pattern.as_ref(), &theme)), text);
            let pieces = inked.wrapped(4, 99);
            let wrapped: String = pieces.into_iter().map(|p| joined(inked.spans(p, None, &theme))).collect();
            assert_eq!(wrapped, text);
            assert_eq!(joined(inked.fitted(200, &theme)), text);
        }
    }

    #[test]
    fn columns_are_cut_between_characters() {
        let theme = theme();
        let inked = Inked::of("ab多言cd", &theme);
        assert_eq!(&"ab多言cd"[inked.columns(0, 3)], "ab");
        assert_eq!(&"ab多言cd"[inked.columns(2, 4)], "多言");
        assert_eq!(&"ab多言cd"[inked.columns(99, 4)], "");
    }
}
