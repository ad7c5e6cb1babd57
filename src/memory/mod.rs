//! The memory model: the peak of a configuration by phase and component. Pure arithmetic; no IO.
