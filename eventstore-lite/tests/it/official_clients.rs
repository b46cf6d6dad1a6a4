//! The official, unmodified Rust clients, against the server at `EVENTSTORE_URL` or against a new server for each
//! test.

#![expect(
    clippy::duplicate_mod,
    reason = "one suite goes through each client, whose types only look alike"
)]

mod eventstore_4;
mod kurrentdb_1;

use tempfile::TempDir;
use tokio::sync::OnceCell;

/// Whether `eventstore` has installed the TLS provider of the process. It cannot if another client has installed one.
static INSTALLED: OnceCell<()> = OnceCell::const_new();

struct Server {
    url: String,
    _own: Option<(TempDir, eventstore_lite::Server)>,
}

impl Server {
    async fn new() -> Self {
        let server = match std::env::var("EVENTSTORE_URL") {
            Ok(url) => Self { url, _own: None },
            Err(_) => Self::own().await,
        };
        INSTALLED.get_or_init(|| server.install_provider()).await;
        server
    }

    async fn own() -> Self {
        let (db, server) = crate::support::start().await;
        Self {
            // With this interval the client discovers a single node at once.
            url: format!("{}&discoveryInterval=1", server.url()),
            _own: Some((db, server)),
        }
    }

    async fn install_provider(&self) {
        let client = eventstore::Client::new(self.url.parse().unwrap()).unwrap();
        let operator = eventstore::operations::Client::from(client);
        operator.server_version().await.unwrap();
    }
}
