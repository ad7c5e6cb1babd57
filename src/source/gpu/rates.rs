//! Bytes over PCIe and NVLink, and how busy the multiprocessors really are. Cards since Hopper count that themselves
//! (NVML's GPM): two looks at the counters give the mean between them. Older ones measure PCIe for 20 ms a call
//! (`nvmlDeviceGetPcieThroughput`), which is too long to ask of every card at every look.

use std::time::{Duration, Instant};

use nvml_wrapper::{
    Device, GpmSample, Nvml, enum_wrappers::device::PcieUtilCounter, enums::gpm::GpmMetricId, error::NvmlError,
    gpm::gpm_metrics_get,
};

use crate::model::gpu::GpuSample;

use super::figures::{ask, reason};

/// The first mean is over so long, so that the screen fills soon; the others are over [`USUAL`].
const FIRST: Duration = Duration::from_secs(2);
const USUAL: Duration = Duration::from_secs(10);

const COUNTED: [GpmMetricId; 6] = [
    GpmMetricId::PcieRxPerSec,
    GpmMetricId::PcieTxPerSec,
    GpmMetricId::NvlinkTotalRxPerSec,
    GpmMetricId::NvlinkTotalTxPerSec,
    GpmMetricId::SmUtil,
    GpmMetricId::AnyTensorUtil,
];

/// One card's rates.
#[derive(Debug, Default)]
pub struct Rates<'a> {
    way: Way<'a>,
    asked: Option<Instant>,
    told: GpuSample,
    /// There was a first mean.
    settled: bool,
}

#[derive(Debug, Default)]
enum Way<'a> {
    #[default]
    Unknown,
    Counters(GpmSample<'a>),
    Measured,
}

impl<'a> Rates<'a> {
    /// Whether it is time to ask again.
    pub fn is_due(&self) -> bool {
        let pause = if self.settled { USUAL } else { FIRST };
        self.asked.is_none_or(|at| at.elapsed() >= pause)
    }

    pub fn look(&mut self, nvml: &'a Nvml, device: &Device<'a>) {
        let first = self.asked.replace(Instant::now()).is_none();
        match std::mem::take(&mut self.way) {
            Way::Unknown => {
                self.way = match device
                    .gpm_support()
                    .and_then(|can| if can { device.gpm_sample().map(Some) } else { Ok(None) })
                {
                    Ok(Some(sample)) => Way::Counters(sample),
                    Ok(None) | Err(_) => Way::Measured,
                };
            }
            Way::Counters(before) => {
                let mut s = GpuSample::default();
                let now = device.gpm_sample();
                match now.and_then(|now| Ok((gpm_metrics_get(nvml, &before, &now, &COUNTED)?, now))) {
                    Ok((metrics, now)) => {
                        let values: Vec<Option<f64>> = metrics
                            .into_iter()
                            .map(|m| m.ok().map(|m| m.value).filter(|v| v.is_finite() && *v >= 0.0))
                            .collect();
                        let value = |n: usize| values.get(n).copied().flatten();
                        // NVML counts MiB a second.
                        let rate = |n: usize| value(n).map(|mib| (mib * 1024.0) as u32);
                        let percent = |n: usize| value(n).filter(|p| *p <= 100.0).map(|p| p as f32);
                        (s.pcie_rx_kib_s, s.pcie_tx_kib_s) = (rate(0), rate(1));
                        (s.nvlink_rx_kib_s, s.nvlink_tx_kib_s) = (rate(2), rate(3));
                        (s.sm_active_percent, s.tensor_active_percent) = (percent(4), percent(5));
                        self.way = Way::Counters(now);
                    }
                    Err(error) => {
                        s.refused.push(("counters (GPM)".into(), reason(&error)));
                        // A card that was reset counts anew; one that cannot count is measured.
                        self.way = if matches!(error, NvmlError::NotSupported | NvmlError::NoPermission) {
                            Way::Measured
                        } else {
                            Way::Unknown
                        };
                    }
                }
                self.told = s;
            }
            Way::Measured => {
                let mut s = GpuSample::default();
                s.pcie_rx_kib_s = ask(&mut s, "PCIe traffic", device.pcie_throughput(PcieUtilCounter::Receive));
                s.pcie_tx_kib_s = s
                    .pcie_rx_kib_s
                    .and_then(|_| ask(&mut s, "PCIe traffic", device.pcie_throughput(PcieUtilCounter::Send)));
                self.told = s;
                self.way = Way::Measured;
            }
        }
        self.settled = !first;
    }

    /// Puts the rates as last told into a sample.
    pub fn fill(&self, s: &mut GpuSample) {
        let told = &self.told;
        (s.pcie_rx_kib_s, s.pcie_tx_kib_s) = (told.pcie_rx_kib_s, told.pcie_tx_kib_s);
        (s.nvlink_rx_kib_s, s.nvlink_tx_kib_s) = (told.nvlink_rx_kib_s, told.nvlink_tx_kib_s);
        (s.sm_active_percent, s.tensor_active_percent) = (told.sm_active_percent, told.tensor_active_percent);
        s.refused.extend(told.refused.iter().cloned());
    }
}
