//! What one card tells, by how often it is worth asking: the figures of each look, and those that hardly move.

use std::time::{Duration, Instant};

use nvml_wrapper::{
    Device,
    bitmasks::device::ThrottleReasons,
    enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor},
    enums::device::SampleValue,
    error::NvmlError,
    structs::device::FieldId,
    sys_exports::field_id,
};

use crate::model::{
    Bytes, Clean,
    gpu::{GpuSample, MigInstance},
};

/// NVLinks that a card can have (`NVML_NVLINK_MAX_LINKS`).
const MOST_LINKS: u32 = 18;
/// Links go up and down with the machine: they are counted this seldom.
const LINKS: Duration = Duration::from_mins(1);

/// Why the driver does not tell a figure, in few words.
pub fn reason(error: &NvmlError) -> String {
    match error {
        NvmlError::NotSupported => "not supported".into(),
        NvmlError::NoPermission => "no permission".into(),
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => "the driver is too old".into(),
        NvmlError::GpuLost => "the GPU is lost".into(),
        NvmlError::ResetRequired => "the GPU needs a reset".into(),
        NvmlError::Timeout => "no answer in time".into(),
        other => other.to_string(),
    }
}

/// A call's answer; its refusal is noted with the reason.
pub fn ask<T>(sample: &mut GpuSample, what: &'static str, answer: Result<T, NvmlError>) -> Option<T> {
    answer.map_err(|error| sample.refused.push((what.into(), reason(&error)))).ok()
}

/// The figures of each look, but for memory and processes. The error of a card that told nothing at all.
pub fn fast(device: &Device<'_>, s: &mut GpuSample) -> Result<(), NvmlError> {
    let rates = device.utilization_rates();
    let celsius = device.temperature(TemperatureSensor::Gpu);
    let power = device.power_usage();
    let clock = device.clock_info(Clock::SM);
    let throttle = device.current_throttle_reasons();
    let told =
        [s.memory_used.is_some(), rates.is_ok(), celsius.is_ok(), power.is_ok(), clock.is_ok(), throttle.is_ok()];
    if told == [false; 6] {
        return rates.map(|_| ());
    }
    if let Some(rates) = ask(s, "utilization", rates) {
        s.utilization = Some(rates.gpu).filter(|u| *u <= 100);
        s.memory_utilization = Some(rates.memory).filter(|u| *u <= 100);
    }
    s.temperature_c = ask(s, "temperature", celsius).filter(|t| *t < 200);
    s.power_w = ask(s, "power", power).map(|mw| mw as f32 / 1000.0);
    s.sm_clock_mhz = ask(s, "SM clock", clock);
    s.throttle = ask(s, "throttle reasons", throttle).map(|t: ThrottleReasons| t.bits());
    Ok(())
}

/// What hardly moves, as it was when it was last asked.
#[derive(Debug, Default)]
pub struct Slow {
    pub sample: GpuSample,
    looked: Option<Instant>,
    links: Option<(Instant, Links)>,
}

/// NVLinks up and NVLinks in all, or why that is not told.
type Links = Result<(u32, u32), String>;

impl Slow {
    /// Asks again when the last answers are older than `age`.
    pub fn look(&mut self, device: &Device<'_>, index: u32, age: Duration) {
        if self.looked.is_some_and(|at| at.elapsed() < age) {
            return;
        }
        self.looked = Some(Instant::now());
        if self.links.as_ref().is_none_or(|(at, _)| at.elapsed() >= LINKS) {
            self.links = Some((Instant::now(), links(device)));
        }
        let mut s = GpuSample { index, uuid: std::mem::take(&mut self.sample.uuid), ..GpuSample::default() };
        who(device, &mut s);
        s.power_limit_w = ask(&mut s, "power limit", device.enforced_power_limit()).map(|mw| mw as f32 / 1000.0);
        s.max_sm_clock_mhz = ask(&mut s, "largest clock", device.max_clock_info(Clock::SM));
        s.memory_clock_mhz = ask(&mut s, "memory clock", device.clock_info(Clock::Memory));
        s.fan_percent = ask(&mut s, "fan", device.fan_speed(0)).filter(|f| *f <= 200);
        s.performance_state =
            ask(&mut s, "P-state", device.performance_state()).map(|p| p.as_c() as u8).filter(|p| *p < 16);
        s.pcie_generation = ask(&mut s, "PCIe", device.current_pcie_link_gen());
        s.pcie_width = s.pcie_generation.and_then(|_| ask(&mut s, "PCIe", device.current_pcie_link_width()));
        s.max_pcie_generation = device.max_pcie_link_gen().ok();
        s.max_pcie_width = device.max_pcie_link_width().ok();
        if let Some((_, links)) = &self.links {
            match links {
                Ok((up, all)) => (s.nvlink_active, s.nvlink_count) = (Some(*up), Some(*all)),
                Err(why) => s.refused.push(("NVLink".into(), why.clone())),
            }
        }
        health(device, &mut s);
        if let Some(mode) = ask(&mut s, "MIG", device.mig_mode()) {
            s.mig_enabled = Some(mode.current == 1);
        }
        self.sample = s;
    }
}

fn who(device: &Device<'_>, s: &mut GpuSample) {
    if let Some(uuid) = ask(s, "UUID", device.uuid()) {
        s.uuid = uuid;
    }
    s.name = ask(s, "name", device.name()).map(|n| Clean::new(&n)).unwrap_or_default();
    s.pci_bus_id = ask(s, "PCI address", device.pci_info()).map(|p| Clean::new(&p.bus_id)).unwrap_or_default();
}

/// Errors of the memory, and its temperature: one call for the four that come as fields.
fn health(device: &Device<'_>, s: &mut GpuSample) {
    const FIELDS: [u32; 4] = [
        field_id::NVML_FI_DEV_MEMORY_TEMP,
        field_id::NVML_FI_DEV_REMAPPED_COR,
        field_id::NVML_FI_DEV_REMAPPED_UNC,
        field_id::NVML_FI_DEV_REMAPPED_PENDING,
    ];
    s.ecc_enabled = ask(s, "ECC", device.is_ecc_enabled()).map(|mode| mode.currently_enabled);
    if s.ecc_enabled == Some(true) {
        let mut count = |kind: MemoryError| ask(s, "ECC errors", device.total_ecc_errors(kind, EccCounter::Volatile));
        let (corrected, uncorrected) = (count(MemoryError::Corrected), count(MemoryError::Uncorrected));
        (s.ecc_corrected, s.ecc_uncorrected) = (corrected, uncorrected);
    }
    let answers = device.field_values_for(&FIELDS.map(FieldId));
    let mut answers = match answers {
        Ok(answers) => answers.into_iter().map(|answer| answer.and_then(|a| a.value).map(|v| whole(&v))).collect(),
        Err(error) => vec![Err(error)],
    }
    .into_iter();
    let mut next = |s: &mut GpuSample, what| ask(s, what, answers.next()?).flatten();
    // A card without the sensor tells 0.
    s.memory_temperature_c =
        next(s, "memory temperature").and_then(|t| u32::try_from(t).ok()).filter(|t| (1..200).contains(t));
    let corrected = next(s, "remapped rows");
    let uncorrected = corrected.and_then(|_| next(s, "remapped rows"));
    s.remapped_rows = corrected.zip(uncorrected).and_then(|(a, b)| u32::try_from(a + b).ok());
    s.remap_pending = s.remapped_rows.and_then(|_| next(s, "remapped rows")).map(|n| n > 0);
}

fn whole(value: &SampleValue) -> Option<u64> {
    match value {
        SampleValue::U32(n) => Some(u64::from(*n)),
        SampleValue::U64(n) => Some(*n),
        SampleValue::I64(n) => u64::try_from(*n).ok(),
        SampleValue::F64(_) => None,
    }
}

fn links(device: &Device<'_>) -> Links {
    let (mut up, mut all) = (0, 0);
    for link in 0..MOST_LINKS {
        match device.link_wrapper_for(link).is_active() {
            Ok(active) => {
                all += 1;
                up += u32::from(active);
            }
            // Behind the card's last link.
            Err(_) if all > 0 => break,
            Err(NvmlError::InvalidArg) => return Err("not supported".into()),
            Err(error) => return Err(reason(&error)),
        }
    }
    Ok((up, all))
}

/// The instances of a card that MIG divides.
pub fn instances<'a>(device: &Device<'a>) -> Vec<(Device<'a>, MigInstance)> {
    let most = device.mig_device_count().unwrap_or(0).min(16);
    let instance = |index| {
        let device = device.mig_device_by_index(index).ok()?;
        let name = device.name().map(|n| Clean::new(&n)).unwrap_or_default();
        let uuid = device.uuid().unwrap_or_default();
        Some((device, MigInstance { uuid, name, ..MigInstance::default() }))
    };
    (0..most).filter_map(instance).collect()
}

/// Memory of one instance now.
pub fn instance_now(device: &Device<'_>, instance: &MigInstance) -> MigInstance {
    let memory = device.memory_info().ok().filter(|m| m.total > 0 && m.used <= m.total);
    MigInstance {
        memory_total: memory.as_ref().map(|m| Bytes(m.total)),
        memory_used: memory.as_ref().map(|m| Bytes(m.used)),
        ..instance.clone()
    }
}
