//! The batch session (one `BatchAppend` call kept open): many appends in flight, each answered for itself by its
//! correlation id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use eventstore_protocol::streams::batch_append_resp::success::{
    CurrentRevisionOption, PositionOption,
};
use eventstore_protocol::streams::batch_append_resp::{Result as Outcome, Success};
use eventstore_protocol::streams::{BatchAppendReq, BatchAppendResp};
use eventstore_protocol::{event_id, shared};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use uuid::Uuid;

use crate::event::{Appended, Position};
use crate::failure::Failure;
use crate::generation::Client;

/// How many appends may be in flight; more wait.
pub(crate) const APPENDS: usize = 256;

/// What an append is answered: `None` is a success that wrote nothing.
pub(crate) type Answer = Result<Option<Appended>, Failure>;

#[derive(Debug)]
pub(crate) struct BatchSession {
    requests: mpsc::Sender<BatchAppendReq>,
    waiting: Waiting,
    _task: AbortOnDropHandle<()>,
}

impl BatchSession {
    /// Opens a session on this runtime. When it ends, all that wait are told, and `broken` is cancelled.
    pub(crate) fn open(client: Client, broken: CancellationToken) -> Self {
        let (requests, queued) = mpsc::channel(APPENDS);
        let waiting = Waiting::default();
        let task = tokio::spawn(serve(client, queued, waiting.clone(), broken));
        Self {
            requests,
            waiting,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Sends one append, whose correlation id is set here, and waits for its answer. May be dropped at any time.
    pub(crate) async fn append(&self, request: BatchAppendReq) -> Answer {
        let correlation = Uuid::new_v4();
        let place = self.waiting.place(correlation)?;
        let request = BatchAppendReq {
            correlation_id: Some(event_id::write(correlation, true)),
            ..request
        };
        if self.requests.send(request).await.is_err() {
            return Err(self.waiting.reason());
        }
        place.answer().await
    }
}

async fn serve(
    mut client: Client,
    queued: mpsc::Receiver<BatchAppendReq>,
    waiting: Waiting,
    broken: CancellationToken,
) {
    let failure = match client.batch_append(ReceiverStream::new(queued)).await {
        Ok(answers) => hand_out(answers.into_inner(), &waiting).await,
        Err(status) => status.into(),
    };
    waiting.end(&failure);
    broken.cancel();
}

async fn hand_out(mut answers: Streaming<BatchAppendResp>, waiting: &Waiting) -> Failure {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => waiting.answer(answer),
            Ok(None) => return Failure::Lost("the server ended the batch session".to_owned()),
            Err(status) => return status.into(),
        }
    }
}

fn outcome(answer: Option<Outcome>) -> Answer {
    match answer {
        Some(Outcome::Success(success)) => Ok(appended(&success)),
        Some(Outcome::Error(status)) => Err(status.into()),
        None => Err(Failure::Refused(
            "an answer to an append is empty".to_owned(),
        )),
    }
}

fn appended(success: &Success) -> Option<Appended> {
    let CurrentRevisionOption::CurrentRevision(revision) = success.current_revision_option? else {
        return None;
    };
    let PositionOption::Position(position) = success.position_option? else {
        return None;
    };
    let shared::AllStreamPosition {
        commit_position,
        prepare_position,
    } = position;
    Some(Appended {
        revision,
        position: Position::checked(commit_position, prepare_position)?,
    })
}

/// Those who wait for an answer, by correlation id.
#[derive(Debug, Clone, Default)]
struct Waiting(Arc<Mutex<Callers>>);

#[derive(Debug, Default)]
struct Callers {
    by_correlation: HashMap<Uuid, oneshot::Sender<Answer>>,
    ended: Option<Failure>,
}

impl Waiting {
    fn callers(&self) -> std::sync::MutexGuard<'_, Callers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, correlation: Uuid) -> Result<Place<'_>, Failure> {
        let (sender, receiver) = oneshot::channel();
        let mut callers = self.callers();
        if let Some(failure) = &callers.ended {
            return Err(failure.clone());
        }
        callers.by_correlation.insert(correlation, sender);
        Ok(Place {
            waiting: self,
            correlation,
            receiver,
        })
    }

    /// An answer to somebody who left is dropped.
    fn answer(&self, answer: BatchAppendResp) {
        let correlation = answer.correlation_id.as_ref().and_then(event_id::parse);
        let caller = correlation.and_then(|id| self.callers().by_correlation.remove(&id));
        if let Some(caller) = caller {
            let _left = caller.send(outcome(answer.result));
        }
    }

    fn end(&self, failure: &Failure) {
        let mut callers = self.callers();
        callers.ended = Some(failure.clone());
        for (_, caller) in callers.by_correlation.drain() {
            let _left = caller.send(Err(failure.clone()));
        }
    }

    fn reason(&self) -> Failure {
        let ended = self.callers().ended.clone();
        ended.unwrap_or_else(|| Failure::Lost("the batch session ended".to_owned()))
    }
}

/// The place of one who waits; it is given up when dropped.
struct Place<'a> {
    waiting: &'a Waiting,
    correlation: Uuid,
    receiver: oneshot::Receiver<Answer>,
}

impl Place<'_> {
    async fn answer(mut self) -> Answer {
        match (&mut self.receiver).await {
            Ok(answer) => answer,
            Err(_) => Err(self.waiting.reason()),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting
            .callers()
            .by_correlation
            .remove(&self.correlation);
    }
}
