//! What a trainer does when a setting is not given, by its version. The rules are data, one file a trainer.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::model::{
    Clean,
    knobs::{Knob, Knobs, Origin, Setting, Value},
};

const FILES: &[(&str, &str)] = &[
    ("axolotl", include_str!("defaults/axolotl.toml")),
    ("lightning", include_str!("defaults/lightning.toml")),
    ("llamafactory", include_str!("defaults/llamafactory.toml")),
    ("openrlhf", include_str!("defaults/openrlhf.toml")),
    ("pytorch", include_str!("defaults/pytorch.toml")),
    ("torchtune", include_str!("defaults/torchtune.toml")),
    ("transformers", include_str!("defaults/transformers.toml")),
    ("trl", include_str!("defaults/trl.toml")),
    ("unsloth", include_str!("defaults/unsloth.toml")),
    ("verl", include_str!("defaults/verl.toml")),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// As the project writes itself.
    name: String,
    #[expect(dead_code, reason = "for the reader of the file")]
    url: String,
    /// The knob that holds its version, which `since` and `before` mean.
    version: Option<Knob>,
    /// The file of what it is built on, which has the rest of the defaults.
    base: Option<String>,
    #[serde(rename = "default", default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    knob: Knob,
    value: Value,
    /// First version with this default.
    since: Option<String>,
    /// First version without it.
    before: Option<String>,
    /// Whose version, where it is not the trainer's own.
    of: Option<Knob>,
    #[serde(default)]
    methods: Vec<String>,
    /// Other settings that must have this value; `some` for any but none.
    #[serde(default)]
    when: BTreeMap<Knob, String>,
    /// What it would most likely be if this is wrong; the difference is told.
    other: Option<Value>,
    /// The data decides it, not the trainer.
    #[serde(default)]
    guess: bool,
}

static PARSED: LazyLock<BTreeMap<&'static str, File>> = LazyLock::new(|| {
    FILES.iter().map(|(name, text)| (*name, toml::from_str(text).expect("a test reads every file"))).collect()
});

/// A setting that nobody gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumption {
    pub knob: Knob,
    pub value: Value,
    /// Whose default it is, or that it is a guess.
    pub from: String,
    pub other: Option<Value>,
}

/// `1.16.0` as 1.016; `None` for what is no version.
pub fn version(text: &str) -> Option<f64> {
    let mut parts = text.split(['.', '+', '-']);
    let major: f64 = parts.next()?.parse().ok()?;
    let minor: f64 = parts.next().unwrap_or("0").trim_end_matches(char::is_alphabetic).parse().ok()?;
    Some(major + minor / 1000.0)
}

/// The version that a knob holds; a number where somebody wrote one.
pub fn version_of(knobs: &Knobs, knob: Knob) -> Option<f64> {
    version(&knobs.value(knob)?.to_string())
}

impl Rule {
    fn applies(&self, knobs: &Knobs, method: &str, own_version: Option<Knob>) -> bool {
        let held = self.of.or(own_version).and_then(|knob| version_of(knobs, knob));
        // A version that nobody can read is taken for a new one.
        let since = self.since.as_deref().and_then(version).is_none_or(|v| held.is_none_or(|held| held >= v));
        let before = self.before.as_deref().and_then(version).is_none_or(|v| held.is_some_and(|held| held < v));
        let named = self.methods.is_empty() || self.methods.iter().any(|m| m == method);
        since && before && named && self.when.iter().all(|(knob, wanted)| holds(knobs.value(*knob), wanted))
    }
}

fn holds(value: Option<&Value>, wanted: &str) -> bool {
    let Some(text) = value.map(ToString::to_string) else { return false };
    if wanted == "some" { text != "none" && text != "0" && text != "false" } else { text == wanted }
}

/// TRL's trainers are transformers' with methods of their own, whose frames may be all that a log shows: settings that
/// only GRPO and its like have tell which it is.
pub fn recognised(given: &Knobs) -> Knobs {
    let mut knobs = given.clone();
    let own = [Knob::NumGenerations, Knob::MaxCompletionLength].into_iter().find_map(|knob| given.setting(knob));
    let Some(Setting { origin, .. }) = own.filter(|s| !matches!(s.origin, Origin::Assumed(_) | Origin::Default(_)))
    else {
        return knobs;
    };
    let is_guess = given.setting(Knob::Trainer).is_some_and(|s| matches!(s.origin, Origin::Log { .. }));
    if given.str(Knob::Trainer) == Some("transformers") && is_guess {
        knobs = knobs.without(Knob::Trainer);
        knobs.put(Knob::Trainer, Value::Text("trl".into()), origin.clone());
    }
    if given.value(Knob::Method).is_none() && knobs.str(Knob::Trainer).is_none_or(|t| t == "trl") {
        knobs.put(Knob::Method, Value::Text("grpo".into()), origin.clone());
    }
    knobs
}

/// The settings with every default of the job's trainer, and which of them nobody gave.
pub fn resolve(given: &Knobs) -> (Knobs, Vec<Assumption>) {
    let mut knobs = recognised(given);
    let given = &knobs.clone();
    let mut assumed = Vec::new();
    let trainer = given.str(Knob::Trainer).unwrap_or("trl").to_ascii_lowercase();
    let mut at = PARSED.get(trainer.as_str()).or_else(|| PARSED.get("transformers"));
    let mut links = 0;
    while let Some(file) = at.filter(|_| links < FILES.len()) {
        links += 1;
        for rule in &file.rules {
            let method = knobs.str(Knob::Method).unwrap_or("sft").to_ascii_lowercase();
            if knobs.value(rule.knob).is_some() || !rule.applies(&knobs, &method, file.version) {
                continue;
            }
            let held = file.version.and_then(|v| Some(format!(" {}", knobs.value(v)?))).unwrap_or_default();
            let from = format!("{}{held}", file.name);
            let origin = Clean::new(&from);
            let from = if rule.guess { "a guess".to_string() } else { format!("default of {from}") };
            knobs.put(rule.knob, rule.value.clone(), Origin::Default(origin));
            assumed.push(Assumption { knob: rule.knob, value: rule.value.clone(), from, other: rule.other.clone() });
        }
        at = file.base.as_deref().and_then(|base| PARSED.get(base));
    }
    (knobs, assumed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_reads_and_is_listed() {
        let listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/memory/defaults");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().trim_end_matches(".toml").to_string())
            .collect();
        found.sort();
        assert_eq!(found, listed);
        for (name, text) in FILES {
            let file: File = toml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(file.base.as_deref().is_none_or(|b| listed.contains(&b)), "{name}");
        }
    }

    fn check(given: &[(Knob, &str)], want: &[(Knob, &str)]) {
        let mut knobs = Knobs::default();
        for (knob, value) in given {
            let value = if matches!(knob, Knob::TrlVersion | Knob::TransformersVersion | Knob::TorchVersion) {
                Value::Text(Clean::new(value))
            } else {
                Value::guess(value)
            };
            knobs.put(*knob, value, Origin::Set);
        }
        let (resolved, _) = resolve(&knobs);
        for (knob, value) in want {
            assert_eq!(resolved.value(*knob).map(ToString::to_string).as_deref(), Some(*value), "{given:?} {knob:?}");
        }
    }

    /// An optimizer's step of GRPO shows frames of transformers alone; its configuration is TRL's all the same.
    #[test]
    fn settings_of_grpo_tell_trl_from_transformers() {
        let mut knobs = Knobs::default();
        knobs.put(Knob::Trainer, Value::Text("transformers".into()), Origin::Log { line: 7 });
        assert_eq!(recognised(&knobs), knobs);
        knobs.put(Knob::NumGenerations, Value::Int(8), Origin::Config("a.yaml".into()));
        let found = recognised(&knobs);
        assert_eq!((found.str(Knob::Trainer), found.str(Knob::Method)), (Some("trl"), Some("grpo")));
        assert_eq!(recognised(&found), found);
        // Who says it keeps it.
        let mut said = knobs.without(Knob::Trainer);
        said.put(Knob::Trainer, Value::Text("verl".into()), Origin::Log { line: 7 });
        assert_eq!(recognised(&said), said);
        knobs.put(Knob::Trainer, Value::Text("transformers".into()), Origin::Set);
        assert_eq!(recognised(&knobs), knobs);
    }

    #[test]
    fn defaults_follow_the_version() {
        let grpo = (Knob::Method, "grpo");
        check(
            &[grpo, (Knob::TrlVersion, "0.14.0")],
            &[
                (Knob::GradientCheckpointing, "false"),
                (Knob::Beta, "0.04"),
                (Knob::MaxCompletionLength, "256"),
                (Knob::TransformersVersion, "4.48.3"),
                (Knob::Autocast, "none"),
            ],
        );
        check(
            &[grpo, (Knob::TrlVersion, "1.16.0")],
            &[
                (Knob::GradientCheckpointing, "true"),
                (Knob::Beta, "0"),
                (Knob::MaxCompletionLength, "512"),
                (Knob::Autocast, "bfloat16"),
                (Knob::Dtype, "float32"),
            ],
        );
        check(&[(Knob::Method, "rloo")], &[(Knob::NumGenerations, "2"), (Knob::Beta, "0.05")]);
        check(&[(Knob::Trainer, "transformers"), (Knob::TorchVersion, "2.7.1")], &[(Knob::Optimizer, "adamw_torch")]);
        check(&[(Knob::Trainer, "transformers"), (Knob::TransformersVersion, "4.57.1")], &[(Knob::Dtype, "float32")]);
        check(&[(Knob::Trainer, "transformers"), (Knob::TransformersVersion, "5.2.0")], &[(Knob::Dtype, "bfloat16")]);
    }

    #[test]
    fn each_trainer_has_its_own() {
        check(&[(Knob::Trainer, "axolotl"), (Knob::Autocast, "bfloat16")], &[(Knob::Dtype, "bfloat16")]);
        let lora = &[(Knob::Trainer, "llamafactory"), (Knob::Autocast, "bfloat16"), (Knob::LoraRank, "8")];
        check(lora, &[(Knob::Dtype, "bfloat16"), (Knob::LoraTargetModules, "all-linear")]);
        check(&lora[..2], &[(Knob::Dtype, "float32"), (Knob::GradientCheckpointing, "true")]);
        check(&[(Knob::Trainer, "torchtune")], &[(Knob::Dtype, "bfloat16"), (Knob::Autocast, "none")]);
        check(&[(Knob::Trainer, "verl")], &[(Knob::Method, "ppo"), (Knob::VllmEnableSleepMode, "true")]);
    }
}
