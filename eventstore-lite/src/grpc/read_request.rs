//! Validates the request of a read, and determines its kind.

use std::sync::Arc;

use tonic::Status;

use super::status;
use crate::event::{Direction, Position};
use crate::filter::{Filter, Subject};
use crate::stream_name::StreamName;
use crate::wire::streams::ReadReq;
use crate::wire::streams::read_req::Options;
use crate::wire::streams::read_req::options::{
    AllOptions, CountOption, FilterOption, FilterOptions, ReadDirection, StreamOption,
    StreamOptions, all_options, filter_options, stream_options, uuid_option,
};

/// The default window of a filter.
const DEFAULT_WINDOW: u32 = 32;

#[derive(Clone, Debug)]
pub(super) struct ReadRequest {
    pub(super) target: ReadTarget,
    pub(super) resolve_links: bool,
    pub(super) structured_ids: bool,
    /// Whether the client understands messages about the beginning and the end of a stream.
    pub(super) positions: bool,
}

#[derive(Clone, Debug)]
pub(super) enum ReadTarget {
    Stream(ReadStream),
    All(ReadAll),
    FollowStream {
        stream: StreamName,
        from: ReadStart<u64>,
    },
    FollowAll {
        from: ReadStart<Position>,
        filter: Option<SubscriptionFilter>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct ReadStream {
    pub(super) stream: StreamName,
    pub(super) direction: Direction,
    pub(super) from: ReadStart<u64>,
    pub(super) count: u64,
}

#[derive(Clone, Debug)]
pub(super) struct ReadAll {
    pub(super) direction: Direction,
    pub(super) from: ReadStart<Position>,
    pub(super) count: u64,
    pub(super) filter: Option<Arc<Filter>>,
}

/// Where a read begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadStart<T> {
    Start,
    At(T),
    End,
}

#[derive(Clone, Debug)]
pub(super) struct SubscriptionFilter {
    pub(super) filter: Arc<Filter>,
    /// The subscription gets a checkpoint after looking at this many events, at least 1.
    pub(super) interval: u64,
}

impl ReadRequest {
    pub(super) fn parse(request: ReadReq) -> Result<Self, Status> {
        let options = request
            .options
            .ok_or_else(|| status::invalid("`options` is missing"))?;
        let ids = options.uuid_option.and_then(|option| option.content);
        let ids = ids.ok_or_else(|| status::invalid("`uuid_option` is missing"))?;
        Ok(Self {
            resolve_links: options.resolve_links,
            structured_ids: matches!(ids, uuid_option::Content::Structured(_)),
            positions: options
                .control_option
                .is_some_and(|control| control.compatibility >= 1),
            target: ReadTarget::parse(options)?,
        })
    }
}

impl ReadTarget {
    /// The stream that is read, or `None` for the log.
    pub(super) fn stream(&self) -> Option<&StreamName> {
        match self {
            Self::Stream(ReadStream { stream, .. }) | Self::FollowStream { stream, .. } => {
                Some(stream)
            }
            Self::All(_) | Self::FollowAll { .. } => None,
        }
    }

    pub(super) fn is_subscription(&self) -> bool {
        matches!(self, Self::FollowStream { .. } | Self::FollowAll { .. })
    }

    fn parse(options: Options) -> Result<Self, Status> {
        let direction = match ReadDirection::try_from(options.read_direction) {
            Ok(ReadDirection::Forwards) => Direction::Forwards,
            Ok(ReadDirection::Backwards) => Direction::Backwards,
            Err(_) => return Err(status::invalid("`read_direction` is unknown")),
        };
        let stream = options
            .stream_option
            .ok_or_else(|| status::invalid("`stream_option` is missing"))?;
        let count = options
            .count_option
            .ok_or_else(|| status::invalid("`count_option` is missing"))?;
        let filter = match options.filter_option {
            None => return Err(status::invalid("`filter_option` is missing")),
            Some(FilterOption::NoFilter(_)) => None,
            Some(FilterOption::Filter(filter)) => Some(filter),
        };
        match (stream, count) {
            (_, CountOption::Count(0)) => Err(status::invalid("`count` is 0")),
            (_, CountOption::Subscription(_)) if direction == Direction::Backwards => {
                Err(status::invalid("a subscription cannot read backwards"))
            }
            (StreamOption::Stream(_), _) if filter.is_some() => {
                Err(status::invalid("only `all` can be read with a filter"))
            }
            (StreamOption::Stream(options), CountOption::Count(count)) => {
                read_stream(options, direction, count).map(Self::Stream)
            }
            (StreamOption::Stream(options), CountOption::Subscription(_)) => {
                let (stream, from) = parse_stream(options)?;
                Ok(Self::FollowStream { stream, from })
            }
            (StreamOption::All(options), CountOption::Count(count)) => {
                let filter = filter.map(parse_filter).transpose()?;
                Ok(Self::All(ReadAll {
                    direction,
                    from: parse_all(options)?,
                    count,
                    filter,
                }))
            }
            (StreamOption::All(options), CountOption::Subscription(_)) => {
                let filter = filter.map(filtered).transpose()?;
                Ok(Self::FollowAll {
                    from: parse_all(options)?,
                    filter,
                })
            }
        }
    }
}

fn read_stream(
    options: StreamOptions,
    direction: Direction,
    count: u64,
) -> Result<ReadStream, Status> {
    let (stream, from) = parse_stream(options)?;
    if (direction, from) == (Direction::Forwards, ReadStart::End) {
        return Err(status::invalid(
            "there is nothing to read forwards from the end",
        ));
    }
    Ok(ReadStream {
        stream,
        direction,
        from,
        count,
    })
}

fn parse_stream(options: StreamOptions) -> Result<(StreamName, ReadStart<u64>), Status> {
    let identifier = options.stream_identifier;
    let identifier = identifier.ok_or_else(|| status::invalid("`stream_identifier` is missing"))?;
    let from = match options.revision_option {
        None => return Err(status::invalid("`revision_option` is missing")),
        Some(stream_options::RevisionOption::Revision(revision)) => ReadStart::At(revision),
        Some(stream_options::RevisionOption::Start(_)) => ReadStart::Start,
        Some(stream_options::RevisionOption::End(_)) => ReadStart::End,
    };
    Ok((StreamName::parse(&identifier.stream_name)?, from))
}

fn parse_all(options: AllOptions) -> Result<ReadStart<Position>, Status> {
    match options.all_option {
        None => Err(status::invalid("`all_option` is missing")),
        Some(all_options::AllOption::Start(_)) => Ok(ReadStart::Start),
        Some(all_options::AllOption::End(_)) => Ok(ReadStart::End),
        Some(all_options::AllOption::Position(position))
            if position.commit_position < position.prepare_position =>
        {
            Err(status::invalid(
                "the commit position is below the prepare position",
            ))
        }
        Some(all_options::AllOption::Position(position)) => {
            Ok(ReadStart::At(Position(position.commit_position)))
        }
    }
}

fn parse_filter(options: FilterOptions) -> Result<Arc<Filter>, Status> {
    let (subject, expression) = match options.filter {
        None => return Err(status::invalid("`filter` is missing")),
        Some(filter_options::Filter::StreamIdentifier(expression)) => {
            (Subject::StreamName, expression)
        }
        Some(filter_options::Filter::EventType(expression)) => (Subject::EventType, expression),
    };
    let filter = Filter::new(subject, &expression.regex, expression.prefix);
    filter.map(Arc::new).map_err(status::invalid)
}

fn filtered(options: FilterOptions) -> Result<SubscriptionFilter, Status> {
    let window = match options.window {
        Some(filter_options::Window::Max(max)) if max > 0 => max,
        Some(filter_options::Window::Max(_) | filter_options::Window::Count(_)) | None => {
            DEFAULT_WINDOW
        }
    };
    let interval = u64::from(window) * u64::from(options.checkpoint_interval_multiplier);
    if interval == 0 {
        return Err(status::invalid("`checkpointIntervalMultiplier` is 0"));
    }
    Ok(SubscriptionFilter {
        filter: parse_filter(options)?,
        interval,
    })
}
