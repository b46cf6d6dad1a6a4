//! The members of a JSON object, and every error in them.
//!
//! Invariant: an error names a member and a rule but never repeats a value.

use std::{collections::BTreeMap, fmt};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::{InputError, Problem, problem_types};

/// The members of a body, which is a JSON object. A caller takes the members that it knows and then calls
/// [`finish`](Self::finish), so that one answer lists everything that is wrong.
#[derive(Debug)]
pub struct Fields {
    members: BTreeMap<String, Member>,
    errors: Vec<InputError>,
    /// Whether an error may repeat the name of an unknown member.
    names_unknown: bool,
}

#[derive(Debug)]
enum Member {
    Text(String),
    /// A whole number.
    Number(u64),
    Null,
    Other,
    Repeated,
}

impl Fields {
    /// Parses the bytes of a body.
    ///
    /// # Errors
    /// 400 if they are not JSON in UTF-8, 422 if the JSON is not an object.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        // Checked first, because the parser does not check all parts of a body that it skips.
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("the body is not UTF-8"))?;
        match serde_json::from_str(text) {
            Ok(Members(members)) => Ok(Self {
                members,
                errors: Vec::new(),
                names_unknown: true,
            }),
            Err(error) if error.is_data() && is_well_formed(text) => {
                let error = InputError::body("the body must be a JSON object");
                Err(Problem::invalid_input(vec![error]))
            }
            Err(_) => Err(malformed("the body is not well-formed JSON")),
        }
    }

    /// Does not repeat the names of unknown members in errors. They are the sender's text, which may be personal, and an error
    /// may go to other places than the answer to the sender.
    #[must_use]
    pub fn hiding_unknown_names(self) -> Self {
        Self {
            names_unknown: false,
            ..self
        }
    }

    /// Takes a member that must be there. `None` means that an error was noted.
    pub fn required<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(String) -> Result<T, E>,
    ) -> Option<T> {
        self.require(name);
        self.optional(name, parse)
    }

    /// Takes a member that must be there: a text, or a whole number, which is parsed like its digits. `None` means that an
    /// error was noted.
    pub fn required_text_or_number<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(String) -> Result<T, E>,
    ) -> Option<T> {
        self.require(name);
        self.optional_text_or_number(name, parse)
    }

    /// Takes a member that may be omitted: a text, or a whole number, which is parsed like its digits. `None` means that it was
    /// omitted, or that an error was noted.
    pub fn optional_text_or_number<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(String) -> Result<T, E>,
    ) -> Option<T> {
        if let Some(member) = self.members.get_mut(name) {
            member.number_to_text();
        }
        self.optional(name, parse)
    }

    fn require(&mut self, name: &str) {
        if !self.members.contains_key(name) {
            self.note(name, "is missing");
        }
    }

    /// Takes a member that may be omitted. `None` means that it was omitted, or that an error was noted.
    pub fn optional<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(String) -> Result<T, E>,
    ) -> Option<T> {
        let rule = match self.members.remove(name)? {
            Member::Text(text) => match parse(text) {
                Ok(value) => return Some(value),
                Err(rule) => rule.to_string(),
            },
            Member::Null => "must be a string, not null".to_owned(),
            Member::Number(_) | Member::Other => "must be a string".to_owned(),
            Member::Repeated => "is given twice".to_owned(),
        };
        self.note(name, &rule);
        None
    }

    /// The value that was made of the taken members.
    ///
    /// # Errors
    /// 422 with all errors, if a member is wrong, missing, or unknown.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Problem> {
        for name in std::mem::take(&mut self.members).into_keys() {
            if self.names_unknown {
                self.note(&name, "is unknown");
            } else {
                self.errors.push(InputError::body("a member is unknown"));
            }
        }
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            Some(_) | None => Err(Problem::invalid_input(self.errors)),
        }
    }

    fn note(&mut self, name: &str, rule: &str) {
        self.errors.push(InputError::member(name, rule));
    }
}

fn is_well_formed(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn malformed(detail: &'static str) -> Problem {
    Problem::new(problem_types::MALFORMED_BODY, detail)
}

/// The members of a JSON object. (A [`Value`] would keep only the last of two members with one name.)
struct Members(BTreeMap<String, Member>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = object.next_entry::<String, Value>()? {
            let member = members.entry(name);
            member
                .and_modify(|member| *member = Member::Repeated)
                .or_insert_with(|| value.into());
        }
        Ok(Members(members))
    }
}

impl From<Value> for Member {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            Value::Null => Self::Null,
            Value::Number(number) => number.as_u64().map_or(Self::Other, Self::Number),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => Self::Other,
        }
    }
}

impl Member {
    fn number_to_text(&mut self) {
        if let Self::Number(number) = self {
            *self = Self::Text(number.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The members of the error answer: `errors`.
    fn errors(body: &str) -> Value {
        let text = |text: String| Ok::<_, &str>(text);
        let read = Fields::parse(body.as_bytes()).and_then(|mut fields| {
            let name = fields.required("name", text);
            let note = fields.optional("note", text);
            fields.finish(Some((name, note)))
        });
        let problem: Value = serde_json::from_slice(&read.unwrap_err().body()).unwrap();
        problem["errors"].clone()
    }

    #[test]
    fn every_error_is_listed_with_a_pointer_to_its_member() {
        let error = |pointer, detail| json!({"pointer": pointer, "detail": detail});
        assert_eq!(
            errors(r#"{"note": 1, "a/b~c d\u00e9": 2, "note\u0000": {"deep": [null]}}"#),
            json!([
                error("#/name", "`name` is missing"),
                error("#/note", "`note` must be a string"),
                error("#/a~1b~0c%20d%C3%A9", "`a/b~c dé` is unknown"),
                error("#/note%00", "`note\0` is unknown"),
            ])
        );
        assert_eq!(
            errors(r#"{"name": "x", "name": "x", "other": 1, "other": 2}"#),
            json!([
                error("#/name", "`name` is given twice"),
                error("#/other", "`other` is unknown"),
            ])
        );
        assert_eq!(
            errors("[]"),
            json!([error("#", "the body must be a JSON object")])
        );
    }

    #[test]
    fn the_name_of_an_unknown_member_can_be_hidden() {
        let fields = Fields::parse(br#"{"Ada Lovelace": 1}"#).unwrap();
        let problem = fields.hiding_unknown_names().finish(Some(())).unwrap_err();
        let error = json!({"pointer": "#", "detail": "a member is unknown"});
        assert_eq!(problem.json()["errors"], json!([error]));
        assert!(!problem.json().to_string().contains("Ada"));
    }

    #[test]
    fn a_whole_number_is_parsed_like_its_digits_only_where_that_is_allowed() {
        let read = |body: &str| {
            let mut fields = Fields::parse(body.as_bytes()).unwrap();
            let id = fields.required_text_or_number("id", |text| text.parse::<u64>());
            fields.finish(id)
        };
        for body in [
            r#"{"id": 1509466340062097408}"#,
            r#"{"id": "1509466340062097408"}"#,
        ] {
            assert_eq!(read(body), Ok(1_509_466_340_062_097_408));
        }
        for wrong in [r#"{"id": 1.5}"#, r#"{"id": -1}"#, r#"{"id": 1e3}"#, "{}"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            errors(r#"{"name": 1}"#),
            json!([{"pointer": "#/name", "detail": "`name` must be a string"}])
        );
    }

    #[test]
    fn a_value_without_an_error_is_returned() {
        let mut fields = Fields::parse(br#"{"name":"x"}"#).unwrap();
        let name = fields.required("name", Ok::<_, &str>);
        assert_eq!(fields.finish(name).unwrap(), "x");
    }
}
