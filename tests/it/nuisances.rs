//! What launchers, loggers, collectors and terminals do to a log changes no point of it: every log of `tests/dialects` is
//! read as it is and through each of them.

use std::path::PathBuf;

use oomph::parse::{files::AnyReader, metrics};

/// Kind, step, epoch and values of each point.
fn points(log: &[u8]) -> (Vec<String>, u32, Option<u64>) {
    let (mut reader, mut records) = (AnyReader::default(), Vec::new());
    log.chunks(1000).for_each(|part| reader.feed(part, &mut records));
    reader.finish(&mut records);
    let told = metrics::points(records).map(|p| {
        let raw: Vec<String> = p.raw.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let canonical: Vec<String> = p.canonical.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{:?} {:?} {:?} {} | {}", p.kind, p.step, p.epoch, raw.join(" "), canonical.join(" "))
    });
    (told.collect(), reader.segments(), reader.total_steps())
}

fn logs() -> Vec<(String, String)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialects"));
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut logs: Vec<_> = files
        .map(|path| {
            let text = std::fs::read(&path).unwrap();
            (path.file_name().unwrap().to_string_lossy().into_owned(), String::from_utf8_lossy(&text).into_owned())
        })
        .collect();
    logs.sort();
    logs
}

/// A log with something done to each of its lines.
fn each_line(log: &str, change: impl Fn(&str) -> String) -> Vec<u8> {
    let whole = log.ends_with('\n');
    let lines: Vec<String> = log.strip_suffix('\n').unwrap_or(log).split('\n').map(change).collect();
    (lines.join("\n") + if whole { "\n" } else { "" }).into_bytes()
}

const PREFIXES: &[&str] = &[
    "[rank0]:",
    "[rank3]: ",
    "[default0]:",
    "0: ",
    " 0: ",
    "13: ",
    "[RANK 3] ",
    "worker-0: ",
    "gpu-node-07: ",
    "10.0.12.7: ",
    "(WorkerDict pid=1234) ",
    "(main_task pid=1234, ip=10.0.0.1) ",
    "\x1b[36m(TaskRunner pid=1234)\x1b[0m ",
    "[1,0]<stdout>:",
    "2024-06-28T06:11:52.685300953Z ",
    "2024-06-28T06:11:52.685300953Z stdout F ",
    "2024-06-28T06:11:52.685300953+02:00 stderr F ",
    "2024-01-01 12:00:00,123 - root - INFO - ",
    "2024-01-01 12:00:00.123 | INFO     | __main__:main:54 - ",
    "2024-01-01 12:00:00 INFO ",
    "[2024-03-07 15:27:02,646] [INFO] [train.py:260:main] ",
    "[2025-01-02 10:00:00,123] [INFO] [axolotl.train.train:120] [PID:77] [RANK:0] ",
    "10/10/2022 22:57:22 - INFO - __main__ -   ",
    "[titan] 2026-03-08 12:00:25,933 - root - INFO - ",
    "[INFO|DP=0|PP=0|TP=0|host-1]: ",
    "[INFO|trainer.py:2134] 2024-01-01 12:00:00,123 >> ",
    "INFO:root:",
    "I0811 21:54:55.531340 138304841739136 train.py:226] ",
    "[11/17 01:18:50 d2.utils.events]: ",
    "[03:23:49.951215] ",
    "11:55:54-437606 INFO     ",
    "Mar  8 12:00:25 node17 python[4711]: ",
    "trainer-1  | ",
    "> ",
    "    ",
    "\x1b[32m",
];

/// What is put together: launchers and loggers stand in this order.
const STACKS: &[[usize; 3]] =
    &[[3, 10, 17], [14, 0, 23], [31, 3, 21], [32, 12, 27], [15, 2, 18], [4, 6, 20], [33, 1, 22]];

#[test]
fn prefixes() {
    let mut wrong = Vec::new();
    for (name, log) in logs() {
        let want = points(log.as_bytes());
        let stacks = STACKS.iter().map(|s| s.map(|at| PREFIXES[at]).concat());
        for prefix in PREFIXES.iter().map(ToString::to_string).chain(stacks) {
            // Half of its lines name a rank.
            if name == "16-ds.log" && ["3] ", "[rank3]", "13: "].iter().any(|rank| prefix.contains(rank)) {
                continue;
            }
            // `INFO | ` would be a logger's.
            if name == "31-sb3.log" && prefix.trim_end().ends_with("INFO") {
                continue;
            }
            let got = points(&each_line(&log, |line| format!("{prefix}{line}")));
            tell(&mut wrong, &format!("{name} with {prefix:?}"), &want, &got);
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// The longer logs of the catalogue, each with some of the prefixes.
#[test]
fn prefixes_of_the_catalogue() {
    const EACH: usize = 2;
    let mut wrong = Vec::new();
    for (nth, (name, (log, _))) in super::catalogue::logs().into_iter().enumerate() {
        let text = String::from_utf8_lossy(&log);
        let log: String = text.lines().take(40).map(|line| format!("{line}\n")).collect();
        let own = ["rank", "worker", "Rank", "RANK", "default", "0: "].iter().any(|word| log.contains(word));
        let want = points(log.as_bytes());
        for prefix in (0..EACH).map(|k| PREFIXES[(nth * EACH + k) % PREFIXES.len()]) {
            let of_rank = prefix.contains(['3', '0']) && !prefix.contains(':');
            let boxed = log.starts_with(['|', '-']);
            // A mark of the byte order stands at the start of a file, not of a line.
            if log.starts_with('\u{feff}')
                || own && (of_rank || prefix.len() < 12)
                || boxed && prefix.trim_end().ends_with("INFO")
            {
                continue;
            }
            let got = points(&each_line(&log, |line| format!("{prefix}{line}")));
            tell(&mut wrong, &format!("{name} with {prefix:?}"), &want, &got);
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

type Told = (Vec<String>, u32, Option<u64>);

fn tell(wrong: &mut Vec<String>, what: &str, want: &Told, got: &Told) {
    if want == got {
        return;
    }
    let at = want.0.iter().zip(&got.0).position(|(a, b)| a != b).unwrap_or(want.0.len().min(got.0.len()));
    let none = String::from("nothing");
    wrong.push(format!(
        "{what}: {} and {} points, segments {} {}, total {:?} {:?}\n   want {}\n   got  {}",
        want.0.len(),
        got.0.len(),
        want.1,
        got.1,
        want.2,
        got.2,
        want.0.get(at).unwrap_or(&none),
        got.0.get(at).unwrap_or(&none)
    ));
}

#[test]
fn encodings_and_line_ends() {
    let mut wrong = Vec::new();
    for (name, log) in logs() {
        let want = points(log.as_bytes());
        let mut check = |what: &str, changed: Vec<u8>| {
            tell(&mut wrong, &format!("{name} with {what}"), &want, &points(&changed));
        };
        check("CRLF", log.replace('\n', "\r\n").into_bytes());
        check("CR CR LF", log.replace('\n', "\r\r\n").into_bytes());
        check("a BOM", format!("\u{feff}{log}").into_bytes());
        let units = || std::iter::once(0xfeff).chain(log.encode_utf16());
        check("UTF-16 LE", units().flat_map(u16::to_le_bytes).collect());
        check("UTF-16 BE", units().flat_map(u16::to_be_bytes).collect());
        check("NULs before", [vec![0; 4096], log.clone().into_bytes()].concat());
        check("blank lines", log.replace('\n', "\n\n").into_bytes());
        check("colours", each_line(&log, |line| format!("\x1b[0;32m{line}\x1b[0m\x1b[K")));
        check("hidden cursor", format!("\x1b[?25l{log}\x1b[?25h").into_bytes());
        let json =
            |line: &str, wrap: &dyn Fn(&str) -> String| wrap(&serde_json::to_string(&format!("{line}\n")).unwrap());
        check(
            "docker's JSON",
            each_line(&log, |line| {
                json(line, &|l| format!(r#"{{"log":{l},"stream":"stderr","time":"2024-06-28T06:11:52.685300953Z"}}"#))
            }),
        );
        check(
            "docker's JSON, another order",
            each_line(&log, |line| {
                json(line, &|l| format!(r#"{{"stream":"stdout","time":"2024-06-28T06:11:52.6Z","log":{l}}}"#))
            }),
        );
        check("a cut line before", format!("rm': 0.63, 'learning_rate': 2.5e-06, 'epoch': 0.01}}\n{log}").into_bytes());
        check("noise before", format!("{NOISE}{log}").into_bytes());
        check("noise after", format!("{log}\n{NOISE}").into_bytes());
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// Lines that hold numbers and words of training and are no points.
const NOISE: &str = "\
Namespace(lr=0.001, epochs=3, batch_size=16, loss='ce', steps=100)
Config param learning_rate: 0.001
Config param steps: 100
engine/trainer: task=detect, mode=train, model=yolo11n.yaml, epochs=100, lr0=0.01, lrf=0.01, momentum=0.937, box=7.5, cls=0.5
{\"lr\": 0.1, \"model\": {\"layers\": 12}, \"name\": \"run\"}
wandb: Run history:
wandb:      loss ▁▂▃▅▇█
[W1206 10:00:00.123456789 ProcessGroupNCCL.cpp:1250] Warning: process group has NOT been destroyed (function operator())
Loading checkpoint shards: 100%|██████████| 5/5 [00:06<00:00,  1.30s/it]
Map (num_proc=4): 100%|██████████| 1000/1000 [00:01<00:00, 900.00 examples/s]
Saving model checkpoint to out/checkpoint-500
  File \"/opt/venv/lib/python3.11/site-packages/torch/nn/functional.py\", line 3029, in cross_entropy
    return torch._C._nn.cross_entropy_loss(input, target, weight, _Reduction.get_enum(reduction), ignore_index, label_smoothing)
UserWarning: lr_scheduler.step() is called before optimizer.step(): step 0 loss may be wrong
| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4 |
|   0  NVIDIA H100 80GB HBM3          On  |   00000000:1B:00.0 Off |                    0 |
| N/A   33C    P0            115W /  700W |   61200MiB /  81559MiB |     98%      Default |
";

/// A collector dropped the carriage returns; the log was written again behind itself.
#[test]
fn glued_and_repeated() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (name, log) in logs() {
        let want = points(log.as_bytes());
        let glued = points(log.replace('\r', "").as_bytes());
        tell(&mut wrong, &format!("{name} without CR"), &want, &glued);
        // Of one run with at least two steps of the same kind.
        let places = |p: &str| p.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let names = |p: &str| {
            p.split(' ').skip(3).map(|v| v.split('=').next().unwrap_or_default().to_string()).collect::<Vec<_>>()
        };
        let trains: Vec<&String> = want.0.iter().filter(|p| p.starts_with("Train")).collect();
        let goes_on = trains.iter().any(|p| names(p) == names(trains[0]) && places(p) != places(trains[0]));
        if want.1 != 1 || !goes_on || log.contains("[rank") || ["18-orlhf.log", "19-llmc.log"].contains(&name.as_str())
        {
            continue;
        }
        count += 1;
        let log = format!("{}\n", log.trim_end_matches('\n'));
        let twice = points(format!("{log}{log}").as_bytes());
        tell(&mut wrong, &format!("{name} twice"), &([want.0.clone(), want.0].concat(), 2, want.2), &twice);
    }
    assert!(count > 20, "{count}");
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn ranks_and_runs() {
    let mut wrong = Vec::new();
    // Some name ranks of their own.
    let names_ranks = |log: &str| ["[rank", "[Rank", "0: ", "worker-0"].iter().any(|word| log.contains(word));
    for (name, log) in logs().into_iter().filter(|(_, log)| !names_ranks(log)) {
        let want = points(log.as_bytes());
        let both = each_line(&log, |line| format!("[rank0]:{line}\n[rank1]:{line}"));
        tell(&mut wrong, &format!("{name} by two ranks"), &want, &points(&both));
        let slurm = each_line(&log, |line| format!("0: {line}\n1: {line}\n2: {line}\n3: {line}"));
        tell(&mut wrong, &format!("{name} by four tasks"), &want, &points(&slurm));
        if name == "nuisance-absl-double.log" {
            continue;
        }
        let after: Vec<u8> = (0..2)
            .flat_map(|rank| {
                each_line(&format!("{}\n", log.trim_end_matches('\n')), |line| format!("[rank{rank}]: {line}"))
            })
            .collect();
        tell(&mut wrong, &format!("{name} by one rank after the other"), &want, &points(&after));
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_log_that_is_cut_gives_the_points_before() {
    let mut wrong = Vec::new();
    for (name, log) in logs() {
        let want = points(log.as_bytes()).0;
        for part in 1..12 {
            let cut = &log.as_bytes()[..log.len() * part / 12];
            let got = points(cut).0;
            let same = got.iter().zip(&want).take_while(|(a, b)| a == b).count();
            // The last one may be half there.
            if same + 1 < got.len() {
                wrong.push(format!(
                    "{name} at {part}: {} then {:?}\n   want {:?}",
                    same,
                    got.get(same),
                    want.get(same)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}
