//! This terminal: colours, letters, whole frames, the clipboard, and what tmux or screen lets through.

use std::{
    io::IsTerminal,
    process::{Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use super::Check;
use crate::{
    model::Clean,
    ui::{
        is_dumb,
        probe::{self, Answers, SAMPLES},
        theme::{Depth, Glyphs},
    },
};

const AREA: &str = "Terminal";
/// A slow line answers late.
const PATIENCE: Duration = Duration::from_millis(1500);

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub fn checks() -> Vec<Check> {
    let mut all = vec![kind()];
    if is_dumb() {
        return all;
    }
    let answers = probe::ask(PATIENCE).ok().flatten();
    all.push(colours(answers.as_ref()));
    all.push(letters(answers.as_ref()));
    match &answers {
        Some(answers) if answers.answered => {
            all.push(frames(answers));
            // Inside tmux it is tmux that decides.
            if env("TMUX").is_none() {
                all.push(clipboard(answers));
            }
        }
        Some(_) => all.push(
            Check::note(AREA, "answers", "it answers no questions: clipboard and whole frames are not known")
                .advise("oomph works without them"),
        ),
        None => all.push(
            Check::note(
                AREA,
                "answers",
                "not asked, as input or output is no terminal: colours and letters as the environment says",
            )
            .advise("run `oomph doctor` in the terminal that you watch in"),
        ),
    }
    all.extend(multiplexer());
    all
}

fn kind() -> Check {
    let term = env("TERM").unwrap_or_default();
    if is_dumb() {
        return Check::note(
            AREA,
            "kind",
            format!("TERM is '{term}': it cannot move its cursor, oomph prints plain text"),
        )
        .advise("for the dashboard: export TERM=xterm-256color, if the terminal is one")
        .fact("term", term);
    }
    let size = std::io::stdout().is_terminal().then(ratatui::crossterm::terminal::size).and_then(Result::ok);
    let shown = size.map_or(String::new(), |(columns, rows)| format!(", {columns} x {rows}"));
    let small = size.is_some_and(|(columns, rows)| columns < 60 || rows < 15);
    let check = Check::new(
        AREA,
        "kind",
        if small { super::State::Note } else { super::State::Well },
        format!("TERM is '{term}'{shown}"),
    );
    let check = if small { check.advise("the dashboard has more to show from 80 x 24 on") } else { check };
    let (columns, rows) = size.unzip();
    check.fact("term", term).fact("columns", columns).fact("rows", rows)
}

fn colours(answers: Option<&Answers>) -> Check {
    let depth = Depth::detect(&env);
    let (says, word) = match depth {
        Depth::None if env("NO_COLOR").is_some_and(|v| !v.is_empty()) => ("no colours, as NO_COLOR is set", "none"),
        Depth::None => ("no colours", "none"),
        Depth::Sixteen => ("16 colours", "16"),
        Depth::Indexed => ("256 colours", "256"),
        Depth::True => ("16 million colours", "true"),
    };
    let kept = answers.and_then(|a| a.true_colour);
    let ground = answers.and_then(|a| a.ground);
    let check = match (depth, kept) {
        (Depth::Sixteen | Depth::Indexed, Some(true)) => {
            Check::note(AREA, "colours", format!("{says}, although this terminal can show 16 million"))
                .advise("export COLORTERM=truecolor (SSH does not pass it on by itself)")
        }
        (Depth::True, Some(false)) => {
            Check::note(AREA, "colours", format!("{says} by COLORTERM, but the terminal did not keep one"))
                .advise("unset COLORTERM if colours look wrong")
        }
        _ => Check::well(AREA, "colours", says),
    };
    check
        .fact("depth", word)
        .fact("true_colour", kept)
        .fact("ground", ground.map(|(r, g, b)| format!("#{r:02x}{g:02x}{b:02x}")))
}

fn letters(answers: Option<&Answers>) -> Check {
    let glyphs = Glyphs::detect(&env);
    let widths = answers.map(|a| a.widths.as_slice()).filter(|w| w.len() == SAMPLES.len());
    let wrong: Vec<String> = widths
        .into_iter()
        .flatten()
        .zip(SAMPLES)
        .filter(|(width, _)| **width != 1)
        .map(|(width, sample)| format!("'{sample}' takes {width} columns"))
        .collect();
    let (set, word) = match glyphs {
        Glyphs::Braille => ("Unicode, charts in braille", "braille"),
        Glyphs::Block => ("Unicode, charts in blocks", "block"),
        Glyphs::Ascii => ("ASCII alone, as the locale is not UTF-8", "ascii"),
    };
    let check = match (glyphs, widths) {
        (Glyphs::Ascii, Some(_)) if wrong.is_empty() => {
            Check::note(AREA, "letters", format!("{set}, although the terminal shows Unicode"))
                .advise("export LANG=C.UTF-8 on this machine for lines, blocks and braille")
        }
        (Glyphs::Ascii, _) => {
            Check::note(AREA, "letters", set).advise("export LANG=C.UTF-8, if the terminal shows UTF-8")
        }
        (_, Some(_)) if !wrong.is_empty() => {
            // In an ASCII report of a terminal that shows no UTF-8 the samples would be noise.
            Check::off(AREA, "letters", format!("{set}; but {}", wrong.join(", ")))
                .advise("set the terminal to UTF-8 and ambiguous characters to narrow; or `[screen] glyphs = \"ascii\"` in the configuration")
        }
        _ => Check::well(AREA, "letters", set),
    };
    check.fact("glyphs", word).fact("columns", widths.map(<[u16]>::to_vec))
}

fn frames(answers: &Answers) -> Check {
    let check = match answers.synchronised {
        Some(true) => Check::well(AREA, "synchronised_output", "whole frames at once (synchronised output)"),
        _ => Check::note(
            AREA,
            "synchronised_output",
            "no synchronised output: a frame may be seen half drawn on a slow line",
        ),
    };
    let name = answers.name.as_ref().map(|n| n.as_str().to_string());
    check.fact("supported", answers.synchronised).fact("terminal", name)
}

fn clipboard(answers: &Answers) -> Check {
    let known = answers.clipboard == Some(true);
    let check = if known {
        Check::well(AREA, "clipboard", "texts can be copied to your own clipboard (OSC 52), also over SSH")
    } else {
        Check::note(AREA, "clipboard", "the terminal does not say whether programs may set the clipboard (OSC 52)")
            .advise("try it: `c` on the diagnosis screen, then paste; some terminals have it in their settings. `s` saves to a file instead")
    };
    check.fact("supported", answers.clipboard)
}

/// tmux and screen stand between oomph and the terminal.
fn multiplexer() -> Vec<Check> {
    if env("TMUX").is_some() {
        return tmux();
    }
    if env("STY").is_some() {
        return vec![
            Check::note(AREA, "screen", "inside GNU screen: no clipboard, no notifications, no whole frames")
                .advise("tmux passes them on"),
        ];
    }
    Vec::new()
}

fn tmux() -> Vec<Check> {
    let Some(clipboard) = ask_tmux("set-clipboard") else {
        return vec![Check::note(AREA, "tmux", "inside tmux, which does not answer: what it passes on is not known")];
    };
    let through = ask_tmux("allow-passthrough").unwrap_or_else(|| "off".into());
    let passes = through != "off";
    let mut all = vec![
        match clipboard.as_str() {
            "on" => {
                Check::well(AREA, "tmux_clipboard", "tmux takes copied texts and passes them on (set-clipboard on)")
            }
            _ if passes => Check::well(
                AREA,
                "tmux_clipboard",
                format!("tmux lets copied texts through (allow-passthrough {through})"),
            ),
            _ => Check::note(
                AREA,
                "tmux_clipboard",
                format!(
                    "tmux keeps copied texts from the clipboard (set-clipboard {clipboard}, allow-passthrough off)"
                ),
            )
            .advise("tmux set -g set-clipboard on   (and the same line in ~/.tmux.conf)"),
        }
        .fact("set_clipboard", clipboard.as_str()),
    ];
    all.push(
        if passes {
            Check::well(AREA, "tmux_passthrough", format!("tmux lets notifications through (allow-passthrough {through})"))
        } else {
            Check::note(AREA, "tmux_passthrough", "tmux lets no notifications through (allow-passthrough off)")
                .advise("tmux set -g allow-passthrough on, if alerts are to be shown by the terminal; the bell works without it")
        }
        .fact("allow_passthrough", through),
    );
    all
}

/// A global option of the tmux that oomph is in. `None`: it has no such option, or does not answer within a second.
fn ask_tmux(option: &'static str) -> Option<String> {
    let (send, answer) = channel();
    thread::spawn(move || {
        let output = Command::new("tmux").args(["show-options", "-gqv", option]).stdin(Stdio::null()).output();
        let _ = send.send(output);
    });
    let output = answer.recv_timeout(Duration::from_secs(1)).ok()?.ok()?;
    let text = Clean::from_bytes(output.stdout.trim_ascii()).as_str().to_string();
    (output.status.success() && !text.is_empty()).then_some(text)
}
