//! What launchers, loggers and collectors put before a line, taken away again and again until nothing is left of it.
//!
//! Ranks and exact times are kept. A number that stands in a prefix (a process id, a line number, `0:`) is no metric.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// What stands before a line's own text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prefix {
    /// Offset of the text's first byte.
    pub end: usize,
    /// The last rank that was named: the one before may be the node's.
    pub rank: Option<u32>,
    /// Unix seconds, where a time with its zone stood there.
    pub time: Option<f64>,
}

const LEVEL: &str = r"(?:ERROR|INFO|WARNING|WARN|CRITICAL|DEBUG|FATAL|FAILED|NOTICE|SUCCESS|TRACE)";
const DATE: &str = r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|\s?[+-]\d\d:?\d\d)?";

/// One kind after the other; `LEVEL` and `DATE` stand for the above.
const KINDS: &[&str] = &[
    r"\s*\[(?:rank|RANK|Rank)[ :=_]?\d+\]:?\s?",
    r"\s*(?:rank|RANK|Rank)[ :=_]?\d+:\s?",
    r"\[default\d+\]:\s?",
    r"\[PID:\d+\]\s?",
    // mpirun --tag-output, SageMaker
    r"\[\d+,(?:mpirank:)?\d+(?:,[^\]]*)?\]<std(?:out|err)>:\s?",
    // Ray, vLLM: (WorkerDict pid=1, ip=10.0.0.1) (EngineCore_DP0 pid=1) (pid=7)
    r"\((?:[A-Za-z_][\w.:\-]*(?:\[\d+\])?(?:\([^)]*\))? )?(?:rank=\d+ )?(?:pid=\d+)(?:, ip=[\d.a-f:]+)?\)\s?",
    r"\(raylet(?:, ip=[\d.]+)?\)\s",
    // detectron2: [11/17 01:18:50 d2.utils.events]:
    r"\[\d\d/\d\d \d\d:\d\d:\d\d [^\]]+\]:\s?",
    // A time, and the dash of logging's formats after it
    r"\[LEVEL DATE[^\]]*\]:?\s?",
    r"\[?DATE(?:[^\]\s]*\])?:?(?: - |\s|$)",
    r"\[DATE[^\]]*\]:?\s*",
    r"\[?\d\d[-/]\d\d(?:[-/]\d{2,4})? \d\d:\d\d:\d\d(?:[.,]\d+)?\]?:?(?: - |\s|$)",
    r"\[?\d\d:\d\d:\d\d(?:[.,\-]\d+)?\]?(?: - |\s|$)",
    r"\[[A-Za-z][\w.\- ]*\]\s+DATE(?: - |\s)",
    // The collectors of Kubernetes
    r"(?:stdout|stderr) [FP] ",
    r"\[pod/[^\]]+\]\s",
    // syslog, journalctl
    r"\w{3}\s+\d+ \d\d:\d\d:\d\d \S+ [\w./\-]+(?:\[\d+\])?:\s",
    // logging: `name - LEVEL - `, `LEVEL - name - `, `LEVEL:name:`, `name LEVEL: `, loguru
    r"[A-Za-z_][\w.\-]* - LEVEL - ",
    r"LEVEL - [A-Za-z_][\w.\-]* -\s",
    r"[A-Za-z_]\w*[._][\w.\-]* LEVEL:\s?",
    r"LEVEL:(?:[A-Za-z_][\w.\-]*:)?",
    r"[\s|:\-]*LEVEL\s*\|\s+(?:[\w.<>]+:[\w.<>]+:\d+(?: - |\s))?",
    r"[\s|:\-]*\[?LEVEL\]?(?:\s*[:\-]+\s+|\s+|$)",
    r"\[LEVEL\|[^\]]*\]:?\s?",
    // axolotl: [axolotl.train.train:120]
    r"\[[\w.\-/]+\.(?:py|cpp|cc|cu|rs):\d+(?::\w+)?\]\s?",
    r"\[[A-Za-z_][\w\-]*(?:\.[A-Za-z_<][\w\->]*)+:\d+\]\s?",
    r"[\w.\-/]+\.py:\d+(?::\w+)?[\s|:\-]+",
    r"\[?[WEIF]\d{3,4} \d\d:\d\d:\d\d(?:\.\d+)?[^\]]*?\]\s?",
    r"\[resource\.labels[^\]]*\]\s*",
    r"\[\d+\.\d+s\]\s+",
    // docker compose
    r"[A-Za-z][\w.\-]*[-_]\d+\s+\|\s",
    // srun --label
    r"\s*\d{1,3}:(?:\s|$)",
    r"E\s{2,}",
    r"(?:>\s?)+",
    r"(?:\w{3}\s+\d+ \d\d:\d\d:\d\d \S+ )?kernel:\s*",
    r"\[\s*\d+\.\d{3,6}\]\s",
    r"\[AutoTuner\]\s*",
    // DeepSpeed's launcher, pdsh
    r"(?:worker|node|host|gpu|cn|nid|ip|dgx|compute|slurm)[\w.\-]*\d[\w.\-]*:\s",
    r"\d{1,3}(?:\.\d{1,3}){3}:\s",
];

static ANY: LazyLock<Regex> = LazyLock::new(|| {
    let kinds = KINDS.join("|").replace("LEVEL", LEVEL).replace("DATE", DATE);
    Regex::new(&format!(r"(?-u)\A(?:{kinds})")).expect("the list is tested")
});

/// Where a prefix names a rank.
static RANK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i-u)\A\s*(?:\[?(?:rank|default)[ :=_]?(\d+)\]?|\[\d+,(?:mpirank:)?(\d+)|\(.*?rank=(\d+)|(\d{1,3}):(?:\s|\z)|(?:worker|node|host)-?(\d+):)",
    )
    .expect("tested")
});

/// Prefixes that one line has at most.
const MAX: usize = 12;

/// Finds the prefixes of a line without colours.
pub fn find(line: &[u8]) -> Prefix {
    let mut prefix = Prefix::default();
    // The bulk of long logs: a dictionary's line.
    if line.first() == Some(&b'{') {
        return prefix;
    }
    for _ in 0..MAX {
        let rest = line.get(prefix.end..).unwrap_or_default();
        let blanks = rest.len() - rest.trim_ascii_start().len();
        let Some(found) = ANY.find(&rest[blanks..]).filter(|m| !m.is_empty()) else { break };
        // `INFO:step: 5` has no logger's name in it.
        let text = found.as_bytes();
        if text.last() == Some(&b':') && is_counter(text) {
            break;
        }
        // `train.py:38` is a logger's place; before `in main`, or alone in its row, it is a frame of rich's traceback.
        let after = rest.get(blanks + text.len()..).unwrap_or_default();
        let place = !text.contains(&b']') && memchr::memmem::find(text, b".py:").is_some();
        if place && (after.starts_with(b"in ") || after.is_empty() && matches!(text.first(), Some(b'/' | b'~'))) {
            break;
        }
        let rank = RANK.captures(text).and_then(|c| {
            let number = c.iter().skip(1).flatten().next()?;
            std::str::from_utf8(number.as_bytes()).ok()?.parse().ok()
        });
        prefix.rank = rank.or(prefix.rank);
        prefix.time = prefix.time.or_else(|| exact_time(text));
        prefix.end += blanks + text.len();
    }
    prefix
}

/// Whether a prefix ends in what is rather the name of a line's first number.
fn is_counter(text: &[u8]) -> bool {
    let name = text[..text.len() - 1].rsplit(|b| *b == b':').next().unwrap_or_default();
    [&b"step"[..], b"epoch", b"iter", b"iteration", b"loss", b"Step", b"Epoch"].contains(&name)
}

/// `2024-06-28T06:11:52.685Z` as Unix seconds; a time without a zone is none.
fn exact_time(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if !text.starts_with("20") || text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_microsecond() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, rank: Option<u32>, text: &str) {
        let prefix = find(line.as_bytes());
        assert_eq!((prefix.rank, &line[prefix.end..]), (rank, text), "{line}");
    }

    #[test]
    fn prefixes_of_launchers() {
        check("[rank0]:step 1", Some(0), "step 1");
        check("[RANK 3] step 1", Some(3), "step 1");
        check("[default7]:step 1", Some(7), "step 1");
        check("0: {'loss': 1}", Some(0), "{'loss': 1}");
        check("13: | a | 5 |", Some(13), "| a | 5 |");
        check(" 0: [rank0]: x", Some(0), "x");
        check("0: ", Some(0), "");
        check("worker-1: x 5", Some(1), "x 5");
        check("gpu-node-03.cluster: x 5", None, "x 5");
        check("10.0.0.5: x", None, "x");
        check("(WorkerDict pid=123, ip=10.0.0.1) x", None, "x");
        check("(pid=123) x", None, "x");
        check("[1,3]<stdout>:x", Some(3), "x");
        check("[1,mpirank:2,algo-1]<stderr>:x", Some(2), "x");
        check("trainer-1  | x", None, "x");
    }

    #[test]
    fn prefixes_of_loggers() {
        for prefix in [
            "2024-01-01 12:00:00,123 - name - INFO - ",
            "INFO:name.x:",
            "INFO:tensorflow:",
            "10/10/2022 22:57:22 - INFO - __main__ -   ",
            "[titan] 2026-03-08 12:00:25,933 - root - INFO - ",
            "[2024-03-07 15:27:02,646] [INFO] [timer.py:260:stop] ",
            "[2025-01-02 10:00:00,123] [INFO] [axolotl.train.train:120] [PID:77] ",
            "[INFO|DP=0|PP=0|TP=0|host]: ",
            "[INFO|trainer.py:2134] 2024-01-01 12:00:00,123 >> ",
            "2024-05-01 10:00:00.123 | INFO     | mod.x:fn:54 - ",
            "2021-03-01 10:00:00 | INFO | ",
            "I0811 21:54:55.531340 138304841739136 file.py:226] ",
            "[11/17 01:18:50 d2.utils.events]: ",
            "[04/14 09:05:02] d2.utils.events INFO: ",
            "[03:23:49.951215] ",
            "11:55:54-437606 INFO     ",
            "2024-06-28T06:11:52.685300953Z stdout F ",
            "Jun 28 06:11:52 node17 python[4711]: ",
            "2026/03/07 15:06:40 - mmengine - INFO - ",
            "> ",
            "2024-01-01 12:00:00 INFO ",
            "[INFO 2026-03-19 09:01:05] ",
        ] {
            let line = format!("{prefix}text 5");
            let found = find(line.as_bytes());
            assert_eq!(line[found.end..].trim_start(), "text 5", "{line}");
            assert_eq!(found.rank, None, "{line}");
        }
    }

    #[test]
    fn a_line_of_its_own_has_none() {
        for line in [
            "  File \"a.py\", line 3, in f",
            "step: 10  loss: 5",
            "INFO:step: 10",
            " 10%|# | 2/20 [00:01<00:09]",
            "[batch=1/100]:",
            "         Train loss: 1",
            "4/4 - 0s - 14ms/step - loss: 1",
            "|    ep_rew_mean  | 5 |",
            "[100] loss=2",
            "2024,1,2",
            "Epoch 1/5",
            "1|25|Loss: 1.45:",
            "iter 10: loss 4",
            "-----",
            "[  0]      10 || B: 6.000",
        ] {
            let found = find(line.as_bytes());
            assert_eq!(found.end, 0, "{line}");
        }
    }

    #[test]
    fn a_time_with_its_zone_is_kept() {
        assert_eq!(find(b"2024-06-28T06:11:52.5Z x").time, Some(1719555112.5));
        assert_eq!(find(b"2024-06-28 06:11:52,500 x").time, None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(line in "[\\[\\]()rank0-9:. TZ|>INFO/\u{e9}-]{0,60}") {
            let found = find(line.as_bytes());
            assert!(line.get(found.end..).is_some());
        }
    }
}
