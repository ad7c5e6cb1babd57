//! The protobuf wire format, as far as event files need it: fields of a message in order, never recursive by itself, so
//! a depth bomb has nothing to work on. <https://protobuf.dev/programming-guides/encoding/>

/// The bytes are no protobuf message from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// One field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    /// A string, bytes, a message or packed numbers; empty for other types.
    pub fn bytes(self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// A message's fields; none for other types.
    pub fn fields(self) -> Fields<'a> {
        Fields(self.bytes())
    }

    pub fn int(self) -> Option<i64> {
        if let Self::Varint(v) = self { Some(v as i64) } else { None }
    }

    /// A `double` or a `float`.
    pub fn float(self) -> Option<f64> {
        match self {
            Self::Fixed64(b) => Some(f64::from_le_bytes(b)),
            Self::Fixed32(b) => Some(f32::from_le_bytes(b).into()),
            _ => None,
        }
    }

    /// The first number of a repeated `float` (4 bytes each) or `double` (8), packed or not.
    pub fn first_float(self, size: usize) -> Option<f64> {
        match self {
            Self::Bytes(packed) if size == 4 => packed.first_chunk().map(|b| f32::from_le_bytes(*b).into()),
            Self::Bytes(packed) => packed.first_chunk().map(|b| f64::from_le_bytes(*b)),
            other => other.float(),
        }
    }

    /// The first number of a repeated integer, packed or not.
    pub fn first_int(self) -> Option<i64> {
        match self {
            Self::Bytes(packed) => varint(packed).map(|(v, _)| v as i64),
            other => other.int(),
        }
    }
}

/// The fields of one message: number and value.
#[derive(Clone, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = field(self.0);
        // After a fault nothing can be told apart.
        self.0 = field.as_ref().map_or(&[], |(_, _, rest)| rest);
        Some(field.map(|(number, value, _)| (number, value)).ok_or(Malformed))
    }
}

fn field(bytes: &[u8]) -> Option<(u32, Value<'_>, &[u8])> {
    let (key, rest) = varint(bytes)?;
    let number = u32::try_from(key >> 3).ok().filter(|n| *n != 0)?;
    let (value, rest) = match key & 7 {
        0 => varint(rest).map(|(v, rest)| (Value::Varint(v), rest))?,
        1 => rest.split_first_chunk().map(|(v, rest)| (Value::Fixed64(*v), rest))?,
        2 => {
            let (length, rest) = varint(rest)?;
            let (v, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Value::Bytes(v), rest)
        }
        5 => rest.split_first_chunk().map(|(v, rest)| (Value::Fixed32(*v), rest))?,
        // Groups have not been written for twenty years.
        _ => return None,
    };
    Some((number, value, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], want: &[Result<(u32, Value), Malformed>]) {
        assert_eq!(Fields(bytes).collect::<Vec<_>>(), want);
    }

    #[test]
    fn every_type_is_read() {
        check(&[8, 0x96, 1], &[Ok((1, Value::Varint(150)))]);
        check(&[0x12, 2, b'h', b'i'], &[Ok((2, Value::Bytes(b"hi")))]);
        check(&[0x15, 0, 0, 0x80, 0x3f], &[Ok((2, Value::Fixed32([0, 0, 0x80, 0x3f])))]);
        check(&[0x82, 1, 0], &[Ok((16, Value::Bytes(b"")))]);
        assert_eq!(Value::Bytes(&[0, 0, 0x80, 0x3f]).first_float(4), Some(1.0));
        assert_eq!(Value::Varint(u64::MAX).int(), Some(-1));
        assert_eq!(Value::Bytes(&[0x96, 1, 5]).first_int(), Some(150));
    }

    #[test]
    fn faults_end_the_message() {
        check(&[8], &[Err(Malformed)]);
        check(&[0x12, 5, b'h'], &[Err(Malformed)]);
        check(&[8, 1, 0x0b, 8, 1], &[Ok((1, Value::Varint(1))), Err(Malformed)]);
        check(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &[Err(Malformed)]);
        check(&[0xff; 20], &[Err(Malformed)]);
    }

    proptest! {
        #![proptest_config(crate::properties::config(256))]

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for field in Fields(&bytes).flatten() {
                let _ = (field.1.first_float(4), field.1.first_float(8), field.1.first_int(), field.1.fields().count());
            }
        }
    }
}
