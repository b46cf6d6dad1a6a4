//! `Delete`, after which the stream can be recreated, and `Tombstone`, after which it cannot. Both are one operation
//! with two sets of messages.

use tokio::time::Instant;
use tonic::Status;

use super::status;
use crate::access::Caller;
use crate::append_rules::Expected;
use crate::event::Position;
use crate::storage::{Change, Outcome, Storage, Write};
use crate::stream_name::StreamName;
use crate::wire::shared::{Empty, StreamIdentifier};
use crate::wire::streams::{
    DeleteReq, DeleteResp, TombstoneReq, TombstoneResp, delete_resp, tombstone_resp,
};

/// A requested deletion.
pub(super) struct Deletion {
    stream: Option<StreamIdentifier>,
    expected: Option<Expected>,
    change: Change,
}

/// The position of the deletion, if it is visible.
pub(super) struct DeletedAt(Option<Position>);

macro_rules! messages {
    ($request:ty, $change:expr, $response:ident, $parts:ident) => {
        impl From<$request> for Deletion {
            fn from(request: $request) -> Self {
                let options = request.options.unwrap_or_default();
                Self {
                    stream: options.stream_identifier,
                    expected: options.expected_stream_revision.map(Into::into),
                    change: $change,
                }
            }
        }

        impl From<DeletedAt> for $response {
            fn from(DeletedAt(position): DeletedAt) -> Self {
                use $parts::{Position as WirePosition, PositionOption};
                let position = position.map_or(
                    PositionOption::NoPosition(Empty {}),
                    |Position(position)| {
                        PositionOption::Position(WirePosition {
                            commit_position: position,
                            prepare_position: position,
                        })
                    },
                );
                Self {
                    position_option: Some(position),
                }
            }
        }
    };
}

messages!(DeleteReq, Change::SoftDelete, DeleteResp, delete_resp);
messages!(
    TombstoneReq,
    Change::Tombstone,
    TombstoneResp,
    tombstone_resp
);

impl Deletion {
    pub(super) async fn make(
        self,
        storage: &Storage,
        (caller, deadline): (Caller, Option<Instant>),
    ) -> Result<DeletedAt, Status> {
        let identifier = self.stream;
        let identifier =
            identifier.ok_or_else(|| status::invalid("`stream_identifier` is missing"))?;
        let stream = StreamName::parse_writable(&identifier.stream_name)?;
        let expected = self.expected;
        let expected =
            expected.ok_or_else(|| status::invalid("`expected_stream_revision` is missing"))?;
        let write = Write {
            stream: stream.clone(),
            expected,
            change: self.change,
            deadline,
        };
        caller.write(&write)?;
        match storage.write(write).await? {
            Outcome::Written { position, .. } => Ok(DeletedAt(position)),
            Outcome::WrongRevision { current } => {
                Err(status::wrong_expected_version(&stream, expected, current))
            }
            Outcome::StreamDeleted(deleted) => Err(status::stream_deleted(&deleted)),
            Outcome::DeadlineExceeded => Err(Status::deadline_exceeded("Timeout")),
            Outcome::DiskFull => Err(status::disk_full()),
        }
    }
}
