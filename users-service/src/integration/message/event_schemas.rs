//! The schemas of the messages, by type.

use super::event_data::{AllNames, ChangedNames, IdData, NamesData};
use super::event_headers::EventHeaders;
use super::{CREATED, DELETED, FENCED, PATCHED};
use crate::message_schema::{MessageSchema, of_written};
use serde_json::Value;

/// The schemas of all messages.
#[must_use]
pub fn schemas() -> Vec<MessageSchema> {
    let schema = |name, summary, body: fn(&str, &str) -> Value| MessageSchema {
        name,
        summary,
        headers: Some(EventHeaders::schema(name)),
        body: body(name, summary),
    };
    vec![
        schema(
            CREATED,
            "A user was created, with all three names, sealed under the user's key.",
            of_written::<NamesData<AllNames<'_>>>,
        ),
        schema(
            PATCHED,
            "Some names of a user changed. They are sealed under the user's key.",
            of_written::<NamesData<ChangedNames<'_>>>,
        ),
        schema(
            DELETED,
            "A user was deleted permanently.",
            of_written::<IdData>,
        ),
        schema(
            FENCED,
            "Nothing that a user sees has changed. The message is sent so that revisions have no gaps.",
            of_written::<IdData>,
        ),
    ]
}
