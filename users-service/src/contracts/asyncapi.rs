//! The `AsyncAPI` 3 document: which messages are sent and received, where, and what is in them.

use super::{headers_of, schemas};
use crate::command::queue::{COMMANDS, command_schemas, reply_schema};
use crate::integration::consumer::READERS;
use crate::integration::message;
use crate::message_schema::MessageSchema;
use serde_json::{Map, Value, json};

/// The channel of commands, and the one of replies.
const TAKEN: &str = "commands";
const REPLIES: &str = "replies";

const DESCRIPTION: &str = "Events of users, each about one user, in order per user, delivered at least once; and commands. \
    docs/EVENTS.md and docs/COMMANDS.md explain what the schemas cannot say.";

/// The document.
#[must_use]
pub fn asyncapi() -> Value {
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "users-service",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {},
        "operations": {},
        "components": {"messages": messages(), "schemas": components()},
    });
    for event in message::schemas() {
        document["channels"][event.name] = event_channel(&event);
        document["operations"][format!("send.{}", event.name)] = json!({
            "action": "send",
            "channel": channel(event.name),
            "messages": [message_of(event.name, event.name)],
            "bindings": {"amqp": {"deliveryMode": 2, "mandatory": true, "bindingVersion": "0.3.0"}},
        });
    }
    document["channels"][TAKEN] = command_channel();
    document["channels"][REPLIES] = reply_channel();
    document["operations"]["execute"] = execute();
    document
}

fn event_channel(event: &MessageSchema) -> Value {
    json!({
        "address": event.name,
        "summary": event.summary,
        "messages": listed([event.name]),
        "bindings": {"amqp": {
            "is": "routingKey",
            "exchange": {"name": READERS, "type": "topic", "durable": true, "autoDelete": false},
            "bindingVersion": "0.3.0",
        }},
    })
}

fn command_channel() -> Value {
    json!({
        "address": COMMANDS,
        "summary": "Takes commands.",
        "messages": listed(command_schemas().iter().map(|command| command.name)),
        "bindings": {"amqp": {
            "is": "queue",
            "queue": {"name": COMMANDS, "durable": true, "exclusive": false, "autoDelete": false},
            "bindingVersion": "0.3.0",
        }},
    })
}

fn reply_channel() -> Value {
    json!({
        "address": null,
        "summary": "The queue that the property `reply-to` of a command names.",
        "messages": listed([reply_schema().name]),
    })
}

fn execute() -> Value {
    let commands = command_schemas();
    let commands = commands.iter();
    json!({
        "action": "receive",
        "channel": channel(TAKEN),
        "messages": commands.map(|command| message_of(TAKEN, command.name)).collect::<Vec<_>>(),
        "reply": {
            "address": {
                "description": "The AMQP property `reply-to`. The property `correlation-id` stands in the reply.",
                "location": "$message.header#/reply-to",
            },
            "channel": channel(REPLIES),
            "messages": [message_of(REPLIES, reply_schema().name)],
        },
    })
}

fn messages() -> Value {
    let all = message::schemas().into_iter().chain(command_schemas());
    let all = all.chain([reply_schema()]);
    let component = |schema: MessageSchema| {
        let mut component = json!({
            "name": schema.name,
            "summary": schema.summary,
            "contentType": "application/json",
            "payload": schema_component(schema.name),
        });
        if schema.headers.is_some() {
            component["headers"] = schema_component(&headers_of(schema.name));
        }
        (schema.name.to_owned(), component)
    };
    Value::Object(all.map(component).collect())
}

/// The schemas without the member that names their draft, which is the draft of the whole document.
fn components() -> Value {
    let component = |(name, mut schema): (String, Value)| {
        if let Some(members) = schema.as_object_mut() {
            members.remove("$schema");
        }
        (name, schema)
    };
    Value::Object(schemas().into_iter().map(component).collect())
}

/// The messages of a channel, by name.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> Value {
    let component = |name: &str| {
        let reference = reference(&format!("components/messages/{name}"));
        (name.to_owned(), reference)
    };
    let messages: Map<_, _> = names.into_iter().map(component).collect();
    Value::Object(messages)
}

fn channel(name: &str) -> Value {
    reference(&format!("channels/{name}"))
}

fn message_of(channel: &str, message: &str) -> Value {
    reference(&format!("channels/{channel}/messages/{message}"))
}

fn schema_component(name: &str) -> Value {
    reference(&format!("components/schemas/{name}"))
}

fn reference(place: &str) -> Value {
    json!({ "$ref": format!("#/{place}") })
}
