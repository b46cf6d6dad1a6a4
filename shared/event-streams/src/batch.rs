//! The batch session: one open `BatchAppend` call with many appends in flight. The correlation id matches each answer
//! to its append.

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

use crate::client::Client;
use crate::event::{Appended, Position};
use crate::failure::Failure;

/// The most appends in flight. Further appends wait.
pub(crate) const APPENDS_IN_FLIGHT: usize = 256;

/// The answer to one append. `None` is a success that wrote nothing.
pub(crate) type Answer = Result<Option<Appended>, Failure>;

#[derive(Debug)]
pub(crate) struct BatchSession {
    requests: mpsc::Sender<BatchAppendReq>,
    pending: PendingAppends,
    _task: AbortOnDropHandle<()>,
}

impl BatchSession {
    /// Opens a session in a task of the current runtime. When the session ends, it fails all pending appends and
    /// cancels `broken`.
    pub(crate) fn open(client: Client, broken: CancellationToken) -> Self {
        let (requests, queued) = mpsc::channel(APPENDS_IN_FLIGHT);
        let pending = PendingAppends::default();
        let task = tokio::spawn(serve(client, queued, pending.clone(), broken));
        Self {
            requests,
            pending,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Gives the append a correlation id, sends it and waits for its answer. Can be cancelled at any time.
    pub(crate) async fn append(&self, request: BatchAppendReq) -> Answer {
        let correlation = Uuid::new_v4();
        let append = self.pending.register(correlation)?;
        let request = BatchAppendReq {
            correlation_id: Some(event_id::write(correlation, true)),
            ..request
        };
        if self.requests.send(request).await.is_err() {
            return Err(self.pending.failure());
        }
        append.answer().await
    }
}

async fn serve(
    mut client: Client,
    queued: mpsc::Receiver<BatchAppendReq>,
    pending: PendingAppends,
    broken: CancellationToken,
) {
    let failure = match client.batch_append(ReceiverStream::new(queued)).await {
        Ok(answers) => deliver_answers(answers.into_inner(), &pending).await,
        Err(status) => status.into(),
    };
    pending.end(&failure);
    broken.cancel();
}

/// Returns the failure that ended the session.
async fn deliver_answers(
    mut answers: Streaming<BatchAppendResp>,
    pending: &PendingAppends,
) -> Failure {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => pending.deliver(answer),
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
            "the server's answer to an append is empty".to_owned(),
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

/// The appends that wait for their answers, by correlation id.
#[derive(Debug, Clone, Default)]
struct PendingAppends(Arc<Mutex<Callers>>);

#[derive(Debug, Default)]
struct Callers {
    by_correlation: HashMap<Uuid, oneshot::Sender<Answer>>,
    /// The failure that ended the session.
    ended: Option<Failure>,
}

impl PendingAppends {
    fn callers(&self) -> std::sync::MutexGuard<'_, Callers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, correlation: Uuid) -> Result<PendingAppend<'_>, Failure> {
        let (sender, receiver) = oneshot::channel();
        let mut callers = self.callers();
        if let Some(failure) = &callers.ended {
            return Err(failure.clone());
        }
        callers.by_correlation.insert(correlation, sender);
        Ok(PendingAppend {
            appends: self,
            correlation,
            receiver,
        })
    }

    /// Drops the answer if its caller no longer waits.
    fn deliver(&self, answer: BatchAppendResp) {
        let correlation = answer.correlation_id.as_ref().and_then(event_id::parse);
        let caller = correlation.and_then(|id| self.callers().by_correlation.remove(&id));
        if let Some(caller) = caller {
            let _cancelled = caller.send(outcome(answer.result));
        }
    }

    fn end(&self, failure: &Failure) {
        let mut callers = self.callers();
        callers.ended = Some(failure.clone());
        for (_, caller) in callers.by_correlation.drain() {
            let _cancelled = caller.send(Err(failure.clone()));
        }
    }

    fn failure(&self) -> Failure {
        let ended = self.callers().ended.clone();
        ended.unwrap_or_else(|| Failure::Lost("the batch session ended".to_owned()))
    }
}

/// An append that waits for its answer. Dropping it removes it from the pending appends.
struct PendingAppend<'a> {
    appends: &'a PendingAppends,
    correlation: Uuid,
    receiver: oneshot::Receiver<Answer>,
}

impl PendingAppend<'_> {
    async fn answer(mut self) -> Answer {
        match (&mut self.receiver).await {
            Ok(answer) => answer,
            Err(_) => Err(self.appends.failure()),
        }
    }
}

impl Drop for PendingAppend<'_> {
    fn drop(&mut self) {
        self.appends
            .callers()
            .by_correlation
            .remove(&self.correlation);
    }
}
