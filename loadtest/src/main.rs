//! The measuring tool of hookcast.

fn main() {}
