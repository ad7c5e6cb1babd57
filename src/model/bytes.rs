use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An amount of memory in bytes.
///
/// Printed in binary units, as PyTorch prints it (`1.90 GiB`); JSON holds the plain number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    pub const KIB: u64 = 1 << 10;
    pub const MIB: u64 = 1 << 20;
    pub const GIB: u64 = 1 << 30;

    /// From a number of bytes that a formula gave; negative and NaN become 0.
    pub fn from_f64(bytes: f64) -> Self {
        Self(bytes.max(0.0).round() as u64)
    }

    pub fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// The size in GiB.
    pub fn gib(self) -> f64 {
        self.as_f64() / Self::GIB as f64
    }

    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), Self::saturating_add)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            n if n >= Self::GIB => format!("{:.2} GiB", self.gib()),
            n if n >= Self::MIB => format!("{:.0} MiB", self.as_f64() / Self::MIB as f64),
            n if n >= Self::KIB => format!("{:.0} KiB", self.as_f64() / Self::KIB as f64),
            n => format!("{n} bytes"),
        };
        f.pad(&text)
    }
}

/// A size that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size: write a number and a unit, such as 16GiB, 80GB, 512MiB or 17179869184B")]
pub struct ParseBytesError(String);

impl FromStr for Bytes {
    type Err = ParseBytesError;

    /// Reads `16GiB` (binary), `80GB` (decimal, as vendors sell), `16G` (binary), `123B` or a plain number of bytes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseBytesError(text.to_string());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let number: f64 = trimmed[..split].parse().map_err(|_| bad())?;
        let unit = match trimmed[split..].trim().to_ascii_lowercase().as_str() {
            "" | "b" | "bytes" => 1.0,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024.0 * 1024.0,
            "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
            "t" | "tib" => 1024.0_f64.powi(4),
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            _ => return Err(bad()),
        };
        let bytes = number * unit;
        if bytes >= 0.0 && bytes < u64::MAX as f64 { Ok(Self::from_f64(bytes)) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        let check = |text: &str, want: u64| assert_eq!(text.parse(), Ok(Bytes(want)), "{text}");
        check("16GiB", 16 << 30);
        check("16 GiB", 16 << 30);
        check("80GB", 80_000_000_000);
        check("17179869184B", 17_179_869_184);
        check("1.5G", 3 << 29);
        assert!("16 potatoes".parse::<Bytes>().is_err());
        assert!("".parse::<Bytes>().is_err());
        assert!("1e300GiB".parse::<Bytes>().is_err());
    }

    #[test]
    fn prints_as_pytorch_does() {
        assert_eq!(Bytes(2_040_109_466).to_string(), "1.90 GiB");
        assert_eq!(Bytes(20 << 20).to_string(), "20 MiB");
        assert_eq!(Bytes(0).to_string(), "0 bytes");
    }
}
