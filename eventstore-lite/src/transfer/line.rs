//! One event as one line of JSON. JSON data is kept byte for byte; other data is encoded as base64. Pure.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::remote::RemoteEvent;
use crate::clock;
use crate::event::JSON;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) stream: String,
    /// For people. An import numbers events anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    pub(super) id: Uuid,
    #[serde(rename = "type")]
    pub(super) event_type: String,
    /// For people. The importing server sets its own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    pub(super) content_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<String>,
}

impl Line {
    pub(super) fn new(event: RemoteEvent) -> Self {
        let (data, data_base64) = if event.content_type == JSON {
            written(&event.data)
        } else {
            (None, encoded(&event.data))
        };
        let (metadata, metadata_base64) = written(&event.metadata);
        Self {
            stream: event.stream.as_str().to_owned(),
            revision: Some(event.revision),
            id: event.id,
            event_type: event.event_type,
            created: event.created.and_then(clock::rfc3339),
            content_type: event.content_type,
            data,
            data_base64,
            metadata,
            metadata_base64,
        }
    }

    /// # Errors
    /// If the text is invalid. The error says where.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let line: Self = serde_json::from_str(text)?;
        ensure!(
            !(line.data.is_some() && line.data_base64.is_some()),
            "`data` and `data_base64` exclude each other"
        );
        ensure!(
            !(line.metadata.is_some() && line.metadata_base64.is_some()),
            "`metadata` and `metadata_base64` exclude each other"
        );
        Ok(line)
    }

    /// # Errors
    /// If it is not base64.
    pub(super) fn data(&self) -> Result<Bytes> {
        let bytes = read(self.data.as_deref(), self.data_base64.as_deref());
        bytes.context("`data_base64` is not base64")
    }

    /// # Errors
    /// If it is not base64.
    pub(super) fn metadata(&self) -> Result<Bytes> {
        let bytes = read(self.metadata.as_deref(), self.metadata_base64.as_deref());
        bytes.context("`metadata_base64` is not base64")
    }
}

fn written(bytes: &[u8]) -> (Option<Box<RawValue>>, Option<String>) {
    match on_one_line(bytes) {
        Some(json) => (Some(json), None),
        None => (None, encoded(bytes)),
    }
}

/// The bytes as JSON, if they can be put into a line unchanged.
fn on_one_line(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let json = RawValue::from_string(text.to_owned()).ok()?;
    let is_whole = json.get().len() == text.len() && !text.contains(['\n', '\r']);
    is_whole.then_some(json)
}

fn encoded(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| STANDARD.encode(bytes))
}

fn read(json: Option<&RawValue>, base64: Option<&str>) -> Result<Bytes, base64::DecodeError> {
    match (json, base64) {
        (Some(json), _) => Ok(json.get().to_owned().into()),
        (None, Some(text)) => Ok(STANDARD.decode(text)?.into()),
        (None, None) => Ok(Bytes::new()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream_name::StreamName;

    fn event(content_type: &str, data: Vec<u8>, metadata: Vec<u8>) -> RemoteEvent {
        RemoteEvent {
            stream: StreamName::stored("s"),
            revision: 7,
            id: Uuid::from_u128(1),
            event_type: "happened".to_owned(),
            content_type: content_type.to_owned(),
            created: Some(17_000_000_000_000_001),
            data: data.into(),
            metadata: metadata.into(),
            position: 0,
        }
    }

    #[test]
    fn json_is_kept_unchanged_in_its_line() {
        let event = event(JSON, br#"{"a": 1.50, "a":"\u00e9"}"#.to_vec(), vec![]);
        let text = serde_json::to_string(&Line::new(event)).unwrap();
        assert_eq!(
            text,
            r#"{"stream":"s","revision":7,"id":"00000000-0000-0000-0000-000000000001","type":"happened","#
                .to_owned()
                + r#""created":"2023-11-14T22:13:20.0000001Z","content_type":"application/json","#
                + r#""data":{"a": 1.50, "a":"\u00e9"}}"#
        );
    }

    proptest! {
        #[test]
        fn bytes_survive_an_export_and_an_import(
            is_json: bool,
            data in prop_oneof![any::<Vec<u8>>(), "[ \n\t]?[0-9]{1,3}[ \n]?".prop_map(Vec::from)],
            metadata in prop_oneof![any::<Vec<u8>>(), "[{]\"a\":[ \r]?1[}]".prop_map(Vec::from)],
        ) {
            let content_type = if is_json { JSON } else { "application/octet-stream" };
            let line = Line::new(event(content_type, data.clone(), metadata.clone()));
            let text = serde_json::to_string(&line).unwrap();
            prop_assert!(!text.contains(['\n', '\r']));
            let read = Line::parse(&text).unwrap();
            prop_assert_eq!(&read.content_type, content_type);
            prop_assert_eq!(read.data().unwrap(), data);
            prop_assert_eq!(read.metadata().unwrap(), metadata);
        }
    }
}
