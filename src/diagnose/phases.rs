//! What each phase is, for people. The signs by which a traceback tells it stand in `parse`.

use serde::Deserialize;

/// A phase, for people.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub id: String,
    pub title: String,
    pub about: String,
    pub told_by: String,
    pub helps: String,
}

#[derive(Deserialize)]
struct File {
    phase: Vec<About>,
}

/// Every phase.
pub fn all() -> Vec<About> {
    toml::from_str::<File>(include_str!("phases.toml")).map(|file| file.phase).unwrap_or_default()
}
