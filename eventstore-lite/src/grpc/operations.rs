//! The service `Operations` of a single node.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use super::status;
use crate::persistent::PersistentSubscriptions;
use crate::storage::{ScavengeStart, Storage};
use crate::wire::operations::operations_server::Operations;
use crate::wire::operations::scavenge_resp::ScavengeResult;
use crate::wire::operations::{
    ScavengeResp, SetNodePriorityReq, StartScavengeReq, StopScavengeReq,
};
use crate::wire::shared::Empty;

pub(super) struct OperationsService {
    pub(super) storage: Arc<Storage>,
    pub(super) subscriptions: Arc<PersistentSubscriptions>,
    pub(super) shutdown: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl Operations for OperationsService {
    /// The number of threads and the first chunk make no difference here.
    async fn start_scavenge(&self, request: Request<StartScavengeReq>) -> Answer<ScavengeResp> {
        let options = request.into_inner().options;
        options.ok_or_else(|| status::invalid("`options` is missing"))?;
        let (scavenge, result) = match self.storage.start_scavenge(self.shutdown.child_token()) {
            ScavengeStart::Started(scavenge) => (scavenge, ScavengeResult::Started),
            ScavengeStart::InProgress(scavenge) => (scavenge, ScavengeResult::InProgress),
        };
        Ok(answer(scavenge.id.to_string(), result))
    }

    async fn stop_scavenge(&self, request: Request<StopScavengeReq>) -> Answer<ScavengeResp> {
        let options = request.into_inner().options;
        let options = options.ok_or_else(|| status::invalid("`options` is missing"))?;
        let id = options.scavenge_id;
        let last = self.storage.last_scavenge();
        let running = last.filter(|last| last.is_running() && last.id.to_string() == id);
        let running = running.ok_or_else(|| status::scavenge_not_found(&id))?;
        running.stop().await;
        Ok(answer(id, ScavengeResult::Stopped))
    }

    /// Answers, then stops the server.
    async fn shutdown(&self, _request: Request<Empty>) -> Answer<Empty> {
        tracing::info!("a client requested the server to stop");
        self.shutdown.cancel();
        Ok(Response::new(Empty {}))
    }

    /// SQLite keeps its indexes merged.
    async fn merge_indexes(&self, _request: Request<Empty>) -> Answer<Empty> {
        Ok(Response::new(Empty {}))
    }

    /// A single node stays the leader.
    async fn resign_node(&self, _request: Request<Empty>) -> Answer<Empty> {
        Ok(Response::new(Empty {}))
    }

    /// A single node is elected whatever its priority is.
    async fn set_node_priority(&self, _request: Request<SetNodePriorityReq>) -> Answer<Empty> {
        Ok(Response::new(Empty {}))
    }

    async fn restart_persistent_subscriptions(&self, _request: Request<Empty>) -> Answer<Empty> {
        let restarted = Arc::clone(&self.subscriptions).restart().await;
        restarted.map_err(|_| status::unavailable())?;
        Ok(Response::new(Empty {}))
    }
}

fn answer(scavenge_id: String, result: ScavengeResult) -> Response<ScavengeResp> {
    Response::new(ScavengeResp {
        scavenge_id,
        scavenge_result: result.into(),
    })
}
