//! `BatchAppend`: a session of many appends. Each append has one or several pieces, and is answered when it is on
//! disk. A failed append does not end the session.

mod outcome;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::proposed::{Events, InvalidEvent};
use super::status;
use crate::access::Caller;
use crate::append_rules::Expected;
use crate::calls::LongCall;
use crate::clock::{self, TICKS_PER_SECOND};
use crate::event_id;
use crate::storage::{Change, Storage, Write};
use crate::stream_name::StreamName;
use crate::wire::streams::batch_append_req::{Options, ProposedMessage, options::DeadlineOption};
use crate::wire::streams::{BatchAppendReq, BatchAppendResp};
use outcome::{Failure, PendingAnswer, Recipient};

/// The maximum number of appends of one session that wait or are being written.
const IN_FLIGHT: usize = 1024;
/// The limits of unfinished appends of one session: their number and their bytes.
const UNFINISHED: usize = 64;
const UNFINISHED_BYTES: usize = 32 * 1024 * 1024;
/// The minimum size of an unfinished append in memory: two names of its stream.
const LEAST_SIZE: usize = 2 * StreamName::LONGEST;
/// The maximum deadline. Longer ones are shortened to it.
const LONGEST_DEADLINE: Duration = Duration::from_hours(24);

type Answer = Result<BatchAppendResp, Status>;

/// A session of one client.
pub(super) struct Session {
    storage: Arc<Storage>,
    caller: Caller,
    /// The deadline of the session, which also applies to each append.
    deadline: Option<Instant>,
    messages: Streaming<BatchAppendReq>,
    unfinished: HashMap<Uuid, Unfinished>,
}

/// An append whose last piece has not arrived.
struct Unfinished {
    recipient: Recipient,
    target: Result<Target, Failure>,
    events: Result<Events, InvalidEvent>,
    /// The reserved memory. An append of a single piece has none.
    room: Option<OwnedSemaphorePermit>,
}

struct Target {
    stream: StreamName,
    expected: Expected,
    deadline: Option<Instant>,
}

impl Session {
    pub(super) fn new(
        storage: &Arc<Storage>,
        (caller, deadline): (Caller, Option<Instant>),
        messages: Streaming<BatchAppendReq>,
    ) -> Self {
        Self {
            storage: Arc::clone(storage),
            caller,
            deadline,
            messages,
            unfinished: HashMap::new(),
        }
    }

    /// Serves a session in two tasks: one takes appends, the other answers them. A client that does not read its
    /// answers holds back its own appends only. When the server stops, the session ends with UNAVAILABLE.
    pub(super) fn serve(
        self,
        long_call: LongCall,
        shutdown: CancellationToken,
    ) -> ReceiverStream<Answer> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let (queue, queued) = mpsc::channel(1);
        tokio::spawn(self.take(queue));
        let answers = ReceiverStream::new(queued).map(|taken| async { Ok(taken?.answer().await) });
        let mut answers = answers.buffer_unordered(IN_FLIGHT);
        tokio::spawn(async move {
            let _long_call = long_call;
            loop {
                let answer = tokio::select! {
                    answer = answers.next() => answer,
                    () = sender.closed() => None,
                    () = shutdown.cancelled() => Some(Err(status::unavailable())),
                };
                let Some(answer) = answer else { return };
                let is_last = answer.is_err();
                if sender.send(answer).await.is_err() || is_last {
                    return;
                }
            }
        });
        ReceiverStream::new(receiver)
    }

    /// Takes appends in the order of their arrival. They are answered in any order.
    async fn take(mut self, queue: mpsc::Sender<Result<PendingAnswer, Status>>) {
        loop {
            let next = tokio::select! {
                next = self.next() => next,
                () = queue.closed() => None,
            };
            let Some(next) = next else { return };
            if queue.send(next).await.is_err() {
                return;
            }
        }
    }

    /// Queues the next complete append.
    async fn next(&mut self) -> Option<Result<PendingAnswer, Status>> {
        loop {
            let message = self.messages.message().await.transpose()?;
            match message.and_then(|message| self.accept(message)) {
                Ok(None) => {}
                Ok(Some(complete)) => {
                    let call = (self.caller, self.deadline);
                    return Some(Ok(complete.submit(&self.storage, call).await));
                }
                Err(status) => return Some(Err(status)),
            }
        }
    }

    fn accept(&mut self, message: BatchAppendReq) -> Result<Option<Unfinished>, Status> {
        let id = message.correlation_id.as_ref().and_then(event_id::parse);
        let id = id.ok_or_else(|| status::invalid("`correlation_id` is missing or not a UUID"))?;
        let is_final = message.is_final;
        let mut append = match self.unfinished.remove(&id) {
            Some(append) => append.add(message.proposed_messages),
            None => Unfinished::begin(message),
        };
        if is_final {
            return Ok(Some(append));
        }
        append.take_room(&self.storage)?;
        self.unfinished.insert(id, append);
        let bytes: usize = self.unfinished.values().map(Unfinished::size).sum();
        if self.unfinished.len() > UNFINISHED || bytes > UNFINISHED_BYTES {
            return Err(Status::resource_exhausted(
                "this session has too many unfinished appends",
            ));
        }
        Ok(None)
    }
}

impl Unfinished {
    /// Begins an append with its first piece.
    fn begin(message: BatchAppendReq) -> Self {
        let options = message.options.as_ref();
        let recipient = Recipient::new(message.correlation_id, options);
        let options = message.options;
        let options =
            options.ok_or_else(|| Failure::bad("the first piece of an append must have `options`"));
        let append = Self {
            recipient,
            target: options.and_then(Target::parse),
            events: Ok(Events::default()),
            room: None,
        };
        append.add(message.proposed_messages)
    }

    /// Adds events. If the append or one of its events is invalid, no events are kept.
    fn add(mut self, proposed: Vec<ProposedMessage>) -> Self {
        if self.target.is_err() {
            return self;
        }
        for proposed in proposed {
            let refused = self.events.as_mut().map(|events| events.push(proposed));
            if let Ok(Err(refused)) = refused {
                self.events = Err(refused);
            }
        }
        self
    }

    /// About how many bytes the append keeps in memory.
    fn size(&self) -> usize {
        LEAST_SIZE + self.events.as_ref().map_or(0, Events::size)
    }

    /// Reserves memory for the bytes that arrived since the last call.
    fn take_room(&mut self, storage: &Storage) -> Result<(), Status> {
        let taken = self
            .room
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let more = storage.room_for_unfinished(self.size().saturating_sub(taken));
        let more = more.ok_or_else(|| {
            Status::resource_exhausted("all sessions together have too many unfinished appends")
        })?;
        match &mut self.room {
            Some(room) => room.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    async fn submit(
        self,
        storage: &Storage,
        (caller, session): (Caller, Option<Instant>),
    ) -> PendingAnswer {
        let Self {
            recipient,
            target,
            events,
            room: _until_queued,
        } = self;
        let write = target.and_then(|target| {
            let change = Change::Append(events?.into_vec());
            let Target {
                stream,
                expected,
                deadline,
            } = target;
            let write = Write {
                stream,
                expected,
                change,
                deadline: [deadline, session].into_iter().flatten().min(),
            };
            caller.write(&write)?;
            Ok(write)
        });
        let (expected, receipt) = match write {
            Ok(write) => (
                write.expected,
                storage.submit(write).await.map_err(Failure::from),
            ),
            Err(failure) => (Expected::Any, Err(failure)),
        };
        PendingAnswer {
            recipient,
            expected,
            receipt,
        }
    }
}

impl Target {
    fn parse(options: Options) -> Result<Self, Failure> {
        let identifier = options.stream_identifier;
        let identifier =
            identifier.ok_or_else(|| Failure::bad("`stream_identifier` is missing"))?;
        let stream = StreamName::parse_writable(&identifier.stream_name).map_err(Failure::bad)?;
        let expected = options.expected_stream_position;
        let expected =
            expected.ok_or_else(|| Failure::bad("`expected_stream_position` is missing"))?;
        let deadline = options
            .deadline_option
            .map(|deadline| Instant::now() + remaining(deadline));
        Ok(Self {
            stream,
            expected: expected.into(),
            deadline,
        })
    }
}

/// The remaining time, or zero if the deadline has passed.
fn remaining(deadline: DeadlineOption) -> Duration {
    let left = match deadline {
        DeadlineOption::Deadline(left) => Duration::try_from(left).unwrap_or_default(),
        DeadlineOption::Deadline21100(at) => {
            let seconds = at.seconds.saturating_sub(clock::now() / TICKS_PER_SECOND);
            Duration::from_secs(seconds.max(0).unsigned_abs())
        }
    };
    left.min(LONGEST_DEADLINE)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::wire::shared::StreamIdentifier;
    use crate::wire::streams::batch_append_req::options::ExpectedStreamPosition;

    /// A message with a small event, made large by its stream name or by an unused property.
    fn message(stream_name: Vec<u8>, unused: usize) -> BatchAppendReq {
        let properties = [
            ("type", "happened".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("unused", "x".repeat(unused)),
        ];
        let id = Some(event_id::write(Uuid::new_v4(), false));
        BatchAppendReq {
            correlation_id: id.clone(),
            options: Some(Options {
                stream_identifier: Some(StreamIdentifier {
                    stream_name: stream_name.into(),
                }),
                expected_stream_position: Some(ExpectedStreamPosition::Any(())),
                deadline_option: None,
            }),
            proposed_messages: vec![ProposedMessage {
                id,
                metadata: properties
                    .map(|(name, value)| (name.to_owned(), value))
                    .into(),
                custom_metadata: "{}".into(),
                data: "{}".into(),
            }],
            is_final: true,
        }
    }

    #[test]
    fn a_session_does_not_keep_whole_messages_in_memory() {
        const LARGE: usize = 1024 * 1024;
        for (message, kept) in [
            (message(vec![b'x'; LARGE], 1), "an invalid name"),
            (message("s".into(), LARGE), "an event with a large property"),
            (message("$$".into(), LARGE), "a refused append"),
        ] {
            let bytes = Bytes::from(message.encode_to_vec());
            let append = Unfinished::begin(BatchAppendReq::decode(bytes.clone()).unwrap());
            assert!(bytes.is_unique(), "{kept}");
            drop(append);
        }
    }
}
