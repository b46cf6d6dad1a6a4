//! The keys that verify tokens: one secret, or a set of public keys that is read again when keys change.
//!
//! Invariants: keys that were read once stay valid until a later read succeeds, and no token that they verify waits for a read.
//! Tokens with unknown keys cause at most one read in [`PAUSE`], however many arrive.

use anyhow::{Context as _, bail, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

/// The shortest time between two reads of the set.
const PAUSE: Duration = Duration::from_secs(10);
/// After this time the set is read again, so that a withdrawn key is not trusted for longer.
const FRESH_FOR: Duration = Duration::from_mins(5);
/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The greatest size of a set, in bytes.
const SIZE: usize = 256 * 1024;

/// The algorithms of all keys.
pub(crate) const ALGORITHMS: [Algorithm; 3] =
    [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256];

/// The keys by their ids.
type Keys = BTreeMap<Option<String>, Arc<Key>>;

/// A key, and the only algorithm that it verifies.
pub(crate) struct Key {
    pub(crate) algorithm: Algorithm,
    pub(crate) verifying: DecodingKey,
}

/// The result of a look-up.
pub(crate) enum Lookup {
    Found(Arc<Key>),
    /// The set has no such key.
    Unknown,
    /// The set could not be read yet.
    Unavailable,
}

/// Where a set of public keys is.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    File(PathBuf),
    Url(reqwest::Client, Url),
}

pub(crate) struct KeySet {
    /// `None` for a secret, which never changes.
    source: Option<Source>,
    known: RwLock<Known>,
    /// When the set may be read again. The lock is held during a read.
    next_read: Mutex<Instant>,
}

struct Known {
    keys: Keys,
    /// When these keys were read. `None` before the first read.
    since: Option<Instant>,
    /// Why the last read failed.
    failure: Option<String>,
}

impl Source {
    pub(crate) fn parse(place: &str) -> anyhow::Result<Self> {
        if !place.starts_with("http://") && !place.starts_with("https://") {
            return Ok(Self::File(place.into()));
        }
        let url = Url::parse(place).context("AUTH_JWKS is no valid URL")?;
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self::Url(client, url))
    }

    async fn read(&self) -> anyhow::Result<Keys> {
        let text = match self {
            Self::File(file) => {
                let text = tokio::fs::read(file).await;
                text.with_context(|| format!("cannot read {}", file.display()))?
            }
            Self::Url(client, url) => fetch(client, url).await.context("cannot fetch AUTH_JWKS")?,
        };
        keys(&text)
    }
}

async fn fetch(client: &reqwest::Client, url: &Url) -> anyhow::Result<Vec<u8>> {
    let answer = client.get(url.clone()).send().await;
    // The URL may hold a password, and reqwest's errors repeat it.
    let answer = answer.and_then(reqwest::Response::error_for_status);
    let mut answer = answer.map_err(reqwest::Error::without_url)?;
    let mut text = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        ensure!(text.len() + part.len() <= SIZE, "the set is too large");
        text.extend_from_slice(&part);
    }
    Ok(text)
}

fn keys(text: &[u8]) -> anyhow::Result<Keys> {
    let set: JwkSet = serde_json::from_slice(text).context("this is no JWK set")?;
    let keys: Keys = set.keys.iter().filter_map(key).collect();
    if keys.is_empty() {
        bail!("the set has no RSA or P-256 key for signatures");
    }
    Ok(keys)
}

/// The key, if it can verify signatures with an algorithm that we accept.
fn key(jwk: &Jwk) -> Option<(Option<String>, Arc<Key>)> {
    let signs = matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only these kinds of keys are accepted"
    )]
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        _ => return None,
    };
    let verifying = DecodingKey::from_jwk(jwk).ok()?;
    let key = Key {
        algorithm,
        verifying,
    };
    signs.then(|| (jwk.common.key_id.clone(), Arc::new(key)))
}

impl KeySet {
    /// One secret, which verifies HS256.
    pub(crate) fn of_secret(secret: &[u8]) -> anyhow::Result<Self> {
        let key = Key {
            algorithm: Algorithm::HS256,
            verifying: DecodingKey::from_secret(secret)?,
        };
        Ok(Self::new(None, Keys::from([(None, Arc::new(key))])))
    }

    /// The set at this place. It is read when the first token arrives.
    pub(crate) fn of(source: Source) -> Self {
        Self::new(Some(source), Keys::new())
    }

    fn new(source: Option<Source>, keys: Keys) -> Self {
        let since = source.is_none().then(Instant::now);
        let known = Known {
            keys,
            since,
            failure: None,
        };
        Self {
            source,
            known: RwLock::new(known),
            next_read: Mutex::new(Instant::now()),
        }
    }

    /// The key with this id. A token without a key id is verified under the only key of a set.
    pub(crate) async fn find(self: &Arc<Self>, id: Option<&str>) -> Lookup {
        let Some(source) = &self.source else {
            return self.known_key(None);
        };
        match self.known_key(id) {
            found @ Lookup::Found(_) => {
                self.read_later_if_stale(source);
                found
            }
            Lookup::Unknown | Lookup::Unavailable => {
                self.read(source).await;
                self.known_key(id)
            }
        }
    }

    /// Why the last read of the set failed, if it did.
    pub(crate) async fn check(&self) -> Result<(), String> {
        if let Some(source) = &self.source
            && !self.is_fresh()
        {
            self.read(source).await;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.failure.clone().map_or(Ok(()), Err)
    }

    fn read_later_if_stale(self: &Arc<Self>, source: &Source) {
        let idle = || {
            self.next_read
                .try_lock()
                .is_ok_and(|next| *next <= Instant::now())
        };
        if !self.is_fresh() && idle() {
            let (set, source) = (Arc::clone(self), source.clone());
            tokio::spawn(async move { set.read(&source).await });
        }
    }

    fn known_key(&self, id: Option<&str>) -> Lookup {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.since.is_none() {
            return Lookup::Unavailable;
        }
        let keys = &known.keys;
        let key = match id {
            Some(id) => keys.get(&Some(id.to_owned())),
            None if keys.len() == 1 => keys.values().next(),
            None => None,
        };
        key.map_or(Lookup::Unknown, |key| Lookup::Found(Arc::clone(key)))
    }

    fn is_fresh(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.since.is_some_and(|since| since.elapsed() < FRESH_FOR)
    }

    /// Reads the set, unless that was tried a moment ago.
    async fn read(&self, source: &Source) {
        let mut next_read = self.next_read.lock().await;
        if Instant::now() < *next_read {
            return;
        }
        let read = source.read().await;
        *next_read = Instant::now() + PAUSE;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(keys) => {
                *known = Known {
                    keys,
                    since: Some(Instant::now()),
                    failure: None,
                };
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the keys of tokens were not read"
                );
                known.failure = Some(format!("{error:#}"));
            }
        }
    }
}
