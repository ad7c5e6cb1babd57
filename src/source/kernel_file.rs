//! Files that the kernel makes up when they are read, under `/proc` and `/sys`.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Most of them fit, and none is believed to be longer than `MOST`.
const USUAL: usize = 4096;
const MOST: u64 = 16 << 20;

/// The text of one, in as few calls as it takes: each call makes its text anew, and none tells its length before.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(USUAL);
    File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
