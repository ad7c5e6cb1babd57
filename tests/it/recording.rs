//! Recordings answer questions in SQL, as `docs/recording.md` says, and are off by one switch.

use std::{fs, path::Path, process::Command};

use oomph::store::database::Database;

fn run(state: &Path, config: &Path, folder: &Path, words: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_oomph"))
        .env("OOMPH_STATE", state)
        .env("OOMPH_CONFIG", config)
        .env("PYTORCH_ALLOC_CONF", "expandable_segments:True")
        .current_dir(folder)
        .args(["run", "--no-gpu", "--"])
        .args(words)
        .output()
        .unwrap()
}

fn recordings(state: &Path) -> Vec<std::path::PathBuf> {
    let runs = fs::read_dir(state.join("runs")).unwrap().map(|run| run.unwrap().path().join("run.sqlite"));
    runs.filter(|path| path.exists()).collect()
}

#[test]
fn a_run_is_told_in_sql_and_every_column_is_documented() {
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let none = folder.path().join("none.toml");
    fs::write(folder.path().join("train.yaml"), "optim: {name: sgd}\nhub_token: Zx9Kq3LmT7vBn2Rw5Yp8Hd4Jf6Gs1Ac0\n")
        .unwrap();
    fs::write(folder.path().join("train.sh"), "echo \"{'loss': 2.5, 'epoch': 0.1}\"; exit 3\n").unwrap();
    let output = run(state.path(), &none, folder.path(), &["sh", "train.sh", "--config", "train.yaml", "--lr", "1e-5"]);
    assert_eq!(output.status.code(), Some(3));
    let paths = recordings(state.path());
    let [path] = paths.as_slice() else { panic!("{paths:?}") };
    let database = Database::open(path).unwrap();
    let text = |sql: &str| database.text(sql).unwrap().unwrap_or_default().to_string();
    assert_eq!(text("SELECT command FROM attempt"), "sh train.sh --config train.yaml --lr 1e-5");
    assert_eq!(database.number("SELECT exit_code FROM attempt").unwrap(), Some(3.0));
    assert_eq!(database.number("SELECT last_loss FROM attempt").unwrap(), Some(2.5));
    assert!(database.number("SELECT total FROM host LIMIT 1").unwrap().is_some_and(|total| total > 0.0));
    let settings = database.pairs("SELECT name, value || ' ' || origin FROM setting").unwrap();
    for (name, value) in [
        ("lr", "1e-5 option"),
        ("optim.name", "sgd config"),
        ("hub_token", "*** config"),
        ("alloc_conf", "expandable_segments:True knob"),
    ] {
        assert!(settings.contains(&(name.into(), value.into())), "{name}: {settings:?}");
    }

    let documented = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recording.md")).unwrap();
    let columns = database
        .pairs(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type IN ('table', 'view')",
        )
        .unwrap();
    assert!(columns.len() > 60, "{columns:?}");
    for (table, column) in columns {
        let row = documented.lines().find(|line| line.starts_with(&format!("| `{table}`")));
        let row = row.unwrap_or_else(|| panic!("{table} is not documented"));
        assert!(row.contains(&format!("`{column}`")), "{table}.{column} is not documented");
    }
}

#[test]
fn one_switch_turns_recording_off() {
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = folder.path().join("config.toml");
    fs::write(&config, "[recording]\non = false\n").unwrap();
    assert!(run(state.path(), &config, folder.path(), &["true"]).status.success());
    assert_eq!(recordings(state.path()).len(), 0);
    // A configuration with a mistake is told, and loses no run.
    fs::write(&config, "[recording]\non = maybe\n").unwrap();
    let output = run(state.path(), &config, folder.path(), &["true"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("config.toml"));
    assert_eq!(recordings(state.path()).len(), 1);
}
