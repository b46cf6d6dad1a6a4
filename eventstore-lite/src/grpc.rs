//! The services of the wire: requests are checked and turned into the words of [`crate::storage`], answers
//! and errors into those of the protocol.

mod append;
mod batch_append;
mod delete;
mod features;
mod gossip;
mod outlet;
mod proposed;
mod read;
mod read_request;
mod status;
mod streams;
mod subscribe;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::storage::Storage;
use crate::wire::gossip::gossip_server::GossipServer;
use crate::wire::server_features::server_features_server::ServerFeaturesServer;
use crate::wire::streams::streams_server::StreamsServer;

/// The largest message that is read.
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;

/// All that is served on the port; what is not there answers UNIMPLEMENTED.
pub(crate) fn routes(
    storage: &Arc<Storage>,
    address: SocketAddr,
    shutdown: CancellationToken,
) -> Routes {
    let streams = streams::Service {
        storage: Arc::clone(storage),
        shutdown,
    };
    let streams = StreamsServer::new(streams).max_decoding_message_size(LARGEST_MESSAGE);
    let routes = Routes::new(streams)
        .add_service(ServerFeaturesServer::new(features::Service))
        .add_service(GossipServer::new(gossip::Service::new(address)));
    let storage = Arc::clone(storage);
    let live = move || async move {
        if storage.is_alive() {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    routes
        .into_axum_router()
        .route("/health/live", get(live))
        .into()
}
