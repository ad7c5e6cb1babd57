//! Every screen in every size, with few and many GPUs: nothing panics, and no number is cut in its middle.

use std::collections::BTreeSet;

use ratatui::buffer::Buffer;

use super::{app, drawn, press, scenes};

const SCREENS: &[&str] = &["", "2", "2<enter>", "3", "4", "5", "6", "7", "?", ":", "t"];
const WIDTHS: &[u16] =
    &[1, 2, 5, 10, 20, 29, 30, 33, 40, 47, 57, 60, 71, 80, 95, 110, 119, 120, 133, 160, 200, 320, 500];
const HEIGHTS: &[u16] = &[1, 2, 4, 7, 8, 9, 10, 12, 16, 20, 24, 30, 43, 50, 100, 200];

#[test]
fn any_size_with_any_number_of_gpus() {
    for gpus in [0, 1, 2, 8, 16, 64] {
        for (n, keys) in SCREENS.iter().enumerate() {
            let mut app = app(scenes::grpo_on(gpus, 90), (80, 24));
            press(&mut app, keys);
            for (i, width) in WIDTHS.iter().enumerate() {
                for (j, height) in HEIGHTS.iter().enumerate() {
                    // A part of the pairs for each number of GPUs; the extremes always.
                    let extreme = [0, WIDTHS.len() - 1].contains(&i) && [0, HEIGHTS.len() - 1].contains(&j);
                    if extreme || (i * 5 + j * 3 + n + gpus as usize).is_multiple_of(7) {
                        app.size = (*width, *height);
                        drawn(&app, app.size);
                    }
                }
            }
        }
    }
}

/// A number as it stands on the screen, and whether something cut it off may stand right after it.
struct Shown {
    text: String,
    at_an_edge: bool,
}

fn numbers(buffer: &Buffer) -> Vec<Shown> {
    let area = buffer.area;
    let mut all = Vec::new();
    for y in 0..area.height {
        let mut x = 0;
        while x < area.width {
            let symbol = |x: u16| buffer[(x, y)].symbol();
            let digit = |x: u16| symbol(x).chars().all(|c| c.is_ascii_digit()) && !symbol(x).is_empty();
            if !digit(x) {
                x += 1;
                continue;
            }
            let from = x;
            while x < area.width
                && (digit(x) || (matches!(symbol(x), "." | "," | ":") && x + 1 < area.width && digit(x + 1)))
            {
                x += 1;
            }
            if from > 0 && symbol(from - 1).chars().all(char::is_alphabetic) {
                continue;
            }
            let text: String = (from..x).map(symbol).collect();
            let at_an_edge = x >= area.width || matches!(symbol(x), "│" | "|" | "…" | "~");
            all.push(Shown { text, at_an_edge });
        }
    }
    all
}

/// A number that ends at a border or before an ellipsis must stand whole somewhere on some screen in some size.
#[test]
fn no_number_is_cut_in_its_middle() {
    for gpus in [0, 1, 2, 8, 16, 64] {
        let mut whole: BTreeSet<String> = BTreeSet::new();
        let mut doubtful: Vec<(String, &str, (u16, u16))> = Vec::new();
        let mut scene = scenes::grpo_on(gpus, 90);
        scene.words();
        let mut app = app(scene, (80, 24));
        for keys in ["", "2", "2<enter>", "3", "4"] {
            press(&mut app, keys);
            for width in (30..=210).step_by(7).chain([80, 120, 500]) {
                for height in [8, 12, 24, 50] {
                    app.size = (width, height);
                    for number in numbers(&drawn(&app, app.size)) {
                        if number.at_an_edge {
                            doubtful.push((number.text, keys, app.size));
                        } else {
                            whole.insert(number.text);
                        }
                    }
                }
            }
        }
        let cut: Vec<_> = doubtful.iter().filter(|(text, ..)| !whole.contains(text)).collect();
        assert!(cut.is_empty(), "with {gpus} GPUs (number, keys, size): {:?}", &cut[..cut.len().min(12)]);
    }
}
