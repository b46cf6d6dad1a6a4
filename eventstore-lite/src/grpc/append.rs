//! `Append`: a message with options, then messages with events. Either all events are written or none.

use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::proposed::Events;
use super::status;
use crate::access::Caller;
use crate::append_rules::Expected;
use crate::event::Position;
use crate::storage::{Change, Outcome, Storage, Write};
use crate::stream_name::StreamName;
use crate::wire::shared::Empty;
use crate::wire::streams::append_req::{Content, Options};
use crate::wire::streams::append_resp::wrong_expected_version::{
    CurrentRevisionOption, CurrentRevisionOption2060, ExpectedRevisionOption,
    ExpectedRevisionOption2060,
};
use crate::wire::streams::append_resp::{
    self, Result as Answer, Success, WrongExpectedVersion, success,
};
use crate::wire::streams::{AppendReq, AppendResp};

pub(super) async fn append(
    storage: &Storage,
    (caller, deadline): (Caller, Option<Instant>),
    mut messages: Streaming<AppendReq>,
) -> Result<AppendResp, Status> {
    let first = messages
        .message()
        .await?
        .and_then(|message| message.content);
    let Some(Content::Options(options)) = first else {
        return Err(status::invalid("an append must begin with its options"));
    };
    let (stream, expected) = parse(options)?;
    let mut events = Events::default();
    while let Some(message) = messages.message().await? {
        let Some(Content::ProposedMessage(proposed)) = message.content else {
            return Err(status::invalid(
                "after the options an append has only proposed messages",
            ));
        };
        events.push(proposed)?;
    }
    let change = Change::Append(events.into_vec());
    let write = Write {
        stream,
        expected,
        change,
        deadline,
    };
    caller.write(&write)?;
    let outcome = storage.write(write).await?;
    answer(expected, outcome)
}

fn parse(options: Options) -> Result<(StreamName, Expected), Status> {
    let identifier = options.stream_identifier;
    let identifier = identifier.ok_or_else(|| status::invalid("`stream_identifier` is missing"))?;
    let stream = StreamName::parse_writable(&identifier.stream_name)?;
    let expected = options.expected_stream_revision;
    let expected =
        expected.ok_or_else(|| status::invalid("`expected_stream_revision` is missing"))?;
    Ok((stream, expected.into()))
}

fn answer(expected: Expected, outcome: Outcome) -> Result<AppendResp, Status> {
    let result = match outcome {
        Outcome::Written { revision, position } => Answer::Success(success(revision, position)),
        Outcome::WrongRevision { current } => {
            Answer::WrongExpectedVersion(wrong(expected, current))
        }
        Outcome::StreamDeleted(stream) => return Err(status::stream_deleted(&stream)),
        Outcome::DeadlineExceeded => return Err(Status::deadline_exceeded("Timeout")),
        Outcome::DiskFull => return Err(status::disk_full()),
    };
    Ok(AppendResp {
        result: Some(result),
    })
}

fn success(revision: Option<u64>, position: Option<Position>) -> Success {
    use success::{CurrentRevisionOption, PositionOption};
    let revision = revision.map_or(
        CurrentRevisionOption::NoStream(Empty {}),
        CurrentRevisionOption::CurrentRevision,
    );
    let position = position.map_or(PositionOption::NoPosition(Empty {}), |position| {
        PositionOption::Position(append_resp::Position {
            commit_position: position.0,
            prepare_position: position.0,
        })
    });
    Success {
        current_revision_option: Some(revision),
        position_option: Some(position),
    }
}

/// Each fact is stated twice, for clients before and since version 20.6.
fn wrong(expected: Expected, current: Option<u64>) -> WrongExpectedVersion {
    let (old_expected, new_expected) = match expected {
        Expected::Revision(revision) => (
            ExpectedRevisionOption2060::ExpectedRevision2060(revision),
            ExpectedRevisionOption::ExpectedRevision(revision),
        ),
        Expected::NoStream => (
            ExpectedRevisionOption2060::ExpectedRevision2060(u64::MAX),
            ExpectedRevisionOption::ExpectedNoStream(Empty {}),
        ),
        Expected::Any => (
            ExpectedRevisionOption2060::Any2060(Empty {}),
            ExpectedRevisionOption::ExpectedAny(Empty {}),
        ),
        Expected::StreamExists => (
            ExpectedRevisionOption2060::StreamExists2060(Empty {}),
            ExpectedRevisionOption::ExpectedStreamExists(Empty {}),
        ),
    };
    let (old_current, new_current) = match current {
        Some(revision) => (
            CurrentRevisionOption2060::CurrentRevision2060(revision),
            CurrentRevisionOption::CurrentRevision(revision),
        ),
        None => (
            CurrentRevisionOption2060::NoStream2060(Empty {}),
            CurrentRevisionOption::CurrentNoStream(Empty {}),
        ),
    };
    WrongExpectedVersion {
        current_revision_option_20_6_0: Some(old_current),
        expected_revision_option_20_6_0: Some(old_expected),
        current_revision_option: Some(new_current),
        expected_revision_option: Some(new_expected),
    }
}
