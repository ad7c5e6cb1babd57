//! The recording that `oomph demo` plays.
//!
//! A real run: TRL 1.16.0 GRPO of Qwen2.5-1.5B (random weights) with transformers 5.17.0 and torch 2.11.0 on one NVIDIA
//! H200, 32 completions a step, no gradient checkpointing, prompts that grow from step to step until the card is full.
//! Standard output and NVML's figures were written down as they came; only the paths were changed.

use jiff::Timestamp;
use serde::Deserialize;

use crate::model::{
    Bytes, Clean, Event, EventKind, SourceId,
    gpu::{GpuProcess, GpuReading, GpuSample},
};

const RECORDING: &str = include_str!("demo.jsonl");
/// The run's settings, as the text of a configuration file named [`CONFIG_NAME`].
pub const CONFIG: &str = include_str!("demo.yaml");
pub const CONFIG_NAME: &str = "train_grpo.yaml";
/// When the recorded run began.
const START: &str = "2026-11-24T11:31:50Z";
const PID: u32 = 1472;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    gpu: String,
    memory_total: u64,
    power_limit_w: f32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Seconds since the start.
    t: f64,
    out: Option<String>,
    /// Bytes used on the card, bytes of the process, percent, percent, °C, W, MHz, MHz.
    gpu: Option<Figures>,
    exit: Option<i32>,
}

type Figures = (u64, Option<u64>, u32, u32, u32, f32, u32, u32);

/// Every event of the recording, in order, with the times of that day.
pub fn events() -> Vec<Event> {
    let mut lines = RECORDING.lines();
    let Some(header) = lines.next().and_then(|line| serde_json::from_str::<Header>(line).ok()) else {
        return Vec::new();
    };
    let Ok(start) = START.parse::<Timestamp>() else { return Vec::new() };
    let source = SourceId(0);
    let command = ["python", "train_grpo.py"].map(Clean::from).to_vec();
    let mut events = vec![
        Event { at: start, kind: EventKind::Started { command, pid: PID } },
        Event { at: start, kind: EventKind::Opened { source, name: "train.log".into(), path: None, size: None } },
    ];
    let mut offset = 0;
    for entry in lines.filter_map(|line| serde_json::from_str::<Entry>(line).ok()) {
        let at = start + jiff::SignedDuration::from_secs_f64(entry.t);
        if let Some(text) = entry.out {
            let data = text.into_bytes();
            let length = data.len() as u64;
            events.push(Event { at, kind: EventKind::Output { source, offset, data } });
            offset += length;
        }
        if let Some((used, mine, busy, memory_busy, temperature, power, sm, memory)) = entry.gpu {
            let process = GpuProcess {
                pid: PID,
                used: mine.map(Bytes),
                name: Some("python".into()),
                user: Some("user".into()),
                command: Some("python train_grpo.py".into()),
                ..GpuProcess::default()
            };
            let sample = GpuSample {
                uuid: "GPU-demo".into(),
                name: header.gpu.as_str().into(),
                memory_total: Some(Bytes(header.memory_total)),
                memory_used: Some(Bytes(used)),
                memory_free: Some(Bytes(header.memory_total.saturating_sub(used))),
                utilization: Some(busy),
                memory_utilization: Some(memory_busy),
                temperature_c: Some(temperature),
                power_w: Some(power),
                power_limit_w: Some(header.power_limit_w),
                sm_clock_mhz: Some(sm),
                memory_clock_mhz: Some(memory),
                processes: if mine.is_some() { vec![process] } else { Vec::new() },
                ..GpuSample::default()
            };
            events.push(Event { at, kind: EventKind::Gpu { reading: GpuReading::Samples(vec![sample]) } });
        }
        if let Some(code) = entry.exit {
            events.push(Event { at, kind: EventKind::Ended { source } });
            events.push(Event { at, kind: EventKind::Exited { code: Some(code), signal: None } });
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_is_whole() {
        let events = events();
        assert_eq!(events.len() - 4, RECORDING.lines().count() - 2);
        assert!(events.is_sorted_by_key(|e| e.at));
        let text: Vec<u8> = events
            .iter()
            .filter_map(|e| if let EventKind::Output { data, .. } = &e.kind { Some(data.clone()) } else { None })
            .flatten()
            .collect();
        assert_eq!(String::from_utf8(text).unwrap().matches("'loss':").count(), 30);
    }
}
