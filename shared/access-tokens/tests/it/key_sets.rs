//! Tokens under public keys, which come from a file or a server and change.

use crate::support::{Signer, claims, open, refusal};
use access_tokens::{AccessSettings, TokenError, Verifier};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn of(place: &str) -> Verifier {
    let settings = AccessSettings {
        auth_jwks: Some(place.to_owned()),
        ..open()
    };
    settings.verifier().unwrap().unwrap()
}

fn set(keys: &[&Signer]) -> Value {
    json!({"keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>()})
}

fn write(file: &Path, set: &Value) {
    std::fs::write(file, set.to_string()).unwrap();
}

/// A server of key sets that counts its requests. Without a set it answers 500.
struct Server {
    url: String,
    set: Arc<Mutex<Option<Value>>>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start(first: Option<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (set, requests) = (Arc::new(Mutex::new(first)), Arc::new(AtomicUsize::new(0)));
        let (answers, counted) = (Arc::clone(&set), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = [0; 2_048];
                let _ = connection.read(&mut request).await;
                counted.fetch_add(1, Ordering::SeqCst);
                let body = answers.lock().unwrap().as_ref().map(Value::to_string);
                let status = if body.is_some() { "200 OK" } else { "500 Down" };
                let body = body.unwrap_or_default();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                let _ = connection.write_all((head + &body).as_bytes()).await;
            }
        });
        Self { url, set, requests }
    }

    fn serve(&self, set: Option<Value>) {
        *self.set.lock().unwrap() = set;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn rsa_and_p256_keys_of_a_file_verify_their_own_tokens_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let (rsa, p256, stranger) = (Signer::rsa("a"), Signer::p256("b"), Signer::rsa("a"));
    write(&file, &set(&[&rsa, &p256]));
    let verifier = of(file.to_str().unwrap());
    for signer in [&rsa, &p256] {
        assert!(verifier.verify(&signer.token(&claims())).await.is_ok());
    }
    let forged = stranger.token(&claims());
    assert_eq!(
        refusal(&verifier, &forged).await,
        "the token has a wrong signature"
    );
    let unnamed = encode(&Header::new(rsa.algorithm), &claims(), &rsa.key).unwrap();
    let unknown = "the token was signed under an unknown key";
    assert_eq!(refusal(&verifier, &unnamed).await, unknown);
}

#[tokio::test]
async fn a_public_key_is_never_used_as_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let rsa = Signer::rsa("a");
    write(&file, &set(&[&rsa]));
    let verifier = of(file.to_str().unwrap());
    let public = rsa.public()["n"].as_str().unwrap().to_owned();
    let header = Header {
        kid: Some("a".to_owned()),
        ..Header::default()
    };
    let key = EncodingKey::from_secret(public.as_bytes()).unwrap();
    let confused = encode(&header, &claims(), &key).unwrap();
    let algorithm = "the token was signed with another algorithm";
    assert_eq!(refusal(&verifier, &confused).await, algorithm);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_when_its_first_token_arrives() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    write(&file, &set(&[&old]));
    let verifier = of(file.to_str().unwrap());
    assert!(verifier.verify(&old.token(&claims())).await.is_ok());
    write(&file, &set(&[&new]));
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(verifier.verify(&new.token(&claims())).await.is_ok());
    let unknown = "the token was signed under an unknown key";
    assert_eq!(refusal(&verifier, &old.token(&claims())).await, unknown);
}

#[tokio::test]
async fn unknown_keys_cost_one_request() {
    let (ours, stranger) = (Signer::p256("ours"), Signer::p256("stranger"));
    let server = Server::start(Some(set(&[&ours]))).await;
    let verifier = of(&server.url);
    for _ in 0..100 {
        assert!(verifier.verify(&ours.token(&claims())).await.is_ok());
        assert!(verifier.verify(&stranger.token(&claims())).await.is_err());
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn without_any_keys_nobody_can_tell_whether_a_token_is_valid() {
    let ours = Signer::p256("ours");
    let server = Server::start(None).await;
    let verifier = of(&server.url);
    let answer = verifier.verify(&ours.token(&claims())).await;
    assert_eq!(answer.unwrap_err(), TokenError::KeysUnavailable);
    let reason = verifier.check().await.unwrap_err();
    assert!(reason.contains("cannot fetch AUTH_JWKS"), "{reason}");
    assert!(!reason.contains(&server.url), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn known_keys_stay_valid_while_the_server_is_down_and_a_withdrawn_one_is_dropped_later() {
    let (first, second) = (Signer::p256("first"), Signer::p256("second"));
    let server = Server::start(Some(set(&[&first]))).await;
    let verifier = of(&server.url);
    let token = first.token(&claims());
    assert!(verifier.verify(&token).await.is_ok());
    server.serve(None);
    tokio::time::advance(Duration::from_mins(6)).await;
    assert!(verifier.verify(&token).await.is_ok());
    while verifier.check().await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(verifier.verify(&token).await.is_ok());
    server.serve(Some(set(&[&second])));
    tokio::time::advance(Duration::from_secs(11)).await;
    while verifier.check().await.is_err() {
        tokio::task::yield_now().await;
    }
    let unknown = "the token was signed under an unknown key";
    assert_eq!(refusal(&verifier, &token).await, unknown);
}

#[tokio::test]
async fn a_set_that_is_too_large_or_has_no_fitting_key_is_no_set() {
    let huge = json!({"keys": [], "padding": "x".repeat(300 * 1024)});
    let symmetric = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]});
    let mut for_encryption = Signer::p256("a").public();
    for_encryption["use"] = json!("enc");
    for (set, expected) in [
        (huge, "too large"),
        (symmetric, "no RSA or P-256 key"),
        (json!({"keys": [for_encryption]}), "no RSA or P-256 key"),
        (json!([]), "no JWK set"),
    ] {
        let server = Server::start(Some(set)).await;
        let reason = of(&server.url).check().await.unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }
}
