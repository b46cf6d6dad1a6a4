//! Requests of the protocol that more than one kind of call needs.

use bytes::Bytes;
use eventstore_protocol::shared::{Empty, StreamIdentifier};
use eventstore_protocol::streams::ReadReq;
use eventstore_protocol::streams::read_req::Options;
use eventstore_protocol::streams::read_req::options::stream_options::RevisionOption;
use eventstore_protocol::streams::read_req::options::{
    CountOption, FilterOption, ReadDirection, StreamOption, StreamOptions, UuidOption, uuid_option,
};

use crate::event::Direction;

pub(crate) fn stream_identifier(stream: &str) -> StreamIdentifier {
    StreamIdentifier {
        stream_name: Bytes::copy_from_slice(stream.as_bytes()),
    }
}

/// A read of at most `limit` events of one stream.
pub(crate) fn read_stream(stream: &str, direction: Direction, limit: usize) -> ReadReq {
    let (revision, direction) = match direction {
        Direction::ForwardFrom(revision) => {
            (RevisionOption::Revision(revision), ReadDirection::Forwards)
        }
        Direction::BackwardFromEnd => (RevisionOption::End(Empty {}), ReadDirection::Backwards),
    };
    let stream = StreamOption::Stream(StreamOptions {
        stream_identifier: Some(stream_identifier(stream)),
        revision_option: Some(revision),
    });
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    read(stream, direction, CountOption::Count(limit), None)
}

/// A read or a subscription that does not resolve links.
pub(crate) fn read(
    stream: StreamOption,
    direction: ReadDirection,
    count: CountOption,
    filter: Option<FilterOption>,
) -> ReadReq {
    ReadReq {
        options: Some(Options {
            stream_option: Some(stream),
            read_direction: direction.into(),
            count_option: Some(count),
            filter_option: Some(filter.unwrap_or(FilterOption::NoFilter(Empty {}))),
            uuid_option: Some(UuidOption {
                content: Some(uuid_option::Content::Structured(Empty {})),
            }),
            ..Options::default()
        }),
    }
}
