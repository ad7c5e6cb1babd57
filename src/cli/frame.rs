//! `--once --json`: what the dashboard knows, as one JSON object (schema `oomph.frame/1`). Unknown is `null`.

use serde_json::{Map, Value, json};

use crate::{
    model::{Bytes, Clean, event::HostSample, gpu::GpuSample, metric::number_to_json},
    session::{Session, gpus::Gpu},
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
        "host": session.host.as_ref().map(host),
        "kernel_log": {
            "lines": session.kernel.iter().map(|(_, text)| text).collect::<Vec<_>>(),
            "unread": session.kernel_unread.as_ref().map(Clean::as_str),
        },
        "diagnosis": session.diagnosis(),
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
    let GpuSample {
        uuid,
        index,
        name,
        lost,
        memory_total,
        memory_used,
        utilization,
        temperature_c,
        power_w,
        power_limit_w,
        sm_clock_mhz,
        memory_clock_mhz,
        processes,
        ..
    } = &gpu.latest;
    let bytes = |b: &Option<Bytes>| b.map(|b| b.0);
    json!({
        "uuid": Clean::new(uuid).as_str(),
        "index": index,
        "name": name.as_str(),
        "lost": lost,
        "memory_total_bytes": bytes(memory_total),
        "memory_used_bytes": bytes(memory_used),
        "peak_used_bytes": gpu.peak_used.map(|b| b.0),
        "utilization_percent": utilization,
        "temperature_c": temperature_c,
        "power_w": power_w,
        "power_limit_w": power_limit_w,
        "sm_clock_mhz": sm_clock_mhz,
        "memory_clock_mhz": memory_clock_mhz,
        "processes": processes.iter().map(|p| json!({
            "pid": p.pid,
            "used_bytes": bytes(&p.used),
            "name": p.name.as_ref().map(Clean::as_str),
            "user": p.user.as_ref().map(Clean::as_str),
            "foreign": p.foreign,
        })).collect::<Vec<_>>(),
    })
}
