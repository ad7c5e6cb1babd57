//! Which few curves matter for a method, and what belongs to each.

use crate::{
    model::{Clean, knobs::Knob},
    session::Session,
};

/// One chart of the overview.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub title: &'static str,
    /// Name of the series under which its values are kept.
    pub key: Clean,
    /// A series whose value is drawn as a band on both sides.
    pub band: Option<&'static str>,
    /// A series of the evaluations, drawn with it.
    pub eval: Option<&'static str>,
    /// A bound worth a line: the cap of the completion length.
    pub cap: Option<f64>,
}

/// A candidate: title, the names under which it may be logged, band, eval.
type Candidate = (&'static str, &'static [&'static str], Option<&'static str>, Option<&'static str>);

const REINFORCEMENT: &[Candidate] = &[
    ("reward", &["reward"], Some("reward_std"), None),
    ("KL", &["kl"], None, None),
    ("completion length", &["completion_length", "completions/mean_length"], None, None),
    ("clipped at the cap", &["completions/clipped_ratio", "clip_ratio"], None, None),
    ("loss", &["loss"], None, Some("eval_loss")),
    ("gradient norm", &["grad_norm"], None, None),
    ("entropy", &["entropy"], None, None),
    ("learning rate", &["learning_rate"], None, None),
];

const SUPERVISED: &[Candidate] = &[
    ("loss", &["loss"], None, Some("eval_loss")),
    ("gradient norm", &["grad_norm"], None, None),
    ("learning rate", &["learning_rate"], None, None),
    ("token accuracy", &["accuracy", "mean_token_accuracy"], None, Some("accuracy")),
    ("reward margin", &["rewards/margins"], None, None),
    ("entropy", &["entropy"], None, None),
    ("tokens per second", &["tokens_per_second"], None, None),
    ("seconds per step", &["step_time_seconds"], None, None),
];

/// The curves that the run has logged, those that matter most first, at most `room`. Other keys fill what is left.
pub fn curves(session: &Session, room: usize) -> Vec<Curve> {
    let train = session.metrics.train();
    let candidates = if train.get("reward").is_some() { REINFORCEMENT } else { SUPERVISED };
    let mut found: Vec<Curve> = Vec::new();
    for (title, keys, band, eval) in candidates {
        if let Some(key) = keys.iter().find(|k| train.get(k).is_some()).map(|k| Clean::new(k)) {
            let cap = (*title == "completion length")
                .then(|| session.knobs().u64(Knob::MaxCompletionLength))
                .flatten()
                .map(|n| n as f64);
            found.push(Curve { title, key, band: *band, eval: *eval, cap });
        }
    }
    found.truncate(room);
    found
}

/// Points after which a series that has never moved counts as one that does not.
const STILL: usize = 20;

/// Whether a series has had one and the same value ever since, evaluations included.
pub fn is_constant(session: &Session, key: &str) -> bool {
    let (train, eval) = (session.metrics.train().get(key), session.metrics.eval().get(key));
    train.is_some_and(|s| s.len() >= STILL && s.nonfinite() == 0 && s.min_max().is_some_and(|(a, b)| a >= b))
        && eval.is_none()
}

/// Keys in the order in which people look for them: canonical first, then by name.
pub fn ordered_keys(session: &Session) -> Vec<Clean> {
    let rank = |key: &Clean| {
        crate::model::metric::CANONICAL.iter().position(|name| *name == key.as_str()).unwrap_or(usize::MAX)
    };
    let mut keys: Vec<Clean> = session.metrics.train().keys().cloned().collect();
    for key in session.metrics.eval().keys() {
        if session.metrics.train().get(key.as_str()).is_none() {
            keys.push(key.clone());
        }
    }
    keys.retain(|key| key.as_str() != "step" && key.as_str() != "epoch");
    keys.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    keys
}
