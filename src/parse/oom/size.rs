//! Sizes as messages print them.

/// `14.43 GiB`, `1900,00 MiB`, `512 bytes`, `25,600,000` to bytes. Sizes of 2^60 bytes and more are how NVML says that it
/// does not know.
pub fn read(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))?;
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => 1.0,
        "kib" | "kb" | "k" => 1024.0,
        "mib" | "mb" | "m" => 1024.0 * 1024.0,
        "gib" | "gb" | "g" => 1024.0 * 1024.0 * 1024.0,
        "tib" | "tb" | "t" => 1024.0_f64.powi(4),
        _ => return None,
    };
    let bytes = decimal(number)? * factor;
    (bytes < 2.0_f64.powi(60)).then(|| bytes.round() as u64)
}

/// A comma is a decimal point when two digits follow it and no point stands anywhere; else it parts thousands.
fn decimal(number: &str) -> Option<f64> {
    let one_comma = number.matches(',').count() == 1 && !number.contains('.');
    let plain = if one_comma && number.rsplit(',').next().is_some_and(|d| d.len() == 2) {
        number.replace(',', ".")
    } else {
        number.replace(',', "")
    };
    plain.parse().ok()
}

/// `25,600,000` or `25600000`.
pub fn plain(text: &str) -> Option<u64> {
    text.replace(',', "").parse().ok()
}
