//! `--once --json`: what the dashboard knows, as one JSON object (schema `oomph.frame/1`). Unknown is `null`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    model::{
        Bytes, Clean,
        event::HostSample,
        gpu::{GpuProcess, Listed},
        metric::number_to_json,
    },
    session::{Session, gpus::Gpu, headroom},
};

/// The whole frame.
pub fn to_json(session: &Session) -> Value {
    json!({
        "schema": "oomph.frame/1",
        "at": session.now.map(|now| now.to_string()),
        "state": session.state().as_str(),
        "step": session.step(),
        "total_steps": session.total_steps(),
        "seconds_per_step": session.seconds_per_step(),
        "remaining_seconds": session.remaining_seconds(),
        "points": session.metrics.points(),
        "latest": latest(session),
        "sources": session.sources.values().map(|s| json!({
            "name": s.name.as_str(),
            "path": s.path.as_ref().map(|p| Clean::new(&p.to_string_lossy()).as_str().to_string()),
            "size_bytes": s.size,
            "read_bytes": s.bytes_read,
            "lines": s.log.last_number(),
            "dialects": s.dialects(),
            "unparsed_bytes": s.unparsed_bytes(),
            "still_reading": s.filling().is_some(),
            "trouble": s.trouble.as_ref().map(Clean::as_str),
            "lost_bytes": s.losses.iter().map(|(_, bytes, _)| bytes).sum::<u64>(),
        })).collect::<Vec<_>>(),
        "gpus": session.gpus.iter().map(gpu).collect::<Vec<_>>(),
        "gpus_unavailable": session.gpus.unavailable.as_ref().map(|(why, advice)| json!({
            "why": why.as_str(), "advice": advice.as_str(),
        })),
        "headroom": headroom::least(session).map(|(gpu, room)| json!({
            "gpu": gpu.latest.index,
            "correction": (room.correction * 1000.0).round() / 1000.0,
            "largest": room.largest.iter().map(|(knob, most, _)| (knob.as_str(), *most)).collect::<BTreeMap<_, _>>(),
            "text": room.sentence(),
        })),
        "host": session.host.as_ref().map(host),
        "kernel_log": {
            "lines": session.kernel.iter().map(|(_, text)| text).collect::<Vec<_>>(),
            "unread": session.kernel_unread.as_ref().map(Clean::as_str),
        },
        "recording": recording(session),
        "diagnosis": session.diagnosis(),
    })
}

/// What the recording lacks, and why nothing is written at present.
fn recording(session: &Session) -> Value {
    let (events, bytes) = session.record.lost();
    json!({
        "trouble": session.record.trouble.as_ref().map(Clean::as_str),
        "lost_events": events,
        "lost_bytes": bytes,
        "gaps": session.record.gaps().map(|gap| json!({
            "since": gap.since.to_string(), "events": gap.events, "bytes": gap.bytes, "reason": gap.reason.as_str(),
        })).collect::<Vec<_>>(),
    })
}

fn host(host: &HostSample) -> Value {
    json!({
        "total_bytes": host.total_bytes,
        "available_bytes": host.available_bytes,
        "cgroup_limit_bytes": host.cgroup_limit_bytes,
        "cgroup_used_bytes": host.cgroup_used_bytes,
        "cgroup_oom_kills": host.cgroup_oom_kills,
        "shm_total_bytes": host.shm_total_bytes,
        "shm_used_bytes": host.shm_used_bytes,
        "trainer_rss_bytes": host.trainer_rss_bytes,
        "trainer_processes": host.trainer_processes,
        "trainer_pid": host.trainer_pid,
        "cpu_percent": host.cpu_percent,
    })
}

/// The last value of every training series.
fn latest(session: &Session) -> Value {
    let mut all = Map::new();
    for (name, series) in session.metrics.train().iter() {
        if let Some(sample) = series.last() {
            all.insert(name.as_str().to_string(), number_to_json(sample.value));
        }
    }
    Value::Object(all)
}

fn gpu(gpu: &Gpu) -> Value {
    let s = &gpu.latest;
    let bytes = |b: &Option<Bytes>| b.map(|b| b.0);
    let reasons: Option<Vec<&str>> = s.throttle.map(|_| s.held_back_by().collect());
    json!({
        "uuid": Clean::new(&s.uuid).as_str(),
        "index": s.index,
        "name": s.name.as_str(),
        "pci_bus_id": s.pci_bus_id.as_str(),
        "lost": s.lost,
        "memory_total_bytes": bytes(&s.memory_total),
        "memory_used_bytes": bytes(&s.memory_used),
        "memory_free_bytes": bytes(&s.memory_free),
        "memory_reserved_bytes": bytes(&s.memory_reserved),
        "peak_used_bytes": gpu.peak_used.map(|b| b.0),
        "utilization_percent": s.utilization,
        "memory_utilization_percent": s.memory_utilization,
        "sm_active_percent": s.sm_active_percent,
        "tensor_active_percent": s.tensor_active_percent,
        "temperature_c": s.temperature_c,
        "memory_temperature_c": s.memory_temperature_c,
        "power_w": watts(s.power_w),
        "power_limit_w": watts(s.power_limit_w),
        "sm_clock_mhz": s.sm_clock_mhz,
        "max_sm_clock_mhz": s.max_sm_clock_mhz,
        "memory_clock_mhz": s.memory_clock_mhz,
        "fan_percent": s.fan_percent,
        "performance_state": s.performance_state,
        "throttle_bits": s.throttle,
        "throttle_reasons": reasons,
        "pcie": json!({
            "generation": s.pcie_generation,
            "width": s.pcie_width,
            "max_generation": s.max_pcie_generation,
            "max_width": s.max_pcie_width,
            "rx_kib_per_second": s.pcie_rx_kib_s,
            "tx_kib_per_second": s.pcie_tx_kib_s,
        }),
        "nvlink": json!({
            "active": s.nvlink_active,
            "links": s.nvlink_count,
            "rx_kib_per_second": s.nvlink_rx_kib_s,
            "tx_kib_per_second": s.nvlink_tx_kib_s,
        }),
        "ecc": json!({
            "enabled": s.ecc_enabled,
            "corrected": s.ecc_corrected,
            "uncorrected": s.ecc_uncorrected,
            "remapped_rows": s.remapped_rows,
            "remap_pending": s.remap_pending,
        }),
        "mig_enabled": s.mig_enabled,
        "mig": s.mig.iter().map(|m| json!({
            "uuid": Clean::new(&m.uuid).as_str(),
            "name": m.name.as_str(),
            "memory_total_bytes": bytes(&m.memory_total),
            "memory_used_bytes": bytes(&m.memory_used),
        })).collect::<Vec<_>>(),
        "xids": gpu.xids.iter().map(|(at, number)| json!({ "at": at.to_string(), "xid": number })).collect::<Vec<_>>(),
        "unexplained_bytes": (s.listed != Listed::Partly).then(|| gpu.stray.lasting().0),
        "processes": s.processes.iter().map(process).collect::<Vec<_>>(),
        "refused": s.refused.iter().map(|(what, why)| json!({
            "figure": what, "reason": Clean::new(why).as_str(),
        })).collect::<Vec<_>>(),
    })
}

/// Milliwatts are all that the driver tells.
fn watts(watts: Option<f32>) -> Option<f64> {
    watts.map(|w| (f64::from(w) * 1000.0).round() / 1000.0)
}

fn process(p: &GpuProcess) -> Value {
    json!({
        "pid": p.pid,
        "used_bytes": p.used.map(|b| b.0),
        "name": p.name.as_ref().map(Clean::as_str),
        "user": p.user.as_ref().map(Clean::as_str),
        "rank": p.rank,
        "parents": p.parents,
        "container": p.container.as_ref().map(Clean::as_str),
        "mig_instance": p.instance,
        "graphics": p.graphics,
        "foreign": p.foreign,
        "gone": p.gone,
    })
}
