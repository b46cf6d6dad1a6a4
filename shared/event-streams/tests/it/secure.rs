//! TLS and credentials against a server that requires both.

use std::path::PathBuf;

use event_streams::{EventStreams, Expected};
use eventstore_lite::{Config, Role, Security, Server, Users};
use tempfile::TempDir;

use crate::support::{event, soon, until};

struct Secured {
    folder: TempDir,
    server: Server,
}

impl Secured {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = folder.path().join("server.pem");
        let certificate_key = folder.path().join("server.key");
        std::fs::write(&certificate, signed.cert.pem()).unwrap();
        std::fs::write(&certificate_key, signed.signing_key.serialize_pem()).unwrap();
        make_private(&certificate_key);
        let mut users = Users::default();
        users.add("admin", Role::Admin, "ch@ngeit").unwrap();
        let mut config = Config::new(folder.path().join("db"));
        config.address = "127.0.0.1:0".parse().unwrap();
        config.security = Security::Secure {
            certificate,
            certificate_key,
            users,
        };
        let server = Server::start(config).await.unwrap();
        Self { folder, server }
    }

    fn connect(&self, credentials: &str, options: &str) -> EventStreams {
        let port = self.server.address().port();
        let url = format!("esdb://{credentials}@localhost:{port}?{options}");
        EventStreams::connect(&url).unwrap()
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }
}

fn make_private(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Waits until a check fails with a reason that contains the word.
async fn unavailable_because(streams: &EventStreams, word: &str) {
    until(async || {
        let refused = streams.check().await;
        refused.is_err_and(|error| error.reason.contains(word))
    })
    .await;
}

#[tokio::test]
async fn a_server_with_tls_and_passwords_works_like_any_other() {
    let secured = Secured::start().await;
    let trusted = format!("tlsCaFile={}", secured.authority().display());
    for options in [trusted.as_str(), "tlsVerifyCert=false"] {
        let streams = secured.connect("admin:ch%40ngeit", options);
        let append = streams.append("s", Expected::Any, vec![event("A.v1")]);
        let appended = soon(append).await.unwrap();
        let end = soon(streams.log_end()).await.unwrap();
        assert_eq!(end, Some(appended.position));
        let page = soon(streams.read_all(&["s"], None, 1)).await.unwrap();
        assert_eq!(page.events[0].stream, "s");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_or_a_wrong_password_prevents_the_connection() {
    let secured = Secured::start().await;
    let untrusting = secured.connect("admin:ch%40ngeit", "tls=true");
    unavailable_because(&untrusting, "certificate").await;
    let trusted = format!("tlsCaFile={}", secured.authority().display());
    let wrong = secured.connect("admin:wrong", &trusted);
    unavailable_because(&wrong, "denied").await;
}
