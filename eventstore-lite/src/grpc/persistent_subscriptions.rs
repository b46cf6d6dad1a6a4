//! The service `PersistentSubscriptions`: creates, updates, deletes, lists and joins groups.

mod client_session;
mod errors;
mod request;
mod settings_request;
mod to_wire;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use self::errors::{failed, missing, rejected};
use self::to_wire::info;
use crate::persistent::{GroupKey, Handle, PersistentSubscriptions};
use crate::wire::persistent_subscriptions as wire;
use crate::wire::persistent_subscriptions::persistent_subscriptions_server::PersistentSubscriptions as Server;
use crate::wire::shared::Empty;

pub(super) struct PersistentSubscriptionsService {
    pub(super) subscriptions: Arc<PersistentSubscriptions>,
    pub(super) shutdown: CancellationToken,
}

impl PersistentSubscriptionsService {
    fn subscriptions(&self) -> Arc<PersistentSubscriptions> {
        Arc::clone(&self.subscriptions)
    }

    async fn find(&self, key: &GroupKey) -> Result<Handle, Status> {
        let found = self.subscriptions.find(key).await;
        found.ok_or_else(|| missing(key))
    }
}

#[async_trait]
impl Server for PersistentSubscriptionsService {
    type ReadStream = client_session::Answers;

    async fn create(
        &self,
        request: Request<wire::CreateReq>,
    ) -> Result<Response<wire::CreateResp>, Status> {
        let (key, settings, start) = settings_request::create(request.into_inner())?;
        let created = self.subscriptions().create(key.clone(), settings, start);
        created.await.map_err(|error| rejected(&error, &key))?;
        Ok(Response::new(wire::CreateResp {}))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateReq>,
    ) -> Result<Response<wire::UpdateResp>, Status> {
        let (key, settings, start) = settings_request::update(request.into_inner())?;
        let updated = self.subscriptions().update(key.clone(), settings, start);
        updated.await.map_err(|error| rejected(&error, &key))?;
        Ok(Response::new(wire::UpdateResp {}))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteReq>,
    ) -> Result<Response<wire::DeleteResp>, Status> {
        let key = request::delete(request.into_inner())?;
        let deleted = self.subscriptions().delete(key.clone());
        deleted.await.map_err(|error| rejected(&error, &key))?;
        Ok(Response::new(wire::DeleteResp {}))
    }

    async fn read(
        &self,
        request: Request<Streaming<wire::ReadReq>>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        client_session::serve(self, request)
            .await
            .map(Response::new)
    }

    async fn get_info(
        &self,
        request: Request<wire::GetInfoReq>,
    ) -> Result<Response<wire::GetInfoResp>, Status> {
        let key = request::get_info(request.into_inner())?;
        let info = info(self.find(&key).await?.info().await?);
        Ok(Response::new(wire::GetInfoResp {
            subscription_info: Some(info),
        }))
    }

    async fn replay_parked(
        &self,
        request: Request<wire::ReplayParkedReq>,
    ) -> Result<Response<wire::ReplayParkedResp>, Status> {
        let (key, stop_at) = request::replay_parked(request.into_inner())?;
        let group = self.find(&key).await?;
        let stop_at = stop_at.map(u64::try_from).transpose();
        let stop_at = stop_at.map_err(|_| failed(&key, NEGATIVE_STOP))?;
        group.replay_parked(stop_at).await?;
        Ok(Response::new(wire::ReplayParkedResp {}))
    }

    async fn list(
        &self,
        request: Request<wire::ListReq>,
    ) -> Result<Response<wire::ListResp>, Status> {
        let source = request::list(request.into_inner())?;
        let mut subscriptions = Vec::new();
        for (key, group) in self.subscriptions.all() {
            if source.as_ref().is_none_or(|source| key.source == *source) {
                // Groups that have ended in the meantime are omitted.
                subscriptions.extend(group.info().await.ok().map(info));
            }
        }
        match source {
            Some(source) if subscriptions.is_empty() => Err(errors::none_on(&source)),
            Some(_) | None => Ok(Response::new(wire::ListResp { subscriptions })),
        }
    }

    async fn restart_subsystem(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        let restarted = self.subscriptions().restart().await;
        restarted.map_err(|_| super::status::unavailable())?;
        Ok(Response::new(Empty {}))
    }
}

/// The text of the real server.
const NEGATIVE_STOP: &str = "Cannot stop replaying parked message at a negative version.";
