//! Alerts: what deserves that somebody looks, with hysteresis, pure over a session. No IO, no clock.
//!
//! A rule sees a session and gives a figure for each subject (the run, a GPU). A figure at or over the rule's `raise`
//! for its `hold` seconds raises an alert; it ends when the figure has been under `clear` for as long. Between the two
//! nothing changes, so that a figure that trembles around a threshold speaks once.

mod rules;

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Clean, Timestamp};

use super::Session;

pub use rules::{RULES, Rule};

/// Alerts kept in the history.
const KEEP: usize = 200;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a rule sees of one subject at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// "GPU 3"; empty for the run itself.
    pub subject: String,
    /// In the unit of the rule.
    pub figure: f64,
    /// One sentence that is true now.
    pub text: String,
    /// Line of the log that proves it.
    pub line: Option<u64>,
}

/// The thresholds of a rule, as the user may set them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub on: bool,
    pub raise: f64,
    pub clear: f64,
    /// Seconds for which the figure must stand.
    pub hold: f64,
}

/// Something that deserved a look.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub rule: &'static str,
    pub severity: Severity,
    pub subject: Clean,
    pub text: Clean,
    pub since: Timestamp,
    /// When it was over; `None` while it stands.
    pub until: Option<Timestamp>,
    pub line: Option<u64>,
    pub step: Option<u64>,
    /// It was so before anybody looked: shown, but nobody is called.
    pub old: bool,
}

/// How a subject of a rule stands between the thresholds.
#[derive(Clone, Debug, Default)]
struct Stand {
    over_since: Option<Timestamp>,
    under_since: Option<Timestamp>,
    /// Number in the history of the alert that stands.
    raised: Option<u64>,
}

/// All rules with their limits, what stands, and what was.
#[derive(Debug)]
pub struct Alerts {
    limits: BTreeMap<&'static str, Limits>,
    stands: BTreeMap<(&'static str, String), Stand>,
    history: VecDeque<Alert>,
    /// Number of the first alert in `history`.
    first: u64,
    /// The session was complete when it was looked at last: what comes now is news.
    awake: bool,
    /// Time of the session when it was looked at last.
    looked: Option<Timestamp>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            limits: RULES.iter().map(|rule| (rule.id, rule.limits)).collect(),
            stands: BTreeMap::new(),
            history: VecDeque::new(),
            first: 0,
            awake: false,
            looked: None,
        }
    }
}

impl Alerts {
    /// Sets the limits of a rule; `false` when there is no such rule.
    pub fn set(&mut self, id: &str, limits: Limits) -> bool {
        match self.limits.iter_mut().find(|(known, _)| **known == id) {
            Some((_, own)) => {
                *own = limits;
                true
            }
            None => false,
        }
    }

    /// The limits in force.
    pub fn limits(&self, id: &str) -> Option<Limits> {
        self.limits.get(id).copied()
    }

    /// Looks at the session once; gives the alerts that are new. To be called about once a second of the session's time.
    pub fn look(&mut self, session: &Session) -> Vec<Alert> {
        let Some(now) = session.now else { return Vec::new() };
        if self.looked.is_some_and(|before| now < before) {
            // A recording that is played back: what comes is unknown again.
            self.stands.clear();
            self.history.clear();
            self.first = 0;
        }
        self.looked = Some(now);
        let mut new = Vec::new();
        for rule in RULES {
            let Some(limits) = self.limits.get(rule.id).copied().filter(|l| l.on) else { continue };
            let sights = (rule.see)(session);
            let gone: Vec<String> = self
                .stands
                .keys()
                .filter(|(id, subject)| *id == rule.id && !sights.iter().any(|s| s.subject == *subject))
                .map(|(_, subject)| subject.clone())
                .collect();
            for subject in gone {
                // What is seen no more is over: a series that ended, a GPU that was taken away.
                let nothing = Sight { subject, figure: f64::NEG_INFINITY, text: String::new(), line: None };
                self.weigh(rule, limits, &nothing, now, session, &mut new);
            }
            for sight in &sights {
                self.weigh(rule, limits, sight, now, session, &mut new);
            }
        }
        self.awake = session.is_complete();
        new
    }

    fn weigh(
        &mut self,
        rule: &'static Rule,
        limits: Limits,
        sight: &Sight,
        now: Timestamp,
        session: &Session,
        new: &mut Vec<Alert>,
    ) {
        let stand = self.stands.entry((rule.id, sight.subject.clone())).or_default();
        let held = |since: &mut Option<Timestamp>| {
            let since = *since.get_or_insert(now);
            now.duration_since(since).as_secs_f64() >= limits.hold
        };
        if sight.figure >= limits.raise {
            stand.under_since = None;
            if held(&mut stand.over_since) && stand.raised.is_none() {
                let alert = Alert {
                    rule: rule.id,
                    severity: rule.severity,
                    subject: Clean::new(&sight.subject),
                    text: Clean::new(&sight.text),
                    since: now,
                    until: None,
                    line: sight.line,
                    step: session.step(),
                    old: !self.awake,
                };
                stand.raised = Some(self.first + self.history.len() as u64);
                self.history.push_back(alert.clone());
                new.push(alert);
                if self.history.len() > KEEP {
                    self.history.pop_front();
                    self.first += 1;
                }
            }
        } else if sight.figure < limits.clear {
            stand.over_since = None;
            if held(&mut stand.under_since)
                && let Some(number) = stand.raised.take()
                && let Some(at) = number.checked_sub(self.first)
                && let Some(alert) = self.history.get_mut(at as usize)
            {
                alert.until = Some(now);
            }
        } else {
            // Between the thresholds nothing begins and nothing ends.
            stand.under_since = None;
            if stand.raised.is_none() {
                stand.over_since = None;
            }
        }
        if let Some(alert) = stand.raised.and_then(|n| self.history.get_mut(n.checked_sub(self.first)? as usize))
            && !sight.text.is_empty()
            && rule.follows
        {
            alert.text = Clean::new(&sight.text);
        }
    }

    /// Every alert, newest first.
    pub fn history(&self) -> impl Iterator<Item = &Alert> {
        self.history.iter().rev()
    }

    /// Alerts that stand now, the worst and newest first.
    pub fn standing(&self) -> Vec<&Alert> {
        let mut all: Vec<&Alert> = self.history().filter(|a| a.until.is_none()).collect();
        all.sort_by_key(|a| std::cmp::Reverse(a.severity));
        all
    }

    pub fn is_empty(&self) -> bool {
        self.history.is_empty()
    }
}

#[cfg(test)]
mod tests;
