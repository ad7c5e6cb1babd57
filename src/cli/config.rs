//! `oomph config`, and the user's configuration: its file, themes beside it, and what the screen was like last.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use etcetera::BaseStrategy;

use crate::{
    store::folder,
    ui::{App, Theme, config, config::Config, layout::Layout},
};

/// Longest configuration or theme file that is read.
const LONGEST: u64 = 1 << 20;

/// Print the default configuration, commented, and where the file belongs.
///
/// The file is config.toml in the folder oomph of the XDG configuration folder, or what OOMPH_CONFIG names. Themes lie
/// in the folder themes beside it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  oomph config                            every setting with its default
  oomph config --path                     where the file belongs
  oomph config > ~/.config/oomph/config.toml")]
pub struct ConfigArgs {
    /// Print the path of the file alone
    #[arg(long)]
    path: bool,
}

/// # Errors
/// When no home folder is known.
pub fn run(args: &ConfigArgs) -> Result<ExitCode> {
    let path = path().context("no home folder is known: set XDG_CONFIG_HOME or OOMPH_CONFIG")?;
    if args.path {
        return super::print(&format!("{}\n", path.display()));
    }
    super::print(&config::default_file())
}

/// Where the file belongs; it need not be there.
pub fn path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("OOMPH_CONFIG").filter(|p| !p.is_empty()) {
        return Some(path.into());
    }
    Some(etcetera::choose_base_strategy().ok()?.config_dir().join("oomph").join("config.toml"))
}

/// Files of one kind that are read from a folder.
const MAX_FILES: usize = 200;

/// A folder beside the configuration file; it need not be there.
pub fn folder(name: &str) -> Option<PathBuf> {
    Some(path()?.parent()?.join(name))
}

/// The user's own files in such a folder, in the order of their names.
pub fn files(name: &str) -> Vec<PathBuf> {
    let Some(Ok(entries)) = folder(name).map(std::fs::read_dir) else { return Vec::new() };
    let paths = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml"));
    let mut paths: Vec<PathBuf> = paths.take(MAX_FILES).collect();
    paths.sort();
    paths
}

fn read(path: &std::path::Path) -> Result<Option<String>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
        Ok(about) if about.len() > LONGEST => anyhow::bail!("{}: longer than a configuration is", path.display()),
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).with_context(|| path.display().to_string())
}

/// The user's configuration; the defaults where there is no file.
///
/// # Errors
/// When the file cannot be read or followed; the message names the file and the place in it.
pub fn load() -> Result<Config> {
    let Some(path) = path() else { return Ok(Config::default()) };
    let Some(text) = read(&path)? else { return Ok(Config::default()) };
    Config::parse(&text).with_context(|| path.display().to_string())
}

/// Whether runs are recorded. A configuration that cannot be followed is no reason to lose a run: it is told, and the
/// run is recorded.
pub fn records() -> bool {
    match load() {
        Ok(config) => config.recording.on,
        Err(error) => {
            super::say(&format!("oomph: {error:#}"));
            true
        }
    }
}

/// Makes the screen as the configuration says, and else as it was last.
///
/// # Errors
/// When a theme file cannot be read.
pub fn apply(config: &Config, app: &mut App) -> Result<()> {
    for theme in user_themes(app)? {
        app.add_theme(theme);
    }
    if let Some(layout) = last_layout() {
        app.restore(&layout);
    }
    app.keymap = config.keymap()?;
    app.alerts = config.rules()?;
    if let Some(glyphs) = config.screen.glyphs {
        app.use_glyphs(glyphs);
    }
    if let Some(start) = config.screen.start {
        app.screen = start;
    }
    if let Some(name) = &config.screen.theme
        && !app.set_theme(name)
    {
        let known: Vec<_> = app.themes().iter().map(|t| t.name.clone()).collect();
        anyhow::bail!("[screen] theme: there is no '{name}'; there are: {}", known.join(", "));
    }
    Ok(())
}

/// The themes beside the configuration file, by name.
fn user_themes(app: &App) -> Result<Vec<Theme>> {
    let Some(folder) = path().and_then(|p| Some(p.parent()?.join("themes"))) else { return Ok(Vec::new()) };
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).take(100).collect();
    paths.sort();
    let mut themes = Vec::new();
    for path in paths {
        let name = path.file_stem().map(|n| crate::model::Clean::new(&n.to_string_lossy())).unwrap_or_default();
        let text = read(&path)?.unwrap_or_default();
        let theme = Theme::parse(name.as_str(), &text, app.theme().glyphs)
            .with_context(|| path.display().to_string())?
            .at_depth(app.depth);
        themes.push(theme);
    }
    Ok(themes)
}

fn layout_file() -> Option<PathBuf> {
    Some(folder::state().ok()?.join("screen.toml"))
}

/// How the screen was left; nothing where that is not known or not understood any more.
fn last_layout() -> Option<Layout> {
    toml::from_str(&read(&layout_file()?).ok()??).ok()
}

/// Writes down how the screen was left. What cannot be written is not worth an error on the way out.
pub fn keep(app: &App) {
    let Some(path) = layout_file() else { return };
    let Ok(text) = toml::to_string(&app.layout()) else { return };
    let before = read(&path).ok().flatten();
    if before.as_deref() == Some(text.as_str()) {
        return;
    }
    let beside = path.with_extension("toml.new");
    let written =
        path.parent().map(std::fs::create_dir_all).transpose().is_ok() && std::fs::write(&beside, text).is_ok();
    if written {
        let _ = std::fs::rename(&beside, &path);
    }
}
