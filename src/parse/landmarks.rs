//! Lines of a log that a person looks for later: a checkpoint was written, an error ended the program.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::Regex;

use crate::model::Clean;

use super::{lines::Lines, prefix};

/// What a line marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A checkpoint was, or is being, written; of this step, where the line says so.
    Checkpoint { step: Option<u64> },
    /// An error that nobody caught, or that was printed all the same.
    Error(Raised),
}

/// The end of a traceback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raised {
    /// The innermost frame in the user's own code: `File "train.py", line 12, in main`.
    pub frame: Option<Clean>,
    /// It stands for the errors before it: what was raised while they were handled, or the launcher's report of them.
    pub follows: bool,
    /// It tells of another process's error.
    pub echo: bool,
}

/// One marked line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landmark {
    /// 1-based.
    pub line: u64,
    pub rank: Option<u32>,
    pub text: Clean,
    pub kind: Kind,
}

/// Words of which one stands in every line that marks something, or begins what does.
const WORDS: &[&str] = &[
    "heckpoint",
    "ckpt",
    "global_step",
    "Saving current state",
    "Traceback (most recent call last",
    "Segmentation fault",
    "(core dumped)",
    "terminate called",
    "CANCELLED AT",
    "another exception occurred",
    "direct cause of the following",
];
static SEARCH: LazyLock<AhoCorasick> = LazyLock::new(|| AhoCorasick::new(WORDS).expect("the list is tested"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("tested")
}

/// `Saving model checkpoint to out/checkpoint-500`, `successfully saved checkpoint from iteration 500`.
static SAVED: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)\b(?:sav(?:ing|ed)|wr(?:iting|ote))\b.{0,120}?(?:\bcheckpoint(?:s|-\d+|_\d+)?\b|\.ckpt\b|global_step_?\d+)|\bcheckpoint\b.{0,120}?\b(?:saved|written)\b|^Saving current state to\b|\blocal_global_step_folder\b",
    )
});
/// What only speaks of checkpoints.
static NOT_SAVED: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)\b(?:load(?:ing|ed)?|resum(?:e|ing)|delet\w+|remov\w+|restor\w+|fail\w*|\w*error|\w*warning|utils\.checkpoint|will be|disabled|not saved|shards?)\b",
    )
});
/// The step in the name of a checkpoint or in the line.
static STEP: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?i)(?:checkpoint[-_]|ckpt[-_]|global_step[_ =]?|iteration\s+|step[s]?[_ =:]\s?|@ |iter[_ ])(?<step>\d+)")
});
/// `module.Name: message`, `Name`
static EXCEPTION: LazyLock<Regex> = LazyLock::new(|| regex(r"^[A-Za-z_][\w.]*(?:: |:?$)"));
/// A program that ended without a traceback.
static ENDED: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^(?:.{0,60}: line \d+: +\d+ )?(?:Segmentation fault|Aborted|Bus error|Floating point exception)\b|^terminate called|\*\*\* (?:JOB|STEP) .* CANCELLED AT",
    )
});
/// A launcher's or a process group's report of what happened elsewhere.
static ECHO: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"ChildFailedError|ProcessRaisedException|ProcessExitedException|CalledProcessError|DistBackendError|DistNetworkError|SignalException|NCCL|Connection (?:closed|reset)|[Bb]roken pipe|remote process exited|WorkerCrashedError|ActorDiedError|RayTaskError",
    )
});
const INSTALLED: [&str; 5] = ["site-packages", "dist-packages", "/lib/python", "<frozen", "<string>"];
/// Lines of other processes that may stand in a traceback.
const FOREIGN: u32 = 40;
/// Tracebacks, of different ranks, that are read at once.
const AT_ONCE: usize = 64;

/// A traceback that is being read.
#[derive(Debug, Default)]
struct Open {
    rank: Option<u32>,
    frame: Option<Clean>,
    follows: bool,
    foreign: u32,
}

/// Finds the landmarks in the bytes of one log, in order, in any chunking.
#[derive(Debug, Default)]
pub struct Landmarks {
    lines: Lines,
    reader: Reader,
}

#[derive(Debug, Default)]
struct Reader {
    open: Vec<Open>,
    /// The next traceback goes on from the one before.
    chained: bool,
    found: Vec<Landmark>,
}

impl Landmarks {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.lines.feed(bytes, &SEARCH, &mut |number, line| self.reader.line(number, line));
    }

    /// The text ends here.
    pub fn finish(&mut self) {
        self.lines.finish(&mut |number, line| self.reader.line(number, line));
    }

    /// What was found since this was asked last.
    pub fn take(&mut self) -> Vec<Landmark> {
        std::mem::take(&mut self.reader.found)
    }
}

impl Reader {
    /// True while a traceback is open, of which every line counts.
    fn line(&mut self, number: u64, line: &[u8]) -> bool {
        // A bar's frames stand before what was printed after it.
        let line = line.trim_ascii_end();
        let line = memchr::memrchr(b'\r', line).map_or(line, |at| &line[at + 1..]);
        let found = prefix::find(line);
        let clean = Clean::from_bytes(line.get(found.end..).unwrap_or_default());
        let text = clean.as_str();
        if text.contains("Traceback (most recent call last") {
            self.open.retain(|open| open.rank != found.rank);
            if self.open.len() < AT_ONCE {
                let follows = std::mem::take(&mut self.chained);
                self.open.push(Open { rank: found.rank, follows, ..Open::default() });
            }
        } else if text.contains("another exception occurred") || text.contains("direct cause of the following") {
            self.chained = true;
        } else if ENDED.is_match(text) {
            self.put(number, found.rank, text, Kind::Error(Raised::default()));
        } else if let Some(at) = self.open.iter().position(|open| open.rank == found.rank) {
            self.traceback(at, number, text);
        } else if SEARCH.find(text).is_some() {
            self.checkpoint(number, found.rank, text);
        }
        !self.open.is_empty()
    }

    fn traceback(&mut self, at: usize, number: u64, text: &str) {
        let open = &mut self.open[at];
        let inside = |c: char| c.is_whitespace() || "│╭╰|❱".contains(c);
        if text.is_empty() || text.starts_with(inside) {
            let row = text.trim();
            if row.starts_with("File \"") && !INSTALLED.iter().any(|part| row.contains(part)) {
                open.frame = Some(Clean::new(row));
            }
        } else if EXCEPTION.is_match(text) {
            let Open { rank, frame, follows, .. } = self.open.remove(at);
            let echo = ECHO.is_match(text);
            self.put(number, rank, text, Kind::Error(Raised { frame, follows, echo }));
        } else {
            open.foreign += 1;
            if open.foreign > FOREIGN {
                self.open.remove(at);
            }
        }
    }

    fn checkpoint(&mut self, number: u64, rank: Option<u32>, text: &str) {
        // A metric may be called anything, and a bar has its own words.
        if text.starts_with('{') || text.len() > 400 || text.contains("%|") {
            return;
        }
        if SAVED.is_match(text) && !NOT_SAVED.is_match(text) {
            let step = STEP.captures_iter(text).last().and_then(|c| c["step"].parse().ok());
            self.put(number, rank, text, Kind::Checkpoint { step });
        }
    }

    fn put(&mut self, line: u64, rank: Option<u32>, text: &str, kind: Kind) {
        self.found.push(Landmark { line, rank, text: Clean::new(text.trim()), kind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The landmarks as `line text | frame`, the same for any chunking.
    fn check(text: &str, want: &[&str]) {
        for size in [1, 7, 64, text.len().max(1)] {
            let mut landmarks = Landmarks::default();
            for chunk in text.as_bytes().chunks(size) {
                landmarks.feed(chunk);
            }
            landmarks.finish();
            let got: Vec<String> = landmarks
                .take()
                .into_iter()
                .map(|l| {
                    let more = match &l.kind {
                        Kind::Checkpoint { step } => step.map(|s| format!("step {s}")).unwrap_or_default(),
                        Kind::Error(r) => format!(
                            "{}{}{}",
                            r.frame.as_ref().map(Clean::as_str).unwrap_or_default(),
                            if r.follows { " follows" } else { "" },
                            if r.echo { " echo" } else { "" }
                        ),
                    };
                    format!("{} {} | {more}", l.line, l.text)
                })
                .collect();
            assert_eq!(got, want, "in chunks of {size}");
        }
    }

    #[test]
    fn checkpoints_of_trainers() {
        let step = |text: &str, step: &str| check(&format!("a\n{text}\n"), &[&format!("2 {text} | {step}")]);
        step("Saving model checkpoint to out/checkpoint-500", "step 500");
        step("  successfully saved checkpoint from iteration     500 to ckpt".trim(), "step 500");
        step("Saved checkpoint checkpoints/checkpoint1.pt (epoch 1 @ 500 updates, score 4.5)", "step 500");
        step("Model checkpoint of size 4.98 GB saved to /tmp/hf_model_0001_0.pt", "");
        step(
            "Epoch 1, global step 500: 'val_loss' reached 0.3, saving model to '/x/epoch=1-step=500.ckpt' as top 1",
            "step 500",
        );
        step("local_global_step_folder: checkpoints/grpo/global_step_20", "step 20");
        step("saving checkpoint to out", "");
        check(
            "[rank0]: 2026-01-02 10:00:00,123 - trl - INFO - Saving current state to out/checkpoint-7\n",
            &["1 Saving current state to out/checkpoint-7 | step 7"],
        );
    }

    #[test]
    fn what_only_speaks_of_checkpoints() {
        for text in [
            "Loading checkpoint shards: 100%",
            "Deleting older checkpoint [out/checkpoint-400] due to args.save_total_limit",
            "gradient checkpointing is incompatible with use_cache",
            "UserWarning: torch.utils.checkpoint: the use_reentrant parameter is saved",
            "resuming from saved checkpoint out/checkpoint-3",
            "{'saved checkpoint': '1'}",
            "save_checkpoint: true",
        ] {
            check(&format!("{text}\n"), &[]);
        }
    }

    #[test]
    fn the_last_line_of_a_traceback() {
        check(
            " 30%|███  | 3/10 [00:01<00:02]Traceback (most recent call last):\n  File \"train.py\", line 12, in main\n    x = row['answer']\n  File \"/v/lib/python3.12/site-packages/a.py\", line 1, in f\n    ~~^^\nKeyError: 'answer'\nmore\n",
            &["6 KeyError: 'answer' | File \"train.py\", line 12, in main"],
        );
        check(
            "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nValueError: x\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"b.py\", line 1, in g\nmod.OwnError\n",
            &["3 ValueError: x | File \"a.py\", line 1, in f", "9 mod.OwnError | File \"b.py\", line 1, in g follows"],
        );
        check(
            "[rank1]: Traceback (most recent call last):\n[rank0]: Traceback (most recent call last):\n[rank1]:   File \"t.py\", line 2, in f\n[rank0]:   File \"t.py\", line 9, in f\n[rank1]: ValueError: x\n[rank0]: torch.distributed.DistBackendError: NCCL error\n",
            &[
                "5 ValueError: x | File \"t.py\", line 2, in f",
                "6 torch.distributed.DistBackendError: NCCL error | File \"t.py\", line 9, in f echo",
            ],
        );
        check(
            "train.sh: line 3: 12345 Segmentation fault      (core dumped) python t.py\n",
            &["1 train.sh: line 3: 12345 Segmentation fault      (core dumped) python t.py | "],
        );
        check(
            "slurmstepd: error: *** JOB 77 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***\n",
            &["1 slurmstepd: error: *** JOB 77 ON n1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT *** | "],
        );
        // Without its end it tells nothing.
        check("Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    x\n", &[]);
    }
}
