//! The failures of one attempt of a call: the server's error answers, and missing answers.

use eventstore_protocol::google::rpc;
use eventstore_protocol::shared::WrongExpectedVersion;
use eventstore_protocol::shared::wrong_expected_version::CurrentStreamRevisionOption;
use prost::Message as _;
use tonic::{Code, Status};

use crate::node::Node;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection is unusable, and the outcome of the call is unknown.
    Lost(String),
    /// The server is too busy or not ready, and the outcome of the call is unknown. The connection still works.
    Busy(String),
    /// Another node leads the cluster. The call had no effect.
    NotLeader(Option<Node>),
    /// The stream's last revision is this one and not the expected one. `None` if the stream has no event.
    WrongRevision(Option<u64>),
    /// The stream is tombstoned.
    StreamDeleted,
    /// The append exceeds the server's limit.
    TooLarge,
    /// The server would refuse every further attempt too.
    Refused(String),
}

impl Failure {
    /// Whether another attempt can help.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Busy(_) | Self::NotLeader(_))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(reason) | Self::Busy(reason) | Self::Refused(reason) => {
                formatter.write_str(reason)
            }
            Self::NotLeader(Some(leader)) => write!(formatter, "{leader} leads the cluster"),
            Self::NotLeader(None) => formatter.write_str("another node leads the cluster"),
            Self::WrongRevision(_) => formatter.write_str("wrong expected revision"),
            Self::StreamDeleted => formatter.write_str("the stream is deleted"),
            Self::TooLarge => formatter.write_str("the append is too large"),
        }
    }
}

/// Converts the error of a call. The server names the error in the trailer `exception`.
impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match trailer(&status, "exception").unwrap_or_default() {
            "wrong-expected-version" => Self::WrongRevision(
                trailer(&status, "actual-version").and_then(|revision| revision.parse().ok()),
            ),
            "stream-deleted" => Self::StreamDeleted,
            "maximum-append-size-exceeded" => Self::TooLarge,
            "not-leader" => Self::NotLeader(leader(&status)),
            _ => by_code(&status),
        }
    }
}

fn by_code(status: &Status) -> Failure {
    let reason = format!("{}: {}", status.code(), status.message());
    match status.code() {
        Code::ResourceExhausted | Code::Aborted => Failure::Busy(reason),
        Code::PermissionDenied => Failure::Refused("access denied".to_owned()),
        Code::Unauthenticated => Failure::Refused("the credentials were denied".to_owned()),
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::DataLoss
        | Code::Unimplemented => Failure::Refused(reason),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable => Failure::Lost(reason),
    }
}

fn leader(status: &Status) -> Option<Node> {
    let host = trailer(status, "leader-endpoint-host")?;
    let port = trailer(status, "leader-endpoint-port")?;
    Node::new(host, port.parse().ok()?)
}

fn trailer<'a>(status: &'a Status, name: &str) -> Option<&'a str> {
    status.metadata().get(name)?.to_str().ok()
}

/// Converts the error of one append in a batch session. Code 0 is an error too: the server is not ready.
impl From<rpc::Status> for Failure {
    fn from(status: rpc::Status) -> Self {
        let details = status.details.unwrap_or_default();
        match details.type_url.rsplit('.').next().unwrap_or_default() {
            "WrongExpectedVersion" => Self::WrongRevision(actual_revision(&details.value)),
            "StreamDeleted" => Self::StreamDeleted,
            "MaximumAppendSizeExceeded" => Self::TooLarge,
            "AccessDenied" => Self::Refused("access denied".to_owned()),
            _ => by_batch_code(status.code, status.message),
        }
    }
}

fn by_batch_code(code: i32, message: String) -> Failure {
    match Code::from_i32(code) {
        Code::AlreadyExists => Failure::WrongRevision(None),
        Code::NotFound => Failure::StreamDeleted,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange => Failure::Refused(message),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Failure::Busy(message),
    }
}

fn actual_revision(details: &[u8]) -> Option<u64> {
    let details = WrongExpectedVersion::decode(details).ok()?;
    match details.current_stream_revision_option? {
        CurrentStreamRevisionOption::CurrentStreamRevision(revision) => Some(revision),
        CurrentStreamRevisionOption::CurrentNoStream(()) => None,
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Any;

    use super::*;

    fn batch_failure(code: i32, message: &str, details: Option<Any>) -> Failure {
        Failure::from(rpc::Status {
            code,
            message: message.to_owned(),
            details,
        })
    }

    #[test]
    fn a_refused_append_reports_the_actual_revision() {
        for (current, actual) in [
            (
                CurrentStreamRevisionOption::CurrentStreamRevision(7),
                Some(7),
            ),
            (CurrentStreamRevisionOption::CurrentNoStream(()), None),
        ] {
            let details = WrongExpectedVersion {
                current_stream_revision_option: Some(current),
                expected_stream_position_option: None,
            };
            let details = Any {
                type_url: "type.googleapis.com/event_store.client.WrongExpectedVersion".to_owned(),
                value: details.encode_to_vec(),
            };
            let failure = batch_failure(6, "WrongExpectedVersion", Some(details));
            assert_eq!(failure, Failure::WrongRevision(actual));
        }
    }

    #[test]
    fn a_server_that_is_not_ready_is_tried_again() {
        let empty = Any {
            type_url: "type.googleapis.com/google.protobuf.Empty".to_owned(),
            value: Vec::new(),
        };
        for failure in [
            batch_failure(0, "Server Is Not Ready", Some(empty)),
            batch_failure(4, "Timeout", None),
        ] {
            assert!(matches!(failure, Failure::Busy(_)), "{failure:?}");
            assert!(failure.is_outage());
        }
    }

    #[test]
    fn a_node_that_is_not_the_leader_names_the_leader() {
        let mut status = Status::not_found("Leader info available");
        for (name, value) in [
            ("exception", "not-leader"),
            ("leader-endpoint-host", "10.0.0.2"),
            ("leader-endpoint-port", "2113"),
        ] {
            status.metadata_mut().insert(name, value.parse().unwrap());
        }
        let leader = Node::new("10.0.0.2", 2113);
        assert_eq!(Failure::from(status), Failure::NotLeader(leader));
    }

    #[test]
    fn a_refused_deletion_reports_the_actual_revision() {
        for (text, actual) in [("3", Some(3)), ("-1", None)] {
            let mut status = Status::failed_precondition("wrong");
            let metadata = status.metadata_mut();
            metadata.insert("exception", "wrong-expected-version".parse().unwrap());
            metadata.insert("actual-version", text.parse().unwrap());
            assert_eq!(Failure::from(status), Failure::WrongRevision(actual));
        }
    }
}
