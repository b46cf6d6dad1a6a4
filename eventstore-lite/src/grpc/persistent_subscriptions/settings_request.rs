//! Validates requests that create or update a group. The protocol has two sets of messages with the same content.

use tonic::Status;

use super::errors::failed;
use super::request::{key, no_options, stream};
use crate::grpc::status::invalid;
use crate::persistent::{
    FilterSettings, GroupKey, Settings, Source, StartFrom, StartPosition, Strategy,
};
use crate::wire::persistent_subscriptions as wire;
use crate::wire::persistent_subscriptions::create_req::all_options::{
    FilterOption, FilterOptions, filter_options,
};
use crate::wire::persistent_subscriptions::{create_req, update_req};
use crate::wire::shared::StreamIdentifier;

/// Ticks are 100 ns.
const TICKS_PER_MILLISECOND: i64 = 10_000;
/// The default window of a filter.
const DEFAULT_WINDOW: u32 = 32;

pub(super) fn create(
    request: wire::CreateReq,
) -> Result<(GroupKey, Settings, StartPosition), Status> {
    let options = request.options.ok_or_else(no_options)?;
    let settings = options.settings.ok_or_else(no_settings)?;
    let (source, start, filter) = match options.stream_option {
        None => {
            #[expect(deprecated, reason = "the official client of Node uses it")]
            let (stream, revision) = (options.stream_identifier, settings.revision);
            (
                no_all(stream)?,
                StartPosition::of_old_client(revision),
                None,
            )
        }
        Some(create_req::options::StreamOption::Stream(options)) => {
            let start = options.revision_option.map(Into::into);
            let source = no_all(options.stream_identifier)?;
            (source, start.ok_or_else(no_revision)?, None)
        }
        Some(create_req::options::StreamOption::All(options)) => {
            let start = options.all_option.ok_or_else(no_position)?;
            (Source::All, start.into(), filter(options.filter_option)?)
        }
    };
    let key = key(source, options.group_name)?;
    let strategy = match settings.consumer_strategy.as_str() {
        "" => settings.named_consumer_strategy().into(),
        name => Strategy::named(name)
            .ok_or_else(|| failed(&key, &format!("Consumer strategy {name} does not exist.")))?,
    };
    let settings = Settings {
        named_consumer_strategy: strategy,
        filter,
        ..(&settings).into()
    };
    Ok((key, settings, start))
}

pub(super) fn update(
    request: wire::UpdateReq,
) -> Result<(GroupKey, Settings, StartPosition), Status> {
    let options = request.options.ok_or_else(no_options)?;
    let settings = options.settings.ok_or_else(no_settings)?;
    let (source, start) = match options.stream_option {
        None => {
            #[expect(deprecated, reason = "the official client of Node uses it")]
            let (stream, revision) = (options.stream_identifier, settings.revision);
            (no_all(stream)?, StartPosition::of_old_client(revision))
        }
        Some(update_req::options::StreamOption::Stream(options)) => {
            let start = options.revision_option.map(Into::into);
            (
                no_all(options.stream_identifier)?,
                start.ok_or_else(no_revision)?,
            )
        }
        Some(update_req::options::StreamOption::All(options)) => {
            let start = options.all_option.ok_or_else(no_position)?;
            (Source::All, start.into())
        }
    };
    Ok((key(source, options.group_name)?, (&settings).into(), start))
}

impl StartPosition {
    /// Old clients have no `stream_option`. They use the largest revision for the end.
    fn of_old_client(revision: u64) -> Self {
        match revision {
            u64::MAX => Self::End,
            revision => Self::At(revision),
        }
    }
}

fn no_settings() -> Status {
    invalid("`settings` is missing")
}

fn no_revision() -> Status {
    invalid("`revision_option` is missing")
}

fn no_position() -> Status {
    invalid("`all_option` is missing")
}

fn no_all(identifier: Option<StreamIdentifier>) -> Result<Source, Status> {
    match stream(identifier)? {
        Source::All => Err(invalid(
            "a group on `$all` is created with the option `all`",
        )),
        source @ Source::Stream(_) => Ok(source),
    }
}

fn filter(option: Option<FilterOption>) -> Result<Option<FilterSettings>, Status> {
    let options = match option {
        Some(FilterOption::Filter(options)) => options,
        Some(FilterOption::NoFilter(_)) => return Ok(None),
        None => return Err(invalid("`filter_option` is missing")),
    };
    let interval = interval(&options)?;
    let (by_event_type, expression) = match options.filter {
        None => return Err(invalid("`filter` is missing")),
        Some(filter_options::Filter::StreamIdentifier(expression)) => (false, expression),
        Some(filter_options::Filter::EventType(expression)) => (true, expression),
    };
    let filter = FilterSettings {
        by_event_type,
        regex: expression.regex,
        prefixes: expression.prefix,
        interval,
    };
    filter.filter().map_err(invalid)?;
    Ok(Some(filter))
}

fn interval(options: &FilterOptions) -> Result<u64, Status> {
    let window = match options.window {
        Some(filter_options::Window::Max(max)) if max > 0 => max,
        Some(filter_options::Window::Max(_) | filter_options::Window::Count(_)) | None => {
            DEFAULT_WINDOW
        }
    };
    match u64::from(window) * u64::from(options.checkpoint_interval_multiplier) {
        0 => Err(invalid("`checkpointIntervalMultiplier` is 0")),
        interval => Ok(interval),
    }
}

fn milliseconds(ticks: i64) -> i32 {
    i32::try_from(ticks / TICKS_PER_MILLISECOND).unwrap_or(i32::MAX)
}

/// Conversions for the messages of one of the two requests.
macro_rules! settings_from {
    ($request:ident) => {
        impl From<wire::$request::ConsumerStrategy> for Strategy {
            fn from(strategy: wire::$request::ConsumerStrategy) -> Self {
                match strategy {
                    wire::$request::ConsumerStrategy::DispatchToSingle => Self::DispatchToSingle,
                    wire::$request::ConsumerStrategy::RoundRobin => Self::RoundRobin,
                    wire::$request::ConsumerStrategy::Pinned => Self::Pinned,
                }
            }
        }

        impl From<$request::stream_options::RevisionOption> for StartPosition {
            fn from(option: $request::stream_options::RevisionOption) -> Self {
                match option {
                    $request::stream_options::RevisionOption::Revision(at) => Self::At(at),
                    $request::stream_options::RevisionOption::Start(_) => Self::Beginning,
                    $request::stream_options::RevisionOption::End(_) => Self::End,
                }
            }
        }

        impl From<$request::all_options::AllOption> for StartPosition {
            fn from(option: $request::all_options::AllOption) -> Self {
                match option {
                    $request::all_options::AllOption::Position(at) => Self::At(at.commit_position),
                    $request::all_options::AllOption::Start(_) => Self::Beginning,
                    $request::all_options::AllOption::End(_) => Self::End,
                }
            }
        }

        impl From<&$request::Settings> for Settings {
            fn from(settings: &$request::Settings) -> Self {
                use $request::settings::{CheckpointAfter, MessageTimeout};
                Self {
                    resolve_link_tos: settings.resolve_links,
                    extra_statistics: settings.extra_statistics,
                    start_from: StartFrom::Start,
                    message_timeout: match settings.message_timeout {
                        Some(MessageTimeout::MessageTimeoutTicks(ticks)) => milliseconds(ticks),
                        Some(MessageTimeout::MessageTimeoutMs(timeout)) => timeout,
                        None => 0,
                    },
                    max_retry_count: settings.max_retry_count,
                    live_buffer_size: settings.live_buffer_size,
                    history_buffer_size: settings.history_buffer_size,
                    read_batch_size: settings.read_batch_size,
                    check_point_after: match settings.checkpoint_after {
                        Some(CheckpointAfter::CheckpointAfterTicks(ticks)) => milliseconds(ticks),
                        Some(CheckpointAfter::CheckpointAfterMs(after)) => after,
                        None => 0,
                    },
                    min_check_point_count: settings.min_checkpoint_count,
                    max_check_point_count: settings.max_checkpoint_count,
                    max_subscriber_count: settings.max_subscriber_count,
                    named_consumer_strategy: settings.named_consumer_strategy().into(),
                    filter: None,
                }
            }
        }
    };
}

settings_from!(create_req);
settings_from!(update_req);
