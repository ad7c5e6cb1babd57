//! Metrics of GPUs as Prometheus knows them: its text format, and the answer of its HTTP interface. Hostile: names,
//! labels and numbers are cut, counted and cleaned.
//!
//! Understood are NVIDIA's dcgm-exporter, nvidia_gpu_exporter, the older nvidia_gpu_prometheus_exporter, and the host
//! memory of node_exporter.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::{
    Clean,
    fleet::{FleetGpu, HostReport},
};

/// Samples of one answer that are read.
const MOST: usize = 200_000;
/// Longest label, and labels of one sample.
const LONGEST: usize = 1024;
const LABELS: usize = 64;
/// GPUs of one machine that are kept.
const GPUS: usize = 64;

/// What a server is asked for: exactly the metrics that are understood.
pub const QUESTION: &str = "{__name__=~\"DCGM_FI_DEV_(FB_USED|FB_FREE|FB_RESERVED|GPU_UTIL|GPU_TEMP|POWER_USAGE|XID_ERRORS)|\
nvidia_smi_(index|memory_used_bytes|memory_total_bytes|utilization_gpu_ratio|temperature_gpu|power_draw_watts)|\
nvidia_gpu_(memory_used_bytes|memory_total_bytes|duty_cycle|temperature_celsius|power_usage_milliwatts)|\
node_memory_Mem(Total|Available)_bytes\"}";

const MIB: f64 = 1_048_576.0;

/// What a metric says of a GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Index,
    Used(f64),
    Free(f64),
    Reserved(f64),
    Total(f64),
    Busy(f64),
    Celsius,
    Watts(f64),
    Xid,
    HostTotal,
    HostAvailable,
}

/// The metrics that are understood; a number turns their unit into bytes, percent or watts.
const KNOWN: &[(&str, Says)] = &[
    // https://github.com/NVIDIA/dcgm-exporter: memory in MiB
    ("DCGM_FI_DEV_FB_USED", Says::Used(MIB)),
    ("DCGM_FI_DEV_FB_FREE", Says::Free(MIB)),
    ("DCGM_FI_DEV_FB_RESERVED", Says::Reserved(MIB)),
    ("DCGM_FI_DEV_GPU_UTIL", Says::Busy(1.0)),
    ("DCGM_FI_DEV_GPU_TEMP", Says::Celsius),
    ("DCGM_FI_DEV_POWER_USAGE", Says::Watts(1.0)),
    ("DCGM_FI_DEV_XID_ERRORS", Says::Xid),
    // https://github.com/utkuozdemir/nvidia_gpu_exporter
    ("nvidia_smi_index", Says::Index),
    ("nvidia_smi_memory_used_bytes", Says::Used(1.0)),
    ("nvidia_smi_memory_total_bytes", Says::Total(1.0)),
    ("nvidia_smi_utilization_gpu_ratio", Says::Busy(100.0)),
    ("nvidia_smi_temperature_gpu", Says::Celsius),
    ("nvidia_smi_power_draw_watts", Says::Watts(1.0)),
    // https://github.com/mindprince/nvidia_gpu_prometheus_exporter
    ("nvidia_gpu_memory_used_bytes", Says::Used(1.0)),
    ("nvidia_gpu_memory_total_bytes", Says::Total(1.0)),
    ("nvidia_gpu_duty_cycle", Says::Busy(1.0)),
    ("nvidia_gpu_temperature_celsius", Says::Celsius),
    ("nvidia_gpu_power_usage_milliwatts", Says::Watts(0.001)),
    // https://github.com/prometheus/node_exporter
    ("node_memory_MemTotal_bytes", Says::HostTotal),
    ("node_memory_MemAvailable_bytes", Says::HostAvailable),
];

/// One value of one metric.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// The machines that an answer tells of. `host` is whose the metrics are that do not say it.
///
/// # Errors
/// When it is no answer of Prometheus, or past a limit; the text says which.
pub fn hosts(answer: &[u8], is_server: bool, host: &Clean) -> Result<Vec<HostReport>, Clean> {
    let samples = if is_server { served(answer)? } else { listed(answer)? };
    let hosts = fold(&samples, host);
    if hosts.is_empty() {
        return Err("it answers, but with no metric of a GPU (dcgm-exporter, nvidia_gpu_exporter) or of a host's memory (node_exporter)".into());
    }
    Ok(hosts)
}

/// The text format: `name{label="value",…} number [time]`, a line each. What is no sample is stepped over, but a text
/// of which nothing is one is not this format.
fn listed(answer: &[u8]) -> Result<Vec<Sample>, Clean> {
    let text = String::from_utf8_lossy(answer);
    let (mut samples, mut read, mut odd) = (Vec::new(), 0usize, 0usize);
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        read += 1;
        if read > MOST {
            return Err(format!("it answers with more than {MOST} samples").into());
        }
        match sample(line) {
            Ok(Some(sample)) => samples.push(sample),
            Ok(None) => {}
            Err(()) => odd += 1,
        }
    }
    if odd > read / 2 {
        return Err("what it answers is not Prometheus' text format".into());
    }
    Ok(samples)
}

/// A line of the text format; `None` for a metric that is not understood.
fn sample(line: &str) -> Result<Option<Sample>, ()> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).ok_or(())?;
    let (name, mut rest) = line.split_at(end);
    if name.is_empty() {
        return Err(());
    }
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start();
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once('=').ok_or(())?;
            let after = after.trim_start().strip_prefix('"').ok_or(())?;
            let (value, after) = quoted(after).ok_or(())?;
            if key.len() <= LONGEST && value.len() <= LONGEST && labels.len() < LABELS {
                labels.insert(key.trim().to_string(), value);
            }
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        rest = &rest[1..];
    }
    let value: f64 = rest.split_ascii_whitespace().next().ok_or(())?.parse().map_err(|_| ())?;
    let known = KNOWN.iter().any(|(known, _)| *known == name);
    Ok(known.then(|| Sample { name: name.to_string(), labels, value }))
}

/// The text up to the closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            c => value.push(c),
        }
    }
    None
}

/// The answer of `/api/v1/query`: <https://prometheus.io/docs/prometheus/latest/querying/api/>.
fn served(answer: &[u8]) -> Result<Vec<Sample>, Clean> {
    #[derive(Deserialize)]
    struct Answer {
        status: String,
        #[serde(default)]
        error: String,
        data: Option<Data>,
    }
    #[derive(Deserialize)]
    struct Data {
        #[serde(rename = "resultType")]
        kind: String,
        result: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        metric: BTreeMap<String, String>,
        value: (f64, String),
    }
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|_| Clean::new("what it answers is not from a Prometheus server (metrics alone end in /metrics)"))?;
    let Some(data) = answer.data.filter(|data| answer.status == "success" && data.kind == "vector") else {
        let why: String = answer.error.chars().take(200).collect();
        return Err(Clean::new(&format!("the Prometheus server refuses: {why}")));
    };
    if data.result.len() > MOST {
        return Err(format!("it answers with more than {MOST} samples").into());
    }
    let read = |entry: Entry| {
        let mut labels = entry.metric;
        labels.retain(|key, value| key.len() <= LONGEST && value.len() <= LONGEST);
        let name = labels.remove("__name__").unwrap_or_default();
        entry.value.1.parse().ok().map(|value| Sample { name, labels, value })
    };
    Ok(data.result.into_iter().filter_map(read).collect())
}

/// A number that can be a size, a share or a temperature: exporters say NaN and Inf for what they do not know.
fn real(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(value)
}

fn bytes(value: f64) -> Option<u64> {
    real(value).filter(|bytes| *bytes < 1e18).map(|bytes| bytes.round() as u64)
}

#[derive(Default)]
struct Card {
    gpu: FleetGpu,
    free: Option<u64>,
    reserved: Option<u64>,
}

fn fold(samples: &[Sample], host: &Clean) -> Vec<HostReport> {
    type Key = (String, String);
    let mut cards: BTreeMap<String, BTreeMap<Key, Card>> = BTreeMap::new();
    let mut memory: BTreeMap<String, (Option<u64>, Option<u64>)> = BTreeMap::new();
    for sample in samples {
        let Some((_, says)) = KNOWN.iter().find(|(name, _)| *name == sample.name) else { continue };
        let label = |names: &[&str]| names.iter().find_map(|name| sample.labels.get(*name)).filter(|v| !v.is_empty());
        let place = label(&["Hostname", "hostname", "node", "nodename", "instance"]);
        // An instance is an address and its port: two exporters of one machine are one machine.
        let place = place.map_or(host.as_str(), |name| match name.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => name,
        });
        match says {
            Says::HostTotal => memory.entry(place.to_string()).or_default().0 = bytes(sample.value),
            Says::HostAvailable => memory.entry(place.to_string()).or_default().1 = bytes(sample.value),
            says => {
                let Some(uuid) = label(&["UUID", "uuid"]).or(label(&["gpu", "minor_number"])) else { continue };
                let of_host = cards.entry(place.to_string()).or_default();
                // A slice of a divided GPU is a GPU of its own.
                let slice = label(&["GPU_I_ID"]).cloned().unwrap_or_default();
                let key = (uuid.clone(), slice);
                if of_host.len() >= GPUS && !of_host.contains_key(&key) {
                    continue;
                }
                let card = of_host.entry(key).or_default();
                card.gpu.uuid = Clean::new(uuid);
                if let Some(index) = label(&["gpu", "minor_number"]).and_then(|index| index.parse().ok()) {
                    card.gpu.index = index;
                }
                if let Some(name) = label(&["modelName", "name"]) {
                    card.gpu.name = Clean::new(name);
                }
                put(card, *says, sample.value);
            }
        }
    }
    let mut hosts: BTreeMap<String, HostReport> = BTreeMap::new();
    for (place, cards) in cards {
        let mut gpus: Vec<FleetGpu> = cards.into_values().map(whole).collect();
        gpus.sort_by(|a, b| (a.index, &a.uuid).cmp(&(b.index, &b.uuid)));
        hosts.entry(place).or_default().gpus = gpus;
    }
    for (place, (total, available)) in memory {
        let report = hosts.entry(place).or_default();
        report.memory_total_bytes = total;
        report.memory_used_bytes = total.zip(available).map(|(total, available)| total.saturating_sub(available));
    }
    hosts.into_iter().map(|(place, report)| HostReport { host: Clean::new(&place), ..report }).collect()
}

fn put(card: &mut Card, says: Says, value: f64) {
    let gpu = &mut card.gpu;
    match says {
        Says::Index => gpu.index = real(value).map_or(gpu.index, |index| index as u32),
        Says::Used(unit) => gpu.memory_used_bytes = bytes(value * unit),
        Says::Free(unit) => card.free = bytes(value * unit),
        Says::Reserved(unit) => card.reserved = bytes(value * unit),
        Says::Total(unit) => gpu.memory_total_bytes = bytes(value * unit),
        Says::Busy(unit) => gpu.utilization_percent = real(value * unit).filter(|percent| *percent <= 100.0),
        Says::Celsius => gpu.temperature_c = real(value).filter(|celsius| *celsius < 200.0),
        Says::Watts(unit) => gpu.power_w = real(value * unit),
        Says::Xid => {
            gpu.trouble = real(value)
                .filter(|xid| *xid >= 1.0)
                .map(|xid| Clean::new(&format!("Xid {xid:.0} was its last error")));
        }
        Says::HostTotal | Says::HostAvailable => {}
    }
}

/// The whole of a GPU's memory is the sum of its parts where nobody tells it.
fn whole(card: Card) -> FleetGpu {
    let Card { mut gpu, free, reserved } = card;
    let parts = gpu.memory_used_bytes.zip(free);
    let sum = parts.map(|(used, free)| used.saturating_add(free).saturating_add(reserved.unwrap_or(0)));
    gpu.memory_total_bytes = gpu.memory_total_bytes.or(sum);
    gpu
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<HostReport>, Clean> {
        hosts(text.as_bytes(), false, &"asked".into())
    }

    const DCGM: &str = "# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).\n# TYPE DCGM_FI_DEV_FB_USED gauge\n\
DCGM_FI_DEV_FB_USED{gpu=\"1\",UUID=\"GPU-b\",device=\"nvidia1\",modelName=\"NVIDIA H200\",Hostname=\"node7\"} 71000\n\
DCGM_FI_DEV_FB_FREE{gpu=\"1\",UUID=\"GPU-b\",Hostname=\"node7\"} 72000 1700000000000\n\
DCGM_FI_DEV_FB_RESERVED{gpu=\"1\",UUID=\"GPU-b\",Hostname=\"node7\"} 600\n\
DCGM_FI_DEV_GPU_UTIL{gpu=\"1\",UUID=\"GPU-b\",Hostname=\"node7\",} 97\n\
DCGM_FI_DEV_XID_ERRORS{gpu=\"1\",UUID=\"GPU-b\",Hostname=\"node7\"} 79\n\
DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-a\",Hostname=\"node7\"} 5\n\
go_threads 12\n\
node_memory_MemTotal_bytes 1e+11\nnode_memory_MemAvailable_bytes{instance=\"node7:9100\"} 3e10\n";

    #[test]
    fn exporters_are_understood() {
        let hosts = read(DCGM).unwrap();
        assert_eq!(hosts.iter().map(|h| h.host.as_str()).collect::<Vec<_>>(), ["asked", "node7"]);
        let gpus = &hosts[1].gpus;
        assert_eq!(gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(gpus[1].memory_used_bytes, Some(71_000 << 20));
        assert_eq!(gpus[1].memory_total_bytes, Some(143_600 << 20));
        assert_eq!((gpus[1].utilization_percent, gpus[1].name.as_str()), (Some(97.0), "NVIDIA H200"));
        assert!(gpus[1].trouble.as_ref().unwrap().as_str().contains("Xid 79"));
        assert_eq!((gpus[0].memory_total_bytes, gpus[0].utilization_percent), (None, None), "unknown is not zero");
        let smi = read(
            "nvidia_smi_index{uuid=\"a\"} 3\nnvidia_smi_memory_used_bytes{uuid=\"a\"} 8e9\nnvidia_smi_memory_total_bytes{uuid=\"a\"} 16e9\nnvidia_smi_utilization_gpu_ratio{uuid=\"a\"} 0.5\n",
        )
        .unwrap();
        let gpu = &smi[0].gpus[0];
        assert_eq!((gpu.index, gpu.share(), gpu.utilization_percent), (3, Some(0.5), Some(50.0)));
        let old = read("nvidia_gpu_power_usage_milliwatts{minor_number=\"2\",uuid=\"a\",name=\"T4\"} 70500\n").unwrap();
        assert_eq!((old[0].gpus[0].power_w, old[0].gpus[0].index), (Some(70.5), 2));
    }

    #[test]
    fn a_server_is_understood() {
        let text = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"DCGM_FI_DEV_FB_USED","UUID":"GPU-a","gpu":"0","instance":"10.0.0.7:9400"},"value":[1.5,"1024"]},
            {"metric":{"__name__":"DCGM_FI_DEV_FB_FREE","UUID":"GPU-a","gpu":"0","instance":"10.0.0.7:9400"},"value":[1.5,"NaN"]}]}}"#;
        let told = hosts(text.as_bytes(), true, &"asked".into()).unwrap();
        assert_eq!((told[0].host.as_str(), told[0].gpus[0].memory_used_bytes), ("10.0.0.7", Some(1 << 30)));
        assert_eq!(told[0].gpus[0].memory_total_bytes, None);
        let refused = hosts(br#"{"status":"error","error":"bad query"}"#, true, &"asked".into()).unwrap_err();
        assert!(refused.as_str().contains("bad query"));
        assert!(hosts(b"<html>", true, &"asked".into()).is_err());
        for (name, _) in KNOWN {
            let tail = ["DCGM_FI_DEV_", "nvidia_smi_", "nvidia_gpu_", "node_memory_Mem"]
                .iter()
                .find_map(|p| name.strip_prefix(p));
            let tail = tail.unwrap().trim_end_matches("_bytes");
            assert!(QUESTION.contains(tail), "{name} is not asked for");
        }
    }

    #[test]
    fn what_is_broken_or_hostile_costs_itself() {
        let odd = |text: &str| read(text).map_or_else(|why| why.to_string(), |hosts| format!("{hosts:?}"));
        for text in [
            "DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"a\"} NaN\n",
            "DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"a\"} -5\n",
            "DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"a\"} +Inf\n",
            "DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"a\"} 1e300\n",
        ] {
            assert_eq!(read(text).unwrap()[0].gpus[0].memory_used_bytes, None, "{text}");
        }
        for text in ["", "<html><body>", "\u{0}\u{1b}]0;x\u{7}", "a{", "a{b=\"", "a{b=\"c\\", "a{b}", "{}", "x y z"] {
            assert!(read(text).is_err(), "{text}: {}", odd(text));
        }
        let label = "x".repeat(5000);
        let long = read(&format!("DCGM_FI_DEV_FB_USED{{gpu=\"0\",UUID=\"a\",Hostname=\"{label}\"}} 1\n")).unwrap();
        assert_eq!(long[0].host.as_str(), "asked");
        let many = "go_threads 1\n".repeat(MOST + 1);
        assert!(odd(&many).contains("more than 200000"));
        let cards: Vec<String> = (0..500).map(|n| format!("DCGM_FI_DEV_GPU_TEMP{{UUID=\"{n}\"}} 50\n")).collect();
        let cards = cards.concat();
        assert_eq!(read(&cards).unwrap()[0].gpus.len(), GPUS);
        let hidden = read("DCGM_FI_DEV_GPU_TEMP{UUID=\"\u{202e}\u{1b}[2J\"} 50\n").unwrap();
        assert!(!format!("{hidden:?}").contains('\u{1b}'));
    }
}
