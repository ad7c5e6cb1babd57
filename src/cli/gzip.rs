//! Files that were put away with gzip, read as what is in them.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// How much a file may swell before that is taken for an attack.
const MAX_SWELL: u64 = 1000;
/// What may come out of the first bytes, whatever they swell to.
const AT_FIRST: u64 = 1 << 20;
const BUFFER: usize = 1 << 18;

/// The input, or what it unpacks to where it begins as gzip does.
///
/// # Errors
/// When its beginning cannot be read.
pub fn reader<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    if !input.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(input));
    }
    let inner = MultiGzDecoder::new(Counted { inner: input, read: 0 });
    Ok(Box::new(BufReader::with_capacity(BUFFER, Swelling { inner, out: 0 })))
}

/// Counts what is taken from a compressed file.
struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.read += got as u64;
        Ok(got)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.read += amount as u64;
        self.inner.consume(amount);
    }
}

/// Unpacks, and stops at what swells beyond all reason.
struct Swelling<R> {
    inner: MultiGzDecoder<Counted<R>>,
    out: u64,
}

impl<R: BufRead> Read for Swelling<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.out += got as u64;
        if self.out > AT_FIRST + MAX_SWELL * self.inner.get_ref().read {
            return Err(io::Error::other("it unpacks to more than 1000 times its size: refused"));
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        reader(bytes)?.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn plain_packed_and_packed_in_parts() {
        assert_eq!(unpacked(b"plain").unwrap(), b"plain");
        assert_eq!(unpacked(b"").unwrap(), b"");
        assert_eq!(unpacked(&packed(b"packed")).unwrap(), b"packed");
        assert_eq!(unpacked(&[packed(b"one "), packed(b"two")].concat()).unwrap(), b"one two");
        let cut = packed(&b"many words ".repeat(1000));
        assert!(unpacked(&cut[..cut.len() / 2]).is_err());
    }

    #[test]
    fn what_swells_beyond_reason_is_refused() {
        // The format itself cannot do more than about 1030 times: a head of so much is as if it had done more.
        let zeros = packed(&vec![0; 8 << 20]);
        let inner = MultiGzDecoder::new(Counted { inner: zeros.as_slice(), read: 0 });
        let mut swelling = Swelling { inner, out: AT_FIRST + MAX_SWELL * zeros.len() as u64 };
        let told = io::copy(&mut swelling, &mut io::sink()).unwrap_err().to_string();
        assert!(told.contains("1000 times"), "{told}");
    }
}
