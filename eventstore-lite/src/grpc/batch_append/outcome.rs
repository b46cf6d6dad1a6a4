//! The answers of a session. Each names the append that it belongs to.

use bytes::Bytes;
use prost::Message;

use super::super::proposed::{InvalidEvent, MOST_DATA};
use super::super::status::DISK_FULL;
use crate::access::Denied;
use crate::append_rules::Expected;
use crate::event::Position;
use crate::storage::{Outcome, Receipt, StorageFailed};
use crate::stream_name::StreamName;
use crate::wire::google::rpc::{Code, Status};
use crate::wire::shared::wrong_expected_version::{
    CurrentStreamRevisionOption, ExpectedStreamPositionOption,
};
use crate::wire::shared::{self, AllStreamPosition, StreamIdentifier};
use crate::wire::streams::BatchAppendResp;
use crate::wire::streams::batch_append_req::Options;
use crate::wire::streams::batch_append_resp::success::{CurrentRevisionOption, PositionOption};
use crate::wire::streams::batch_append_resp::{Result as Answer, Success};

/// The append that an answer belongs to.
pub(super) struct Recipient {
    correlation_id: Option<shared::Uuid>,
    stream_identifier: Option<StreamIdentifier>,
}

impl Recipient {
    /// The name is copied, because a slice of a message keeps the whole message in memory. A name that is too long is
    /// not kept.
    pub(super) fn new(correlation_id: Option<shared::Uuid>, options: Option<&Options>) -> Self {
        let identifier = options.and_then(|options| options.stream_identifier.as_ref());
        let name = identifier.map(|identifier| &identifier.stream_name);
        let name = name.filter(|name| name.len() <= StreamName::LONGEST);
        Self {
            correlation_id,
            stream_identifier: name.map(|name| StreamIdentifier {
                stream_name: Bytes::copy_from_slice(name),
            }),
        }
    }
}

/// Why an append was not queued.
#[derive(Debug)]
pub(super) enum Failure {
    Bad(String),
    TooBig,
    TooMuch(String),
    Denied(Denied),
    Storage,
}

impl Failure {
    pub(super) fn bad(what: impl std::fmt::Display) -> Self {
        Self::Bad(what.to_string())
    }
}

impl From<InvalidEvent> for Failure {
    fn from(invalid: InvalidEvent) -> Self {
        match invalid {
            InvalidEvent::TooBig => Self::TooBig,
            InvalidEvent::TooMuch => Self::TooMuch(invalid.to_string()),
            // The real server's text. Clients see it in the message.
            InvalidEvent::MissingProperty(_) => {
                Self::bad("The given key was not present in the dictionary.")
            }
            InvalidEvent::Id | InvalidEvent::Type => Self::bad(invalid),
        }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<StorageFailed> for Failure {
    fn from(_: StorageFailed) -> Self {
        Self::Storage
    }
}

/// An append that is queued, or that failed before that.
pub(super) struct PendingAnswer {
    pub(super) recipient: Recipient,
    pub(super) expected: Expected,
    pub(super) receipt: Result<Receipt, Failure>,
}

impl PendingAnswer {
    /// Waits until the append is on disk, and answers it.
    pub(super) async fn answer(self) -> BatchAppendResp {
        let result = match self.receipt {
            Ok(receipt) => match receipt.outcome().await {
                Ok(outcome) => done(self.expected, outcome),
                Err(failed) => Answer::Error(failed_before(failed.into())),
            },
            Err(failure) => Answer::Error(failed_before(failure)),
        };
        BatchAppendResp {
            correlation_id: self.recipient.correlation_id,
            stream_identifier: self.recipient.stream_identifier,
            result: Some(result),
            expected_stream_position: None,
        }
    }
}

fn done(expected: Expected, outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Written { revision, position } => Answer::Success(success(revision, position)),
        Outcome::WrongRevision { current } => Answer::Error(error(
            Code::AlreadyExists,
            "WrongExpectedVersion",
            &wrong(expected, current),
        )),
        Outcome::StreamDeleted(stream) => {
            let stream_name = stream.as_str().to_owned().into();
            let stream_identifier = Some(StreamIdentifier { stream_name });
            let details = shared::StreamDeleted { stream_identifier };
            Answer::Error(error(Code::NotFound, "StreamDeleted", &details))
        }
        Outcome::DeadlineExceeded => Answer::Error(error(
            Code::DeadlineExceeded,
            "Timeout",
            &shared::Timeout {},
        )),
        Outcome::DiskFull => Answer::Error(error(
            Code::ResourceExhausted,
            DISK_FULL,
            &shared::Unknown {},
        )),
    }
}

fn failed_before(failure: Failure) -> Status {
    match failure {
        Failure::Bad(message) => error(
            Code::InvalidArgument,
            "BadRequest",
            &shared::BadRequest { message },
        ),
        Failure::TooBig => {
            let max_append_size = u32::try_from(MOST_DATA).unwrap_or(u32::MAX);
            let details = shared::MaximumAppendSizeExceeded { max_append_size };
            error(Code::InvalidArgument, "MaximumAppendSizeExceeded", &details)
        }
        Failure::TooMuch(message) => error(Code::ResourceExhausted, &message, &shared::Unknown {}),
        Failure::Denied(Denied::Role) => error(
            Code::PermissionDenied,
            "AccessDenied",
            &shared::AccessDenied {},
        ),
        Failure::Denied(denied @ Denied::Acl) => error(
            Code::Unimplemented,
            &denied.to_string(),
            &shared::Unknown {},
        ),
        Failure::Storage => error(Code::Unavailable, "Unavailable", &shared::Unknown {}),
    }
}

fn success(revision: Option<u64>, position: Option<Position>) -> Success {
    let revision = revision.map_or(
        CurrentRevisionOption::NoStream(()),
        CurrentRevisionOption::CurrentRevision,
    );
    let position = position.map_or(PositionOption::NoPosition(()), |position| {
        PositionOption::Position(AllStreamPosition {
            commit_position: position.0,
            prepare_position: position.0,
        })
    });
    Success {
        current_revision_option: Some(revision),
        position_option: Some(position),
    }
}

fn wrong(expected: Expected, current: Option<u64>) -> shared::WrongExpectedVersion {
    let expected = match expected {
        Expected::Revision(revision) => {
            ExpectedStreamPositionOption::ExpectedStreamPosition(revision)
        }
        Expected::NoStream => ExpectedStreamPositionOption::ExpectedNoStream(()),
        Expected::Any => ExpectedStreamPositionOption::ExpectedAny(()),
        Expected::StreamExists => ExpectedStreamPositionOption::ExpectedStreamExists(()),
    };
    let current = current.map_or(
        CurrentStreamRevisionOption::CurrentNoStream(()),
        CurrentStreamRevisionOption::CurrentStreamRevision,
    );
    shared::WrongExpectedVersion {
        current_stream_revision_option: Some(current),
        expected_stream_position_option: Some(expected),
    }
}

/// An error detail with the name of its type, as `google.protobuf.Any` requires.
trait Detail: Message {
    const NAME: &str;
}

impl Detail for shared::WrongExpectedVersion {
    const NAME: &str = "WrongExpectedVersion";
}
impl Detail for shared::StreamDeleted {
    const NAME: &str = "StreamDeleted";
}
impl Detail for shared::Timeout {
    const NAME: &str = "Timeout";
}
impl Detail for shared::BadRequest {
    const NAME: &str = "BadRequest";
}
impl Detail for shared::MaximumAppendSizeExceeded {
    const NAME: &str = "MaximumAppendSizeExceeded";
}
impl Detail for shared::AccessDenied {
    const NAME: &str = "AccessDenied";
}
impl Detail for shared::Unknown {
    const NAME: &str = "Unknown";
}

fn error<D: Detail>(code: Code, message: &str, details: &D) -> Status {
    let details = prost_types::Any {
        type_url: format!("type.googleapis.com/event_store.client.{}", D::NAME),
        value: details.encode_to_vec(),
    };
    Status {
        code: code.into(),
        message: message.to_owned(),
        details: Some(details),
    }
}
