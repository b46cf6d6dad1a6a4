//! The settings of a service that authenticates its callers, or does not.

use crate::key_set::{KeySet, Source};
use crate::signer::TokenSigner;
use crate::verifier::Verifier;
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The fewest bytes of a secret, so that nobody can guess it (RFC 7518, section 3.2).
const SECRET_LENGTH: usize = 32;

/// The issuer of tokens, unless another one is configured.
const ISSUER: &str = "urn:users:issuer";
/// The audience of tokens, unless another one is configured.
const AUDIENCE: &str = "urn:users:services";

/// Who may call this service. Without a secret and without keys every caller is let in, and the service listens on loopback
/// only.
#[derive(Debug, Clone, Args)]
pub struct AccessSettings {
    /// A file with a secret of at least 32 bytes, under which tokens are signed with HS256 (`AUTH_SECRET_FILE`).
    #[arg(long, env = "AUTH_SECRET_FILE", conflicts_with = "auth_jwks")]
    pub auth_secret_file: Option<PathBuf>,

    /// A file, or an http or https URL, with the public keys (JWK set, RFC 7517) that verify tokens signed with RS256 or ES256
    /// (`AUTH_JWKS`).
    #[arg(long, env = "AUTH_JWKS")]
    pub auth_jwks: Option<String>,

    /// The issuer that a token must name (`AUTH_ISSUER`).
    #[arg(long, env = "AUTH_ISSUER", default_value = ISSUER)]
    pub auth_issuer: String,

    /// The audience that a token must name (`AUTH_AUDIENCE`).
    #[arg(long, env = "AUTH_AUDIENCE", default_value = AUDIENCE)]
    pub auth_audience: String,

    /// Listens on other addresses than loopback although every caller is let in (`AUTH_INSECURE`).
    #[arg(long, env = "AUTH_INSECURE")]
    pub insecure: bool,
}

/// The service would let in everybody who can reach this address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposed(SocketAddr);

impl std::error::Error for Exposed {}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} can be reached from other machines, and callers are not authenticated: set AUTH_SECRET_FILE or AUTH_JWKS, \
             listen on 127.0.0.1, or accept the risk with --insecure",
            self.0
        )
    }
}

impl Default for AccessSettings {
    /// Lets every caller in.
    fn default() -> Self {
        Self {
            auth_secret_file: None,
            auth_jwks: None,
            auth_issuer: ISSUER.to_owned(),
            auth_audience: AUDIENCE.to_owned(),
            insecure: false,
        }
    }
}

impl AccessSettings {
    /// The verifier of tokens. `None` if every caller is let in.
    ///
    /// # Errors
    /// If the secret or the key set cannot be read, or is not valid.
    pub fn verifier(&self) -> anyhow::Result<Option<Verifier>> {
        let keys = match (&self.auth_secret_file, &self.auth_jwks) {
            (Some(_), Some(_)) => bail!("AUTH_SECRET_FILE and AUTH_JWKS exclude each other"),
            (Some(file), None) => KeySet::of_secret(&secret(file)?)?,
            (None, Some(place)) => KeySet::of(Source::parse(place)?),
            (None, None) => return Ok(None),
        };
        Ok(Some(Verifier::new(
            keys,
            &self.auth_issuer,
            &self.auth_audience,
        )))
    }

    /// The signer of tokens under the secret.
    ///
    /// # Errors
    /// If no secret is configured, or it cannot be read.
    pub fn signer(&self) -> anyhow::Result<TokenSigner> {
        let file = self.auth_secret_file.as_deref();
        let file = file.context("a token is signed under a secret: set AUTH_SECRET_FILE")?;
        TokenSigner::new(&secret(file)?, &self.auth_issuer, &self.auth_audience)
    }

    /// Whether callers are authenticated.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.auth_secret_file.is_some() || self.auth_jwks.is_some()
    }

    /// Whether the service may listen on this address.
    ///
    /// # Errors
    /// If other machines can reach it, callers are not authenticated, and nobody said that this is intended.
    pub fn check(&self, address: SocketAddr) -> Result<(), Exposed> {
        if self.authenticates() || self.insecure || address.ip().to_canonical().is_loopback() {
            Ok(())
        } else {
            Err(Exposed(address))
        }
    }
}

fn secret(file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let secret = Zeroizing::new(text.trim().as_bytes().to_vec());
    ensure!(
        secret.len() >= SECRET_LENGTH,
        "{} has fewer than {SECRET_LENGTH} bytes",
        file.display()
    );
    Ok(secret)
}
