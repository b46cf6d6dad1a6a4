//! Delete (the stream can be begun again) and Tombstone (never again).

use tonic::Status;

use super::status;
use crate::append_rules::Expected;
use crate::event::Position;
use crate::storage::{Change, Outcome, Storage, Write};
use crate::stream_name::StreamName;
use crate::wire::shared::{Empty, StreamIdentifier};
use crate::wire::streams::{
    DeleteReq, DeleteResp, TombstoneReq, TombstoneResp, delete_resp, tombstone_resp,
};

pub(super) async fn delete(storage: &Storage, request: DeleteReq) -> Result<DeleteResp, Status> {
    let options = request.options.unwrap_or_default();
    let expected = options.expected_stream_revision.map(Into::into);
    let position = remove(
        storage,
        options.stream_identifier,
        expected,
        Change::SoftDelete,
    )
    .await?;
    let position = position.map_or(
        delete_resp::PositionOption::NoPosition(Empty {}),
        |position| {
            delete_resp::PositionOption::Position(delete_resp::Position {
                commit_position: position.0,
                prepare_position: position.0,
            })
        },
    );
    Ok(DeleteResp {
        position_option: Some(position),
    })
}

pub(super) async fn tombstone(
    storage: &Storage,
    request: TombstoneReq,
) -> Result<TombstoneResp, Status> {
    let options = request.options.unwrap_or_default();
    let expected = options.expected_stream_revision.map(Into::into);
    let position = remove(
        storage,
        options.stream_identifier,
        expected,
        Change::Tombstone,
    )
    .await?;
    let position = position.map_or(
        tombstone_resp::PositionOption::NoPosition(Empty {}),
        |position| {
            tombstone_resp::PositionOption::Position(tombstone_resp::Position {
                commit_position: position.0,
                prepare_position: position.0,
            })
        },
    );
    Ok(TombstoneResp {
        position_option: Some(position),
    })
}

async fn remove(
    storage: &Storage,
    identifier: Option<StreamIdentifier>,
    expected: Option<Expected>,
    change: Change,
) -> Result<Option<Position>, Status> {
    let identifier = identifier.ok_or_else(|| status::invalid("`stream_identifier` is missing"))?;
    let stream = StreamName::parse_writable(&identifier.stream_name)?;
    let expected =
        expected.ok_or_else(|| status::invalid("`expected_stream_revision` is missing"))?;
    let write = Write {
        stream: stream.clone(),
        expected,
        change,
        deadline: None,
    };
    match storage.write(write).await? {
        Outcome::Written { position, .. } => Ok(position),
        Outcome::WrongRevision { current } => {
            Err(status::wrong_expected_version(&stream, expected, current))
        }
        Outcome::StreamDeleted(deleted) => Err(status::stream_deleted(&deleted)),
        Outcome::DeadlineExceeded => Err(Status::deadline_exceeded("Timeout")),
    }
}
