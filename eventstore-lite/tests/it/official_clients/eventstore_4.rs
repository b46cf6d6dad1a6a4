//! The suite through `eventstore` 4, the client that this project uses.

use super::Server;
use eventstore as client;
use eventstore::ExpectedRevision as State;

fn expecting(state: State) -> client::AppendToStreamOptions {
    client::AppendToStreamOptions::default().expected_revision(state)
}

#[path = "suite.rs"]
mod suite;
