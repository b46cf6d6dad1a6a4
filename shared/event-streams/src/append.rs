//! Appends: exactly once with an exact expectation, whatever becomes of the connection meanwhile.

use bytes::Bytes;
use eventstore::{BatchWriteResult, Error, EventData};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::EventStreams;
use crate::call::{CALL_WITHIN, attempt};
use crate::error::{AppendError, is_outage};
use crate::event::{Appended, Expected, NewEvent};
use crate::sessions::Session;
use jittered_backoff::Backoff;

struct Append {
    stream: String,
    expected: Expected,
    events: Vec<EventData>,
}

impl EventStreams {
    /// Appends the events, all or none, and returns when they are durable; takes 10 s at most.
    ///
    /// An attempt whose outcome is unknown (the connection broke) is repeated with the same ids and the same
    /// expectation. With [`Expected::NoStream`] and [`Expected::Revision`] the server recognises it exactly; with
    /// [`Expected::Any`] the events may be stored twice.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. An empty list of events is [`AppendError::NotWritten`].
    pub async fn append(
        &self,
        stream: &str,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        if events.is_empty() {
            return Err(AppendError::NotWritten);
        }
        let append = Append {
            stream: stream.to_owned(),
            expected,
            events: events.into_iter().map(EventData::from).collect(),
        };
        let deadline = Instant::now() + CALL_WITHIN;
        match timeout_at(deadline, self.append_until_known(append)).await {
            Ok(answer) => written(&answer?),
            Err(_) => Err(self.connection.why().into()),
        }
    }

    /// Lets the stream keep its last `count` events only, at least 1 (`$maxCount`; its `$$` stream takes one event more,
    /// in place of all other metadata).
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub async fn set_max_count(&self, stream: &str, count: u64) -> Result<(), AppendError> {
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: "$metadata".into(),
            data: format!("{{\"$maxCount\":{count}}}").into(),
            metadata: Bytes::new(),
        };
        let stream = format!("$${stream}");
        self.append(&stream, Expected::Any, vec![event])
            .await
            .map(|_| ())
    }

    async fn append_until_known(&self, append: Append) -> Result<BatchWriteResult, Error> {
        let _permit = self.sessions.permit().await;
        let mut backoff = Backoff::default();
        loop {
            match self.append_once(&append).await {
                Err(error) if is_outage(&error) => backoff.pause().await,
                answer => return answer,
            }
        }
    }

    async fn append_once(&self, append: &Append) -> Result<BatchWriteResult, Error> {
        let generation = self.connection.generation().await;
        let session = self.sessions.take(generation.clone());
        let session = attempt(&generation, session).await?;
        let answer = attempt(&generation, send(&session, append)).await?;
        self.sessions.give_back(session);
        Ok(answer)
    }
}

async fn send(session: &Session, append: &Append) -> Result<BatchWriteResult, Error> {
    let events = append.events.clone();
    session
        .client
        .append_to_stream(&append.stream, append.expected.into(), events)
        .await
}

/// A success without a position wrote nothing.
fn written(answer: &BatchWriteResult) -> Result<Appended, AppendError> {
    match (answer.current_revision(), answer.current_position()) {
        (Some(revision), Some(position)) => Ok(Appended {
            revision,
            position: position.into(),
        }),
        (_, None) | (None, _) => Err(AppendError::NotWritten),
    }
}
