//! Areas cut in parts.

use ratatui::layout::Rect;

/// The first rows, and the rest.
pub fn split_top(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    (Rect { height: rows, ..area }, Rect { y: area.y + rows, height: area.height - rows, ..area })
}

/// The first columns, and the rest.
pub fn split_left(area: Rect, columns: u16) -> (Rect, Rect) {
    let columns = columns.min(area.width);
    (Rect { width: columns, ..area }, Rect { x: area.x + columns, width: area.width - columns, ..area })
}

/// The cell of a grid: (which, of how many) across and down. The cells fill the area exactly.
pub fn part(area: Rect, across: (u16, u16), down: (u16, u16)) -> Rect {
    let edge = |n: u16, of: u16, size: u16| (u32::from(n) * u32::from(size) / u32::from(of.max(1))) as u16;
    let (left, right) = (edge(across.0, across.1, area.width), edge(across.0 + 1, across.1, area.width));
    let (top, bottom) = (edge(down.0, down.1, area.height), edge(down.0 + 1, down.1, area.height));
    Rect { x: area.x + left, y: area.y + top, width: right - left, height: bottom - top }
}
