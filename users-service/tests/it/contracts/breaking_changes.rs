//! Finds the changes between two `AsyncAPI` documents that break a program of somebody else.
//!
//! What is sent may only become narrower, and keeps its members. What is received may only become wider (ADR 21).

use super::narrower::Comparison;
use serde_json::Value;
use std::collections::BTreeMap;

/// Who writes a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// The service.
    Ours,
    /// Other programs.
    Others,
}

/// Two documents, and what was found.
struct Change<'a> {
    before: &'a Value,
    now: &'a Value,
    breaking: Vec<String>,
}

/// The changes that break a program that was written for the document `before`.
pub(super) fn breaking_changes(before: &Value, now: &Value) -> Vec<String> {
    let breaking = Vec::new();
    let mut change = Change {
        before,
        now,
        breaking,
    };
    for (name, operation) in members(&before["operations"]) {
        match now["operations"].get(name) {
            Some(later) => change.operation(name, operation, later),
            None => change.note(name, "was removed"),
        }
    }
    change.breaking
}

impl Change<'_> {
    fn note(&mut self, place: &str, what: &str) {
        self.breaking.push(format!("{place} {what}"));
    }

    fn operation(&mut self, name: &str, before: &Value, now: &Value) {
        if before["action"] != now["action"] {
            self.note(name, "has another action");
        }
        let writer = if before["action"] == "send" {
            Writer::Ours
        } else {
            Writer::Others
        };
        self.channel_and_messages(name, (before, now), writer);
        match (before.get("reply"), now.get("reply")) {
            (Some(before), Some(now)) => {
                if before["address"]["location"] != now["address"]["location"] {
                    self.note(name, "sends its reply elsewhere");
                }
                let place = format!("reply of {name}");
                self.channel_and_messages(&place, (before, now), Writer::Ours);
            }
            (Some(_), None) => self.note(name, "has no reply any more"),
            (None, _) => {}
        }
    }

    fn channel_and_messages(
        &mut self,
        place: &str,
        (before, now): (&Value, &Value),
        writer: Writer,
    ) {
        let channels = (
            resolved(self.before, &before["channel"]),
            resolved(self.now, &now["channel"]),
        );
        for member in ["address", "bindings"] {
            if channels.0[member] != channels.1[member] {
                self.note(place, &format!("has another {member} of its channel"));
            }
        }
        let (old, new) = (messages(self.before, before), messages(self.now, now));
        for (name, message) in &old {
            match new.get(name) {
                Some(later) => self.message(name, (message, later), writer),
                None => self.note(place, &format!("lost the message {name}")),
            }
        }
        let has_more = new.keys().any(|name| !old.contains_key(name));
        if writer == Writer::Ours && has_more {
            self.note(place, "has a message more, which nobody expects there");
        }
    }

    fn message(&mut self, name: &str, (before, now): (&Value, &Value), writer: Writer) {
        if before["contentType"] != now["contentType"] {
            self.note(name, "has another media type");
        }
        for part in ["payload", "headers"] {
            let old = resolved(self.before, &before[part]);
            let new = resolved(self.now, &now[part]);
            if old.is_null() {
                continue;
            }
            let comparison = match writer {
                Writer::Ours => Comparison::of(new, old).keeping_members(),
                Writer::Others => Comparison::of(old, new),
            };
            let found = comparison.differences();
            self.breaking
                .extend(found.into_iter().map(|what| format!("{name} {part}{what}")));
        }
    }
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// The value that a reference names, over any number of references.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    let Some(pointer) = pointer else { return value };
    let target = document.pointer(pointer).unwrap_or(&Value::Null);
    resolved(document, target)
}

/// The messages of an operation or a reply, by name.
fn messages<'a>(document: &'a Value, of: &'a Value) -> BTreeMap<&'a str, &'a Value> {
    let all = of["messages"].as_array().into_iter().flatten();
    let named = |message: &'a Value| {
        let name = message["$ref"].as_str()?.rsplit('/').next()?;
        Some((name, resolved(document, message)))
    };
    all.filter_map(named).collect()
}
