//! Xid errors in words. The numbers and what they mean are those of NVIDIA's "XID Errors" document.

/// What an error means, for the person who looks at the screen. `None`: a number that says nothing here.
pub fn meaning(number: u64) -> Option<&'static str> {
    Some(match number {
        13 => "an exception in a kernel: a bug of the program, or broken hardware",
        31 => "a kernel touched memory that is not there: a bug of the program, most often",
        32 => "corrupted commands from the host",
        38 | 44 | 56 | 57 | 58 | 68 | 69 => "a failure of the driver or of the hardware",
        43 => "a process hung on the GPU and was stopped",
        45 => "a process was stopped because of an earlier error",
        48 | 140 => "memory errors that ECC could not correct",
        61 | 62 => "the card's own controller stopped",
        63 => "a row of broken memory was replaced",
        64 => "a row of broken memory could not be replaced",
        74 | 136 | 137 | 144..=150 => "an NVLink failed",
        79 => "the GPU fell off the bus",
        92 => "many memory errors that ECC corrected",
        94 => "a memory error that ended one process",
        95 => "a memory error that ended every process of the card",
        109 => "a context switch timed out",
        119 | 120 => "the card's firmware (GSP) does not answer",
        121 => "an error of the link to the processor (C2C)",
        143 => "the GPU could not be started",
        154 => "the GPU must be reset, or the machine",
        _ => return None,
    })
}

/// The number in a line of the kernel's log: `NVRM: Xid (PCI:0000:1b:00): 79, pid=…`, and the address of the card.
pub fn of_kernel_line(line: &str) -> Option<(String, u64)> {
    let (_, rest) = line.split_once("Xid (")?;
    let (address, rest) = rest.split_once(')')?;
    let address = address.strip_prefix("PCI:").unwrap_or(address).to_ascii_lowercase();
    let digits: String = rest.trim_start_matches([':', ' ']).chars().take_while(char::is_ascii_digit).collect();
    Some((address, digits.parse().ok()?))
}

/// Whether an address of the kernel's log is that of a card as NVML writes it: `0000:1b:00` and `00000000:1B:00.0`.
pub fn is_at(kernel: &str, nvml: &str) -> bool {
    let parts = |address: &str| -> Option<(u32, u32, u32)> {
        let mut parts = address.split(':').map(|part| part.split('.').next().unwrap_or_default());
        let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
        Some((number()?, number()?, number()?))
    };
    parts(kernel).is_some_and(|at| parts(nvml) == Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_name_card_and_number() {
        let (address, number) =
            of_kernel_line("NVRM: Xid (PCI:0000:1B:00): 79, pid=4711, GPU has fallen off the bus.").unwrap();
        assert_eq!((address.as_str(), number), ("0000:1b:00", 79));
        assert!(is_at(&address, "00000000:1B:00.0") && !is_at(&address, "00000000:1C:00.0"));
        assert!(!is_at("", "") && !is_at("0000:1b", "00000000:1B:00.0"));
        assert_eq!(of_kernel_line("NVRM: Xid (0000:03:00): 13, 0003").unwrap().1, 13);
        assert!(of_kernel_line("NVRM: loading NVIDIA UNIX").is_none());
        assert_eq!(meaning(79), Some("the GPU fell off the bus"));
        assert_eq!(meaning(9999), None);
    }
}
