//! The user's configuration file, as text: what it may say, its defaults, and the commented file that shows them.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Deserialize;

use crate::session::alerts::{Alerts, Limits, RULES, Severity};

use super::{
    Screen,
    keymap::{Keymap, KeymapError},
    theme::{BUILT_IN, Glyphs},
};

/// Everything that the file may say. What it does not say is `None` or the default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub screen: ScreenConfig,
    pub keys: BTreeMap<String, Vec<String>>,
    pub alerts: AlertConfig,
    pub recording: RecordingConfig,
    pub fleet: FleetConfig,
}

/// The machines that `oomph fleet` watches when none is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FleetConfig {
    /// As ssh knows them.
    pub hosts: Vec<String>,
    /// Addresses of Prometheus servers, or of metrics.
    pub prometheus: Vec<String>,
}

/// Whether runs are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingConfig {
    pub on: bool,
}

impl Default for RecordingConfig {
    fn default() -> Self {
        Self { on: true }
    }
}

/// How the screen begins.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScreenConfig {
    /// Name of a theme; without one, the theme chosen last.
    pub theme: Option<String>,
    pub glyphs: Option<Glyphs>,
    /// For a slow link: few frames.
    pub slow: bool,
    pub start: Option<Screen>,
}

/// Who is called when something deserves a look.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertConfig {
    /// The terminal's bell, from this severity on.
    pub bell: From,
    /// A notification of the terminal, where it can show one.
    pub notify: Notify,
    /// Least severity for `notify`, `command` and `webhook`.
    pub from: From,
    /// A shell command; the alert is JSON on its standard input.
    pub command: Option<String>,
    /// An address that gets the alert as JSON by POST.
    pub webhook: Option<String>,
    pub rules: BTreeMap<String, RuleConfig>,
}

impl Default for AlertConfig {
    fn default() -> Self {
        Self {
            bell: From::Critical,
            notify: Notify::Off,
            from: From::Warning,
            command: None,
            webhook: None,
            rules: BTreeMap::new(),
        }
    }
}

/// From which severity on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    Off,
    Info,
    Warning,
    Critical,
}

impl From {
    /// Does an alert of this severity count?
    pub fn takes(self, severity: Severity) -> bool {
        match self {
            Self::Off => false,
            Self::Info => true,
            Self::Warning => severity >= Severity::Warning,
            Self::Critical => severity >= Severity::Critical,
        }
    }
}

/// Which notification the terminal understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    Off,
    /// iTerm2, kitty, `WezTerm`, Ghostty, Windows Terminal.
    Osc9,
    /// urxvt, foot, `WezTerm`, Ghostty.
    Osc777,
}

/// Limits of one rule; what is left out stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    pub on: Option<bool>,
    pub raise: Option<f64>,
    pub clear: Option<f64>,
    pub hold: Option<f64>,
}

/// A configuration that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    #[error("[keys] {0}")]
    Keys(KeymapError),
    #[error("[alerts.rules.{0}]: there is no such rule; `oomph config` lists them")]
    UnknownRule(String),
    #[error("[alerts.rules.{0}]: clear must not be over raise, and hold not below 0")]
    Limits(String),
    #[error("[alerts] webhook must begin with https:// or http://")]
    Webhook,
}

impl Config {
    /// Reads the file's text and checks it whole.
    ///
    /// # Errors
    /// When it is not TOML, or says something unknown or impossible; the message names the place.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.keymap().map_err(ConfigError::Keys)?;
        config.rules()?;
        if config.alerts.webhook.as_ref().is_some_and(|w| !w.starts_with("https://") && !w.starts_with("http://")) {
            return Err(ConfigError::Webhook);
        }
        Ok(config)
    }

    /// The default keys with the user's changes.
    ///
    /// # Errors
    /// When a command or a key is unknown.
    pub fn keymap(&self) -> Result<Keymap, KeymapError> {
        Keymap::changed(&self.keys)
    }

    /// The rules with the user's limits.
    ///
    /// # Errors
    /// When a rule is unknown or its limits make no sense.
    pub fn rules(&self) -> Result<Alerts, ConfigError> {
        let mut alerts = Alerts::default();
        for (id, change) in &self.alerts.rules {
            let Some(known) = alerts.limits(id) else { return Err(ConfigError::UnknownRule(id.clone())) };
            let limits = Limits {
                on: change.on.unwrap_or(known.on),
                raise: change.raise.unwrap_or(known.raise),
                clear: change.clear.unwrap_or(known.clear.min(change.raise.unwrap_or(known.raise))),
                hold: change.hold.unwrap_or(known.hold),
            };
            if limits.clear > limits.raise || limits.hold < 0.0 || limits.raise.is_nan() || limits.clear.is_nan() {
                return Err(ConfigError::Limits(id.clone()));
            }
            alerts.set(id, limits);
        }
        Ok(alerts)
    }
}

/// The whole file with every default, commented out: made from the same tables that the program follows.
pub fn default_file() -> String {
    let mut out = String::from(
        "# oomph reads this file at its start. Every commented line shows a default: remove the # to change it.\n\n",
    );
    let themes: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    let screens: Vec<String> = Screen::ALL.iter().map(|s| s.title().to_lowercase()).collect();
    let _ = write!(
        out,
        "[screen]\n\
         # {}, or NAME of a file themes/NAME.toml beside this file.\n\
         # Without this line: the one chosen last with the key t, at first by the terminal's colours.\n\
         # theme = \"dark\"\n\
         # braille, block or ascii; without this line by the locale\n\
         # glyphs = \"braille\"\n\
         # for a slow link: draw every two seconds at the most\n\
         # slow = false\n\
         # {}\n\
         # start = \"overview\"\n\n\
         [alerts]\n\
         # From which severity on the terminal's bell rings: off, info, warning, critical\n\
         # bell = \"critical\"\n\
         # A notification of the terminal, also through tmux: off, osc9, osc777\n\
         # notify = \"off\"\n\
         # Least severity for notify, command and webhook\n\
         # from = \"warning\"\n\
         # A shell command; the alert comes as JSON on its standard input. None by default.\n\
         # command = \"jq -r .text | mail -s oomph me@example.org\"\n\
         # An address that gets the same JSON by POST, sent with curl. None by default.\n\
         # webhook = \"https://example.org/hook\"\n\n\
         [recording]\n\
         # false: no run is recorded; --no-record does it for one\n\
         # on = true\n\n\
         [fleet]\n\
         # Machines that `oomph fleet` watches when none is named, as ssh knows them. None by default.\n\
         # hosts = [\"node1\", \"me@node2\"]\n\
         # Prometheus servers, or addresses of metrics. None by default.\n\
         # prometheus = [\"http://prometheus:9090\", \"http://node1:9400/metrics\"]\n\n",
        themes.join(", "),
        screens.join(", "),
    );
    out.push_str(
        "# Rules: raised at or over `raise` for `hold` seconds, over again below `clear` for as long.\n# `on = false` silences one.\n",
    );
    for rule in RULES {
        let Limits { on, raise, clear, hold } = rule.limits;
        let severity = rule.severity.as_str();
        let _ = write!(
            out,
            "\n[alerts.rules.{}]\n# {severity}: {}\n# on = {on}\n# raise = {raise:?}\n# clear = {clear:?}\n# hold = {hold:?}\n",
            rule.id, rule.about
        );
    }
    out.push_str("\n# Keys: a command's list replaces its keys. Write q, G, ctrl-c, shift-tab, space, enter, f1, pgup.\n[keys]\n");
    for binding in Keymap::default().bindings() {
        let keys: Vec<String> = binding.keys.iter().map(|k| format!("{:?}", k.to_string())).collect();
        let _ = writeln!(out, "# {:?} = [{}]  # {}", binding.id, keys.join(", "), binding.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file with its commented settings switched on.
    fn switched_on() -> String {
        let setting = |line: &str| {
            let inner = line.strip_prefix("# ")?;
            let key = inner.split(" = ").next().filter(|_| inner.contains(" = "))?;
            (key.starts_with('"') || key.chars().all(|c| c.is_ascii_lowercase() || c == '_')).then(|| inner.to_string())
        };
        default_file().lines().map(|l| setting(l).unwrap_or_else(|| l.to_string()) + "\n").collect()
    }

    #[test]
    fn the_commented_file_changes_nothing() {
        let config = Config::parse(&default_file()).unwrap();
        assert!(config.alerts.rules.values().all(|rule| *rule == RuleConfig::default()));
        let alerts = AlertConfig { rules: BTreeMap::new(), ..config.alerts };
        assert_eq!(Config { alerts, ..config }, Config::default());
    }

    #[test]
    fn every_default_that_it_shows_is_the_default() {
        let text = switched_on();
        let config = Config::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        for rule in RULES {
            assert_eq!(config.rules().unwrap().limits(rule.id), Some(rule.limits), "{}", rule.id);
        }
        let keys = |map: &Keymap| map.bindings().iter().map(|b| b.keys.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&config.keymap().unwrap()), keys(&Keymap::default()));
        assert_eq!(config.alerts.bell, AlertConfig::default().bell);
        assert_eq!(config.alerts.from, AlertConfig::default().from);
        assert_eq!(config.alerts.notify, AlertConfig::default().notify);
        assert_eq!(config.keys.len(), Keymap::default().bindings().len());
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let check = |text: &str, want: &str| {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        };
        check("[screen]\ntheme = 3", "invalid type");
        check("[scren]", "unknown field `scren`");
        check("[keys]\nfly = [\"x\"]", "'fly' is not a command");
        check("[keys]\nquit = [\"hyper-x\"]", "'hyper-x' is not a key");
        check("[alerts.rules.hot]\nraise = 50.0\nclear = 60.0", "clear must not be over raise");
        check("[alerts.rules.cold]\nraise = 50.0", "there is no such rule");
        check("[alerts]\nwebhook = \"ftp://x\"", "https://");
    }

    #[test]
    fn a_lower_threshold_takes_its_end_with_it() {
        let config = Config::parse("[alerts.rules.hot]\nraise = 70.0").unwrap();
        let limits = config.rules().unwrap().limits("hot").unwrap();
        assert_eq!((limits.raise, limits.clear), (70.0, 70.0));
    }
}
