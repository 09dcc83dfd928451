//! The `hookcast` binary.

fn main() {}
