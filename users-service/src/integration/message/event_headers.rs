//! The headers of each message: the attributes of CloudEvents 1.0, in the AMQP binding.

use super::IntegrationEvent;
use super::timestamp::rfc3339;
use crate::message_schema::{of_written, user_id};
use crate::trace_parent::of_event;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SPECVERSION: &str = "1.0";
const SOURCE: &str = "users-service";

#[derive(Serialize, JsonSchema)]
pub(super) struct EventHeaders {
    /// The version of CloudEvents.
    #[serde(rename = "cloudEvents:specversion")]
    #[schemars(extend("const" = SPECVERSION))]
    specversion: &'static str,
    /// The id of the event, the same as the AMQP property `message-id`.
    #[serde(rename = "cloudEvents:id")]
    #[schemars(extend("format" = "uuid"))]
    id: String,
    /// The type of the event, the same as the routing key.
    #[serde(rename = "cloudEvents:type")]
    event_type: &'static str,
    /// The service that sends all these messages.
    #[serde(rename = "cloudEvents:source")]
    #[schemars(extend("const" = SOURCE))]
    source: &'static str,
    /// The user.
    #[serde(rename = "cloudEvents:subject")]
    #[schemars(schema_with = "user_id")]
    subject: String,
    /// The revision: the number of the event among the user's events, from 0, without gaps.
    #[serde(rename = "cloudEvents:sequence")]
    #[schemars(extend("pattern" = "^(0|[1-9][0-9]*)$"))]
    sequence: String,
    /// The user. Messages with the same value are in order.
    #[serde(rename = "cloudEvents:partitionkey")]
    #[schemars(schema_with = "user_id")]
    partitionkey: String,
    /// When the event was stored.
    #[serde(rename = "cloudEvents:time")]
    #[schemars(extend("format" = "date-time"))]
    time: String,
    /// The trace of the command (W3C Trace Context). Missing if the event belongs to none.
    #[serde(rename = "cloudEvents:traceparent")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "trace_parent")]
    traceparent: Option<String>,
}

impl EventHeaders {
    pub(super) fn of(event: &IntegrationEvent) -> Self {
        let trace = event.conversation;
        Self {
            specversion: SPECVERSION,
            id: event.id.to_string(),
            event_type: event.change.event_type(),
            source: SOURCE,
            subject: event.user.to_string(),
            sequence: event.revision.to_string(),
            partitionkey: event.user.to_string(),
            time: rfc3339(event.created),
            traceparent: trace.and_then(|trace| of_event(trace, event.id)),
        }
    }

    /// The names and values of the headers.
    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let json = serde_json::to_value(self).expect("a struct of texts always serializes");
        let texts: Result<BTreeMap<String, String>, _> = serde_json::from_value(json);
        texts.expect("every header is a text").into_iter().collect()
    }

    /// The schema of the headers of this type of event.
    pub(super) fn schema(event_type: &'static str) -> Value {
        let title = format!("headers of {event_type}");
        let description = "The attributes of CloudEvents 1.0 in the AMQP binding.";
        let mut schema = of_written::<Self>(&title, description);
        schema["properties"]["cloudEvents:type"]["const"] = json!(event_type);
        schema
    }
}

fn trace_parent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "The trace of the command (W3C Trace Context). Missing if the event belongs to none.",
        "type": "string",
        "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    })
}
