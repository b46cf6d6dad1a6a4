//! Connections with or without TLS. The certificate can be reloaded.
//!
//! Invariant: every handshake ends, so that it takes the place of others only for a while.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::stream::{Stream, StreamExt};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::calls::CallConnection;
use crate::connection::Connection;
use crate::private_file;

/// The maximum duration of a handshake, even while bytes keep coming.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);
/// The protocols above TLS, by preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate for handshakes, and its files.
pub(crate) struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    current: watch::Sender<TlsAcceptor>,
}

impl Identity {
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self> {
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: watch::Sender::new(acceptor(certificate, key)?),
        })
    }

    /// Reloads the files for later handshakes. If they cannot be used, the certificate in use remains.
    pub(crate) fn reload(&self) -> Result<()> {
        let acceptor = acceptor(&self.certificate, &self.key)?;
        self.current.send_replace(acceptor);
        Ok(())
    }

    pub(crate) fn current(&self) -> watch::Receiver<TlsAcceptor> {
        self.current.subscribe()
    }
}

/// An acceptor of TLS with this certificate. It names its provider of cryptography, because clients in the same
/// process may install another one.
fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let name = certificate.display();
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .with_context(|| format!("reading the certificate {name}"))?;
    ensure!(!chain.is_empty(), "{name} has no certificate");
    let pem = private_file::read(key)?;
    let private_key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .with_context(|| format!("reading the private key {}", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .with_context(|| format!("using the certificate {name}"))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A connection that is ready for use.
pub(crate) enum Transport {
    Plain(Connection),
    Encrypted(Box<TlsStream<Connection>>),
}

/// The connections once they are ready. Connections whose handshakes fail are dropped. At most `handshakes` run at
/// once.
pub(crate) fn incoming(
    connections: impl Stream<Item = io::Result<Connection>>,
    acceptor: Option<watch::Receiver<TlsAcceptor>>,
    handshakes: usize,
) -> impl Stream<Item = io::Result<Transport>> {
    let shaking = connections.map(move |connection| {
        let acceptor = acceptor.as_ref().map(|current| current.borrow().clone());
        shake_hands(connection, acceptor)
    });
    shaking
        .buffer_unordered(handshakes)
        .filter_map(std::future::ready)
}

async fn shake_hands(
    connection: io::Result<Connection>,
    acceptor: Option<TlsAcceptor>,
) -> Option<io::Result<Transport>> {
    let (connection, acceptor) = match (connection, acceptor) {
        (Ok(connection), Some(acceptor)) => (connection, acceptor),
        (connection, _) => return Some(connection.map(Transport::Plain)),
    };
    let shaken = tokio::time::timeout(LONGEST_HANDSHAKE, acceptor.accept(connection)).await;
    match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => Some(Ok(Transport::Encrypted(Box::new(stream)))),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

trait Bytes: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

impl Transport {
    fn stream(&mut self) -> Pin<&mut dyn Bytes> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Encrypted(stream) => Pin::new(stream),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

impl Connected for Transport {
    type ConnectInfo = CallConnection;

    fn connect_info(&self) -> CallConnection {
        match self {
            Self::Plain(stream) => stream.connect_info(),
            Self::Encrypted(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::connection;

    fn own_acceptor() -> TlsAcceptor {
        let folder = tempfile::tempdir().unwrap();
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("pem"), folder.path().join("key"));
        std::fs::write(&certificate, signed.cert.pem()).unwrap();
        std::fs::write(&key, "").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        assert!(
            super::acceptor(&certificate, &key).is_err(),
            "a missing key was accepted"
        );
        std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
        super::acceptor(&certificate, &key).unwrap()
    }

    /// The beginning of a 4 KiB handshake record.
    const HALF_A_HANDSHAKE: &[u8] = &[22, 3, 1, 16, 0];

    #[tokio::test(start_paused = true)]
    async fn half_a_handshake_ends_although_bytes_keep_coming() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = connection::incoming(listener, 2, Arc::default());
        let (_current, acceptor) = watch::channel(own_acceptor());
        let incoming = incoming(connections, Some(acceptor), 2);
        let serving = tokio::spawn(async move {
            let mut incoming = Box::pin(incoming);
            while let Some(transport) = incoming.next().await {
                assert!(transport.is_err(), "half a handshake was accepted");
            }
        });
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(HALF_A_HANDSHAKE).await.unwrap();
        // Others are served meanwhile, and a connection that sends no handshake ends at once.
        let mut garbage = TcpStream::connect(address).await.unwrap();
        garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        drop(garbage.read_to_end(&mut Vec::new()).await);
        // Occasional bytes keep a connection from being silent, but do not keep its handshake from ending.
        let (mut read, mut write) = slow.split();
        let drip = async {
            while write.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let mut answer = Vec::new();
        let end = async { tokio::join!(drip, read.read_to_end(&mut answer)) };
        let ended = tokio::time::timeout(2 * LONGEST_HANDSHAKE, end).await;
        assert!(ended.is_ok(), "the handshake continues");
        serving.abort();
    }
}
