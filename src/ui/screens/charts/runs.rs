//! Several runs or attempts on one chart.

use ratatui::{style::Style, text::Span};

use crate::{
    model::SourceId,
    session::series::Bucket,
    ui::{
        App, Theme,
        format::{fit_end, short},
        names,
    },
};

use super::nearest;

/// The attempts before the last one, and that.
pub fn attempts(buckets: &[Bucket]) -> (&[Bucket], &[Bucket]) {
    let last = buckets.last().map(|b| b.segment);
    buckets.split_at(buckets.partition_point(|b| Some(b.segment) != last))
}

/// The colour of one of several runs: the second colour is the evaluations'.
pub fn run_style(nth: usize, theme: &Theme) -> Style {
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
    let names = names::of(&app.session, &runs.iter().map(|(source, _)| *source).collect::<Vec<_>>());
    let mut spans = Vec::new();
    for (nth, (_, buckets)) in runs.iter().enumerate() {
        let bucket = cursor.map_or(buckets.last(), |x| nearest(buckets, x));
        let value = bucket.map(|b| short(b.last)).unwrap_or_default();
        // Each has its part of the room; two columns stand before it and one before its value.
        let room = (width / runs.len()).saturating_sub(value.len() + 3);
        let name = fit_end(&names[nth], room.max(1), theme.glyphs.pick("…", "~"));
        let gap = if nth == 0 { "" } else { "  " };
        spans.push(Span::styled(format!("{gap}{name} "), run_style(nth, theme)));
        spans.push(Span::styled(value, theme.bright));
    }
    spans
}
