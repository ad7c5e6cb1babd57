//! A chart of few lines: envelope of what was thinned, gaps, a range that one spike cannot spoil, marks and a cursor.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use crate::{
    session::series::Bucket,
    ui::{format, theme::Theme},
};

use super::canvas::{BEHIND, Canvas, FADED, GROUND, LINE};

/// Columns of the labels at the left, with the axis.
pub const LABELS: u16 = 8;

/// What stands at one place of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub x: f64,
    pub low: f64,
    pub high: f64,
    pub last: f64,
    /// Nothing connects it with the span before.
    pub gap: bool,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Line,
    /// The values as they are, behind their smoothed line: shaded from the lowest to the highest where several share
    /// a column.
    Faded,
    /// A spread: shaded between low and high.
    Band,
    /// A line with everything under it shaded.
    Filled,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    pub spans: Vec<Span>,
    pub style: Style,
    pub kind: Kind,
}

impl Line {
    /// The buckets of a series as they are: one span each, a gap at each restart and around what is not finite.
    pub fn of(buckets: &[Bucket], style: Style) -> Self {
        let mut spans = Vec::with_capacity(buckets.len());
        let mut gap = true;
        let mut segment = None;
        for bucket in buckets {
            if bucket.min.is_nan() {
                gap = true;
                continue;
            }
            let last = if bucket.last.is_finite() { bucket.last } else { bucket.mean };
            let apart = gap || segment != Some(bucket.segment);
            spans.push(Span { x: bucket.x, low: bucket.min, high: bucket.max, last, gap: apart });
            gap = bucket.nonfinite > 0;
            segment = Some(bucket.segment);
        }
        Self { spans, style, kind: Kind::Line }
    }

    /// The exponential moving average of the buckets with `weight` on the past for each sample, freed of the bias of
    /// its start, as TensorBoard draws it.
    pub fn smoothed(buckets: &[Bucket], weight: f64, style: Style) -> Self {
        let mut spans = Vec::with_capacity(buckets.len());
        let (mut sum, mut mass, mut segment) = (0.0, 0.0, None);
        for bucket in buckets.iter().filter(|b| b.mean.is_finite()) {
            let gap = segment != Some(bucket.segment);
            if gap {
                (sum, mass) = (0.0, 0.0);
            }
            let keep = weight.powf(bucket.count as f64);
            sum = sum * keep + bucket.mean * (1.0 - keep);
            mass = mass * keep + (1.0 - keep);
            let value = sum / mass;
            spans.push(Span { x: bucket.x, low: value, high: value, last: value, gap });
            segment = Some(bucket.segment);
        }
        Self { spans, style, kind: Kind::Line }
    }

    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

/// How a line comes onto a canvas: its kind, and whether this terminal can shade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Drawn(u8),
    /// Shaded between low and high, without a line.
    Shaded,
    /// A line on a shaded ground.
    Grounded {
        shade: bool,
    },
    /// The edges of a spread, where nothing can be shaded.
    Edges,
}

impl Look {
    fn of(line: &Line, theme: &Theme) -> Self {
        let shade = theme.shade.is_some();
        let thinned = || line.spans.iter().filter(|s| s.high > s.low).count() * 3 > line.spans.len();
        match line.kind {
            Kind::Line => Self::Drawn(LINE),
            Kind::Faded if shade && thinned() => Self::Shaded,
            Kind::Faded => Self::Drawn(FADED),
            Kind::Band if shade => Self::Shaded,
            Kind::Band => Self::Edges,
            Kind::Filled => Self::Grounded { shade },
        }
    }

    /// Draws a span that stands at a column, from a dot to a dot down, after the place that the line comes `from`.
    fn draw(self, canvas: &mut Canvas, from: Option<(usize, usize)>, to: (usize, usize, usize), style: Style) {
        let (x, top, bottom) = to;
        let first = from.map_or(x, |(at, _)| (at + 1).min(x));
        match self {
            // A spread of two dots is the width of the line itself.
            Self::Shaded if bottom.saturating_sub(top) < 2 => {}
            Self::Shaded => (first..=x).for_each(|column| canvas.shade(column, top, bottom)),
            Self::Edges => {
                for column in (first..=x).filter(|column| column % 2 == 0) {
                    canvas.dot(column, top, style, BEHIND);
                    canvas.dot(column, bottom, style, BEHIND);
                }
            }
            Self::Drawn(_) | Self::Grounded { .. } => {
                let level = if let Self::Drawn(level) = self { level } else { LINE };
                let ground = canvas.height().saturating_sub(1);
                match self {
                    Self::Grounded { shade: true } => (first..=x).for_each(|c| canvas.shade(c, top, ground)),
                    Self::Grounded { shade: false } => {
                        for column in (first..=x).filter(|column| column % 4 == 0) {
                            (top..=ground).filter(|y| y % 4 == 0).for_each(|y| canvas.dot(column, y, style, BEHIND));
                        }
                    }
                    _ => {}
                }
                if let Some(from) = from {
                    canvas.line(from, (x, from.1.clamp(top, bottom)), style, level);
                }
                canvas.column(x, top, bottom, style, level);
            }
        }
    }
}

/// A level with a name: a cap, a capacity, a peak.
#[derive(Clone, Debug)]
pub struct Rule {
    pub value: f64,
    pub style: Style,
}

/// An event on the x axis.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub x: f64,
    pub style: Style,
    pub symbol: &'static str,
    /// A line over the whole height with the symbol on top of it; else the symbol stands at the foot.
    pub tall: bool,
}

/// What is drawn.
pub struct Chart {
    pub lines: Vec<Line>,
    pub x: (f64, f64),
    /// `None`: by the values.
    pub y: Option<(f64, f64)>,
    pub log: bool,
    /// Leave rare extremes out of the range; they are shown by an arrow at the edge.
    pub robust: bool,
    pub rules: Vec<Rule>,
    pub marks: Vec<Mark>,
    pub cursor: Option<f64>,
    /// Values are round in multiples of this: a GiB for bytes.
    pub unit: f64,
    /// Writes a value at the left; `None`: as a plain number.
    pub y_label: Option<fn(f64) -> String>,
    /// Writes a place on the x axis; `None` draws no x axis.
    pub x_label: Option<Box<dyn Fn(f64) -> String>>,
}

impl Default for Chart {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            x: (0.0, 1.0),
            y: None,
            log: false,
            robust: true,
            rules: Vec::new(),
            marks: Vec::new(),
            cursor: None,
            unit: 1.0,
            y_label: None,
            x_label: None,
        }
    }
}

/// A value on an axis, with the digits that its distance to the next one asks for.
pub fn tick(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    let size = value.abs();
    if value == 0.0 || step <= 0.0 || !(1e-3..1e4).contains(&size) || step < 1e-4 {
        return format::short(value);
    }
    // 0.25 wants a digit more than 0.2 does.
    let digits = -(step.log10().floor()) as i32;
    let scaled = step * 10f64.powi(digits);
    let digits = (digits + i32::from((scaled - scaled.round()).abs() > 1e-6)).clamp(0, 4) as usize;
    if size >= 1000.0 && digits == 0 { format::short(value) } else { format!("{value:.digits$}") }
}

/// The part of an area that holds the dots.
pub fn plot_area(area: Rect, with_x: bool) -> Rect {
    let labels = LABELS.min(area.width / 3);
    Rect {
        x: area.x + labels,
        width: area.width - labels,
        height: area.height.saturating_sub(u16::from(with_x && area.height >= 4)),
        ..area
    }
}

/// Columns of dots that a chart in this area has: how many buckets are worth asking for.
pub fn dots_across(area: Rect, theme: &Theme) -> usize {
    usize::from(plot_area(area, false).width) * Canvas::fineness(theme.glyphs).0
}

impl Chart {
    /// ```text
    ///   0.82 ┤⠤⠤⣀
    ///        │    ⠉⠑⠢⢄
    ///   0.40 ┤        ⠉⠒⠤⣀⣀
    ///         0              1,200
    /// ```
    pub fn render(&self, area: Rect, buffer: &mut Buffer, theme: &Theme) {
        let area = area.intersection(buffer.area);
        let with_x = self.x_label.is_some() && area.height >= 4;
        let plot = plot_area(area, with_x);
        if plot.width == 0 || plot.height == 0 {
            return;
        }
        let (low, high) = self.range();
        self.draw_axis(area, plot, (low, high), buffer, theme);
        if with_x {
            self.draw_x(area, plot, buffer, theme);
        }
        let mut canvas = Canvas::new(plot.width, plot.height, theme.glyphs);
        let (width, height) = (canvas.width(), canvas.height());
        let place_x = |x: f64| {
            let span = self.x.1 - self.x.0;
            let share = if span > 0.0 { (x - self.x.0) / span } else { 1.0 };
            (share * (width - 1) as f64).round().clamp(0.0, (width - 1) as f64) as usize
        };
        let place_y = |y: f64| {
            let share = (self.scale(y) - low) / (high - low);
            ((1.0 - share) * (height - 1) as f64).round().clamp(0.0, (height - 1) as f64) as usize
        };
        for rule in &self.rules {
            let y = place_y(rule.value);
            for x in (0..width).step_by(3) {
                canvas.dot(x, y, rule.style, BEHIND);
            }
        }
        let marks = || self.marks.iter().filter(|m| m.x >= self.x.0 && m.x <= self.x.1);
        for mark in marks().filter(|m| m.tall) {
            let x = place_x(mark.x);
            for y in (0..height).step_by(2) {
                canvas.dot(x, y, mark.style, GROUND);
            }
        }
        let mut over: Vec<(usize, bool, Style)> = Vec::new();
        let spread = self.y.is_some() || self.spread().is_some_and(|s| s.0 >= low && s.1 <= high);
        for line in self.lines.iter().filter(|l| l.kind != Kind::Band || spread) {
            let look = Look::of(line, theme);
            let mut before: Option<(usize, usize)> = None;
            for span in line.spans.iter().filter(|s| s.x >= self.x.0 && s.x <= self.x.1) {
                if self.log && span.high <= 0.0 {
                    before = None;
                    continue;
                }
                let x = place_x(span.x);
                let lowest = if self.log && span.low <= 0.0 { span.high } else { span.low };
                let (top, bottom) = (place_y(span.high), place_y(lowest));
                let from = before.filter(|_| !span.gap);
                look.draw(&mut canvas, from, (x, top, bottom), line.style);
                before = Some((x, place_y(span.last).clamp(top, bottom)));
                if line.kind != Kind::Band {
                    // What a smoothed line hides behind the edge is worth more notice than its faint values are.
                    let style = if line.kind == Kind::Faded { theme.warning } else { line.style };
                    if self.scale(span.high) > high + (high - low) * 1e-9 {
                        over.push((x, true, style));
                    }
                    if self.scale(lowest) < low - (high - low) * 1e-9 {
                        over.push((x, false, style));
                    }
                }
            }
        }
        canvas.draw(plot, buffer, theme.shade);
        let across = Canvas::fineness(theme.glyphs).0;
        for (x, up, style) in over {
            let y = if up { plot.y } else { plot.y + plot.height - 1 };
            let arrow = if up { theme.glyphs.pick("▲", "^") } else { theme.glyphs.pick("▼", "v") };
            if let Some(cell) = buffer.cell_mut((plot.x + (x / across) as u16, y)) {
                cell.set_symbol(arrow).set_style(style);
            }
        }
        for line in self.lines.iter().filter(|l| l.kind != Kind::Band) {
            let mut spans = line.spans.iter().filter(|s| s.x >= self.x.0 && s.x <= self.x.1);
            // One value alone is a dot that can be seen.
            if let (Some(only), None) = (spans.next(), spans.next()) {
                let down = Canvas::fineness(theme.glyphs).1;
                let at = (plot.x + (place_x(only.x) / across) as u16, plot.y + (place_y(only.last) / down) as u16);
                if let Some(cell) = buffer.cell_mut(at).filter(|_| !self.log || only.last > 0.0) {
                    cell.set_symbol(theme.glyphs.pick("●", "*")).set_style(line.style);
                }
            }
        }
        for mark in marks().filter(|_| plot.height >= 3) {
            let y = if mark.tall { plot.y } else { plot.y + plot.height - 1 };
            if let Some(cell) = buffer.cell_mut((plot.x + (place_x(mark.x) / across) as u16, y)) {
                cell.set_symbol(mark.symbol).set_style(mark.style);
            }
        }
        if let Some(cursor) = self.cursor.filter(|c| *c >= self.x.0 && *c <= self.x.1) {
            let x = plot.x + (place_x(cursor) / across) as u16;
            for y in plot.y..plot.y + plot.height {
                if let Some(cell) = buffer.cell_mut((x, y)) {
                    if cell.symbol() == " " {
                        cell.set_symbol(theme.glyphs.pick("│", "|")).set_style(theme.muted);
                    } else {
                        cell.set_style(theme.bright);
                    }
                }
            }
        }
    }

    fn scale(&self, y: f64) -> f64 {
        if self.log { y.max(f64::MIN_POSITIVE).log10() } else { y }
    }

    /// The y range in scaled units: never empty.
    fn range(&self) -> (f64, f64) {
        if let Some((low, high)) = self.y {
            let (low, high) = (self.scale(low), self.scale(high));
            return if high > low { (low, high) } else { (low, low + 1.0) };
        }
        let spans = || {
            let lines = self.lines.iter().filter(|l| l.kind != Kind::Band);
            lines.flat_map(|l| &l.spans).filter(|s| s.x >= self.x.0 && s.x <= self.x.1)
        };
        let usable = |y: &f64| y.is_finite() && (!self.log || *y > 0.0);
        let mut lows: Vec<f64> = spans().map(|s| s.low).filter(usable).map(|y| self.scale(y)).collect();
        let mut highs: Vec<f64> = spans().map(|s| s.high).filter(usable).map(|y| self.scale(y)).collect();
        lows.sort_by(f64::total_cmp);
        highs.sort_by(f64::total_cmp);
        let (Some(mut low), Some(mut high)) = (lows.first().copied(), highs.last().copied()) else {
            return (0.0, 1.0);
        };
        if self.robust && highs.len() >= 20 {
            // One column in fifty may stick out of the range, where it would press the rest flat.
            let cut = highs.len() / 50 + 1;
            let (core_low, core_high) = (lows[cut], highs[highs.len() - 1 - cut]);
            let core = (core_high - core_low).max(f64::MIN_POSITIVE);
            if high - core_high > core {
                high = core_high + core * 0.1;
            }
            if core_low - low > core {
                low = core_low - core * 0.1;
            }
        }
        if let Some((from, to)) = self.spread().filter(|s| Self::in_measure(*s, (low, high))) {
            (low, high) = (low.min(from), high.max(to));
        }
        for rule in &self.rules {
            let at = self.scale(rule.value);
            // A cap is worth showing unless the curve is far from it.
            if at > high && at - low < 4.0 * (high - low).max(at.abs() * 0.1) {
                high = at;
            }
        }
        widen(low, high)
    }

    /// Lowest and highest place of the spreads, in scaled units.
    fn spread(&self) -> Option<(f64, f64)> {
        let bands = self.lines.iter().filter(|l| l.kind == Kind::Band).flat_map(|l| &l.spans);
        let seen = bands.filter(|s| s.x >= self.x.0 && s.x <= self.x.1 && (!self.log || s.low > 0.0));
        let ends =
            seen.map(|s| (self.scale(s.low), self.scale(s.high))).filter(|(a, b)| a.is_finite() && b.is_finite());
        ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Whether a spread leaves the lines, which lie between `lines`, enough of the height to be read.
    fn in_measure(spread: (f64, f64), lines: (f64, f64)) -> bool {
        spread.1 - spread.0 <= 4.0 * (lines.1 - lines.0)
    }

    fn draw_axis(&self, area: Rect, plot: Rect, range: (f64, f64), buffer: &mut Buffer, theme: &Theme) {
        let labels = usize::from(plot.x - area.x);
        if labels < 4 {
            return;
        }
        let axis = plot.x - 1;
        for row in 0..plot.height {
            buffer.set_string(axis, plot.y + row, theme.glyphs.pick("│", "|"), theme.faint);
        }
        let down = Canvas::fineness(theme.glyphs).1;
        let dots = usize::from(plot.height) * down;
        let (ticks, step) = self.ticks(range, plot.height);
        for value in ticks {
            let share = (self.scale(value) - range.0) / (range.1 - range.0);
            let dot = ((1.0 - share) * (dots - 1) as f64).round().clamp(0.0, (dots - 1) as f64) as usize;
            let y = plot.y + (dot / down) as u16;
            let text = match self.y_label {
                Some(label) => label(value),
                None => tick(value, step),
            };
            let text = format!("{text:>width$} ", width = labels - 2);
            if text.chars().count() < labels {
                buffer.set_string(area.x, y, text, theme.muted);
                buffer.set_string(axis, y, theme.glyphs.pick("┤", "+"), theme.faint);
            }
        }
    }

    /// Round values inside the range, about one for each three rows but at least two, and how far they are apart.
    fn ticks(&self, range: (f64, f64), rows: u16) -> (Vec<f64>, f64) {
        let most = f64::from(rows.div_ceil(3).clamp(2, 7));
        if self.log {
            let (first, last) = (range.0.ceil() as i32, range.1.floor() as i32);
            if last > first {
                let apart = (f64::from(last - first + 1) / most).ceil().max(1.0) as usize;
                return ((first..=last).step_by(apart).map(|power| 10f64.powi(power)).collect(), 0.0);
            }
            return (vec![10f64.powf(range.0), 10f64.powf(range.1)], 0.0);
        }
        let (low, high) = (range.0 / self.unit, range.1 / self.unit);
        let span = high - low;
        let unit = 10f64.powf((span / most).log10().floor());
        let slack = span * 1e-9;
        let inside = |step: f64| {
            let (first, last) = (((low - slack) / step).ceil(), ((high + slack) / step).floor());
            (first, last - first + 1.0)
        };
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0, 20.0].map(|f| f * unit);
        let fits = |step: &&f64| inside(**step).1 <= most && (rows < 4 || inside(**step).1 >= 2.0);
        match steps.iter().find(fits) {
            Some(step) if inside(*step).1 >= 2.0 && step.is_finite() => {
                let (first, count) = inside(*step);
                let value = |i: i32| (first + f64::from(i)) * step * self.unit;
                ((0..count as i32).map(value).collect(), step * self.unit)
            }
            _ => (vec![range.0, range.1], span * self.unit),
        }
    }

    fn draw_x(&self, area: Rect, plot: Rect, buffer: &mut Buffer, theme: &Theme) {
        let Some(label) = &self.x_label else { return };
        let y = area.y + area.height - 1;
        let (first, last) = (label(self.x.0), label(self.x.1));
        let width = usize::from(plot.width);
        if last.len() <= width {
            buffer.set_string(plot.x + (width - last.len()) as u16, y, &last, theme.muted);
        }
        if first == last || first.len() + last.len() + 2 > width {
            return;
        }
        buffer.set_string(plot.x, y, &first, theme.muted);
        let middle = label(f64::midpoint(self.x.0, self.x.1));
        let between = middle != first && middle != last;
        if between && first.len() + last.len() + middle.len() + 12 <= width {
            buffer.set_string(plot.x + ((width - middle.len()) / 2) as u16, y, &middle, theme.muted);
        }
    }
}

/// Goes out to round numbers, and gives a flat line a range.
fn widen(low: f64, high: f64) -> (f64, f64) {
    let span = high - low;
    if span <= low.abs().max(high.abs()) * 1e-9 {
        let pad = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        return if low == 0.0 { (0.0, pad) } else { (low - pad, high + pad) };
    }
    let raw = span / 10.0;
    let unit = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|f| f * unit).find(|s| *s >= raw).unwrap_or(raw);
    ((low / step).floor() * step, (high / step).ceil() * step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::theme::{Depth, Glyphs};

    fn bucket(x: f64, value: f64) -> Bucket {
        let nonfinite = u64::from(!value.is_finite());
        let finite = if value.is_finite() { value } else { f64::NAN };
        Bucket { x, min: finite, max: finite, mean: finite, last: value, count: 1, nonfinite, segment: 0 }
    }

    fn drawn(chart: &Chart, width: u16, height: u16, glyphs: Glyphs) -> Vec<String> {
        let theme = Theme::built_in(Depth::None, glyphs).remove(0);
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        chart.render(area, &mut buffer, &theme);
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_string()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_string()).collect()
    }

    #[test]
    fn a_rising_line_in_ascii() {
        let buckets: Vec<Bucket> = (0..=9).map(|i| bucket(f64::from(i), f64::from(i))).collect();
        let chart = Chart { lines: vec![Line::of(&buckets, Style::new())], x: (0.0, 9.0), ..Chart::default() };
        let rows = drawn(&chart, 18, 4, Glyphs::Ascii);
        assert_eq!(rows, ["     |          **", "   5 +      ****", "     |  ****", "   0 +**"]);
    }

    #[test]
    fn one_spike_does_not_press_the_rest_flat_and_is_shown() {
        let value = |i: i32| if i == 50 { 1e6 } else { f64::from(i % 10) };
        let buckets: Vec<Bucket> = (0..100).map(|i| bucket(f64::from(i), value(i))).collect();
        let chart = Chart { lines: vec![Line::of(&buckets, Style::new())], x: (0.0, 99.0), ..Chart::default() };
        assert!(chart.range().1 < 20.0, "{:?}", chart.range());
        assert!(drawn(&chart, 60, 6, Glyphs::Braille)[0].contains('▲'));
        let whole = Chart { robust: false, ..chart };
        assert!(whole.range().1 >= 1e6);
    }

    #[test]
    fn values_that_are_not_finite_leave_a_gap() {
        let buckets = [bucket(0.0, 1.0), bucket(1.0, f64::NAN), bucket(2.0, 1.0)];
        let line = Line::of(&buckets, Style::new());
        assert_eq!(line.spans.iter().map(|s| s.gap).collect::<Vec<_>>(), [true, true]);
    }

    #[test]
    fn smoothing_starts_at_the_first_value() {
        let line = Line::smoothed(&[bucket(0.0, 4.0), bucket(1.0, 4.0), bucket(2.0, 8.0)], 0.5, Style::new());
        assert!((line.spans[1].last - 4.0).abs() < 1e-12);
        assert!(line.spans[2].last > 4.0 && line.spans[2].last < 8.0);
    }

    #[test]
    fn no_size_and_no_values_panic() {
        for values in [vec![], vec![f64::NAN], vec![0.0], vec![1e300, -1e300], vec![1e-300], vec![f64::INFINITY, 3.0]] {
            let buckets: Vec<Bucket> = values.iter().enumerate().map(|(i, v)| bucket(i as f64, *v)).collect();
            for (width, height) in [(0, 0), (1, 1), (3, 2), (9, 1), (40, 3), (200, 60)] {
                for glyphs in [Glyphs::Braille, Glyphs::Block, Glyphs::Ascii] {
                    for log in [false, true] {
                        let lines = [Kind::Line, Kind::Band, Kind::Filled]
                            .map(|kind| Line::of(&buckets, Style::new()).kind(kind))
                            .to_vec();
                        let rules = vec![Rule { value: 5.0, style: Style::new() }];
                        let chart = Chart {
                            lines,
                            log,
                            rules,
                            cursor: Some(0.5),
                            x_label: Some(Box::new(format::short)),
                            ..Chart::default()
                        };
                        drawn(&chart, width, height, glyphs);
                    }
                }
            }
        }
    }
}
