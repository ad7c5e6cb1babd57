//! Text in UTF-16, as PowerShell redirects it, becomes UTF-8.

/// Decodes in any chunking.
#[derive(Clone, Debug)]
pub struct Utf16 {
    big: bool,
    /// The first byte of a unit whose second one is still to come.
    odd: Option<u8>,
    /// The first half of a character beyond U+FFFF.
    high: Option<u16>,
}

impl Utf16 {
    /// A decoder for a text of these first bytes: a mark of its byte order, or every other byte of it is NUL. `None` if
    /// it is no UTF-16, or too short to say.
    pub fn recognise(start: &[u8]) -> Option<Self> {
        let nul = |at: usize| start.iter().skip(at).step_by(2).take(16).all(|b| *b == 0) && start.len() >= 32;
        let big = match start {
            [0xff, 0xfe, ..] => false,
            [0xfe, 0xff, ..] => true,
            _ if nul(1) && !nul(0) => false,
            _ if nul(0) && !nul(1) => true,
            _ => return None,
        };
        Some(Self { big, odd: None, high: None })
    }

    /// Puts the next bytes into `out` as UTF-8, without marks of the byte order; what is no character becomes U+FFFD.
    pub fn decode(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            let Some(first) = self.odd.take() else {
                self.odd = Some(*byte);
                continue;
            };
            let pair = [first, *byte];
            self.unit(if self.big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }, out);
        }
    }

    fn unit(&mut self, unit: u16, out: &mut Vec<u8>) {
        let units = self.high.take().into_iter().chain([unit]);
        if (0xd800..0xdc00).contains(&unit) {
            self.high = Some(unit);
        }
        for c in char::decode_utf16(units.filter(|u| self.high != Some(*u))) {
            let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
            if c != '\u{feff}' {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_in_any_chunking() {
        let text = "step: 10  loss: 1.5 ✨ 𝄞\r\nnext";
        for big in [false, true] {
            let bytes: Vec<u8> = std::iter::once(0xfeff)
                .chain(text.encode_utf16())
                .flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() })
                .collect();
            for chunk in [1, 3, 100] {
                for skip in [0, 2] {
                    let bytes = &bytes[skip..];
                    let mut decoder = Utf16::recognise(bytes).unwrap();
                    let mut out = Vec::new();
                    bytes.chunks(chunk).for_each(|part| decoder.decode(part, &mut out));
                    assert_eq!(String::from_utf8(out).unwrap(), text);
                }
            }
        }
    }

    #[test]
    fn other_texts_are_none() {
        for text in [&b"loss: 1.5\n"[..], b"", b"\xff", b"\0\0\0\0", &[0; 100], b"\xef\xbb\xbfloss"] {
            assert!(Utf16::recognise(text).is_none(), "{text:?}");
        }
        let mut out = Vec::new();
        Utf16::recognise(b"\xff\xfe").unwrap().decode(b"\x00\xd8a\0\x00\xdc", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\u{fffd}a\u{fffd}");
    }
}
