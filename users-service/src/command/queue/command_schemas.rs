//! The schemas of the commands of other programs, and of the replies.
//!
//! The parser of commands lists every wrong member, which one that is derived from a type cannot. So these schemas are written
//! down, and tests compare them with the parser.

use super::command_text::{CREATE, DELETE, PATCH};
use crate::command::command_answer;
use crate::domain::NameField;
use crate::message_schema::MessageSchema;
use serde_json::{Value, json};

/// The schemas of the commands that the queue takes.
#[must_use]
pub fn command_schemas() -> Vec<MessageSchema> {
    let names = NameField::ALL.map(NameField::as_str);
    vec![
        command(CREATE, "Creates a user.", &names),
        command(
            PATCH,
            "Changes the names that it has, and no others.",
            &["id"],
        ),
        command(DELETE, "Deletes a user permanently.", &["id"]),
    ]
}

/// The schema of the replies.
#[must_use]
pub fn reply_schema() -> MessageSchema {
    let name = "CommandReply";
    let summary = "The outcome of a command, with the status and the problem that HTTP has for it.";
    MessageSchema {
        name,
        summary,
        headers: None,
        body: command_answer::schema(name, summary),
    }
}

fn command(name: &'static str, summary: &'static str, required: &[&str]) -> MessageSchema {
    let mut members = json!({ "id": user_id() });
    if name != DELETE {
        members[NameField::Username.as_str()] = username();
        for field in [NameField::GivenName, NameField::FamilyName] {
            members[field.as_str()] = given_or_family_name();
        }
    }
    let data = object(&members, required);
    let members = json!({"command": {"const": name}, "data": data});
    let mut body = object(&members, &["command", "data"]);
    body["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    body["title"] = json!(name);
    body["description"] = json!(summary);
    MessageSchema {
        name,
        summary,
        headers: None,
        body,
    }
}

fn object(members: &Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": members,
        "required": required,
        "additionalProperties": false,
    })
}

fn user_id() -> Value {
    json!({
        "description": "The id of the user, below 2^63, as a text or as a number. (Numbers above 2^53 are not exact in JavaScript.) A new user gets another one if it is missing.",
        "anyOf": [
            {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"},
            {"type": "integer", "minimum": 1, "maximum": i64::MAX},
        ],
    })
}

/// The schema says less than the rules, which count the characters after folding and judge each of them.
fn username() -> Value {
    json!({
        "description": "The unique name: 3 to 64 characters after NFKC_Casefold. docs/API.md has all rules.",
        "type": "string",
        "minLength": 1,
    })
}

fn given_or_family_name() -> Value {
    json!({
        "description": "1 to 100 characters. docs/API.md has all rules.",
        "type": "string",
        "minLength": 1,
        "maxLength": 100,
    })
}

#[cfg(test)]
mod tests {
    use super::command_schemas;
    use crate::command::queue::command_text::CommandText;
    use serde_json::{Value, json};

    /// Whether the parser takes a message with these data.
    fn is_taken(command: &str, data: &Value) -> bool {
        let text = json!({"command": command, "data": data}).to_string();
        CommandText::parse(text.as_bytes()).is_ok_and(|text| text.command().is_ok())
    }

    /// A value that the parser takes for this member.
    fn value(member: &str) -> Value {
        if member == "id" {
            json!("7")
        } else {
            json!("Ada")
        }
    }

    #[test]
    fn the_parser_takes_the_members_of_the_schema_and_needs_those_that_it_requires() {
        for schema in command_schemas() {
            let (command, data) = (schema.name, &schema.body["properties"]["data"]);
            let members = data["properties"].as_object().unwrap();
            let all = members.keys().map(|name| (name.clone(), value(name)));
            let all: Value = all.collect::<serde_json::Map<_, _>>().into();
            assert!(is_taken(command, &all), "{command} {all}");
            for member in members.keys() {
                let required = data["required"]
                    .as_array()
                    .unwrap()
                    .contains(&json!(member));
                let mut without = all.clone();
                without.as_object_mut().unwrap().remove(member);
                assert_eq!(is_taken(command, &without), !required, "{command} {member}");
                let mut removed = all.clone();
                removed[member] = Value::Null;
                assert!(!is_taken(command, &removed), "{command} {member}");
            }
            let mut more = all.clone();
            more["age"] = json!("7");
            assert!(!is_taken(command, &more), "{command}");
        }
    }

    /// The schema of this member of `PatchUser`.
    fn schema_of(member: &str) -> Value {
        let patch = command_schemas().swap_remove(1);
        patch.body["properties"]["data"]["properties"][member].clone()
    }

    #[test]
    fn the_parser_takes_the_ids_and_the_lengths_of_the_schema_and_no_others() {
        let id = |id: Value| is_taken("PatchUser", &json!({ "id": id }));
        let numbers = &schema_of("id")["anyOf"][1];
        let limit = |limit: &str| numbers[limit].as_u64().unwrap();
        let (min, max) = (limit("minimum"), limit("maximum"));
        assert!(id(json!(min)) && id(json!(max)) && id(json!(max.to_string())));
        assert!(!id(json!(min - 1)) && !id(json!(max + 1)) && !id(json!("07")));
        for field in ["given_name", "family_name"] {
            let name = |length: u64| {
                let name = "a".repeat(length.try_into().unwrap());
                is_taken("PatchUser", &json!({"id": 7, field: name}))
            };
            let schema = schema_of(field);
            let limit = |limit: &str| schema[limit].as_u64().unwrap();
            let (min, max) = (limit("minLength"), limit("maxLength"));
            assert!(name(min) && name(max) && !name(min - 1) && !name(max + 1));
        }
    }
}
