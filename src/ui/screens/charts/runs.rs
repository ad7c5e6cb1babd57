//! Several runs or attempts on one chart.

use ratatui::{style::Style, text::Span};

use crate::{
    model::SourceId,
    session::series::Bucket,
    ui::{
        App, Theme,
        format::{fit_end, short},
    },
};

use super::nearest;

/// The attempts before the last one, and that.
pub fn attempts(buckets: &[Bucket]) -> (&[Bucket], &[Bucket]) {
    let last = buckets.last().map(|b| b.segment);
    buckets.split_at(buckets.partition_point(|b| Some(b.segment) != last))
}

/// The colour of one of several runs: the second colour is the evaluations'.
pub(super) fn run_style(nth: usize, theme: &Theme) -> Style {
    theme.series(if nth == 0 { 0 } else { nth + 1 })
}

/// Which colour is which file, with its value under the cursor, else the last one.
pub(super) fn legend(
    app: &App,
    runs: &[(SourceId, Vec<Bucket>)],
    cursor: Option<f64>,
    width: usize,
    theme: &Theme,
) -> Vec<Span<'static>> {
    let room = (width / runs.len()).saturating_sub(10);
    let name = |source| app.session.sources.get(source).map(|s| s.name.to_string()).unwrap_or_default();
    let names = told_apart(runs.iter().map(|(source, _)| name(source)).collect());
    let mut spans = Vec::new();
    for (nth, (_, buckets)) in runs.iter().enumerate() {
        let bucket = cursor.map_or(buckets.last(), |x| nearest(buckets, x));
        let name = fit_end(&names[nth], room, theme.glyphs.pick("…", "~"));
        let value = bucket.map(|b| short(b.last)).unwrap_or_default();
        let gap = if nth == 0 { "" } else { "  " };
        spans.push(Span::styled(format!("{gap}{name} "), run_style(nth, theme)));
        spans.push(Span::styled(value, theme.bright));
    }
    spans
}

/// Names without the folders and files that all of them share.
fn told_apart(names: Vec<String>) -> Vec<String> {
    let parts: Vec<Vec<&str>> = names.iter().map(|name| name.split('/').collect()).collect();
    let shared = |nth: usize| parts.iter().all(|p| p.len() == parts[0].len() && p[nth] == parts[0][nth]);
    let own = |p: &Vec<&str>| -> String {
        let kept: Vec<&str> = p.iter().enumerate().filter(|(nth, _)| !shared(*nth)).map(|(_, part)| *part).collect();
        kept.join("/")
    };
    let short: Vec<String> = parts.iter().map(own).collect();
    if short.iter().any(String::is_empty) { names } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_differs() {
        let check = |names: &[&str], want: &[&str]| {
            assert_eq!(told_apart(names.iter().map(ToString::to_string).collect()), want);
        };
        check(&["runs/a/train.log", "runs/b/train.log"], &["a", "b"]);
        check(&["a.log", "b.log"], &["a.log", "b.log"]);
        check(&["x/a.log", "b.log"], &["x/a.log", "b.log"]);
        check(&["a.log", "a.log"], &["a.log", "a.log"]);
        check(&["ä/1", "ä/2"], &["1", "2"]);
    }
}
