//! The service `Streams`. Each method is in its own module.

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::batch_append::Session;
use super::delete::Deletion;
use super::read_request::ReadRequest;
use super::read_task::{self, Answers};
use super::{append, permission};
use crate::calls::deadline;
use crate::storage::Storage;
use crate::wire::streams::streams_server::Streams;
use crate::wire::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq,
    TombstoneReq, TombstoneResp,
};

pub(super) struct StreamsService {
    pub(super) storage: Arc<Storage>,
    pub(super) shutdown: CancellationToken,
}

#[async_trait]
impl Streams for StreamsService {
    type ReadStream = Answers;
    type BatchAppendStream = ReceiverStream<Result<BatchAppendResp, Status>>;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        let caller = permission::caller(&request)?;
        let calls = permission::calls(&request)?;
        let read = ReadRequest::parse(request.into_inner())?;
        caller.read(read.target.stream())?;
        let backlog = read
            .target
            .stream()
            .and_then(|stream| self.storage.backlog_of(stream));
        backlog.map_or(Ok(()), |backlog| {
            Err(Status::unavailable(backlog.to_string()))
        })?;
        let long_call = read
            .target
            .is_subscription()
            .then(|| permission::long_call(&calls));
        let long_call = long_call.transpose()?;
        let shutdown = self.shutdown.clone();
        let answers = read_task::serve(&self.storage, caller, read, long_call, shutdown);
        Ok(Response::new(answers))
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendReq>>,
    ) -> Result<Response<AppendResp>, Status> {
        let caller = permission::caller(&request)?;
        let deadline = deadline(request.extensions());
        let answer = append::append(&self.storage, (caller, deadline), request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        let caller = permission::caller(&request)?;
        let long_call = permission::long_call(&permission::calls(&request)?)?;
        let deadline = deadline(request.extensions());
        let session = Session::new(&self.storage, (caller, deadline), request.into_inner());
        let answers = session.serve(long_call, self.shutdown.clone());
        Ok(Response::new(answers))
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        let caller = permission::caller(&request)?;
        let deadline = deadline(request.extensions());
        let removal = Deletion::from(request.into_inner());
        let position = removal.make(&self.storage, (caller, deadline)).await?;
        Ok(Response::new(position.into()))
    }

    async fn tombstone(
        &self,
        request: Request<TombstoneReq>,
    ) -> Result<Response<TombstoneResp>, Status> {
        let caller = permission::caller(&request)?;
        let deadline = deadline(request.extensions());
        let removal = Deletion::from(request.into_inner());
        let position = removal.make(&self.storage, (caller, deadline)).await?;
        Ok(Response::new(position.into()))
    }
}
