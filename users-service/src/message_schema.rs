//! The JSON Schema of one type of message, generated from the types that the message is written with.
//!
//! The schemas are of draft 7, because `AsyncAPI` 3 and every validator know it, and refer to nothing outside themselves.

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// The schema of one type of message.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageSchema {
    /// The type of the message, such as `user.created.v1`.
    pub name: &'static str,
    /// What the message says, in one sentence.
    pub summary: &'static str,
    /// The headers, if the message has any that are part of its contract.
    pub headers: Option<Value>,
    /// The body.
    pub body: Value,
}

/// The schema of everything that is written as a `T`, with a title and a description of its own.
pub(crate) fn of_written<T: JsonSchema>(title: &str, description: &str) -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.contract = Contract::Serialize;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema.insert("description".to_owned(), description.into());
    schema.to_value()
}

/// The id of a user in decimal digits.
pub(crate) fn user_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[1-9][0-9]{0,18}$"})
}
