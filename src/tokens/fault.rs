//! Why a token is refused.
//!
//! Made by the modules that verify. `http` answers with the text. Never contains a byte of the token.

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// It has no character.
    Empty,
    /// It is longer than [`crate::limits::TOKEN_BYTES_MAX`].
    TooLong,
    /// It is not three parts of base64url, of which the first is a JSON object with an algorithm.
    Malformed,
    /// Its algorithm is `none`.
    Unsigned,
    /// Its header has an extension that the reader must understand.
    Critical,
    /// Its algorithm is that of no key.
    Algorithm,
    /// No key has verified the signature.
    Signature,
    /// Its claims are no JSON object, or one of them is of the wrong type or is there twice.
    Claims,
    /// Its claims name a session that is empty or too long.
    Session,
    /// It has no end.
    NoExpiry,
    /// Its end is so late that it must be a mistake.
    LateExpiry,
    /// Its end is over.
    Expired,
    /// Its beginning is in the future.
    Early,
    /// It names no audience, and this server has one.
    NoAudience,
    /// It is for another audience.
    Audience,
    /// It is for an audience, and this server has none.
    AudienceUnknown,
}

impl TokenFault {
    /// All of them.
    pub const ALL: [TokenFault; 16] = [
        TokenFault::Empty,
        TokenFault::TooLong,
        TokenFault::Malformed,
        TokenFault::Unsigned,
        TokenFault::Critical,
        TokenFault::Algorithm,
        TokenFault::Signature,
        TokenFault::Claims,
        TokenFault::Session,
        TokenFault::NoExpiry,
        TokenFault::LateExpiry,
        TokenFault::Expired,
        TokenFault::Early,
        TokenFault::NoAudience,
        TokenFault::Audience,
        TokenFault::AudienceUnknown,
    ];

    /// The reason, without any part of the token.
    pub const fn text(self) -> &'static str {
        match self {
            TokenFault::Empty => "the token is empty",
            TokenFault::TooLong => "the token is longer than 4096 bytes",
            TokenFault::Malformed => "the token is no signed JSON Web Token in compact form",
            TokenFault::Unsigned => "the token is not signed: its alg is none",
            TokenFault::Critical => {
                "the token has crit or b64 in its header, and no extension is supported"
            }
            TokenFault::Algorithm => "the token's alg is not that of any key of this server",
            TokenFault::Signature => "no key of this server has signed the token",
            TokenFault::Claims => {
                "a claim of the token has the wrong type or is there twice, or its claims are no JSON object"
            }
            TokenFault::Session => {
                "the token names a session that is empty or longer than 256 bytes"
            }
            TokenFault::NoExpiry => "the token has no exp, and every token needs one",
            TokenFault::LateExpiry => {
                "the token's exp is after the year 9999: it counts seconds, not milliseconds"
            }
            TokenFault::Expired => "the token has expired",
            TokenFault::Early => "the token is not valid yet: its nbf is in the future",
            TokenFault::NoAudience => "the token has no aud, and this server requires one",
            TokenFault::Audience => "the token is for another audience: see its aud",
            TokenFault::AudienceUnknown => {
                "the token has an aud, and this server has no audience configured"
            }
        }
    }

    /// Whether the token may be a guess: it is one, and no key is known to have signed it.
    pub const fn is_guess(self) -> bool {
        match self {
            TokenFault::TooLong
            | TokenFault::Malformed
            | TokenFault::Unsigned
            | TokenFault::Critical
            | TokenFault::Algorithm
            | TokenFault::Signature => true,
            TokenFault::Empty
            | TokenFault::Claims
            | TokenFault::Session
            | TokenFault::NoExpiry
            | TokenFault::LateExpiry
            | TokenFault::Expired
            | TokenFault::Early
            | TokenFault::NoAudience
            | TokenFault::Audience
            | TokenFault::AudienceUnknown => false,
        }
    }
}
