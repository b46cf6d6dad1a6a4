//! The service Streams: one method each in a module of its own.

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::read_request::ReadRequest;
use super::{append, batch_append, delete, outlet};
use crate::storage::Storage;
use crate::wire::streams::streams_server::Streams;
use crate::wire::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq,
    ReadResp, TombstoneReq, TombstoneResp,
};

pub(super) struct Service {
    pub(super) storage: Arc<Storage>,
    pub(super) shutdown: CancellationToken,
}

#[async_trait]
impl Streams for Service {
    type ReadStream = ReceiverStream<Result<ReadResp, Status>>;
    type BatchAppendStream = ReceiverStream<Result<BatchAppendResp, Status>>;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        let request = ReadRequest::parse(request.into_inner())?;
        let answers = outlet::serve(&self.storage, request, self.shutdown.clone());
        Ok(Response::new(answers))
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendReq>>,
    ) -> Result<Response<AppendResp>, Status> {
        let answer = append::append(&self.storage, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        let answers =
            batch_append::serve(&self.storage, request.into_inner(), self.shutdown.clone());
        Ok(Response::new(answers))
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        let answer = delete::delete(&self.storage, request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn tombstone(
        &self,
        request: Request<TombstoneReq>,
    ) -> Result<Response<TombstoneResp>, Status> {
        let answer = delete::tombstone(&self.storage, request.into_inner()).await;
        answer.map(Response::new)
    }
}
