//! Sources: requests of providers, their bodies and their templates.

use std::ops::RangeInclusive;

/// Default of a source's `max_body` in bytes. Bodies of common providers are below 256 KiB; a push of
/// many commits is not.
pub const SOURCE_BODY_BYTES_MAX_DEFAULT: usize = 1024 * 1024;

/// Values of a source's `max_body` in bytes: from a small event to the bound of `--max-body-bytes`.
pub const SOURCE_BODY_BYTES_RANGE: RangeInclusive<u64> = 1024..=super::BODY_BYTES_MAX_LIMIT as u64;

/// Most sources in a file. Each is a label value of the metrics.
pub const SOURCES_MAX: usize = 256;

/// Largest file of sources in bytes: [`SOURCES_MAX`] sources of 4 KiB.
pub const SOURCES_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Most faults of a file that are printed. A file with more is of another kind.
pub const SOURCES_FAULTS_MAX: usize = 50;

/// Most entries of a source's `events`, and most of its templates.
pub const SOURCE_EVENTS_MAX: usize = 256;

/// Largest template in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 16 * 1024;

/// Most values in a JSON body that is parsed; a body with more is text. A webhook of 1 MiB has about
/// 30,000.
pub const BODY_JSON_VALUES_MAX: usize = 128 * 1024;

/// The most memory of these values, while a message is made of them: 44 MiB. Objects of one member take
/// most: 650 bytes for two values, once as JSON, and not much less in a template's form.
pub const BODY_VALUES_BYTES_MAX: usize = BODY_JSON_VALUES_MAX * 352;

/// Most fields in a form.
pub const BODY_FORM_FIELDS_MAX: usize = 1024;

/// Largest ratio of a gzip body's size to its compressed size. JSON reaches 20, and hardly 50.
pub const GZIP_RATIO_MAX: usize = 100;

/// Most members of a gzip body. Providers send one. A member takes 20 bytes and 5 us at least, so a body of
/// 16 MiB with nothing else would take 4 s.
pub const GZIP_MEMBERS_MAX: usize = 64;

/// What a template may spend: about as many instructions, or 64 bytes of text for each unit. Default
/// templates need under 1,000. An endless loop ends after about 10 ms.
pub const TEMPLATE_FUEL: u64 = 50_000;

/// Longest `dedupe` in seconds: 30 days. No provider retries for longer than a week.
pub const DEDUPE_S_MAX: u32 = 30 * 24 * 3600;

/// Between two log lines about templates of one source that gave no text.
pub const SOURCE_FAULT_LOG_INTERVAL_MS: u64 = 60_000;

/// Most characters of a message's text that `source-check` shows: a screen.
pub const CHECK_TEXT_CHARS_MAX: usize = 2000;
