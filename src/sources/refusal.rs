//! Why a source refuses a request: a status, a name for the metric, and a text.
//!
//! The text is for the log and for the answer. It says which check failed, and never contains a tag, a
//! secret or a body.

use std::fmt;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A tag, an id or a time occurs twice.
    Repeated(String),
    /// No tag, or none that the scheme knows; names the field.
    TagMissing(String),
    /// The tag is empty, or is not encoded as the scheme wants.
    TagMalformed(String),
    /// More tags than are tried.
    TooManyTags(String),
    /// No tag belongs to the request and one of the secrets.
    TagMismatch(String),
    /// The request names no time, though its tag includes one.
    TimeMissing(String),
    /// The time is not a number.
    TimeMalformed(String),
    /// The time is outside the window. `skew_s`: how far ahead of this clock the sender's is.
    TimeOutside {
        /// Sender's time less this server's, in seconds.
        skew_s: i64,
        /// The largest difference that is accepted.
        tolerance_s: u32,
    },
    /// The request names no id, though its tag includes one.
    IdMissing(String),
    /// The id is not UTF-8.
    IdMalformed(String),
    /// The request carries no secret.
    TokenMissing(String),
    /// The request's secret is not one of the source's.
    TokenMismatch(String),
    /// The body is larger than the source accepts.
    BodyTooLarge {
        /// The largest body, in bytes.
        bytes_max: usize,
    },
    /// The body is compressed in a way that the source does not accept.
    EncodingRefused(String),
    /// The body is not what its type says.
    BodyMalformed(String),
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Repeated(_) | Refusal::BodyMalformed(_) | Refusal::TooManyTags(_) => 400,
            Refusal::BodyTooLarge { .. } => 413,
            Refusal::EncodingRefused(_) => 415,
            _ => 401,
        }
    }

    /// Whether the request has tried to guess a secret that is sent.
    pub fn is_guess(&self) -> bool {
        matches!(self, Refusal::TokenMismatch(_))
    }

    /// A short name for the metric.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::Repeated(_) => "repeated_field",
            Refusal::TagMissing(_) => "signature_missing",
            Refusal::TagMalformed(_) => "signature_malformed",
            Refusal::TooManyTags(_) => "too_many_signatures",
            Refusal::TagMismatch(_) => "signature_mismatch",
            Refusal::TimeMissing(_) => "time_missing",
            Refusal::TimeMalformed(_) => "time_malformed",
            Refusal::TimeOutside { .. } => "time_outside",
            Refusal::IdMissing(_) => "id_missing",
            Refusal::IdMalformed(_) => "id_malformed",
            Refusal::TokenMissing(_) => "secret_missing",
            Refusal::TokenMismatch(_) => "secret_mismatch",
            Refusal::BodyTooLarge { .. } => "body_too_large",
            Refusal::EncodingRefused(_) => "encoding_refused",
            Refusal::BodyMalformed(_) => "body_malformed",
        }
    }

    /// All names, so that a metric can begin at zero.
    pub const NAMES: [&'static str; 15] = [
        "repeated_field",
        "signature_missing",
        "signature_malformed",
        "too_many_signatures",
        "signature_mismatch",
        "time_missing",
        "time_malformed",
        "time_outside",
        "id_missing",
        "id_malformed",
        "secret_missing",
        "secret_mismatch",
        "body_too_large",
        "encoding_refused",
        "body_malformed",
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Repeated(field) => write!(f, "{field} occurs twice"),
            Refusal::TagMissing(field) => write!(f, "no signature in {field}"),
            Refusal::TagMalformed(field) => {
                write!(
                    f,
                    "the signature in {field} is empty or not in the scheme's form"
                )
            }
            Refusal::TooManyTags(field) => write!(f, "too many signatures in {field}"),
            Refusal::TagMismatch(field) => write!(
                f,
                "the signature in {field} fits none of the source's secrets and this body"
            ),
            Refusal::TimeMissing(field) => write!(f, "no time in {field}"),
            Refusal::TimeMalformed(field) => {
                write!(
                    f,
                    "the time in {field} is not a number of seconds or milliseconds"
                )
            }
            Refusal::TimeOutside {
                skew_s,
                tolerance_s,
            } => {
                let side = if *skew_s < 0 { "behind" } else { "ahead of" };
                write!(
                    f,
                    "the request's time is {} s {side} this server's clock, the tolerance is {tolerance_s} s",
                    skew_s.unsigned_abs()
                )
            }
            Refusal::IdMissing(field) => write!(f, "no id in {field}"),
            Refusal::IdMalformed(field) => write!(f, "the id in {field} is not UTF-8"),
            Refusal::TokenMissing(field) => write!(f, "no secret in {field}"),
            Refusal::TokenMismatch(field) => {
                write!(f, "the secret in {field} is not one of the source's")
            }
            Refusal::BodyTooLarge { bytes_max } => {
                write!(f, "the body is larger than {bytes_max} bytes")
            }
            Refusal::EncodingRefused(what) => write!(f, "the body's encoding is refused: {what}"),
            Refusal::BodyMalformed(what) => write!(f, "the body cannot be read: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_status_a_name_and_a_text() {
        let what = || "X-Field".to_owned();
        let refusals = [
            (Refusal::Repeated(what()), 400),
            (Refusal::TagMissing(what()), 401),
            (Refusal::TagMalformed(what()), 401),
            (Refusal::TooManyTags(what()), 400),
            (Refusal::TagMismatch(what()), 401),
            (Refusal::TimeMissing(what()), 401),
            (Refusal::TimeMalformed(what()), 401),
            (
                Refusal::TimeOutside {
                    skew_s: -301,
                    tolerance_s: 300,
                },
                401,
            ),
            (Refusal::IdMissing(what()), 401),
            (Refusal::IdMalformed(what()), 401),
            (Refusal::TokenMissing(what()), 401),
            (Refusal::TokenMismatch(what()), 401),
            (Refusal::BodyTooLarge { bytes_max: 7 }, 413),
            (Refusal::EncodingRefused(what()), 415),
            (Refusal::BodyMalformed(what()), 400),
        ];
        let names: Vec<_> = refusals.iter().map(|(refusal, _)| refusal.name()).collect();
        assert_eq!(names, Refusal::NAMES);
        for (refusal, status) in refusals {
            assert_eq!(refusal.status(), status, "{refusal}");
            assert!(refusal.to_string().len() > 10, "{refusal:?}");
        }
    }

    #[test]
    fn the_text_names_the_difference_of_the_clocks() {
        let text = |skew_s| {
            Refusal::TimeOutside {
                skew_s,
                tolerance_s: 300,
            }
            .to_string()
        };
        assert_eq!(
            text(-412),
            "the request's time is 412 s behind this server's clock, the tolerance is 300 s"
        );
        assert!(text(301).contains("301 s ahead of this"), "{}", text(301));
    }
}
