//! Reads trainers' configuration files and command lines into knobs.
