//! Bounds of the verification of requests to sources.

use std::ops::RangeInclusive;

/// Most HMAC signatures of one request that are tried. A sender that rotates its secret sends two;
/// each costs one comparison.
pub const SIGNATURES_MAX: usize = 16;

/// Most Ed25519 signatures of one request that are tried. Each one hashes the body again for each key:
/// 2 ms for 1 MiB, before anything is known of the sender.
pub const ED25519_SIGNATURES_MAX: usize = 4;

/// Most secrets of a source: the current one, the last one, and room for a rotation in steps. A
/// forged request is hashed once for each.
pub const SOURCE_SECRETS_MAX: usize = 8;

/// Shortest secret that signs, in bytes. RFC 2104 discourages keys shorter than the digest; providers
/// generate 16 and more, and a short one can be guessed from one captured request.
pub const SIGNING_SECRET_BYTES_MIN: usize = 16;

/// Shortest secret that is itself sent, in bytes: a guess needs a request for each try.
pub const SENT_SECRET_BYTES_MIN: usize = 8;

/// The largest difference between the clocks of a provider and of this server, in seconds, unless the
/// provider or the operator says else. The libraries of Standard Webhooks, Stripe and Slack use the same.
pub const CLOCK_TOLERANCE_S: u32 = 300;

/// Linear's own tolerance in seconds.
pub const LINEAR_TOLERANCE_S: u32 = 60;

/// Values of `tolerance` in seconds. Up to a day: some senders keep the time of the first attempt.
pub const CLOCK_TOLERANCE_S_RANGE: RangeInclusive<u32> = 1..=86_400;

/// Longest text that a handshake returns to the provider, in bytes: several times the longest known
/// challenge.
pub const CHALLENGE_BYTES_MAX: usize = 4 * 1024;
