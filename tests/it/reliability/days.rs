//! Days of a run in a minute (D9): the same events that the dashboard gets, fed as fast as it takes them. What is kept
//! must fill once, and then stay as large as it is.

use std::process::Command;

use oomph::{
    model::{
        Bytes, Event, EventKind, SourceId, Timestamp,
        event::HostSample,
        gpu::{GpuReading, GpuSample},
    },
    session::Session,
    ui::{App, Msg, frame_text, update},
};

use super::{count, memory_kib, tell};

const HOUR: i64 = 3600;
/// Everything that has a limit has reached it by then.
const FULL_AFTER: i64 = 11 * HOUR;
/// Set in the process that is measured.
const INSIDE: &str = "OOMPH_TEST_DAYS_INSIDE";
const OOM: &str = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 16.00 GiB of which 1.00 GiB is free. Including non-PyTorch memory, this process has 15.00 GiB memory in use. Of the allocated memory 14.00 GiB is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated.\n";

/// One second of the run, with its faults.
fn second(n: i64, offset: &mut u64, put: &mut dyn FnMut(EventKind)) {
    let source = SourceId(0);
    let samples = (0..8u32).map(|index| GpuSample {
        uuid: format!("GPU-{index}"),
        index,
        // One of them comes and goes.
        lost: index == 5 && n % 7 == 0,
        memory_total: Some(Bytes(80 << 30)),
        memory_used: Some(Bytes((40 << 30) + (n as u64 * 7919) % (1 << 30))),
        utilization: Some((n % 101) as u32),
        xids: if n % 300 == 0 { vec![31 + (n as u64 / 300) % 60] } else { Vec::new() },
        ..GpuSample::default()
    });
    put(EventKind::Gpu { reading: GpuReading::Samples(samples.collect()) });
    put(EventKind::Host {
        sample: HostSample {
            total_bytes: Some(256 << 30),
            available_bytes: Some((100 << 30) - n as u64),
            ..HostSample::default()
        },
    });
    let mut text = format!(
        "{{'loss': {:.4}, 'grad_norm': 1.{n}, 'learning_rate': 1e-05, 'epoch': {:.4}}}\n",
        1.0 + (n % 97) as f64 / 50.0,
        n as f64 / 1e4
    );
    text += &format!("\x1b[32mINFO\x1b[0m worker {n}: {} многие языки\n", "some words that fill a log ".repeat(12));
    text += &format!("\r {n}/10000000 [00:01<00:09, 1.00it/s]\r");
    match n % 60 {
        11 if n % (24 * HOUR) < 60 => text += &format!("{OOM}WARNING: out of memory at step {n}, skipping batch\n"),
        23 => text += &format!("Saving model checkpoint to out/checkpoint-{n}\n"),
        37 if n % (24 * HOUR) < 60 => {
            text += "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nKeyError: 'x'\n";
        }
        41 => text += &format!("{{'eval_loss': 1.5, 'eval_runtime': 2.0, 'epoch': {:.4}}}\n", n as f64 / 1e4),
        _ => {}
    }
    let data = text.into_bytes();
    let length = data.len() as u64;
    put(EventKind::Output { source, offset: *offset, data });
    *offset += length;
    match n % 90 {
        30 => {
            put(EventKind::Truncated { source, unread: 17 });
            *offset = 0;
        }
        60 => {
            put(EventKind::Rotated { source });
            *offset = 0;
        }
        70 => put(EventKind::Trouble { source, what: Some("no answer".into()) }),
        71 => put(EventKind::Trouble { source, what: None }),
        80 => {
            put(EventKind::Kernel { text: format!("NVRM: Xid (PCI:0000:0{}:00): 31, pid={n}", n % 8).as_str().into() });
        }
        _ => {}
    }
}

/// Lives through so many seconds and prints the memory, in KiB, at the end of each hour.
fn live(seconds: i64) {
    let mut session = Session::default();
    let source = SourceId(0);
    let begin = Timestamp::from_second(1_790_000_000).unwrap();
    session.apply(Event {
        at: begin,
        kind: EventKind::Opened { source, name: "train.log".into(), path: None, size: None },
    });
    session.apply(Event { at: begin, kind: EventKind::CaughtUp { source } });
    let mut app = App::new(session);
    let mut offset = 0;
    for n in 0..seconds {
        let at = Timestamp::from_second(1_790_000_000 + n).unwrap();
        second(n, &mut offset, &mut |kind| {
            update(&mut app, Msg::Event(Event { at, kind }));
        });
        if n % 60 == 59 {
            update(&mut app, Msg::Tick(at));
        }
        if n % 600 == 599 {
            let _ = frame_text(&app, 120, 40);
        }
        if n % HOUR == HOUR - 1 {
            println!("{}", memory_kib(std::process::id(), "VmRSS").unwrap());
        }
    }
}

#[test]
fn days_take_no_more_memory_than_hours() {
    if std::env::var_os(INSIDE).is_some() {
        live(count(16, 240) as i64 * HOUR);
        return;
    }
    // A process of its own: what other tests take is not counted.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reliability::days::days_take_no_more_memory_than_hours", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let hours: Vec<u64> = text.lines().filter_map(|l| l.parse().ok()).collect();
    assert_eq!(hours.len(), count(16, 240), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let settled = &hours[(FULL_AFTER / HOUR) as usize..];
    let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
    let every: Vec<String> =
        hours.iter().step_by((hours.len() / 16).max(1)).map(|kib| format!("{}", kib >> 10)).collect();
    tell(&format!(
        "D9: {} hours of a run with 8 GPUs: memory {} MiB after 1 h, then {} to {} MiB ({})",
        hours.len(),
        hours[0] >> 10,
        least >> 10,
        most >> 10,
        every.join(" ")
    ));
    assert!(most - least < 8 << 10, "{every:?}");
}
