//! The screen: state, update and view. Never reads files, sources or the clock.
