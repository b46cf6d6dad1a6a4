//! Through `kurrentdb` 1, its successor.

use super::Server;
use kurrentdb as client;
use kurrentdb::StreamState as State;

fn expecting(state: State) -> client::AppendToStreamOptions {
    client::AppendToStreamOptions::default().stream_state(state)
}

#[path = "suite.rs"]
mod suite;
