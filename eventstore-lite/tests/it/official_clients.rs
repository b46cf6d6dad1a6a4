//! The official Rust clients, unmodified, against the server at `EVENTSTORE_URL`, or one of each test's own.

#![expect(
    clippy::duplicate_mod,
    reason = "one suite goes through each client, whose types only look alike"
)]

mod eventstore_4;
mod kurrentdb_1;

use tempfile::TempDir;

struct Server {
    url: String,
    _own: Option<(TempDir, eventstore_lite::Server)>,
}

impl Server {
    async fn new() -> Self {
        if let Ok(url) = std::env::var("EVENTSTORE_URL") {
            return Self { url, _own: None };
        }
        let (db, server) = crate::support::start().await;
        Self {
            // A single node is asked at once.
            url: format!("{}&discoveryInterval=1", server.url()),
            _own: Some((db, server)),
        }
    }
}
