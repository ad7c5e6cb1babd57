//! A recording that is played: its clock, where it stands, and the bar that shows both.
//!
//! The events go through the same session as live ones, in the order in which they came. Playing back means beginning
//! anew, so that what is shown at a moment is what was shown then. Never reads the clock: it comes with ticks.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

use crate::{
    model::{Event, EventKind, Timestamp, knobs::Knobs},
    session::{RunState, Session},
};

use super::{App, Theme, Tone, format::fit};

/// Bytes taken in at one tick; a long way through a large recording takes several.
const BITE: usize = 4 << 20;
/// What an event counts for beside its bytes.
const EVENT: usize = 512;
/// Slowest and fastest, as times of the recording's own speed.
const SPEEDS: (f64, f64) = (0.125, 4096.0);
/// An event this close before the present place is the one we stand on.
const HERE: SignedDuration = SignedDuration::from_secs(1);

/// What a key asks of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    Pause,
    Back,
    Forward,
    Next,
    Previous,
    Faster,
    Slower,
    Start,
    End,
}

/// Something worth jumping to.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub at: Timestamp,
    pub what: &'static str,
    pub tone: Tone,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    At(Timestamp),
    NextMark,
}

/// A recording and how far it has been played.
#[derive(Debug)]
pub struct Replay {
    events: Vec<Event>,
    given: Knobs,
    /// The first event that has not been taken in.
    next: usize,
    start: Timestamp,
    end: Timestamp,
    clock: Timestamp,
    speed: f64,
    paused: bool,
    /// Where it is on its way to, faster than the clock.
    goal: Option<Goal>,
    /// The wall clock at the last tick.
    seen: Option<Timestamp>,
    /// By the place of their event; known as far as was ever played.
    marks: BTreeMap<usize, Mark>,
}

impl Replay {
    /// A recording at its start. `given` are the settings that the run was watched with. `None` without any event.
    pub fn new(events: Vec<Event>, given: Knobs) -> Option<Self> {
        let start = events.iter().map(|e| e.at).min()?;
        let end = events.iter().map(|e| e.at).max()?;
        Some(Self {
            events,
            given,
            next: 0,
            start,
            end,
            clock: start,
            speed: 1.0,
            paused: false,
            goal: None,
            seen: None,
            marks: BTreeMap::new(),
        })
    }

    #[must_use]
    pub fn with_speed(mut self, speed: f64) -> Self {
        self.speed = speed.clamp(SPEEDS.0, SPEEDS.1);
        self
    }

    /// Standing still.
    #[must_use]
    pub fn paused(mut self) -> Self {
        self.paused = true;
        self
    }

    /// A session as it was before the first event.
    pub fn session(&self) -> Session {
        Session::new(self.given.clone())
    }

    /// Seconds from the first event to the last.
    pub fn seconds(&self) -> f64 {
        self.end.duration_since(self.start).as_secs_f64()
    }

    /// The time of the recording so many seconds after its start, at most its end.
    pub fn after(&self, seconds: f64) -> Timestamp {
        self.start + SignedDuration::from_secs_f64(seconds.clamp(0.0, self.seconds()))
    }

    /// Plays to `at` in one go, forwards or back.
    pub fn jump(&mut self, session: &mut Session, at: Timestamp) {
        self.aim(session, Goal::At(at));
        while self.goal.is_some() {
            self.play(session, BITE);
        }
    }

    /// The wall clock goes on, and the recording's with it.
    pub fn tick(&mut self, session: &mut Session, wall: Timestamp) {
        let gone = self.seen.map_or(SignedDuration::ZERO, |seen| wall.duration_since(seen));
        self.seen = Some(wall);
        if self.goal.is_none() && !self.paused {
            // A machine that slept has not watched.
            let gone = gone.clamp(SignedDuration::ZERO, SignedDuration::from_secs(2)).as_secs_f64();
            let to = self.clock + SignedDuration::from_secs_f64(gone * self.speed);
            self.goal = Some(Goal::At(to.min(self.end)));
        }
        self.play(session, BITE);
    }

    /// Does what a key asks for.
    pub fn control(&mut self, session: &mut Session, control: Control) {
        match control {
            Control::Pause if self.clock >= self.end => {
                self.paused = false;
                self.aim(session, Goal::At(self.start));
            }
            Control::Pause => self.paused = !self.paused,
            Control::Faster => self.speed = (self.speed * 2.0).min(SPEEDS.1),
            Control::Slower => self.speed = (self.speed / 2.0).max(SPEEDS.0),
            Control::Back => self.aim(session, Goal::At(self.clock - self.stride())),
            Control::Forward => self.aim(session, Goal::At(self.clock + self.stride())),
            Control::Start => self.aim(session, Goal::At(self.start)),
            Control::End => self.aim(session, Goal::At(self.end)),
            Control::Previous => {
                let before = self.marks.values().rev().find(|mark| mark.at + HERE < self.clock).map(|mark| mark.at);
                self.aim(session, Goal::At(before.unwrap_or(self.start)));
            }
            Control::Next => self.aim(session, Goal::NextMark),
        }
        self.play(session, BITE);
    }

    /// A sixtieth of the recording, at least a second.
    fn stride(&self) -> SignedDuration {
        SignedDuration::from_secs_f64((self.seconds() / 60.0).max(1.0).round())
    }

    fn aim(&mut self, session: &mut Session, goal: Goal) {
        let goal = match goal {
            Goal::At(at) => Goal::At(at.clamp(self.start, self.end)),
            Goal::NextMark => goal,
        };
        if let Goal::At(at) = goal
            && at < self.clock
        {
            *session = self.session();
            self.next = 0;
            self.clock = self.start;
        }
        self.goal = Some(goal);
    }

    /// Takes events in on the way to the goal, `budget` bytes at most.
    fn play(&mut self, session: &mut Session, mut budget: usize) {
        let Some(goal) = self.goal else { return };
        while let Some(event) = self.events.get(self.next) {
            if matches!(goal, Goal::At(to) if event.at > to) {
                break;
            }
            let Some(left) = budget.checked_sub(weight(event)).filter(|_| budget > 0) else {
                session.tick(self.clock);
                return;
            };
            budget = left;
            self.clock = self.clock.max(event.at);
            let mark = take(session, event.clone());
            let place = self.next;
            self.next += 1;
            if let Some((what, tone)) = mark {
                self.marks.insert(place, Mark { at: self.clock, what, tone });
                if goal == Goal::NextMark {
                    self.arrive(session, self.clock);
                    return;
                }
            }
        }
        let to = match goal {
            Goal::At(to) => to,
            Goal::NextMark => self.end,
        };
        self.arrive(session, to);
    }

    fn arrive(&mut self, session: &mut Session, at: Timestamp) {
        self.clock = self.clock.max(at);
        self.goal = None;
        session.tick(self.clock);
    }

    /// What the recording does at present, in a word.
    pub fn doing(&self) -> &'static str {
        let far = |goal| match goal {
            Goal::At(at) => at.duration_since(self.clock) > HERE,
            Goal::NextMark => true,
        };
        if self.goal.is_some_and(far) {
            "seeking"
        } else if self.clock >= self.end {
            "end"
        } else if self.paused {
            "paused"
        } else {
            "playing"
        }
    }
}

fn weight(event: &Event) -> usize {
    // The largest chunk of a source must fit into an empty bite.
    let bytes = if let EventKind::Output { data, .. } = &event.kind { data.len() } else { 0 };
    (bytes + EVENT).min(BITE)
}

/// Takes an event in. What it is worth jumping to, where it is.
fn take(session: &mut Session, event: Event) -> Option<(&'static str, Tone)> {
    let failures = |session: &Session| session.diagnosis().map_or(0, |d| d.failures.len());
    let (failed, state, points) = (failures(session), session.state(), session.metrics.points());
    let evaluated = |session: &Session| session.metrics.eval().iter().map(|(_, series)| series.len()).max();
    let before = evaluated(session);
    let newest = session.sources.values().filter_map(|s| s.last_output).max();
    let was_silent = points > 0
        && matches!(event.kind, EventKind::Output { .. })
        && newest.is_some_and(|newest| event.at.duration_since(newest).as_secs_f64() > session.silence_limit());
    let kind = match &event.kind {
        EventKind::Started { .. } => Some(("start", Tone::Good)),
        EventKind::Exited { code: Some(0), .. } => Some(("end", Tone::Good)),
        EventKind::Exited { .. } => Some(("death", Tone::Critical)),
        EventKind::Kernel { .. } => Some(("kernel", Tone::Critical)),
        EventKind::Truncated { .. } => Some(("truncated", Tone::Warning)),
        EventKind::Rotated { .. } => Some(("rotated", Tone::Warning)),
        EventKind::Skipped { .. } => Some(("bytes lost", Tone::Warning)),
        EventKind::Trouble { what: Some(_), .. } => Some(("trouble", Tone::Warning)),
        EventKind::Unrecorded { .. } => Some(("not recorded", Tone::Warning)),
        _ => None,
    };
    session.apply(event);
    if failures(session) > failed {
        return Some(("failure", Tone::Critical));
    }
    if kind.is_some() {
        return kind;
    }
    match session.state() {
        RunState::Finished if state != RunState::Finished => Some(("finished", Tone::Good)),
        _ if was_silent => Some(("output again", Tone::Warning)),
        _ if points == 0 && session.metrics.points() > 0 => Some(("first point", Tone::Good)),
        _ if session.metrics.points() != points && evaluated(session) > before => Some(("evaluation", Tone::Good)),
        _ => None,
    }
}

/// Does what a key asks of the recording that is shown, if one is.
pub fn control(app: &mut App, control: Control) {
    if let Some(replay) = &mut app.replay {
        replay.control(&mut app.session, control);
        app.toast = None;
    }
}

/// `1:02:03`, `02:03`.
fn time(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    if s >= 3600 {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{:02}:{:02}", s / 60, s % 60)
    }
}

/// ```text
///  playing 4x  01:23 of 02:34  ━━━━━┃━━━━━━╸──────!───  evaluation
/// ```
pub fn render(frame: &mut Frame, row: Rect, app: &App, theme: &Theme) {
    let Some(replay) = &app.replay else { return };
    let width = usize::from(row.width);
    let gone = replay.clock.duration_since(replay.start).as_secs_f64();
    let speed = replay.speed.to_string();
    let left = format!(" {:<7} {speed}x  {} of {}  ", replay.doing(), time(gone), time(replay.seconds()));
    let mark = replay.marks.values().rev().find(|mark| mark.at <= replay.clock);
    let date = replay.clock.to_zoned_datetime(app.zone.clone()).strftime("%a %d %b %Y").to_string();
    let right = match mark.filter(|mark| mark.at + HERE * 3 > replay.clock) {
        Some(mark) => (mark.what.to_string(), theme.tone(mark.tone)),
        None => (date, theme.muted),
    };
    let right =
        if width >= left.width() + 32 { (format!("  {:<15}", right.0), right.1) } else { (String::new(), right.1) };
    let room = width.saturating_sub(left.width() + right.0.width() + 1);
    let mut spans = vec![Span::styled(fit(&left, width, ""), theme.bright)];
    if room >= 8 {
        let place = |at: Timestamp| {
            let share = at.duration_since(replay.start).as_secs_f64() / replay.seconds().max(1e-6);
            ((share * (room - 1) as f64).round() as usize).min(room - 1)
        };
        let here = place(replay.clock);
        let mut cells: Vec<(&str, _)> = (0..room)
            .map(|x| {
                if x < here {
                    (theme.glyphs.pick("━", "="), theme.accent)
                } else {
                    (theme.glyphs.pick("─", "-"), theme.faint)
                }
            })
            .collect();
        for mark in replay.marks.values() {
            cells[place(mark.at)] = (theme.glyphs.pick("┃", "!"), theme.tone(mark.tone));
        }
        cells[here] = (theme.glyphs.pick("●", "O"), theme.bright);
        spans.extend(cells.into_iter().map(|(text, style)| Span::styled(text, style)));
        spans.push(Span::styled(right.0, right.1));
    }
    frame.render_widget(Line::from(spans), row);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::crossterm::event::{Event as TerminalEvent, KeyCode, KeyEvent, KeyModifiers};

    use super::*;
    use crate::{
        model::SourceId,
        ui::{Msg, frame_text, update},
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// Sixty seconds of a run: a point each second, an evaluation at 20 s, out of memory at 50 s, exit at 60 s.
    fn recording() -> Vec<Event> {
        let source = SourceId(0);
        let mut events = vec![Event {
            at: at(0),
            kind: EventKind::Opened { source, name: "train.log".into(), path: None, size: None },
        }];
        let mut offset = 0;
        for second in 1..=60 {
            let text = match second {
                20 => "{'eval_loss': 2.5, 'epoch': 0.2}\n".to_string(),
                50 => "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of which 1.00 GiB is free.\n".to_string(),
                n => format!("{{'loss': {}.5, 'learning_rate': 1e-05, 'epoch': 0.{n}}}\n", 100 - n),
            };
            let data = text.into_bytes();
            let length = data.len() as u64;
            events.push(Event { at: at(second), kind: EventKind::Output { source, offset, data } });
            offset += length;
        }
        events.push(Event { at: at(60), kind: EventKind::Exited { code: Some(1), signal: None } });
        events
    }

    fn app() -> App {
        let replay = Replay::new(recording(), Knobs::default()).unwrap();
        let mut app = App::new(replay.session());
        app.play(replay);
        app
    }

    fn press(app: &mut App, keys: &str) {
        for key in keys.chars() {
            let code = KeyCode::Char(key);
            update(app, Msg::Terminal(TerminalEvent::Key(KeyEvent::new(code, KeyModifiers::NONE))));
        }
    }

    fn clock(app: &App) -> i64 {
        app.replay.as_ref().unwrap().clock.as_second() - at(0).as_second()
    }

    #[test]
    fn the_clock_follows_the_wall_clock_at_its_speed() {
        let mut app = app();
        let wall = |n: i64| Msg::Tick(at(1_000_000 + n));
        update(&mut app, wall(0));
        assert_eq!(clock(&app), 0);
        update(&mut app, wall(1));
        assert_eq!((clock(&app), app.session.metrics.points()), (1, 1));
        press(&mut app, "{{");
        update(&mut app, wall(2));
        update(&mut app, wall(4));
        assert_eq!(clock(&app), 1);
        press(&mut app, "}}}}");
        update(&mut app, wall(5));
        assert_eq!((clock(&app), app.session.metrics.points()), (5, 5));
        press(&mut app, " ");
        update(&mut app, wall(6));
        assert_eq!(clock(&app), 5);
        assert!(frame_text(&app, 100, 20).contains("paused"));
    }

    #[test]
    fn events_are_jumped_to() {
        let mut app = app();
        let mut stops = Vec::new();
        for _ in 0..5 {
            press(&mut app, ".");
            stops.push((clock(&app), app.replay.as_ref().unwrap().marks.values().next_back().unwrap().what));
        }
        assert_eq!(stops, [(1, "first point"), (20, "evaluation"), (50, "failure"), (60, "death"), (60, "death")]);
        assert!(frame_text(&app, 100, 20).contains("end "));
        press(&mut app, ",");
        assert_eq!((clock(&app), app.session.diagnosis().is_some()), (50, true));
        press(&mut app, ",");
        assert_eq!((clock(&app), app.session.diagnosis().is_some()), (20, false));
        press(&mut app, ">>>>><");
        assert_eq!(clock(&app), 24);
        press(&mut app, ")");
        assert_eq!(clock(&app), 60);
        press(&mut app, "(");
        assert_eq!(clock(&app), 0);
    }

    proptest! {
        #![proptest_config(crate::properties::config(64))]

        /// Whatever keys were pressed on the way, the screens at a moment are those of a straight play to it.
        #[test]
        fn the_way_does_not_matter(keys in "[1-7<>.,{}() jkG]{0,30}", to in 0u32..60) {
            let mut wandered = app();
            press(&mut wandered, &keys);
            for (width, height) in [(80, 24), (31, 9)] {
                let _ = frame_text(&wandered, width, height);
            }
            let mut straight = app();
            for app in [&mut wandered, &mut straight] {
                if let Some(replay) = &mut app.replay {
                    let to = replay.after(f64::from(to));
                    replay.jump(&mut app.session, to);
                    replay.paused = true;
                    replay.speed = 1.0;
                    replay.marks.clear();
                }
                app.screen = crate::ui::Screen::Overview;
                app.overlay = None;
                app.toast = None;
            }
            prop_assert_eq!(frame_text(&wandered, 100, 30), frame_text(&straight, 100, 30));
        }
    }
}
