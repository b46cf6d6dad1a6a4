//! The task of one read. Its answers go to the client through a bounded channel, so a slow client slows only its own
//! read.

use std::convert::Infallible;
use std::sync::Arc;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::answer_sender::{AnswerPage, AnswerSender, ReadEnd};
use super::read_request::{ReadRequest, ReadTarget};
use super::{read, status, subscribe};
use crate::access::Caller;
use crate::calls::LongCall;
use crate::storage::Storage;
use crate::wire::streams::ReadResp;

/// How many pages of answers wait for the client; one may be larger than 1 MiB.
const WAITING: usize = 1;

pub(super) type Answers = BoxStream<'static, Result<ReadResp, Status>>;

/// Starts a task that reads and answers. When the server stops, the answers end with UNAVAILABLE, so a subscription
/// always ends with an error.
pub(super) fn serve(
    storage: &Arc<Storage>,
    caller: Caller,
    request: ReadRequest,
    long_call: Option<LongCall>,
    shutdown: CancellationToken,
) -> Answers {
    let (sender, receiver) = mpsc::channel(WAITING);
    let storage = Arc::clone(storage);
    tokio::spawn(async move {
        let _long_call = long_call;
        let answers = AnswerSender {
            sender,
            caller,
            structured_ids: request.structured_ids,
            metrics: Arc::clone(storage.metrics()),
        };
        let ended = tokio::select! {
            ended = run(&storage, request, &answers) => ended,
            () = shutdown.cancelled() => Err(ReadEnd::Failed(status::unavailable())),
            () = answers.sender.closed() => Err(ReadEnd::ClientGone),
        };
        if let Err(ReadEnd::Failed(status)) = ended {
            // If the client is gone, nobody needs the status.
            drop(answers.sender.send(Err(status)).await);
        }
    });
    ReceiverStream::new(receiver).flat_map(one_by_one).boxed()
}

fn one_by_one(page: AnswerPage) -> impl Stream<Item = Result<ReadResp, Status>> {
    let (answers, status) = match page {
        Ok(answers) => (answers, None),
        Err(status) => (vec![], Some(Err(status))),
    };
    stream::iter(answers.into_iter().map(Ok).chain(status))
}

async fn run(
    storage: &Storage,
    request: ReadRequest,
    answers: &AnswerSender,
) -> Result<(), ReadEnd> {
    let ReadRequest {
        target,
        resolve_links,
        positions,
        ..
    } = request;
    let never: Infallible = match target {
        ReadTarget::Stream(request) => {
            return read::stream(storage, request, (resolve_links, positions), answers).await;
        }
        ReadTarget::All(request) => {
            return read::all(storage, request, resolve_links, answers).await;
        }
        ReadTarget::FollowStream { stream, from } => {
            let _counted = Arc::clone(storage.metrics()).subscribed();
            subscribe::stream(storage, (stream, from), resolve_links, answers).await?
        }
        ReadTarget::FollowAll { from, filter } => {
            let _counted = Arc::clone(storage.metrics()).subscribed();
            subscribe::all(storage, (from, filter), resolve_links, answers).await?
        }
    };
    match never {}
}
