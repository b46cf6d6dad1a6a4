//! The gRPC services. Requests are checked and converted to calls of [`crate::storage`]; results and errors are
//! converted to protocol messages.

mod answer_sender;
mod append;
mod batch_append;
mod delete;
mod features;
mod gossip;
mod monitoring;
mod operations;
mod permission;
mod persistent_subscriptions;
mod proposed;
mod read;
mod read_request;
mod read_task;
mod status;
mod streams;
mod subscribe;
mod unsupported;

use std::sync::Arc;

use axum::Router;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::http::AppState;
use crate::wire::gossip::gossip_server::GossipServer;
use crate::wire::monitoring::monitoring_server::MonitoringServer;
use crate::wire::operations::operations_server::OperationsServer;
use crate::wire::persistent_subscriptions::persistent_subscriptions_server::PersistentSubscriptionsServer;
use crate::wire::server_features::server_features_server::ServerFeaturesServer;
use crate::wire::streams::streams_server::StreamsServer;

/// The maximum size of a received message.
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;

/// The routes of all services. A service that does not exist answers UNIMPLEMENTED.
pub(crate) fn routes(app: &AppState, shutdown: CancellationToken) -> Router {
    let operations = operations::OperationsService {
        storage: Arc::clone(&app.storage),
        subscriptions: Arc::clone(&app.subscriptions),
        shutdown: shutdown.clone(),
    };
    let monitoring = monitoring::MonitoringService {
        app: app.clone(),
        shutdown: shutdown.clone(),
    };
    let persistent = persistent_subscriptions::PersistentSubscriptionsService {
        subscriptions: Arc::clone(&app.subscriptions),
        shutdown: shutdown.clone(),
    };
    let streams = streams::StreamsService {
        storage: Arc::clone(&app.storage),
        shutdown,
    };
    let streams = StreamsServer::new(streams).max_decoding_message_size(LARGEST_MESSAGE);
    Routes::new(streams)
        .add_service(MonitoringServer::new(monitoring))
        .add_service(OperationsServer::new(operations))
        .add_service(PersistentSubscriptionsServer::new(persistent))
        .add_service(ServerFeaturesServer::new(features::ServerFeaturesService))
        .add_service(GossipServer::new(gossip::GossipService(app.node.clone())))
        .into_axum_router()
        .merge(unsupported::routes())
}
