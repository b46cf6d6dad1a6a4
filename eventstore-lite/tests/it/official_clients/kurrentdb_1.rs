//! The suite through `kurrentdb` 1, the successor of `eventstore`.

use super::Server;
use kurrentdb as client;
use kurrentdb::StreamState as State;

fn expecting(state: State) -> client::AppendToStreamOptions {
    client::AppendToStreamOptions::default().stream_state(state)
}

#[path = "suite.rs"]
mod suite;
