//! A server with TLS and users, and clients for it.

use std::path::PathBuf;
use std::sync::Arc;

use eventstore_lite::{Config, Role, Security, Server, Users};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::soon;

/// The password of the users `admin`, `ops` and `user`.
pub(crate) const PASSWORD: &str = "changeit";

/// A certificate for `localhost`, its key, and the authority that signed it, as files.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let root = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let certificates = Self { folder };
        std::fs::write(certificates.authority(), root.pem()).unwrap();
        std::fs::write(certificates.certificate(), leaf.pem()).unwrap();
        std::fs::write(certificates.key(), key.serialize_pem()).unwrap();
        private(certificates.key());
        certificates
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// The unmodified client of a server with the certificate, with a name and password or without.
    pub(crate) fn client(&self, port: u16, credentials: Option<&str>) -> eventstore::Client {
        let credentials = credentials.map(|text| format!("{text}@"));
        let url = format!(
            "esdb://{}localhost:{port}?tls=true&tlsCaFile={}&discoveryInterval=1",
            credentials.unwrap_or_default(),
            self.authority().display(),
        );
        eventstore::Client::new(url.parse().unwrap()).unwrap()
    }
}

fn private(file: PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) struct Secured {
    pub(crate) server: Server,
    pub(crate) certificates: Certificates,
    _db: TempDir,
}

impl Secured {
    pub(crate) async fn start() -> Self {
        let db = tempfile::tempdir().unwrap();
        let certificates = Certificates::new();
        let mut users = Users::default();
        for (name, role) in [
            ("admin", Role::Admin),
            ("ops", Role::Operator),
            ("user", Role::User),
        ] {
            users.add(name, role, PASSWORD).unwrap();
        }
        let mut config = Config::new(db.path());
        config.security = Security::Secure {
            certificate: certificates.certificate(),
            certificate_key: certificates.key(),
            users,
        };
        Self {
            server: Server::start(config).await.unwrap(),
            certificates,
            _db: db,
        }
    }

    /// The client with a name and password (`name:password`), or without.
    pub(crate) fn client(&self, credentials: Option<&str>) -> eventstore::Client {
        let port = self.server.address().port();
        self.certificates.client(port, credentials)
    }

    /// The client of one of the users.
    pub(crate) fn client_of(&self, name: &str) -> eventstore::Client {
        self.client(Some(&format!("{name}:{PASSWORD}")))
    }

    /// The answer to an HTTP/1.1 request (`GET /`) with these header lines.
    pub(crate) async fn http(&self, request: &str, headers: &str) -> String {
        let mut stream = self.requested(request, headers).await;
        let mut answer = String::new();
        let read = soon("the answer", stream.read_to_string(&mut answer)).await;
        read.unwrap();
        answer
    }

    /// A connection on which this HTTP/1.1 request was sent.
    pub(crate) async fn requested(&self, request: &str, headers: &str) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.certificates.authority()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TcpStream::connect(self.server.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let mut stream = stream.await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let request =
            format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}
