//! What a chart of so many columns shows of a series' cells.

use std::ops::Range;

use super::{
    pyramid::Cell,
    series::{Bucket, XAxis},
};

/// One bucket for each column and restart that has samples. Of each cell: whether it counts, or only widens the spread.
pub(super) fn thinned<'a>(
    cells: impl Iterator<Item = (&'a Cell, bool)>,
    x: XAxis,
    range: Range<f64>,
    buckets: usize,
) -> Vec<Bucket> {
    let (from, to) = (range.start, range.end);
    if buckets == 0 || from.is_nan() || to.is_nan() || from > to {
        return Vec::new();
    }
    let width = (to - from) / buckets as f64;
    let mut cells: Vec<(usize, f64, &Cell, bool)> = cells
        .filter_map(|(cell, counts)| {
            let (first, last) = x.span(cell)?;
            let at = if last > to && first <= to { to } else { last };
            let column = if width > 0.0 { ((at - from) / width).min(buckets as f64 - 1.0) } else { 0.0 };
            (at >= from && at <= to).then_some((column as usize, at, cell, counts))
        })
        .collect();
    // One track is in order already, save where its steps run backwards; sorting what is sorted is one pass.
    cells.sort_by_key(|(column, _, cell, counts)| (cell.segment, *column, !*counts));
    let mut out: Vec<(usize, f64, Cell)> = Vec::with_capacity(buckets.min(cells.len()));
    for (column, at, cell, counts) in cells {
        match out.last_mut() {
            Some((same, place, sum)) if *same == column && sum.segment == cell.segment => {
                if counts {
                    *sum = sum.join(cell);
                    *place = at;
                } else {
                    sum.min = sum.min.min(cell.min);
                    sum.max = sum.max.max(cell.max);
                }
            }
            _ => out.push((column, at, *cell)),
        }
    }
    out.into_iter()
        .map(|(_, x, cell)| Bucket {
            x,
            min: cell.min,
            max: cell.max,
            mean: cell.mean(),
            last: cell.last,
            count: cell.count.into(),
            nonfinite: cell.nonfinite.into(),
            segment: cell.segment,
        })
        .collect()
}
