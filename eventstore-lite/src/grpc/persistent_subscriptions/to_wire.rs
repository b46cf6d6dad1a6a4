//! Converts events and the state of groups to protocol messages.

use std::collections::HashMap;

use crate::access::Caller;
use crate::event::{Position, RecordedEvent, content_type};
use crate::event_id;
use crate::persistent::{Client, GroupKey, Info, Message};
use crate::wire::persistent_subscriptions as wire;
use crate::wire::persistent_subscriptions::read_resp::{
    Content, ReadEvent, SubscriptionConfirmation, read_event,
};
use crate::wire::persistent_subscriptions::subscription_info::ConnectionInfo;
use crate::wire::shared::StreamIdentifier;

/// Clients find the group that they joined in this id.
pub(super) fn confirmation(key: &GroupKey) -> wire::ReadResp {
    let subscription_id = format!("{}::{}", key.source.as_str(), key.group);
    answer(Content::SubscriptionConfirmation(
        SubscriptionConfirmation { subscription_id },
    ))
}

/// The event in the form that the caller may see.
pub(super) fn event(message: &Message, caller: Caller, structured_ids: bool) -> wire::ReadResp {
    let resolved = &message.event;
    let is_hidden = caller.hides_target(resolved);
    let seen = resolved.event.as_ref().filter(|_| !is_hidden);
    let recorded = |event: &RecordedEvent| recorded(event, resolved.position, structured_ids);
    answer(Content::Event(ReadEvent {
        event: seen.map(recorded),
        link: resolved.link.as_ref().map(recorded),
        position: Some(read_event::Position::CommitPosition(resolved.position.0)),
        count: Some(read_event::Count::RetryCount(message.retry_count)),
    }))
}

fn answer(content: Content) -> wire::ReadResp {
    wire::ReadResp {
        content: Some(content),
    }
}

/// An event with the position of the record that was read. For a resolved link that is the position of the link, as
/// in the real server.
fn recorded(
    event: &RecordedEvent,
    Position(position): Position,
    structured_ids: bool,
) -> read_event::RecordedEvent {
    let content_type = content_type(event.is_json);
    read_event::RecordedEvent {
        id: Some(event_id::write(event.id, structured_ids)),
        stream_identifier: Some(StreamIdentifier {
            stream_name: event.stream.as_str().to_owned().into(),
        }),
        stream_revision: event.revision,
        prepare_position: position,
        commit_position: position,
        metadata: HashMap::from([
            ("type".to_owned(), event.event_type.clone()),
            ("content-type".to_owned(), content_type.to_owned()),
            ("created".to_owned(), event.created.to_string()),
        ]),
        custom_metadata: event.metadata.clone(),
        data: event.data.clone(),
    }
}

pub(super) fn info(info: Info) -> wire::SubscriptionInfo {
    let (source, settings) = (&info.key.source, &info.settings);
    let place = |place: Option<u64>| place.map(|place| source.place(place)).unwrap_or_default();
    let live = u64::try_from(settings.live_buffer_size).unwrap_or(0);
    wire::SubscriptionInfo {
        event_source: source.as_str().to_owned(),
        status: if info.is_live { "Live" } else { "Behind" }.to_owned(),
        connections: info.clients.iter().map(connection).collect(),
        average_per_second: number(info.settled / info.age.as_secs().max(1)),
        total_items: info.settled.cast_signed(),
        count_since_last_measurement: 0,
        last_checkpointed_event_position: place(info.checkpoint),
        last_known_event_position: place(info.last_known),
        resolve_link_tos: settings.resolve_link_tos,
        start_from: settings.start_from.text(source),
        message_timeout_milliseconds: settings.message_timeout,
        extra_statistics: settings.extra_statistics,
        max_retry_count: settings.max_retry_count,
        live_buffer_size: settings.live_buffer_size,
        buffer_size: settings.history_buffer_size,
        read_batch_size: settings.read_batch_size,
        check_point_after_milliseconds: settings.check_point_after,
        min_check_point_count: settings.min_check_point_count,
        max_check_point_count: settings.max_check_point_count,
        read_buffer_count: number(info.waiting),
        // The real server counts the last live events here, including those that it has delivered.
        live_buffer_count: info.live.min(live).cast_signed(),
        retry_buffer_count: number(info.waiting_retries),
        total_in_flight_messages: number(info.in_flight),
        outstanding_messages_count: number(info.in_flight),
        named_consumer_strategy: settings.named_consumer_strategy.name().to_owned(),
        max_subscriber_count: settings.max_subscriber_count,
        parked_message_count: info.parked.cast_signed(),
        group_name: info.key.group,
    }
}

fn connection(client: &Client) -> ConnectionInfo {
    ConnectionInfo {
        from: client.peer.address.clone(),
        username: "anonymous".to_owned(),
        average_items_per_second: 0,
        total_items: client.settled.cast_signed(),
        count_since_last_measurement: 0,
        observed_measurements: Vec::new(),
        available_slots: number(client.buffer_size.saturating_sub(client.in_flight)),
        in_flight_messages: number(client.in_flight),
        connection_name: client.peer.connection_name.clone(),
    }
}

/// The number, limited to the range of the protocol.
fn number<N: TryInto<i32>>(number: N) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}
