//! The table of pictures: a scene, keys, sizes.

use oomph::ui;

use super::{app, drawn, hash_of_styles, press, scenes};

const WIDE: (u16, u16) = (200, 50);
const USUAL: (u16, u16) = (80, 24);
const TINY: (u16, u16) = (40, 12);
const ALL: &[(u16, u16)] = &[WIDE, USUAL, TINY];
const BOTH: &[(u16, u16)] = &[WIDE, USUAL];
const ONE: &[(u16, u16)] = &[USUAL];
const WIDE_ALONE: &[(u16, u16)] = &[WIDE];

/// Name, keys, sizes.
type Case<'a> = (&'a str, &'a str, &'static [(u16, u16)]);

/// Compares each case with its snapshot; every case is looked at before the test fails.
fn check(scene_name: &str, scene: fn() -> scenes::Scene, cases: &[Case<'_>]) {
    let mut wrong = Vec::new();
    for (name, keys, sizes) in cases {
        for size in *sizes {
            let mut app = app(scene(), *size);
            press(&mut app, keys);
            let text = ui::frame_text(&app, size.0, size.1);
            let styles = hash_of_styles(&drawn(&app, *size));
            let snapshot = format!("{scene_name}-{name}-{}x{}", size.0, size.1);
            let picture = format!("keys: {keys}\nstyles: {styles:016x}\n{text}");
            let same = std::panic::catch_unwind(|| {
                insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "snapshots"}, {
                    insta::assert_snapshot!(snapshot.clone(), picture);
                });
            });
            if same.is_err() {
                wrong.push(snapshot);
            }
        }
    }
    assert!(wrong.is_empty(), "these pictures changed: {wrong:#?}");
}

#[test]
fn nothing_given() {
    check(
        "empty",
        scenes::empty,
        &[
            ("overview", "", ALL),
            ("charts", "2", BOTH),
            ("memory", "3", BOTH),
            ("gpus", "4", BOTH),
            ("log", "5", BOTH),
            ("diagnosis", "6", ALL),
            ("paste", "7", ALL),
            ("help", "?", ALL),
        ],
    );
}

#[test]
fn no_driver() {
    check(
        "no-driver",
        scenes::no_driver,
        &[("overview", "", ALL), ("memory", "3", ONE), ("gpus", "4", ALL), ("log", "5", ONE)],
    );
}

#[test]
fn loading() {
    check("loading", scenes::loading, &[("overview", "", ALL), ("charts", "2", ONE), ("log", "5", ONE)]);
}

#[test]
fn a_healthy_run() {
    check(
        "grpo",
        scenes::grpo,
        &[
            ("overview", "", ALL),
            ("overview-blocks", "b", BOTH),
            ("overview-ascii", "bb", ALL),
            ("evidence", "e", ALL),
            ("alerts", "a", BOTH),
            ("charts", "2", ALL),
            ("charts-single", "2<enter>", ALL),
            ("charts-log", "2<enter>y", ONE),
            ("charts-raw", "2<enter>sss", ONE),
            ("charts-epoch", "2<enter>xx", ONE),
            ("charts-time", "2<enter>x", ONE),
            ("charts-zoom", "2<enter>+++", ONE),
            ("charts-pan", "2<enter>+++[[", ONE),
            ("charts-cursor", "2<enter><left><left><left>", BOTH),
            ("charts-filter", "2/rew", BOTH),
            ("charts-filtered", "2/rew<enter>", ONE),
            ("charts-no-match", "2/zzz<enter>", ONE),
            ("charts-pinned", "2<space>jj<space>", BOTH),
            ("charts-ascii", "bb2<enter>", ONE),
            ("memory", "3", ALL),
            ("gpus", "4", ALL),
            ("gpus-fifth", "4jjjj", BOTH),
            ("log", "5", ALL),
            ("log-held", "5kkkk", ONE),
            ("log-top", "5<home>", ONE),
            ("log-wrap", "5w", BOTH),
            ("log-right", "5lll", ONE),
            ("log-search", "5/epoch", ONE),
            ("log-found", "5/1\\.2..'<enter>", BOTH),
            ("log-filter", "5&WARN<enter>", BOTH),
            ("log-nothing", "5&zzzz<enter>", ONE),
            ("diagnosis", "6", ONE),
            ("help", "?", ALL),
            ("help-charts", "2?", BOTH),
            ("help-log", "5?", ONE),
            ("help-end", "?G", ONE),
            ("palette", ":", ALL),
            ("palette-typed", ":mem", BOTH),
            ("palette-none", ":qqqq", ONE),
            ("themes", "t", ALL),
            ("themes-preview", "t<down><down>", ONE),
        ],
    );
}

/// What says most, in every theme and without colour; the dark one is everywhere else.
#[test]
fn every_theme() {
    const CASES: &[(&str, &str)] = &[
        ("light", "<down>"),
        ("high-contrast", "<down><down>"),
        ("colour-blind", "<down><down><down>"),
        ("sixteen", "<down><down><down><down>"),
        ("mono", "<end>"),
    ];
    for (scene_name, scene, screens) in [
        ("grpo", scenes::grpo as fn() -> scenes::Scene, &[("overview", ""), ("charts", "2")][..]),
        ("cap", scenes::died_by_a_cap, &[("overview", ""), ("diagnosis", "d<space>")][..]),
        ("growing", scenes::growing, &[("memory", "3")][..]),
        ("lost-gpu", scenes::lost_gpu, &[("gpus", "4jjjjj")][..]),
    ] {
        for (screen, keys) in screens {
            for (theme, down) in CASES {
                let (name, keys) = (format!("{screen}-in-{theme}"), format!("{keys}t{down}<enter>"));
                check(scene_name, scene, &[(&name, &keys, ONE)]);
            }
        }
    }
}

#[test]
fn supervised_with_evaluations() {
    check(
        "sft",
        scenes::sft,
        &[
            ("overview", "", ALL),
            ("charts", "2", BOTH),
            ("charts-loss", "2<enter>", BOTH),
            ("memory", "3", ALL),
            ("gpus", "4", ALL),
            ("log", "5", ONE),
        ],
    );
}

#[test]
fn finished() {
    check("finished", scenes::finished, &[("overview", "", ALL), ("log", "5", ONE)]);
}

#[test]
fn died_of_memory() {
    check(
        "died",
        scenes::died,
        &[
            ("overview", "", ALL),
            ("charts", "2", ONE),
            ("memory", "3", BOTH),
            ("gpus", "4", ONE),
            ("diagnosis", "d", ALL),
            ("diagnosis-fix", "dj", BOTH),
            ("diagnosis-tried", "d<space>jj<space>", BOTH),
            ("diagnosis-evidence", "dk<enter>", ONE),
            ("diagnosis-end", "dG", BOTH),
            ("diagnosis-page", "d<pgdn>", ONE),
            ("evidence", "e", ONE),
            ("help", "d?", ONE),
        ],
    );
    check(
        "cap",
        scenes::died_by_a_cap,
        &[
            ("overview", "", ALL),
            ("diagnosis", "d", ALL),
            ("diagnosis-ascii", "bbd", BOTH),
            ("diagnosis-fix", "djj", ONE),
            ("diagnosis-one", "d<space>", ALL),
            ("diagnosis-together", "d<space>j<space>jj<space>", ALL),
            ("diagnosis-together-ascii", "bbd<space>j<space>", BOTH),
            ("diagnosis-exclusive", "d<space>j<space>j<space>j<space>j<space>j<space>", WIDE_ALONE),
        ],
    );
    check("killed", scenes::killed, &[("overview", "", ALL), ("diagnosis", "d", BOTH)]);
}

#[test]
fn something_is_wrong() {
    check("crashed", scenes::crashed, &[("overview", "", ALL), ("evidence", "e", ONE)]);
    check("silent", scenes::silent, &[("overview", "", ALL), ("evidence", "e", ONE)]);
    check(
        "lost-gpu",
        scenes::lost_gpu,
        &[
            ("overview", "", ALL),
            ("gpus", "4", ALL),
            ("gpus-lost", "4jjj", BOTH),
            ("gpus-hot", "4jjjjj", BOTH),
            ("gpus-ecc", "4jjjjjj", ONE),
            ("alerts", "a", ALL),
            ("alert-shown", "aj<enter>", ONE),
            ("evidence", "e", BOTH),
            ("memory", "3", BOTH),
        ],
    );
    check(
        "nan",
        scenes::not_a_number,
        &[("overview", "", ALL), ("charts", "2", ONE), ("alerts", "a", ALL), ("alert-shown", "a<enter>", ONE)],
    );
    check(
        "growing",
        scenes::growing,
        &[("overview", "", ALL), ("memory", "3", ALL), ("evidence", "e", ONE), ("alerts", "a", BOTH)],
    );
    check("shared", scenes::shared_card, &[("overview", "", ALL), ("gpus", "4", ALL), ("memory", "3", ALL)]);
    check(
        "hostile",
        scenes::hostile,
        &[
            ("overview", "", ALL),
            ("charts", "2", BOTH),
            ("gpus", "4", ONE),
            ("log", "5", BOTH),
            ("log-wrap", "5w", ONE),
        ],
    );
}

#[test]
fn events_and_errors() {
    check(
        "eventful",
        scenes::eventful,
        &[
            ("overview", "", BOTH),
            ("charts", "2", BOTH),
            ("charts-single", "2<enter>", ALL),
            ("charts-ascii", "bb2<enter>", ONE),
            ("first-event", "2n", BOTH),
            ("last-event", "2<enter>NN", ALL),
            ("event-zoomed", "2<enter>++++NNNNN", ONE),
            ("event-in-the-log", "2nn<enter>", BOTH),
            ("event-and-back", "2nn<enter><esc>", ONE),
            ("point-in-the-log", "2<left><left><left><enter>", ONE),
        ],
    );
    check(
        "ended-in-an-error",
        scenes::ended_in_an_error,
        &[
            ("overview", "", ALL),
            ("charts", "2<enter>", ONE),
            ("evidence", "e", BOTH),
            ("evidence-shown", "e<enter>", ONE),
            ("alerts", "a", ONE),
            ("diagnosis", "6", ALL),
            ("diagnosis-shown", "6<enter>", ONE),
        ],
    );
}

#[test]
fn cards_with_troubles() {
    check(
        "troubled",
        scenes::troubled,
        &[
            ("gpus", "4", ALL),
            ("gpus-ascii", "bb4jj", ONE),
            ("mig", "4j", ALL),
            ("heat", "4jj", BOTH),
            ("ecc", "4jjj", ALL),
            ("unexplained", "4jjjj", ALL),
            ("refused", "4jjjjj", BOTH),
            ("links", "4jjjjjj", BOTH),
            ("processes", "4G", ALL),
            ("processes-further", "4G<pgdn><pgdn>", BOTH),
            ("memory", "3", ALL),
            ("memory-ascii", "bb3jjjj", BOTH),
            ("memory-unexplained", "3jjjj", BOTH),
        ],
    );
}

#[test]
fn headroom() {
    check("roomy", scenes::roomy, &[("memory", "3", BOTH), ("memory-picture", "3<enter>", ONE)]);
    let frame = oomph::cli::frame::to_json(&scenes::roomy().session);
    let text = frame["headroom"]["text"].as_str().unwrap();
    assert!(text.starts_with("completions up to about ") && text.ends_with(" tokens still fit"), "{text}");
    assert!(frame["headroom"]["largest"]["max_completion_length"].as_u64() > Some(768), "{frame}");
    assert!((0.9..1.1).contains(&frame["headroom"]["correction"].as_f64().unwrap()), "{frame}");
    // What is sharded among eight cards is not what was estimated, and a model nobody names has no estimate.
    for unknown in [scenes::grpo, scenes::sft] {
        assert!(oomph::cli::frame::to_json(&unknown().session)["headroom"].is_null());
    }
}

#[test]
fn several_attempts() {
    check("resumed", scenes::resumed, &[("overview", "", ALL), ("charts", "2<enter>", BOTH)]);
}

#[test]
fn several_runs() {
    check(
        "runs",
        scenes::two_runs,
        &[
            ("overview", "", BOTH),
            ("charts", "2", BOTH),
            ("charts-single", "2<enter>", ALL),
            ("charts-cursor", "2<enter><left><left>", ONE),
            ("charts-moved", "2<space>j<space>K", ONE),
        ],
    );
}

#[test]
fn many_cards() {
    check(
        "many",
        scenes::many,
        &[("overview", "", ALL), ("gpus", "4", ALL), ("gpus-end", "4G", ONE), ("memory", "3", ALL)],
    );
}

#[test]
fn pasted_text() {
    check(
        "pasted",
        scenes::empty,
        &[
            ("oom", "<paste oom>", ALL),
            ("oom-text", "<paste oom>7", ALL),
            ("oom-fix", "<paste oom>jj", ONE),
            ("calm", "<paste calm>", BOTH),
            ("blank", "<paste blank>", ONE),
            ("cleared", "<paste oom>7x", ONE),
        ],
    );
    check("pasted-beside", scenes::grpo, &[("oom", "<paste oom>", ONE), ("calm", "<paste calm>", ONE)]);
}
