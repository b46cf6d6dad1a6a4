//! Signs tokens under a shared secret.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Signs tokens under a secret.
pub struct TokenSigner {
    key: EncodingKey,
    issuer: String,
    audience: String,
}

/// What a token says about its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest<'a> {
    /// Who the bearer is.
    pub subject: &'a str,
    /// What the bearer may do.
    pub scopes: &'a [String],
    /// How long the token is valid.
    pub lifetime: Duration,
}

#[derive(Serialize)]
struct IssuedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    scope: String,
    iat: u64,
    exp: u64,
}

impl TokenSigner {
    /// A signer under this secret.
    ///
    /// # Errors
    /// If the secret is empty.
    pub fn new(secret: &[u8], issuer: &str, audience: &str) -> anyhow::Result<Self> {
        Ok(Self {
            key: EncodingKey::from_secret(secret)?,
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
        })
    }

    /// A token, in three base64url parts that are separated by dots.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn token(&self, request: &TokenRequest<'_>) -> anyhow::Result<String> {
        let now = get_current_timestamp();
        let claims = IssuedClaims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: request.subject,
            scope: request.scopes.join(" "),
            iat: now,
            exp: now.saturating_add(request.lifetime.as_secs()),
        };
        Ok(encode(&Header::new(Algorithm::HS256), &claims, &self.key)?)
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").finish_non_exhaustive()
    }
}
