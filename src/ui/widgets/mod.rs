//! Drawing pieces that several screens share. They know styles and numbers, never the application.

pub mod area;
pub mod bar;
pub mod canvas;
pub mod chart;
pub mod panel;
pub mod row;
