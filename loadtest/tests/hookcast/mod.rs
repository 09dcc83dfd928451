//! The program of hookcast, for tests of the load tool that start it.

use std::path::{Path, PathBuf};

/// hookcast beside the program of this package, if it was built. `tests/run` sets `REQUIRE_TOOLS`, and then it must
/// be there.
pub fn program() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_BIN_EXE_hookcast-load"));
    let hookcast = own.with_file_name("hookcast");
    if hookcast.exists() {
        return Some(hookcast);
    }
    assert!(
        std::env::var_os("REQUIRE_TOOLS").is_none(),
        "{} is not built",
        hookcast.display()
    );
    eprintln!("skipped: {} is not built", hookcast.display());
    None
}
