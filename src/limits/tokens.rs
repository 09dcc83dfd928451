//! Signed tokens: their size, their keys and their times; how streams end with them, how guessing is slowed down.

/// Longest token in bytes; a longer one is refused undecoded. A token with 16 sessions of 64 bytes has 2,000.
/// A request head has room for two such tokens.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Most keys in all files. Between two rotations an issuer has two or three; a set of a large provider has
/// under ten.
pub const TOKEN_KEYS_MAX: usize = 64;

/// Most keys that are tried for one token, unless they are RSA keys.
pub const TOKEN_KEYS_TRIED_MAX: usize = 16;

/// Most RSA keys that are tried for one token. With 16 of 4096 bits a request took 3 ms, so 4 take under 1 ms.
pub const TOKEN_RSA_KEYS_TRIED_MAX: usize = 4;

/// Largest key file in bytes: a JWKS of [`TOKEN_KEYS_MAX`] RSA keys of 4096 bits, without their certificates.
pub const TOKEN_KEY_FILE_BYTES_MAX: usize = 64 * 1024;

/// Shortest HS256 secret in bytes: the length of the hash (RFC 7518 section 3.2).
pub const TOKEN_SECRET_BYTES_MIN: usize = 32;

/// Shortest RSA key in bits (RFC 7518 section 3.3).
pub const TOKEN_RSA_BITS_MIN: usize = 2048;

/// Longest RSA key in bits. Verification takes four times as long as with 2048.
pub const TOKEN_RSA_BITS_MAX: usize = 4096;

/// How early a token may be presented, in milliseconds: the difference of two clocks. There is no such allowance
/// for the end of a token, because it would be an access that the issuer has not given.
pub const TOKEN_EARLY_MS_MAX: u64 = 60_000;

/// Latest end of a token, in Unix seconds: the end of the year 9999. A later one is a time in milliseconds by
/// mistake, and would be valid for ever.
pub const TOKEN_EXPIRY_S_MAX: u64 = 253_402_300_799;

/// Longest name of an audience in bytes. It has to fit into a token.
pub const TOKEN_AUDIENCE_BYTES_MAX: usize = 1024;

/// How long before the end of its token a stream gets the event `token_expiring`, in milliseconds: time
/// for a page to get a new token and to connect anew. A stream that has less than twice this left gets it after
/// half of that.
pub const TOKEN_NOTICE_MS: u64 = 60_000;

/// Default of `--auth-failures-max`: wrong secrets, or wrong tokens, of a client in [`GUESS_WINDOW_MS`]. At this
/// rate a secret of 128 random bits is not found by any number of clients.
pub const AUTH_FAILURES_MAX_DEFAULT: u32 = 10;

/// Largest `--auth-failures-max`. More guesses than this in a minute are no slower than without a limit.
pub const AUTH_FAILURES_MAX_LIMIT: usize = 1_000_000;

/// The time over which the guesses of a client are counted, from its first one, in milliseconds.
pub const GUESS_WINDOW_MS: u64 = 60_000;

/// Most clients whose guesses are counted at once, each for what it guesses: about 2 MiB. Beyond, those that
/// began first are forgotten.
pub const GUESSING_CLIENTS_MAX: usize = 16 * 1024;
