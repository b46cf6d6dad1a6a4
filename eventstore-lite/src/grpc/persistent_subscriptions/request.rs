//! Validates requests of persistent subscriptions.

use tonic::Status;

use crate::grpc::status::invalid;
use crate::persistent::{GroupKey, Source};
use crate::stream_name::StreamName;
use crate::wire::persistent_subscriptions as wire;
use crate::wire::persistent_subscriptions::{
    delete_req, get_info_req, list_req, read_req, replay_parked_req,
};
use crate::wire::shared::StreamIdentifier;

/// The maximum length of a group name, in bytes.
const LONGEST_GROUP: usize = 1024;
/// The maximum buffer size of a client.
const LARGEST_BUFFER: usize = 10_000;

/// A request to join a group.
pub(super) struct Join {
    pub(super) key: GroupKey,
    pub(super) buffer_size: usize,
    pub(super) structured_ids: bool,
}

pub(super) fn key(source: Source, group: String) -> Result<GroupKey, Status> {
    if group.is_empty() {
        return Err(invalid("`group_name` is empty"));
    }
    if group.len() > LONGEST_GROUP {
        return Err(invalid(format!(
            "`group_name` is longer than {LONGEST_GROUP} bytes"
        )));
    }
    Ok(GroupKey { source, group })
}

pub(super) fn stream(identifier: Option<StreamIdentifier>) -> Result<Source, Status> {
    let identifier = identifier.ok_or_else(|| invalid("`stream_identifier` is missing"))?;
    let name = StreamName::parse(&identifier.stream_name)?;
    Ok(Source::named(name.as_str()))
}

pub(super) fn no_options() -> Status {
    invalid("`options` is missing")
}

fn no_stream() -> Status {
    invalid("`stream_option` is missing")
}

pub(super) fn join(options: read_req::Options) -> Result<Join, Status> {
    let source = match options.stream_option.ok_or_else(no_stream)? {
        read_req::options::StreamOption::StreamIdentifier(name) => stream(Some(name))?,
        read_req::options::StreamOption::All(_) => Source::All,
    };
    let ids = options.uuid_option.and_then(|option| option.content);
    let ids = ids.ok_or_else(|| invalid("`uuid_option` is missing"))?;
    let buffer_size = usize::try_from(options.buffer_size).ok();
    let buffer_size = buffer_size.filter(|size| *size > 0);
    let buffer_size = buffer_size.ok_or_else(|| invalid("`buffer_size` must be greater than 0"))?;
    Ok(Join {
        key: key(source, options.group_name)?,
        buffer_size: buffer_size.min(LARGEST_BUFFER),
        structured_ids: matches!(ids, read_req::options::uuid_option::Content::Structured(_)),
    })
}

pub(super) fn delete(request: wire::DeleteReq) -> Result<GroupKey, Status> {
    let options = request.options.ok_or_else(no_options)?;
    let source = match options.stream_option.ok_or_else(no_stream)? {
        delete_req::options::StreamOption::StreamIdentifier(name) => stream(Some(name))?,
        delete_req::options::StreamOption::All(_) => Source::All,
    };
    key(source, options.group_name)
}

pub(super) fn get_info(request: wire::GetInfoReq) -> Result<GroupKey, Status> {
    let options = request.options.ok_or_else(no_options)?;
    let source = match options.stream_option.ok_or_else(no_stream)? {
        get_info_req::options::StreamOption::StreamIdentifier(name) => stream(Some(name))?,
        get_info_req::options::StreamOption::All(_) => Source::All,
    };
    key(source, options.group_name)
}

/// The group, and the revision in its parked stream at which the replay stops.
pub(super) fn replay_parked(
    request: wire::ReplayParkedReq,
) -> Result<(GroupKey, Option<i64>), Status> {
    let options = request.options.ok_or_else(no_options)?;
    let source = match options.stream_option.ok_or_else(no_stream)? {
        replay_parked_req::options::StreamOption::StreamIdentifier(name) => stream(Some(name))?,
        replay_parked_req::options::StreamOption::All(_) => Source::All,
    };
    let stop_at = match options.stop_at_option {
        Some(replay_parked_req::options::StopAtOption::StopAt(revision)) => Some(revision),
        Some(replay_parked_req::options::StopAtOption::NoLimit(_)) => None,
        None => return Err(invalid("`stop_at_option` is missing")),
    };
    Ok((key(source, options.group_name)?, stop_at))
}

/// The stream whose groups are listed, or `None` for all groups.
pub(super) fn list(request: wire::ListReq) -> Result<Option<Source>, Status> {
    let options = request.options.ok_or_else(no_options)?;
    match options.list_option {
        Some(list_req::options::ListOption::ListAllSubscriptions(_)) => Ok(None),
        Some(list_req::options::ListOption::ListForStream(option)) => {
            match option.stream_option.ok_or_else(no_stream)? {
                list_req::stream_option::StreamOption::Stream(name) => stream(Some(name)).map(Some),
                list_req::stream_option::StreamOption::All(_) => Ok(Some(Source::All)),
            }
        }
        None => Err(invalid("`list_option` is missing")),
    }
}
