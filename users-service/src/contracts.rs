//! The contracts of all messages for programs in any language: a JSON Schema of each, and one `AsyncAPI` document.
//!
//! Invariant: everything here is generated from the types of the messages, and is the same in `docs/` and over HTTP.

pub mod api;
mod asyncapi;

pub use asyncapi::asyncapi;

use crate::command::queue::{command_schemas, reply_schema};
use crate::integration::message;
use crate::message_schema::MessageSchema;
use serde_json::Value;
use std::collections::BTreeMap;

/// The schemas by name: `user.created.v1` describes the body of a message, `user.created.v1.headers` its headers.
#[must_use]
pub fn schemas() -> BTreeMap<String, Value> {
    let mut schemas = BTreeMap::new();
    let all = message::schemas().into_iter().chain(command_schemas());
    for MessageSchema {
        name,
        headers,
        body,
        ..
    } in all.chain([reply_schema()])
    {
        schemas.insert(name.to_owned(), body);
        if let Some(headers) = headers {
            schemas.insert(headers_of(name), headers);
        }
    }
    schemas
}

/// The name of the schema of the headers of this message.
fn headers_of(message: &str) -> String {
    format!("{message}.headers")
}

/// The text of a schema or of the document, with its members in alphabetical order.
#[must_use]
pub fn text(document: &Value) -> String {
    let mut document = document.clone();
    // Whether a map keeps the order of its members depends on how the crate was built.
    document.sort_all_objects();
    format!("{document:#}\n")
}
