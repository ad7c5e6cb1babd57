//! The pictures of the README, drawn from the cells of the screen itself. `OOMPH_PICTURES=draw cargo test pictures` draws
//! them anew; without that, one that no longer shows the screen as it is fails the test.

use std::{fs, path::Path};

use super::{app, drawn, press, scenes, svg};

/// Name of the file, what it shows, the scene, keys, size, the terminal.
type Picture = (&'static str, &'static str, fn() -> scenes::Scene, &'static str, (u16, u16), &'static svg::Terminal);

const WIDE: (u16, u16) = (140, 40);

const PICTURES: &[Picture] = &[
    ("overview", "A GRPO run on eight GPUs at a glance", scenes::grpo, "", WIDE, &svg::DARK),
    ("charts", "Every logged key as a chart", scenes::grpo, "2", WIDE, &svg::DARK),
    ("memory", "Who holds a card's memory, now, at its peak and as estimated", scenes::growing, "3", WIDE, &svg::DARK),
    ("gpus", "Eight GPUs with their troubles, figures and processes", scenes::troubled, "4jjj", WIDE, &svg::DARK),
    ("log", "The log, searched", scenes::grpo, "5/1\\.2..'<enter>", WIDE, &svg::DARK),
    ("diagnosis", "Why a run died, and what will make it fit", scenes::died, "d", WIDE, &svg::DARK),
    ("paste", "The text of a dead run, pasted", scenes::empty, "<paste oom>", (120, 36), &svg::DARK),
    ("light", "The same on a light ground", scenes::grpo, "t<down><enter>", WIDE, &svg::LIGHT),
];

#[test]
fn pictures_show_the_screen_as_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
    let anew = std::env::var("OOMPH_PICTURES").is_ok_and(|v| v == "draw");
    let mut stale = Vec::new();
    for (name, about, scene, keys, size, terminal) in PICTURES {
        let mut app = app(scene(), *size);
        press(&mut app, keys);
        let picture = svg::draw(&drawn(&app, *size), &format!("oomph: {about}"), terminal);
        let path = folder.join(format!("{name}.svg"));
        if anew {
            fs::write(&path, &picture).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != picture {
            stale.push(*name);
        }
    }
    assert!(stale.is_empty(), "no longer what the screen shows: {stale:?}; OOMPH_PICTURES=draw cargo test pictures");
    // Each is shown, and there is no other.
    let readme = fs::read_to_string(folder.join("../../README.md")).unwrap();
    let mut files: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    let mut known: Vec<String> = PICTURES.iter().map(|(name, ..)| format!("{name}.svg")).collect();
    known.sort();
    assert_eq!(files, known);
    for file in known {
        assert!(readme.contains(&format!("docs/pictures/{file}")), "the README does not show {file}");
    }
}
