//! The configured secret, and its comparison with the secret of a request.
//!
//! Called by `route`, which decides on the result. Never shows the secret.

use std::fmt;

use subtle::ConstantTimeEq;

/// The configured secret, if there is one, and whether a shared cache is in front of the server.
#[derive(Clone, Default)]
pub struct Access {
    secret: Option<Box<[u8]>>,
    pub(super) is_fanned_out: bool,
}

/// How the secret of a request compares with the configured one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No secret is configured, so that of the request is ignored.
    Open,
    Right,
    Wrong,
    Missing,
}

impl Access {
    /// Access with or without a secret, whose bytes are compared unchanged.
    pub fn new(secret: Option<&[u8]>) -> Access {
        Access {
            secret: secret.map(Box::from),
            is_fanned_out: false,
        }
    }

    /// Access behind a shared cache. The cache gives its answers to everyone, so a request without a session
    /// and without a secret sees only untargeted messages, also if no secret is configured.
    #[must_use]
    pub fn fanned_out(self) -> Access {
        Access {
            is_fanned_out: true,
            ..self
        }
    }

    /// Compares in a time that does not depend on where the two differ. The time does depend on whether
    /// their lengths are equal.
    pub(super) fn standing(&self, presented: Option<&[u8]>) -> Standing {
        match (self.secret.as_deref(), presented) {
            (None, _) => Standing::Open,
            (Some(_), None) => Standing::Missing,
            (Some(secret), Some(presented)) if bool::from(secret.ct_eq(presented)) => {
                Standing::Right
            }
            (Some(_), Some(_)) => Standing::Wrong,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secret.is_some() {
            "Access(secret)"
        } else {
            "Access(open)"
        })
    }
}
