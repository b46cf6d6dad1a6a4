//! Verifies tokens.

use crate::key_set::{ALGORITHMS, KeySet, Lookup};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How far the clocks of issuer and service may differ, in seconds.
const LEEWAY: u64 = 30;
/// The greatest length of a token, in bytes.
const LENGTH: usize = 8 * 1024;

/// Verifies tokens. Clones share the keys.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<KeySet>,
    /// The rules for a token, one for each algorithm.
    rules: Arc<[Validation]>,
}

/// What a valid token says about its bearer.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    subject: String,
    scopes: BTreeSet<String>,
}

/// Why a token gives no access.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is not valid. The text completes the sentence "the token …".
    #[error("the token {0}")]
    Invalid(&'static str),
    /// The keys are not available, so nobody can tell whether the token is valid.
    #[error("the keys that verify tokens are not available")]
    KeysUnavailable,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    scope: String,
}

impl Verifier {
    pub(crate) fn new(keys: KeySet, issuer: &str, audience: &str) -> Self {
        Self {
            keys: Arc::new(keys),
            rules: ALGORITHMS
                .map(|algorithm| rules(algorithm, issuer, audience))
                .into(),
        }
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// If the token is not valid, or the keys are not available.
    pub async fn verify(&self, token: &str) -> Result<Access, TokenError> {
        if token.len() > LENGTH {
            return Err(TokenError::Invalid("is too long"));
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid("is malformed"))?;
        // The library checks this too, but takes an empty list.
        if header.crit.is_some() {
            let reason = "has a critical header that is not known";
            return Err(TokenError::Invalid(reason));
        }
        let key = match self.keys.find(header.kid.as_deref()).await {
            Lookup::Found(key) => key,
            Lookup::Unknown => return Err(TokenError::Invalid("was signed under an unknown key")),
            Lookup::Unavailable => return Err(TokenError::KeysUnavailable),
        };
        let for_key = |rules: &&Validation| rules.algorithms == [key.algorithm];
        let rules = self.rules.iter().find(for_key);
        let rules = rules.ok_or(TokenError::Invalid("was signed with another algorithm"))?;
        let decoded = decode::<Claims>(token, &key.verifying, rules);
        let claims = decoded.map_err(|error| TokenError::Invalid(reason(&error)))?;
        Access::of(claims.claims)
    }

    /// Whether the keys are available.
    ///
    /// # Errors
    /// With the reason why they are not.
    pub async fn check(&self) -> Result<(), String> {
        self.keys.check().await
    }
}

impl Access {
    fn of(claims: Claims) -> Result<Self, TokenError> {
        if claims.sub.is_empty() {
            return Err(TokenError::Invalid("names no subject"));
        }
        let scopes = claims.scope.split(' ').filter(|scope| !scope.is_empty());
        Ok(Self {
            scopes: scopes.map(str::to_owned).collect(),
            subject: claims.sub,
        })
    }

    /// Who the bearer is.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whether the bearer may do this.
    #[must_use]
    pub fn has(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }

    /// What the bearer may do, in alphabetical order.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str)
    }
}

fn rules(algorithm: Algorithm, issuer: &str, audience: &str) -> Validation {
    let mut rules = Validation::new(algorithm);
    rules.leeway = LEEWAY;
    rules.validate_nbf = true;
    rules.set_issuer(&[issuer]);
    rules.set_audience(&[audience]);
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    rules
}

/// The reason for a caller. It repeats nothing of the token.
fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library may add kinds of errors"
    )]
    match error.kind() {
        ErrorKind::ExpiredSignature => "has expired",
        ErrorKind::ImmatureSignature => "is not valid yet",
        ErrorKind::InvalidIssuer => "names another issuer",
        ErrorKind::InvalidAudience => "names another audience",
        ErrorKind::InvalidSignature => "has a wrong signature",
        ErrorKind::InvalidAlgorithm => "was signed with another algorithm",
        ErrorKind::MissingRequiredClaim(_) => "lacks one of the claims exp, iss, aud and sub",
        _ => "is malformed",
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl fmt::Debug for Access {
    /// Shows the scopes only, because the subject is personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
