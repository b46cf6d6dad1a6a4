//! A connection to one server: HTTP/2 over a socket with `TCP_NODELAY`, with TLS if the connection string enables it.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::failure::Failure;
use crate::node::Node;
use crate::settings::Settings;

/// The most unread bytes of one call.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The most unread bytes of all calls on a connection. A hundred subscriptions that are not read do not block other
/// calls.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Connects without a time limit, which is up to the caller.
pub(crate) async fn connect(node: &Node, settings: &Settings) -> Result<Channel, Failure> {
    let connected = async {
        let endpoint = endpoint(node, settings).map_err(|error| root_cause(&error))?;
        let (node, tls) = (node.clone(), settings.tls.clone());
        let connector = service_fn(move |_| {
            let (node, tls) = (node.clone(), tls.clone());
            async move { open(&node, tls).await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        channel.map_err(|error| root_cause(&error))
    };
    let connected: Result<Channel, String> = connected.await;
    connected.map_err(|reason| Failure::Lost(format!("connecting to {node}: {reason}")))
}

/// The text of the innermost error. The outer ones only say "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn endpoint(node: &Node, settings: &Settings) -> Result<Endpoint, tonic::transport::Error> {
    // The connector does the TLS, so the endpoint's scheme is http. The origin in each request has the real scheme.
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let origin = Endpoint::from_shared(format!("{scheme}://{node}"))?;
    let endpoint = Endpoint::from_shared(format!("http://{node}"))?
        .origin(origin.uri().clone())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    Ok(match settings.keep_alive {
        Some(keep_alive) => endpoint
            .http2_keep_alive_interval(keep_alive.interval)
            .keep_alive_timeout(keep_alive.timeout)
            .keep_alive_while_idle(true),
        None => endpoint,
    })
}

async fn open(node: &Node, tls: Option<Arc<ClientConfig>>) -> io::Result<Box<dyn Io>> {
    let socket = socket(node).await?;
    let Some(tls) = tls else {
        return Ok(Box::new(socket));
    };
    let name = ServerName::try_from(node.host.clone())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = TlsConnector::from(tls).connect(name, socket).await?;
    Ok(Box::new(stream))
}

/// Connects a socket with `TCP_NODELAY`. Without it the kernel holds back a small request until the server acknowledges
/// the previous one, which Linux delays by 40 ms.
async fn socket(node: &Node) -> io::Result<TcpStream> {
    let socket = TcpStream::connect((node.host.as_str(), node.port)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use eventstore_protocol::gossip::gossip_client::GossipClient;
    use eventstore_protocol::shared::Empty;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use std::time::Duration;

    use super::*;
    use crate::settings::{self, KeepAlive};

    async fn listener() -> (TcpListener, Node) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Node::new("127.0.0.1", port.into()).unwrap())
    }

    #[tokio::test]
    async fn a_small_request_is_sent_at_once() {
        let (listener, node) = listener().await;
        let plain = TcpStream::connect(listener.local_addr().unwrap()).await;
        let by_default = plain.unwrap().nodelay().unwrap();
        assert!(
            !by_default,
            "the default has changed, so this test proves nothing"
        );
        assert!(socket(&node).await.unwrap().nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_pings_is_detected_as_dead() {
        let (listener, node) = listener().await;
        let _silent = tokio::spawn(async move {
            let connection = listener.accept().await;
            std::future::pending::<()>().await;
            drop(connection);
        });
        let mut settings = settings::parse("esdb://localhost?tls=false").unwrap();
        let short = Duration::from_millis(50);
        settings.keep_alive = Some(KeepAlive {
            interval: short,
            timeout: short,
        });
        let channel = connect(&node, &settings).await.unwrap();
        let mut client = GossipClient::new(channel);
        let call = timeout(Duration::from_secs(30), client.read(Empty {})).await;
        call.expect("the call waits forever").unwrap_err();
    }
}
