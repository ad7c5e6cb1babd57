//! Writers of small event files, for tests.

use super::crc::{MaskedCrc32c, crc32};

/// A field of type bytes.
pub fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 2);
    out.extend(varint(value.len() as u64));
    out.extend_from_slice(value);
    out
}

pub fn int(number: u8, value: u64) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3);
    out.extend(varint(value));
    out
}

pub fn float(number: u8, value: f32) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 5);
    out.extend(value.to_le_bytes());
    out
}

pub fn double(number: u8, value: f64) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 1);
    out.extend(value.to_le_bytes());
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A TensorFlow record.
pub fn tf_record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(MaskedCrc32c::of(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend(MaskedCrc32c::of(data).to_le_bytes());
    out
}

/// An event with one value, whose fields besides the tag are given.
pub fn tf_event(step: u64, tag: &str, value: &[u8]) -> Vec<u8> {
    let value = [bytes(1, tag.as_bytes()), value.to_vec()].concat();
    tf_record(&[double(1, 1.5), int(2, step), bytes(5, &bytes(1, &value))].concat())
}

/// A `.wandb` file of these records.
pub fn wandb_file(records: &[Vec<u8>]) -> Vec<u8> {
    const BLOCK: usize = 32 << 10;
    let mut out = b":W&B\xe1\xbe\0".to_vec();
    for record in records {
        let (mut rest, mut first) = (record.as_slice(), true);
        loop {
            let left = BLOCK - out.len() % BLOCK;
            if left < 7 {
                out.resize(out.len() + left, 0);
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(left - 7));
            let kind: u8 = match (first, after.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            out.extend(crc32(&[kind], part).to_le_bytes());
            out.extend((part.len() as u16).to_le_bytes());
            out.push(kind);
            out.extend_from_slice(part);
            (rest, first) = (after, false);
            if rest.is_empty() {
                break;
            }
        }
    }
    out
}

/// A history record of W&B.
pub fn wandb_history(step: u64, items: &[(&str, &str)]) -> Vec<u8> {
    let item = |(key, json): &(&str, &str)| {
        let mut value = bytes(16, json.as_bytes());
        // Field 16 needs a key of two bytes, which `bytes` writes.
        let mut out = bytes(1, key.as_bytes());
        out.append(&mut value);
        bytes(1, &out)
    };
    let mut history: Vec<u8> = items.iter().flat_map(item).collect();
    history.extend(bytes(2, &int(1, step)));
    bytes(2, &history)
}

/// A piece of the console.
pub fn wandb_output(line: &str) -> Vec<u8> {
    bytes(13, &bytes(3, line.as_bytes()))
}
