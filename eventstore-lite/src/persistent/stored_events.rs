//! The events that groups keep in the log, under the names of the real server: their configuration, their
//! checkpoints, and links to parked events. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::settings::{GroupKey, Settings, Source};
use crate::clock;
use crate::event::{LINK, METADATA, NewEvent, RecordedEvent, ResolvedEvent};
use crate::stream_name::StreamName;

const CONFIGURATION: &str = "$persistentSubscriptionConfig";
const CONFIGURED: &str = "$PersistentConfig";
const CHECKPOINTED: &str = "$SubscriptionCheckpoint";
const VERSION: &str = "2";
/// Only the last configuration and the last checkpoint count.
const KEEP_TWO: &[u8] = br#"{"$maxCount":2}"#;
/// The maximum stored length of a client's reason to park an event, in bytes.
const LONGEST_REASON: usize = 8 * 1024;

/// The stream with the configuration of all groups.
pub(super) fn configuration_stream() -> StreamName {
    StreamName::stored(CONFIGURATION)
}

pub(super) fn checkpoint_stream(key: &GroupKey) -> StreamName {
    stream(key, "checkpoint")
}

pub(super) fn parked_stream(key: &GroupKey) -> StreamName {
    stream(key, "parked")
}

fn stream(key: &GroupKey, what: &str) -> StreamName {
    let (source, group) = (key.source.as_str(), &key.group);
    StreamName::stored(&format!("$persistentsubscription-{source}::{group}-{what}"))
}

/// The configuration of all groups.
#[derive(Serialize, Deserialize)]
struct Configuration {
    version: String,
    entries: Vec<Box<RawValue>>,
}

/// A group in the configuration. The original text is kept, because it may contain more than this version knows.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: GroupKey,
    /// `None` if this version does not understand them.
    pub(super) settings: Option<Settings>,
    text: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct EntryKey {
    stream: String,
    group: String,
}

#[derive(Serialize)]
struct EntryText<'a> {
    #[serde(flatten)]
    key: EntryKey,
    #[serde(flatten)]
    settings: &'a Settings,
}

impl Entry {
    pub(super) fn new(key: GroupKey, settings: Settings) -> Result<Self, serde_json::Error> {
        let text = EntryText {
            key: EntryKey {
                stream: key.source.as_str().to_owned(),
                group: key.group.clone(),
            },
            settings: &settings,
        };
        Ok(Self {
            text: serde_json::value::to_raw_value(&text)?,
            key,
            settings: Some(settings),
        })
    }

    fn parse(text: Box<RawValue>) -> Result<Self, serde_json::Error> {
        let EntryKey { stream, group } = serde_json::from_str(text.get())?;
        let source = Source::named(&stream);
        Ok(Self {
            key: GroupKey { source, group },
            settings: serde_json::from_str(text.get()).ok(),
            text,
        })
    }
}

pub(super) fn configuration_event(entries: &[Entry]) -> Result<NewEvent, serde_json::Error> {
    let configuration = Configuration {
        version: VERSION.to_owned(),
        entries: entries.iter().map(|entry| entry.text.clone()).collect(),
    };
    Ok(json(CONFIGURED, serde_json::to_vec(&configuration)?))
}

/// The groups, or `None` if this is not a configuration of this version.
pub(super) fn parse_configuration(data: &[u8]) -> Option<Vec<Entry>> {
    let configuration: Configuration = serde_json::from_slice(data).ok()?;
    let entries = configuration.entries.into_iter().map(Entry::parse);
    let entries = entries.collect::<Result<_, _>>().ok();
    entries.filter(|_| configuration.version == VERSION)
}

pub(super) fn checkpoint_event(source: &Source, place: u64) -> NewEvent {
    let text = serde_json::Value::String(source.place(place));
    json(CHECKPOINTED, text.to_string().into_bytes())
}

pub(super) fn parse_checkpoint(source: &Source, data: &[u8]) -> Option<u64> {
    let text: String = serde_json::from_slice(data).ok()?;
    source.parse_place(&text)
}

pub(super) fn keep_two_events() -> NewEvent {
    json(METADATA, KEEP_TWO.to_vec())
}

/// A replayed event that is not settled, with everything that is needed to park it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replayed {
    /// The revision at which it was parked.
    revision: u64,
    /// The id under which it is parked again. It makes sure that this happens only once.
    id: Uuid,
    data: String,
    metadata: String,
}

/// The record of a parked event that is replayed. Only links have one, because groups park only links.
pub(super) fn replayed(revision: u64, event: &ResolvedEvent) -> Option<Replayed> {
    let parked = event.link.as_ref().or(event.event.as_ref())?;
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok();
    (parked.event_type == LINK).then_some(())?;
    Some(Replayed {
        revision,
        id: Uuid::new_v4(),
        data: text(&parked.data)?,
        metadata: text(&parked.metadata)?,
    })
}

impl Replayed {
    /// The link that parks it again.
    pub(super) fn link(&self) -> NewEvent {
        link(
            self.id,
            self.data.clone().into(),
            self.metadata.clone().into(),
        )
    }
}

/// The metadata of the stream of parked events.
#[derive(Serialize, Deserialize)]
struct ParkedMetadata {
    #[serde(rename = "$tb")]
    truncate_before: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replayed: Vec<Replayed>,
}

/// Metadata that truncates the stream of parked events before a revision, and records the replayed events.
pub(super) fn parked_metadata(
    revision: u64,
    replayed: &BTreeMap<u64, Replayed>,
) -> Result<NewEvent, serde_json::Error> {
    let metadata = ParkedMetadata {
        truncate_before: revision,
        replayed: replayed.values().cloned().collect(),
    };
    Ok(json(METADATA, serde_json::to_vec(&metadata)?))
}

/// The replayed events in metadata of [`parked_metadata`]; none in other metadata.
pub(super) fn parse_replayed(data: &[u8]) -> BTreeMap<u64, Replayed> {
    let metadata = serde_json::from_slice::<ParkedMetadata>(data);
    let replayed = metadata.map_or_else(|_| Vec::new(), |metadata| metadata.replayed);
    let by_revision = |replayed: Replayed| (replayed.revision, replayed);
    replayed.into_iter().map(by_revision).collect()
}

/// Why and when an event was parked. A number of 0 is omitted, as in the real server.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parked<'a> {
    added: String,
    reason: &'a str,
    #[serde(skip_serializing_if = "is_first")]
    subscription_event_number: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_first(number: &u64) -> bool {
    *number == 0
}

/// A link that parks an event: to the event itself, or to the target of its link if that is gone. `now` is in ticks.
pub(super) fn parked(
    event: &ResolvedEvent,
    reason: &str,
    now: i64,
) -> Result<NewEvent, serde_json::Error> {
    let data = match (&event.event, &event.link) {
        (Some(event), _) => Bytes::from(format!("{}@{}", event.revision, event.stream.as_str())),
        (None, link) => {
            let target = link.as_ref().and_then(RecordedEvent::target);
            let text = target.map(|(revision, stream)| format!("{revision}@{}", stream.as_str()));
            text.unwrap_or_default().into()
        }
    };
    let read: Option<&RecordedEvent> = event.link.as_ref().or(event.event.as_ref());
    let parked = Parked {
        added: clock::rfc3339(now).unwrap_or_default(),
        reason: &reason[..reason.floor_char_boundary(LONGEST_REASON)],
        subscription_event_number: read.map_or(0, |read| read.revision),
    };
    let metadata = serde_json::to_vec_pretty(&parked)?.into();
    Ok(link(Uuid::new_v4(), data, metadata))
}

fn link(id: Uuid, data: Bytes, metadata: Bytes) -> NewEvent {
    NewEvent {
        id,
        event_type: LINK.to_owned(),
        is_json: false,
        data,
        metadata,
    }
}

fn json(event_type: &str, data: Vec<u8>) -> NewEvent {
    NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.to_owned(),
        is_json: true,
        data: data.into(),
        metadata: Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;

    fn record(event_type: &str, data: &str) -> RecordedEvent {
        RecordedEvent {
            position: Position::START,
            stream: StreamName::stored("parked"),
            revision: 4,
            id: Uuid::nil(),
            created: 0,
            event_type: event_type.to_owned(),
            is_json: false,
            data: data.to_owned().into(),
            metadata: "{}".into(),
        }
    }

    #[test]
    fn the_beginning_of_a_long_reason_to_park_an_event_is_kept() {
        let event = ResolvedEvent {
            position: Position::START,
            event: Some(record("happened", "")),
            link: None,
        };
        let parked = parked(&event, &"é".repeat(LONGEST_REASON), 0).unwrap();
        assert!((LONGEST_REASON..LONGEST_REASON + 200).contains(&parked.metadata.len()));
        assert_eq!(&parked.data[..], b"4@parked");
    }

    #[test]
    fn replayed_events_are_read_as_they_were_written() {
        let event = ResolvedEvent {
            position: Position::START,
            event: None,
            link: Some(record(LINK, "0@orders")),
        };
        let named = BTreeMap::from([(4, replayed(4, &event).unwrap())]);
        let written = parked_metadata(5, &named).unwrap();
        assert_eq!(parse_replayed(&written.data), named);
        assert_eq!(&named[&4].link().data[..], b"0@orders");
        for other in ["", "[]", "{\"$tb\":5}", "{\"$tb\":9223372036854775807}"] {
            assert!(parse_replayed(other.as_bytes()).is_empty(), "{other}");
        }
    }
}
