//! Which GPUs a process sees: `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` of its own environment, as CUDA reads them.
//!
//! The rules are those of the CUDA programming guide (environment variables) and, where that is silent, of PyTorch's
//! own reading of the variable (`torch.cuda._parse_visible_devices`): numbers as `strtoul` reads them, an invalid entry
//! ends the list, a repeated one empties it.

use crate::model::gpu::GpuSample;

/// A card of this machine, in the driver's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    pub uuid: String,
    pub pci_bus_id: String,
    pub name: String,
}

impl Card {
    pub fn of(sample: &GpuSample) -> Self {
        Self {
            uuid: sample.uuid.clone(),
            pci_bus_id: sample.pci_bus_id.as_str().to_ascii_lowercase(),
            name: sample.name.as_str().to_string(),
        }
    }
}

/// What a process sees, first its device 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    /// UUIDs of cards, or of MIG instances.
    pub uuids: Vec<String>,
    /// Why the answer is not certain.
    pub assumed: Option<&'static str>,
}

const NO_VARIABLE: &str = "CUDA_VISIBLE_DEVICES is not set: it may use every GPU";
const FASTEST: &str =
    "the cards differ and CUDA_DEVICE_ORDER is not PCI_BUS_ID: CUDA puts the fastest first, which only it knows";
const MIG: &str = "a MIG instance by its number in an old form";
const NOT_SEEN: &str = "this machine's driver does not name such a GPU";

/// The cards that a process with these two variables sees.
pub fn visible(devices: Option<&str>, order: Option<&str>, cards: &[Card]) -> Visible {
    let (cards, unsure) = in_order(order, cards);
    let Some(list) = devices else {
        let uuids = cards.iter().map(|c| c.uuid.clone()).collect();
        return Visible { uuids, assumed: Some(NO_VARIABLE) };
    };
    let list = list.trim();
    if list.starts_with("GPU-") {
        return Visible { uuids: by_uuid(list, &cards), assumed: None };
    }
    if list.starts_with("MIG-") {
        return mig(list);
    }
    let Some(numbers) = numbers(list) else { return Visible::default() };
    if cards.is_empty() && !numbers.is_empty() {
        return Visible { uuids: Vec::new(), assumed: Some(NOT_SEEN) };
    }
    let uuids: Vec<String> = numbers.iter().map_while(|n| cards.get(*n)).map(|c| c.uuid.clone()).collect();
    let assumed = unsure.filter(|_| !uuids.is_empty() && uuids.len() < cards.len());
    Visible { uuids, assumed }
}

/// The cards as CUDA numbers them, and why that is not certain.
fn in_order<'a>(order: Option<&str>, cards: &'a [Card]) -> (Vec<&'a Card>, Option<&'static str>) {
    let mut sorted: Vec<&Card> = cards.iter().collect();
    // A driver that does not tell the addresses gives its own order, which is that of the addresses.
    if cards.iter().all(|c| !c.pci_bus_id.is_empty()) {
        sorted.sort_by(|a, b| a.pci_bus_id.cmp(&b.pci_bus_id));
    }
    let differ = cards.windows(2).any(|pair| pair[0].name != pair[1].name);
    let unsure = differ && order.map(str::trim) != Some("PCI_BUS_ID");
    (sorted, unsure.then_some(FASTEST))
}

/// The numbers of a list up to the first that is none; `None` where one stands twice: then CUDA sees no device.
fn numbers(list: &str) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for entry in list.split(',') {
        let entry = entry.trim();
        let entry = entry.strip_prefix('+').unwrap_or(entry);
        let digits = &entry[..entry.bytes().take_while(u8::is_ascii_digit).count()];
        let Ok(number) = digits.parse() else { break };
        if found.contains(&number) {
            return None;
        }
        found.push(number);
    }
    Some(found)
}

/// `GPU-` and the beginning of a UUID, as long as it means one card.
fn by_uuid(list: &str, cards: &[&Card]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for entry in list.split(',').map(str::trim) {
        let mut meant = cards.iter().filter(|c| entry.starts_with("GPU-") && c.uuid.starts_with(entry));
        let (Some(card), None) = (meant.next(), meant.next()) else { break };
        if found.contains(&card.uuid) {
            return Vec::new();
        }
        found.push(card.uuid.clone());
    }
    found
}

/// One MIG instance: CUDA enumerates no second one.
fn mig(list: &str) -> Visible {
    let first = list.split(',').next().unwrap_or_default().trim();
    // Before driver 470: MIG-GPU-<uuid>/<instance>/<instance>.
    let old = first.starts_with("MIG-GPU-");
    Visible { uuids: vec![first.to_string()], assumed: old.then_some(MIG) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(names: &[(&str, &str, &str)]) -> Vec<Card> {
        let card = |(uuid, pci, name): &(&str, &str, &str)| Card {
            uuid: (*uuid).into(),
            pci_bus_id: (*pci).into(),
            name: (*name).into(),
        };
        names.iter().map(card).collect()
    }

    fn alike() -> Vec<Card> {
        cards(&[
            ("GPU-aaaa1111", "00000000:01:00.0", "H100"),
            ("GPU-aaaa2222", "00000000:02:00.0", "H100"),
            ("GPU-bbbb3333", "00000000:03:00.0", "H100"),
            ("GPU-cccc4444", "00000000:04:00.0", "H100"),
        ])
    }

    /// Cards by the digit of their UUID, and whether the answer is marked as assumed.
    fn check(devices: Option<&str>, order: Option<&str>, cards: &[Card], want: &str, assumed: bool) {
        let seen = visible(devices, order, cards);
        let digits: Vec<&str> = seen.uuids.iter().map(|u| &u[u.len() - 1..]).collect();
        assert_eq!(digits.concat(), want, "{devices:?} {order:?}");
        assert_eq!(seen.assumed.is_some(), assumed, "{devices:?} {order:?}: {:?}", seen.assumed);
    }

    #[test]
    fn every_form_is_read_as_cuda_reads_it() {
        let four = alike();
        for (devices, want) in [
            ("0", "1"),
            ("3", "4"),
            ("0,1,2,3", "1234"),
            ("2,1", "32"),
            (" 1 , 3 ", "24"),
            ("+1", "2"),
            ("", ""),
            ("   ", ""),
            ("-1", ""),
            ("NoDevFiles", ""),
            ("none", ""),
            ("0,2,-1,1", "13"),
            ("0,x,1", "1"),
            ("0,,1", "1"),
            (",0", ""),
            ("0,4,1", "1"),
            ("4", ""),
            ("99999999999999999999", ""),
            ("0,0", ""),
            ("1,2,1", ""),
            ("1gpu2,2ampere", "23"),
            ("0x1", "1"),
            ("01", "2"),
            ("GPU-aaaa1111", "1"),
            ("GPU-aaaa1", "1"),
            ("GPU-bb,GPU-cc", "34"),
            ("GPU-cccc4444,GPU-aaaa2", "42"),
            ("GPU-aaaa", ""),
            ("GPU-bbbb,GPU-aaaa", "3"),
            ("GPU-ffff", ""),
            ("GPU-bb,GPU-bbbb3333", ""),
            ("GPU-bbbb3333,1", "3"),
            ("GPU-", ""),
            ("1,GPU-bbbb3333", "2"),
        ] {
            check(Some(devices), None, &four, want, false);
        }
    }

    #[test]
    fn what_is_assumed_is_said() {
        let four = alike();
        check(None, None, &four, "1234", true);
        check(None, None, &[], "", true);
        check(Some("0"), None, &[], "", true);
        check(Some(""), None, &[], "", false);
        // The driver's order is not that of the addresses, and the cards differ.
        let mixed = cards(&[("GPU-9", "00000000:81:00.0", "A100"), ("GPU-8", "00000000:21:00.0", "T4")]);
        check(Some("0"), Some("PCI_BUS_ID"), &mixed, "8", false);
        check(Some("1"), Some(" PCI_BUS_ID "), &mixed, "9", false);
        check(Some("0"), Some("FASTEST_FIRST"), &mixed, "8", true);
        check(Some("0"), None, &mixed, "8", true);
        check(Some("1,0"), None, &mixed, "98", false);
        check(Some("GPU-9"), None, &mixed, "9", false);
    }

    #[test]
    fn of_mig_instances_the_first() {
        let four = alike();
        check(Some("MIG-5c5d-7,MIG-5c5d-8"), None, &four, "7", false);
        check(Some("MIG-GPU-aaaa1111/1/0"), None, &four, "0", true);
    }
}
