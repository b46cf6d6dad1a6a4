//! Compares answers with recordings: messages, codes and trailers exactly, and the texts of errors that have
//! trailers.

use std::fmt::Display;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::names::Names;
use super::scenario::{Answer, BYTES, Scenario};

/// Fields that differ between runs, so the recording omits them: the statistics of persistent subscriptions.
const LEFT_OUT: [&str; 5] = [
    "averagePerSecond",
    "countSinceLastMeasurement",
    "connections",
    "totalItems",
    "observedMeasurements",
];

/// All differences between a recorded scenario and the answers to its steps, for people.
pub(crate) fn compare(scenario: &Scenario, answers: &[Option<Answer>]) -> Vec<String> {
    let mut names = Names::default();
    let mut differences = Vec::new();
    for (number, (step, answer)) in scenario.steps.iter().zip(answers).enumerate() {
        let (Some(recorded), Some(given)) = (step.answer(), answer) else {
            continue;
        };
        let place = format!("{} / step {}", scenario.name, number + 1);
        let found = match_answer(recorded, given, &mut names);
        differences.extend(found.into_iter().map(|d| format!("{place}: {d}")));
    }
    let order = names.first_not_ascending(&scenario.positions_ascending);
    differences.extend(order.map(|d| format!("{}: positions: {d}", scenario.name)));
    differences
}

/// The differences of one answer. Binds the names in it.
pub(crate) fn match_answer(recorded: &Answer, given: &Answer, names: &mut Names) -> Vec<String> {
    let mut comparer = Comparer {
        names,
        differences: Vec::new(),
    };
    comparer.code(recorded, given);
    comparer.list("messages", &recorded.messages, &given.messages);
    comparer.differences
}

/// The expected code. Where the real server threw an exception, this server names the argument.
fn expected_code(code: &str) -> &str {
    if code == "UNKNOWN" {
        "INVALID_ARGUMENT"
    } else {
        code
    }
}

struct Comparer<'a> {
    names: &'a mut Names,
    differences: Vec<String>,
}

impl Comparer<'_> {
    fn differ(&mut self, path: &str, recorded: impl Display, given: impl Display) {
        self.differences
            .push(format!("{path}: recorded {recorded}, got {given}"));
    }

    fn code(&mut self, recorded: &Answer, given: &Answer) {
        let code = recorded.code.as_deref().map(expected_code);
        if code != given.code.as_deref() {
            let (code, got) = (format!("{code:?}"), format!("{:?}", given.code));
            self.differ("code", code, got);
        }
        // Clients also distinguish these errors by their texts. Other texts come from the framework of the real
        // server.
        let has_known_text = !recorded.trailers.is_empty();
        if let (true, Some(text), Some(got)) = (has_known_text, &recorded.message, &given.message)
            && text != got
        {
            self.differ("message", text, got);
        }
        if recorded.trailers != given.trailers {
            let trailers = format!("{:?}", recorded.trailers);
            self.differ("trailers", trailers, format!("{:?}", given.trailers));
        }
    }

    fn list(&mut self, path: &str, recorded: &[Value], given: &[Value]) {
        for index in 0..recorded.len().max(given.len()) {
            let path = format!("{path}[{index}]");
            self.optional(&path, recorded.get(index), given.get(index));
        }
    }

    fn optional(&mut self, path: &str, recorded: Option<&Value>, given: Option<&Value>) {
        match (recorded, given) {
            (Some(recorded), Some(given)) => self.value(path, recorded, given),
            (Some(recorded), None) => self.differ(path, recorded, "nothing"),
            (None, Some(given)) => self.differ(path, "nothing", readable(given)),
            (None, None) => {}
        }
    }

    fn value(&mut self, path: &str, recorded: &Value, given: &Value) {
        match (recorded, given) {
            (Value::String(name), _) if name == "<varies>" => {}
            (Value::Object(recorded), Value::Object(given)) => self.object(path, recorded, given),
            (Value::Array(recorded), Value::Array(given)) => self.list(path, recorded, given),
            (Value::String(pattern), Value::String(text)) => {
                if !self.names.matches(pattern, text) {
                    let pattern = format!("{:?} (names so far: {:?})", pattern, self.names);
                    self.differ(path, pattern, format!("{text:?}"));
                }
            }
            _ if recorded == given => {}
            _ => self.differ(path, recorded, readable(given)),
        }
    }

    fn object(&mut self, path: &str, recorded: &Map<String, Value>, given: &Map<String, Value>) {
        for (key, recorded) in recorded {
            let path = format!("{path}.{key}");
            let given = given.get(key);
            match (recorded, given) {
                (Value::String(pattern), Some(Value::String(encoded)))
                    if BYTES.contains(&key.as_str()) =>
                {
                    let given = Value::String(shorthand(encoded, pattern));
                    self.value(&path, recorded, &given);
                }
                _ => self.optional(&path, Some(recorded), given),
            }
        }
        for (key, given) in given {
            if !recorded.contains_key(key) && !LEFT_OUT.contains(&key.as_str()) {
                self.optional(&format!("{path}.{key}"), None, Some(given));
            }
        }
    }
}

/// Bytes in the shorthand that the recording uses here.
fn shorthand(encoded: &str, like: &str) -> String {
    let bytes = BASE64_STANDARD.decode(encoded).unwrap_or_default();
    if like.starts_with("fill:") && bytes.iter().all(|byte| *byte == b'x') {
        format!("fill:{}", bytes.len())
    } else if like.starts_with("utf8:") {
        format!("utf8:{}", String::from_utf8_lossy(&bytes))
    } else {
        encoded.to_owned()
    }
}

/// An answer for people: with text instead of base64.
fn readable(value: &Value) -> Value {
    let Value::Object(fields) = value else {
        return value.clone();
    };
    let field = |(key, value): (&String, &Value)| {
        let readable = if let (Value::String(encoded), true) = (value, BYTES.contains(&&key[..])) {
            Value::String(shorthand(encoded, "utf8:"))
        } else {
            readable(value)
        };
        (key.clone(), readable)
    };
    Value::Object(fields.iter().map(field).collect())
}
