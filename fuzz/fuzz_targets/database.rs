//! Recordings of any bytes: read or refused, never a panic, never changed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oomph::store::{database::Database, runs};

fuzz_target!(|data: &[u8]| {
    let folder = std::env::temp_dir().join(format!("oomph-fuzz-{}", std::process::id()));
    let _ = std::fs::create_dir_all(&folder);
    let path = folder.join("run.sqlite");
    std::fs::write(&path, data).unwrap();
    if let Ok(database) = Database::open(&path) {
        let _ = database.events();
        let _ = database.meta("command");
    }
    let _ = runs::read(&path);
    assert_eq!(std::fs::read(&path).unwrap(), data);
});
