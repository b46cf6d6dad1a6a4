//! Tokens with any claims, and keys to sign them with.

use access_tokens::{AccessSettings, TokenError, Verifier};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The secret of these tests.
pub(crate) const SECRET: &str = "a secret of the tests, and of nobody else";

/// Settings without a secret and without keys.
pub(crate) fn open() -> AccessSettings {
    AccessSettings {
        auth_secret_file: None,
        auth_jwks: None,
        auth_issuer: "urn:test:issuer".to_owned(),
        auth_audience: "urn:test:audience".to_owned(),
        insecure: false,
    }
}

/// Settings with this secret. The folder must live as long as they are used.
pub(crate) fn with_secret(secret: &str) -> (AccessSettings, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("secret");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let settings = AccessSettings {
        auth_secret_file: Some(file),
        ..open()
    };
    (settings, folder)
}

/// Valid claims for an hour.
pub(crate) fn claims() -> Value {
    json!({
        "iss": "urn:test:issuer",
        "aud": "urn:test:audience",
        "sub": "ada",
        "scope": "users:read users:write",
        "exp": get_current_timestamp() + 3_600,
    })
}

/// The claims, with this one changed. `Value::Null` removes it.
pub(crate) fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    let members = claims.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    claims
}

/// A private key, and what verifies it.
pub(crate) struct Signer {
    pub(crate) id: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
}

impl Signer {
    pub(crate) fn rsa(id: &'static str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = pem_of(der.as_ref());
        Self {
            id,
            algorithm: Algorithm::RS256,
            key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        }
    }

    pub(crate) fn p256(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            id,
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(),
        }
    }

    pub(crate) fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.to_owned());
        encode(&header, claims, &self.key).unwrap()
    }
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

/// The text of the refusal.
pub(crate) async fn refusal(verifier: &Verifier, token: &str) -> String {
    match verifier.verify(token).await {
        Err(error @ TokenError::Invalid(_)) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}
