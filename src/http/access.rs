//! The configured secret, and how what a request presents relates to it.
//!
//! Asked by `route`, which says what follows. Never shows the secret.

use std::fmt;

use subtle::ConstantTimeEq;

/// The configured secret, if there is one, and what may be seen without one.
#[derive(Clone, Default)]
pub struct Access {
    secret: Option<Box<[u8]>>,
    pub(super) is_fanned_out: bool,
}

/// How what a request presents relates to the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No secret is configured: whatever is presented does not matter.
    Open,
    Right,
    Wrong,
    Missing,
}

impl Access {
    /// Access without a secret, or with one; the bytes are compared as they stand.
    pub fn new(secret: Option<&[u8]>) -> Access {
        Access {
            secret: secret.map(Box::from),
            is_fanned_out: false,
        }
    }

    /// The same where a shared cache stands in front: what anyone may be given from it is only what
    /// is for everyone, with or without a secret configured.
    #[must_use]
    pub fn fanned_out(self) -> Access {
        Access {
            is_fanned_out: true,
            ..self
        }
    }

    /// Compares in a time that does not depend on where the two differ. It does tell whether they
    /// are of one length.
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
