//! A file that is appended to, rotated and replaced in any order: what the tailer reads is what was written.
#![no_main]

use std::{
    fs::{self, File},
    io::Write,
};

use libfuzzer_sys::fuzz_target;
use oomph::{
    model::{EventKind, SourceId},
    source::file::Tail,
};

fuzz_target!(|data: &[u8]| {
    let folder = std::env::temp_dir().join(format!("oomph-fuzz-tail-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("train.log");
    let mut file = File::create(&path).unwrap();
    let mut tail = Tail::new(SourceId(0), path.clone());
    let (mut written, mut read) = (Vec::new(), Vec::new());
    let mut poll = |read: &mut Vec<u8>| {
        while tail.poll(&mut |kind| {
            if let EventKind::Output { data, .. } = kind {
                read.extend_from_slice(&data);
            }
        }) {}
    };
    poll(&mut read);
    for part in data.chunks(5) {
        match part.first().map(|b| b % 8) {
            Some(0) => {
                fs::rename(&path, folder.join(format!("old{}", written.len()))).unwrap();
                file = File::create(&path).unwrap();
                poll(&mut read);
            }
            Some(1) => {
                let beside = folder.join("new");
                file = File::create(&beside).unwrap();
                fs::rename(&beside, &path).unwrap();
                poll(&mut read);
            }
            Some(2) => {
                fs::remove_file(&path).unwrap();
                file = File::create(&path).unwrap();
                poll(&mut read);
            }
            Some(3 | 4) => poll(&mut read),
            _ => {
                file.write_all(part).unwrap();
                written.extend_from_slice(part);
            }
        }
    }
    poll(&mut read);
    assert_eq!(read, written);
});
