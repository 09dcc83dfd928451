//! The fuzzer: libFuzzer on the target `FUZZ_TARGET`. See `run`.

#![no_main]

use std::sync::OnceLock;

use hookcast_fuzz::{TARGETS, Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let names = TARGETS.map(|(name, _)| name).join(", ");
        let found = target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET is none of: {names}"));
        let _ = TARGET.set(found);
    },
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(bytes);
        }
    }
);
