//! What is typed for a fix: a row for each framework and range of its versions, or that the framework has no such setting.

use crate::{
    memory::defaults::{version, version_of},
    model::knobs::{Knob, Knobs, Value},
};

/// Every framework that a fix has words for, or says that it has none.
pub const FRAMEWORKS: &[&str] = &[
    "trl",
    "transformers",
    "axolotl",
    "llamafactory",
    "torchtune",
    "verl",
    "openrlhf",
    "unsloth",
    "lightning",
    "deepspeed",
    "accelerate",
    "megatron",
    "vllm",
    "jax",
    "pytorch",
];

/// Those whose memory PyTorch's allocator gives.
pub const TORCH: &[&str] = &[
    "trl",
    "transformers",
    "axolotl",
    "llamafactory",
    "torchtune",
    "verl",
    "openrlhf",
    "unsloth",
    "lightning",
    "deepspeed",
    "accelerate",
    "megatron",
    "pytorch",
];

/// What is typed in some frameworks, in one range of versions.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub frameworks: &'static [&'static str],
    /// Words to type, with `{knob|word}` where the new value of a knob, or the word, belongs. Where the framework has no
    /// such setting: what it does instead.
    pub text: &'static str,
    pub has: bool,
    /// First version, and first version no more.
    since: Option<&'static str>,
    before: Option<&'static str>,
    /// Whose version, where it is not the framework's own.
    of: Option<Knob>,
}

/// A row: what is typed.
pub(super) const fn on(frameworks: &'static [&'static str], text: &'static str) -> How {
    How { frameworks, text, has: true, since: None, before: None, of: None }
}

/// A row that says that there is no such setting, and what there is instead.
pub(super) const fn none(frameworks: &'static [&'static str], instead: &'static str) -> How {
    How { has: false, ..on(frameworks, instead) }
}

impl How {
    pub(super) const fn since(self, version: &'static str) -> Self {
        Self { since: Some(version), ..self }
    }

    pub(super) const fn before(self, version: &'static str) -> Self {
        Self { before: Some(version), ..self }
    }

    pub(super) const fn of(self, package: Knob) -> Self {
        Self { of: Some(package), ..self }
    }

    /// The knob that holds the version that this row's range is of.
    fn versioned_by(&self, framework: &str) -> Option<Knob> {
        self.of.or(match framework {
            "trl" => Some(Knob::TrlVersion),
            "transformers" => Some(Knob::TransformersVersion),
            "pytorch" => Some(Knob::TorchVersion),
            _ => None,
        })
    }

    /// Whether the row is of the job's version; `None` where the version is not known.
    fn fits(&self, framework: &str, knobs: &Knobs) -> Option<bool> {
        if self.since.is_none() && self.before.is_none() {
            return Some(true);
        }
        let held = version_of(knobs, self.versioned_by(framework)?)?;
        let since = self.since.and_then(version).is_none_or(|since| held >= since);
        let before = self.before.and_then(version).is_none_or(|before| held < before);
        Some(since && before)
    }

    /// The words with the placeholders' own.
    pub fn shown(&self) -> String {
        fill(self.text, &[])
    }

    /// `TRL 0.17 to before 0.25`.
    pub fn range(&self, framework: &str) -> String {
        let package = match self.versioned_by(framework) {
            Some(Knob::TrlVersion) => "TRL ",
            Some(Knob::TransformersVersion) => "transformers ",
            Some(Knob::TorchVersion) => "torch ",
            _ => "",
        };
        match (self.since, self.before) {
            (Some(since), Some(before)) => format!("{package}{since} to before {before}"),
            (Some(since), None) => format!("{package}{since} and newer"),
            (None, Some(before)) => format!("{package}before {before}"),
            (None, None) => String::new(),
        }
    }
}

/// The rows of a framework that may be the job's: one where its version is known, else all, as they are listed.
pub fn rows<'a>(how: &'a [How], framework: &str, knobs: &Knobs) -> Vec<&'a How> {
    let own = how.iter().filter(|row| row.frameworks.contains(&framework));
    own.filter(|row| row.fits(framework, knobs) != Some(false)).collect()
}

/// What is typed in one framework, with the values of the changes; the other versions' words where the version is not
/// known. `Err` is what the framework does without such a setting.
pub fn typed(how: &[How], framework: &str, knobs: &Knobs, changes: &[(Knob, Value)]) -> Option<Result<String, String>> {
    let rows = rows(how, framework, knobs);
    let (first, older) = match rows.iter().position(|row| row.has) {
        Some(first) => (rows.get(first)?, rows.iter().skip(first + 1).filter(|row| row.has).collect::<Vec<_>>()),
        None => return rows.first().map(|row| Err(row.text.to_string())),
    };
    let mut text = fill(first.text, changes);
    // With a version that is not known, every version's words.
    if rows.len() > 1 {
        let others: Vec<String> =
            older.iter().map(|row| format!("{}: {}", row.range(framework), fill(row.text, changes))).collect();
        text = format!("{text} ({}", first.range(framework));
        for other in others {
            text = format!("{text}; {other}");
        }
        text.push(')');
    }
    Some(Ok(text))
}

/// `{knob|word}` becomes the knob's new value, or the word.
fn fill(text: &str, changes: &[(Knob, Value)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find('}');
        let field = end.and_then(|end| rest.get(1..end)).and_then(|field| field.split_once('|'));
        let knob = field.and_then(|(name, word)| Some((name.parse::<Knob>().ok()?, word)));
        if let (Some((knob, word)), Some(end)) = (knob, end) {
            let value = changes.iter().find(|(changed, _)| *changed == knob).map(|(_, value)| value.to_string());
            match value {
                Some(value) => out.push_str(&value),
                None if word.starts_with(|c: char| c.is_ascii_digit()) => out.push_str(word),
                None => out.extend(["<", word, ">"]),
            }
            rest = &rest[end + 1..];
        } else {
            // A brace of JSON or YAML.
            out.push('{');
            rest = &rest[1..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::knobs::Origin;

    const HOW: &[How] = &[
        none(&["trl"], "always").since("1.15"),
        on(&["trl"], "new: true").since("0.25").before("1.15"),
        on(&["trl"], "old: true").since("0.17").before("0.25"),
        on(&["axolotl"], "{\"a\": {b: {per_device_train_batch_size|half}}}"),
    ];

    fn check(framework: &str, version: Option<&str>, changes: &[(Knob, Value)], want: Option<Result<&str, &str>>) {
        let mut knobs = Knobs::default();
        if let Some(version) = version {
            knobs.put(Knob::TrlVersion, Value::Text(version.into()), Origin::Set);
        }
        let got = typed(HOW, framework, &knobs, changes);
        assert_eq!(got, want.map(|w| w.map(str::to_string).map_err(str::to_string)), "{framework} {version:?}");
    }

    #[test]
    fn words_follow_framework_version_and_values() {
        check("trl", Some("0.24.0"), &[], Some(Ok("old: true")));
        check("trl", Some("0.25"), &[], Some(Ok("new: true")));
        check("trl", Some("1.16.0"), &[], Some(Err("always")));
        check("trl", None, &[], Some(Ok("new: true (TRL 0.25 to before 1.15; TRL 0.17 to before 0.25: old: true)")));
        check("trl", Some("0.1.0"), &[], None);
        check("axolotl", None, &[], Some(Ok("{\"a\": {b: <half>}}")));
        check("axolotl", None, &[(Knob::PerDeviceTrainBatchSize, Value::Int(4))], Some(Ok("{\"a\": {b: 4}}")));
        check("verl", None, &[], None);
    }
}
