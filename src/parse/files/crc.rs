//! The two checksums of event files, eight bytes at a time.

const CASTAGNOLI: u32 = 0x82f6_3b78;
const IEEE: u32 = 0xedb8_8320;

type Tables = [[u32; 256]; 8];

const fn tables(polynomial: u32) -> Tables {
    let mut tables = [[0; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut t = 1;
    while t < 8 {
        let mut i = 0;
        while i < 256 {
            let before = tables[t - 1][i];
            tables[t][i] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            i += 1;
        }
        t += 1;
    }
    tables
}

static CRC32C: Tables = tables(CASTAGNOLI);
static CRC32: Tables = tables(IEEE);

fn update(tables: &Tables, mut crc: u32, bytes: &[u8]) -> u32 {
    let at = |table: usize, byte: u32| tables[table][(byte & 0xff) as usize];
    let (words, rest) = bytes.as_chunks::<8>();
    for [a, b, c, d, e, f, g, h] in words {
        let low = crc ^ u32::from_le_bytes([*a, *b, *c, *d]);
        crc = at(7, low) ^ at(6, low >> 8) ^ at(5, low >> 16) ^ at(4, low >> 24);
        crc ^= at(3, (*e).into()) ^ at(2, (*f).into()) ^ at(1, (*g).into()) ^ at(0, (*h).into());
    }
    rest.iter().fold(crc, |crc, byte| (crc >> 8) ^ at(0, crc ^ u32::from(*byte)))
}

/// A CRC-32C (Castagnoli) that is fed piece by piece, masked as TensorFlow's record format wants it.
#[derive(Clone, Copy, Debug)]
pub struct MaskedCrc32c(u32);

impl Default for MaskedCrc32c {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl MaskedCrc32c {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0 = update(&CRC32C, self.0, bytes);
    }

    pub fn finish(self) -> u32 {
        (!self.0).rotate_right(15).wrapping_add(0xa282_ead8)
    }

    pub fn of(bytes: &[u8]) -> u32 {
        let mut crc = Self::default();
        crc.feed(bytes);
        crc.finish()
    }
}

/// The CRC-32 of zip and Ethernet over two pieces.
pub fn crc32(first: &[u8], second: &[u8]) -> u32 {
    !update(&CRC32, update(&CRC32, u32::MAX, first), second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The check values of both checksums' catalogues.
        assert_eq!(crc32(b"1234", b"56789"), 0xcbf4_3926);
        let crc = MaskedCrc32c::of(b"123456789").wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(crc, 0xe306_9283);
    }

    #[test]
    fn pieces_are_as_the_whole() {
        let bytes: Vec<u8> = (0..100).collect();
        for cut in 0..100 {
            let mut crc = MaskedCrc32c::default();
            crc.feed(&bytes[..cut]);
            crc.feed(&bytes[cut..]);
            assert_eq!(crc.finish(), MaskedCrc32c::of(&bytes));
            assert_eq!(crc32(&bytes[..cut], &bytes[cut..]), crc32(&bytes, b""));
        }
    }
}
