//! The service `ServerFeatures`. It lists what the real server of this version can do, including what this server
//! cannot do.

use tonic::{Request, Response, Status, async_trait};

use crate::node::VERSION;
use crate::wire::server_features::server_features_server::ServerFeatures;
use crate::wire::server_features::{SupportedMethod, SupportedMethods};
use crate::wire::shared::Empty;

/// Service (without the package), methods, features. Clients compare these names in lower case.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const ROWS: [Row; 11] = [
    (
        "persistent_subscriptions.persistentsubscriptions",
        &[
            "create",
            "update",
            "delete",
            "read",
            "getinfo",
            "replayparked",
            "list",
            "restartsubsystem",
        ],
        &["stream", "all"],
    ),
    (
        "users.users",
        &[
            "create",
            "update",
            "delete",
            "disable",
            "enable",
            "details",
            "changepassword",
            "resetpassword",
        ],
        &[],
    ),
    ("streams.streams", &["read"], &["position", "events"]),
    ("streams.streams", &["append", "delete", "tombstone"], &[]),
    ("streams.streams", &["batchappend"], &["deadline_duration"]),
    (
        "operations.operations",
        &[
            "startscavenge",
            "stopscavenge",
            "shutdown",
            "mergeindexes",
            "resignnode",
            "setnodepriority",
            "restartpersistentsubscriptions",
        ],
        &[],
    ),
    ("gossip.gossip", &["read"], &[]),
    ("monitoring.monitoring", &["stats"], &[]),
    (
        "server_features.serverfeatures",
        &["getsupportedmethods"],
        &[],
    ),
    ("redaction.redaction", &["geteventpositions"], &[]),
    ("redaction.redaction", &["switchchunks"], &[]),
];

pub(super) struct ServerFeaturesService;

#[async_trait]
impl ServerFeatures for ServerFeaturesService {
    async fn get_supported_methods(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<SupportedMethods>, Status> {
        let methods = ROWS.iter().flat_map(methods).collect();
        let event_store_server_version = VERSION.to_owned();
        Ok(Response::new(SupportedMethods {
            methods,
            event_store_server_version,
        }))
    }
}

fn methods((service, methods, features): &Row) -> impl Iterator<Item = SupportedMethod> {
    methods.iter().map(move |method| SupportedMethod {
        method_name: (*method).to_owned(),
        service_name: format!("event_store.client.{service}"),
        features: features
            .iter()
            .map(|feature| (*feature).to_owned())
            .collect(),
    })
}
