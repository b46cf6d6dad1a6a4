//! Writers that record what was acknowledged: by single calls, and by batch sessions.

use std::sync::Arc;

use eventstore_lite::wire::shared::Uuid;
use eventstore_lite::wire::streams::batch_append_req::options::ExpectedStreamPosition;
use eventstore_lite::wire::streams::batch_append_req::{Options, ProposedMessage as Proposed};
use eventstore_lite::wire::streams::batch_append_resp::Result as Outcome;
use eventstore_lite::wire::streams::batch_append_resp::success::{
    CurrentRevisionOption, PositionOption,
};
use eventstore_lite::wire::streams::{BatchAppendReq, BatchAppendResp};
use tokio::sync::{Mutex, MutexGuard, Notify, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::support::{Appended, Client, any, append, connect, event, id, identifier, new_id};

const WRITERS: usize = 16;
const STREAMS: usize = 5;
const LARGEST_BATCH: usize = 3;

/// Events that were appended together. The last one is where the answer says.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) ids: Vec<String>,
    pub(super) last: Appended,
}

#[derive(Default)]
pub(super) struct Load {
    acknowledged: Mutex<Vec<Batch>>,
    more: Notify,
}

impl Load {
    pub(super) async fn acknowledged(&self) -> MutexGuard<'_, Vec<Batch>> {
        self.acknowledged.lock().await
    }

    pub(super) async fn count(&self) -> usize {
        self.acknowledged().await.len()
    }

    pub(super) async fn reached(&self, count: usize) {
        while self.count().await < count {
            self.more.notified().await;
        }
    }

    /// Starts writers that continue until the server is gone.
    pub(super) async fn begin(self: &Arc<Self>, address: &str) -> JoinSet<()> {
        let client = connect(address).await;
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let load = Arc::clone(self);
            if writer % 2 == 0 {
                writers.spawn(load.call(client.clone(), writer));
            } else {
                writers.spawn(load.open(client.clone(), writer));
            }
        }
        writers
    }

    async fn note(&self, ids: Vec<String>, last: Appended) {
        self.acknowledged().await.push(Batch { ids, last });
        self.more.notify_one();
    }

    async fn call(self: Arc<Self>, mut client: Client, writer: usize) {
        let stream = stream(writer);
        for round in writer.. {
            let ids = ids(round);
            let events = datas(&ids).map(|(id, data)| event(id, data));
            let appended = append(&mut client, &stream, any(), events.collect());
            let Ok(last) = appended.await else { return };
            self.note(ids, last).await;
        }
    }

    async fn open(self: Arc<Self>, mut client: Client, writer: usize) {
        let (requests, receiver) = mpsc::channel(1);
        let Ok(answers) = client.batch_append(ReceiverStream::new(receiver)).await else {
            return;
        };
        let mut answers = answers.into_inner();
        let stream = stream(writer);
        for round in writer.. {
            let ids = ids(round);
            let request = request(&stream, &ids);
            if requests.send(request).await.is_err() {
                return;
            }
            let Ok(last) = answer(&mut answers).await else {
                return;
            };
            self.note(ids, last).await;
        }
    }
}

fn stream(writer: usize) -> String {
    format!("load-{}", writer % STREAMS)
}

fn ids(round: usize) -> Vec<String> {
    (0..=round % LARGEST_BATCH).map(|_| new_id()).collect()
}

/// The data of each event: the first event of its batch, its place in the batch, and the size of the batch.
fn datas(ids: &[String]) -> impl Iterator<Item = (&str, String)> {
    let say = |(place, id): (usize, _)| (id, format!("{} {place} {}", ids[0], ids.len()));
    ids.iter().map(String::as_str).enumerate().map(say)
}

fn request(stream: &str, ids: &[String]) -> BatchAppendReq {
    let proposed = datas(ids).map(|(id, data)| {
        let event = event(id, data);
        Proposed {
            id: event.id,
            metadata: event.metadata,
            custom_metadata: event.custom_metadata,
            data: event.data,
        }
    });
    BatchAppendReq {
        correlation_id: Some(correlation()),
        options: Some(Options {
            stream_identifier: Some(identifier(stream)),
            deadline_option: None,
            expected_stream_position: Some(ExpectedStreamPosition::Any(())),
        }),
        proposed_messages: proposed.collect(),
        is_final: true,
    }
}

fn correlation() -> Uuid {
    id(&new_id())
}

async fn answer(answers: &mut Streaming<BatchAppendResp>) -> Result<Appended, Status> {
    let answer = answers.message().await?;
    let result = answer.and_then(|answer| answer.result);
    let Some(Outcome::Success(success)) = result else {
        return Err(Status::unavailable(format!("{result:?}")));
    };
    let revision = match success.current_revision_option {
        Some(CurrentRevisionOption::CurrentRevision(revision)) => Some(revision),
        Some(CurrentRevisionOption::NoStream(())) | None => None,
    };
    match success.position_option {
        Some(PositionOption::Position(position)) => Ok(Appended {
            revision,
            position: position.commit_position,
        }),
        other => panic!("a success at {other:?}"),
    }
}
