//! Whether one JSON Schema is narrower than another: every value of the first is a value of the second.
//!
//! It errs on the safe side. A keyword that it does not know, and a difference that it cannot judge, count as differences.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Keywords that restrict nothing.
const ANNOTATIONS: [&str; 4] = ["$schema", "title", "description", "examples"];
/// Keywords that are compared only for equality.
const EQUAL: [&str; 3] = ["pattern", "format", "contentEncoding"];
/// Lower limits, and upper ones.
const LOWER: [&str; 3] = ["minimum", "minLength", "minItems"];
const UPPER: [&str; 3] = ["maximum", "maxLength", "maxItems"];
const OTHERS: [&str; 8] = [
    "type",
    "const",
    "enum",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
];
const TYPES: [&str; 7] = [
    "null", "boolean", "object", "array", "string", "integer", "number",
];

/// Compares a schema that should be narrower with one that should be wider.
#[derive(Clone, Copy)]
pub(super) struct Comparison<'a> {
    narrow: &'a Value,
    wide: &'a Value,
    /// Whether the narrower schema must have all members of the wider one.
    keeps_members: bool,
}

impl<'a> Comparison<'a> {
    pub(super) fn of(narrow: &'a Value, wide: &'a Value) -> Self {
        Self {
            narrow,
            wide,
            keeps_members: false,
        }
    }

    /// Counts a member that only the wider schema has as a difference, although it is optional.
    pub(super) fn keeping_members(self) -> Self {
        let keeps_members = true;
        Self {
            keeps_members,
            ..self
        }
    }

    /// Why the first schema is not narrower. Each text begins with the place, as a JSON pointer.
    pub(super) fn differences(self) -> Vec<String> {
        let mut found = unknown_keywords(self.narrow);
        found.extend(unknown_keywords(self.wide));
        if !found.is_empty() {
            return found;
        }
        match (
            self.narrow["anyOf"].as_array(),
            self.wide["anyOf"].as_array(),
        ) {
            (Some(forms), _) => {
                let forms = forms.iter().enumerate();
                let form =
                    |(number, narrow)| self.with(narrow, self.wide, &format!("/anyOf/{number}"));
                forms.flat_map(form).collect()
            }
            (None, Some(forms)) => {
                let forms = forms.iter().map(|wide| self.with(self.narrow, wide, ""));
                let fewest = forms.min_by_key(Vec::len);
                fewest.unwrap_or_else(|| vec![" has no form".to_owned()])
            }
            (None, None) => self.plain(),
        }
    }

    /// The same comparison of parts at this place.
    fn with(self, narrow: &'a Value, wide: &'a Value, place: &str) -> Vec<String> {
        let part = Self {
            narrow,
            wide,
            ..self
        };
        let found = part.differences().into_iter();
        found.map(|what| format!("{place}{what}")).collect()
    }

    fn plain(self) -> Vec<String> {
        let mut found = Vec::new();
        let mut note = |holds: bool, what: &str| {
            if !holds {
                found.push(format!(" {what}"));
            }
        };
        let (narrow, wide) = (self.narrow, self.wide);
        note(types(narrow).is_subset(&types(wide)), "has other types");
        note(has_its_values(narrow, wide), "has other values");
        for keyword in EQUAL {
            let same = wide[keyword].is_null() || narrow[keyword] == wide[keyword];
            note(same, &format!("has another {keyword}"));
        }
        for keyword in LOWER {
            note(
                limit(narrow, wide, keyword, |a, b| a >= b),
                &format!("has a lower {keyword}"),
            );
        }
        for keyword in UPPER {
            note(
                limit(narrow, wide, keyword, |a, b| a <= b),
                &format!("has a higher {keyword}"),
            );
        }
        found.extend(self.members());
        if let Some(wide) = wide.get("items") {
            match narrow.get("items") {
                Some(narrow) => found.extend(self.with(narrow, wide, "/items")),
                None => found.push(" has any items".to_owned()),
            }
        }
        found
    }

    fn members(self) -> Vec<String> {
        let mut found = Vec::new();
        let (narrow, wide) = (self.narrow, self.wide);
        let (ours, theirs) = (described(narrow), described(wide));
        for (name, member) in &theirs {
            match ours.get(name) {
                Some(ours) => found.extend(self.with(ours, member, &format!("/{name}"))),
                None if self.keeps_members || !is_closed(narrow) => {
                    found.push(format!(
                        "/{name} is not described in the same way on both sides"
                    ));
                }
                None => {}
            }
        }
        let unknown = ours.keys().filter(|name| !theirs.contains_key(*name));
        if is_closed(wide) {
            found.extend(unknown.map(|name| format!("/{name} is refused")));
            if !is_closed(narrow) {
                found.push(" refuses unknown members on one side only".to_owned());
            }
        }
        let needed = required(wide);
        let missing = needed
            .difference(&required(narrow))
            .copied()
            .collect::<Vec<_>>();
        found.extend(
            missing
                .into_iter()
                .map(|name| format!("/{name} is required on one side only")),
        );
        found
    }
}

fn unknown_keywords(schema: &Value) -> Vec<String> {
    let Some(keywords) = schema.as_object() else {
        return vec![" is no object".to_owned()];
    };
    let known = |keyword: &str| {
        [&ANNOTATIONS[..], &EQUAL, &LOWER, &UPPER, &OTHERS]
            .iter()
            .any(|list| list.contains(&keyword))
    };
    let unknown = keywords.keys().filter(|keyword| !known(keyword));
    let mut found: Vec<_> = unknown
        .map(|keyword| format!(" has the keyword {keyword}, which cannot be compared"))
        .collect();
    let beside =
        |keyword: &&String| *keyword != "anyOf" && !ANNOTATIONS.contains(&keyword.as_str());
    if keywords.contains_key("anyOf") && keywords.keys().any(|keyword| beside(&keyword)) {
        found.push(" has keywords beside anyOf, which cannot be compared".to_owned());
    }
    if !matches!(
        schema.get("additionalProperties"),
        None | Some(Value::Bool(_))
    ) {
        found.push(" describes unknown members, which cannot be compared".to_owned());
    }
    found
}

/// The types that the schema allows. A whole number is a number too.
fn types(schema: &Value) -> BTreeSet<&str> {
    let mut types: BTreeSet<&str> = match (&schema["type"], values(schema)) {
        (Value::String(one), _) => [one.as_str()].into(),
        (Value::Array(some), _) => some.iter().filter_map(Value::as_str).collect(),
        (_, Some(values)) => values.iter().map(type_of).collect(),
        (_, None) => TYPES.into(),
    };
    if types.contains("number") {
        types.insert("integer");
    }
    types
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The only values that the schema allows, if it lists them.
fn values(schema: &Value) -> Option<Vec<Value>> {
    if let Some(only) = schema.get("const") {
        return Some(vec![only.clone()]);
    }
    schema["enum"].as_array().cloned()
}

fn has_its_values(narrow: &Value, wide: &Value) -> bool {
    let Some(allowed) = values(wide) else {
        return true;
    };
    values(narrow).is_some_and(|values| values.iter().all(|value| allowed.contains(value)))
}

fn limit(narrow: &Value, wide: &Value, keyword: &str, holds: fn(f64, f64) -> bool) -> bool {
    match (narrow[keyword].as_f64(), wide[keyword].as_f64()) {
        (_, None) => true,
        (Some(narrow), Some(wide)) => holds(narrow, wide),
        (None, Some(_)) => false,
    }
}

fn described(schema: &Value) -> BTreeMap<&String, &Value> {
    let members = schema["properties"].as_object();
    members.into_iter().flatten().collect()
}

fn is_closed(schema: &Value) -> bool {
    schema["additionalProperties"] == json!(false)
}

fn required(schema: &Value) -> BTreeSet<&str> {
    let names = schema["required"].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).collect()
}
