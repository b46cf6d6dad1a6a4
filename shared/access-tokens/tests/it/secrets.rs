//! Tokens under a shared secret.

use crate::support::{SECRET, claims, claims_with, open, refusal, with_secret};
use access_tokens::{TokenRequest, Verifier};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use std::time::Duration;

fn verifier() -> (Verifier, tempfile::TempDir) {
    let (settings, folder) = with_secret(SECRET);
    (settings.verifier().unwrap().unwrap(), folder)
}

fn signed(claims: &Value) -> String {
    signed_as(&Header::default(), claims, SECRET)
}

fn signed_as(header: &Header, claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
    encode(header, claims, &key).unwrap()
}

/// A token of these parts. Nobody has signed them.
fn of_parts(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[tokio::test]
async fn an_issued_token_names_its_bearer_and_what_it_may_do() {
    let (settings, _folder) = with_secret(SECRET);
    let scopes = ["users:read".to_owned(), "users:erase".to_owned()];
    let request = TokenRequest {
        subject: "ada",
        scopes: &scopes,
        lifetime: Duration::from_mins(1),
    };
    let token = settings.signer().unwrap().token(&request).unwrap();
    let verifier = settings.verifier().unwrap().unwrap();
    let access = verifier.verify(&token).await.unwrap();
    assert_eq!(access.subject(), "ada");
    assert!(access.has("users:read") && access.has("users:erase"));
    assert!(!access.has("users:write") && !access.has("users"));
    assert_eq!(
        access.scopes().collect::<Vec<_>>(),
        ["users:erase", "users:read"]
    );
}

#[tokio::test]
async fn a_token_is_refused_for_each_claim_that_is_wrong_or_missing() {
    let (verifier, _folder) = verifier();
    assert!(verifier.verify(&signed(&claims())).await.is_ok());
    let now = get_current_timestamp();
    let lacks = "the token lacks one of the claims exp, iss, aud and sub";
    for (name, value, expected) in [
        ("exp", json!(now - 31), "the token has expired"),
        ("nbf", json!(now + 60), "the token is not valid yet"),
        ("iss", json!("urn:else"), "the token names another issuer"),
        ("aud", json!("urn:else"), "the token names another audience"),
        (
            "aud",
            json!(["urn:a", "urn:b"]),
            "the token names another audience",
        ),
        ("exp", Value::Null, lacks),
        ("iss", Value::Null, lacks),
        ("aud", Value::Null, lacks),
        ("sub", Value::Null, "the token is malformed"),
        ("sub", json!(""), "the token names no subject"),
        ("sub", json!(7), "the token is malformed"),
        ("scope", json!(["users:read"]), "the token is malformed"),
        ("exp", json!("tomorrow"), lacks),
    ] {
        let refused = refusal(&verifier, &signed(&claims_with(name, value.clone()))).await;
        assert_eq!(refused, expected, "{name} {value}");
    }
    for (name, value) in [
        ("exp", json!(now - 20)),
        ("nbf", json!(now + 20)),
        ("aud", json!(["urn:test:audience", "urn:b"])),
        ("scope", Value::Null),
    ] {
        let token = signed(&claims_with(name, value.clone()));
        assert!(verifier.verify(&token).await.is_ok(), "{name} {value}");
    }
}

#[tokio::test]
async fn a_token_of_another_secret_or_algorithm_or_of_none_is_refused() {
    let (verifier, _folder) = verifier();
    let other = signed_as(
        &Header::default(),
        &claims(),
        "another secret, which is as long as ours",
    );
    assert_eq!(
        refusal(&verifier, &other).await,
        "the token has a wrong signature"
    );
    let hs512 = signed_as(&Header::new(Algorithm::HS512), &claims(), SECRET);
    let algorithm = "the token was signed with another algorithm";
    assert_eq!(refusal(&verifier, &hs512).await, algorithm);
    for none in ["none", "None", "NONE", ""] {
        for signature in ["", "AAAA"] {
            let token = of_parts(&json!({"alg": none, "typ": "JWT"}), &claims(), signature);
            assert_eq!(refusal(&verifier, &token).await, "the token is malformed");
        }
    }
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let (verifier, _folder) = verifier();
    let token = signed(&claims());
    let parts: Vec<_> = token.split('.').collect();
    let admin = claims_with("scope", json!("users:admin"));
    let admin = URL_SAFE_NO_PAD.encode(admin.to_string());
    let forged = format!("{}.{admin}.{}", parts[0], parts[2]);
    assert_eq!(
        refusal(&verifier, &forged).await,
        "the token has a wrong signature"
    );
    for cut in 0..token.len() {
        assert!(
            verifier.verify(&token[..cut]).await.is_err(),
            "cut at {cut}"
        );
    }
}

#[tokio::test]
async fn a_critical_header_that_nobody_knows_is_refused() {
    let (verifier, _folder) = verifier();
    for critical in [json!(["b64"]), json!(["exp"]), json!([]), json!(["urn:x"])] {
        let header = Header {
            crit: Some(serde_json::from_value(critical.clone()).unwrap()),
            ..Header::default()
        };
        let token = signed_as(&header, &claims(), SECRET);
        let refused = refusal(&verifier, &token).await;
        assert_eq!(
            refused, "the token has a critical header that is not known",
            "{critical}"
        );
    }
}

#[tokio::test]
async fn garbage_is_refused_and_repeated_nowhere() {
    let (verifier, _folder) = verifier();
    let long = "a".repeat(8 * 1024 + 1);
    for garbage in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "Bearer x",
        "\u{0}\u{7f}é.🦀.x",
        &long,
    ] {
        let refused = refusal(&verifier, garbage).await;
        assert!(["the token is malformed", "the token is too long"].contains(&refused.as_str()));
    }
}

#[tokio::test]
async fn a_secret_that_is_short_or_cannot_be_read_is_an_error_at_start() {
    let (settings, folder) = with_secret("too short");
    let error = settings.verifier().unwrap_err().to_string();
    assert!(
        error.contains("fewer than 32 bytes") && !error.contains("too short"),
        "{error}"
    );
    std::fs::remove_file(folder.path().join("secret")).unwrap();
    assert!(
        settings
            .verifier()
            .unwrap_err()
            .to_string()
            .contains("cannot read")
    );
    assert!(open().verifier().unwrap().is_none());
}

#[test]
fn a_service_that_lets_everybody_in_listens_on_loopback_only() {
    let check = |settings: &access_tokens::AccessSettings, address: &str| {
        settings.check(address.parse().unwrap()).is_ok()
    };
    for local in [
        "127.0.0.1:7000",
        "127.9.9.9:1",
        "[::1]:7000",
        "[::ffff:127.0.0.1]:7000",
    ] {
        assert!(check(&open(), local), "{local}");
    }
    for exposed in [
        "0.0.0.0:7000",
        "[::]:7000",
        "192.168.0.1:7000",
        "[::ffff:10.0.0.1]:1",
    ] {
        assert!(!check(&open(), exposed), "{exposed}");
        let insecure = access_tokens::AccessSettings {
            insecure: true,
            ..open()
        };
        assert!(check(&insecure, exposed));
        let (secured, _folder) = with_secret(SECRET);
        assert!(check(&secured, exposed));
    }
}
