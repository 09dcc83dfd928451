//! Results for readers: tables, charts and pages.
//!
//! Used by `runs`, with the outcomes of `engine` and the comparison of `scenarios`. Never measures.

pub mod chart;
pub mod cluster;
pub mod compare_page;
pub mod page;
pub mod run_page;
pub mod table;
