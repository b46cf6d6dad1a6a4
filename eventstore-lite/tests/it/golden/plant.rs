//! The control: recordings with one altered place. The comparer must report each of them.

use serde_json::Value;

use super::scenario::{Answer, Scenario};

/// A way to alter a recording; `None` if it does not apply.
type Plant = fn(&Scenario) -> Option<Scenario>;

pub(crate) const PLANTS: [(&str, Plant); 6] = [
    ("another revision", |s| alter_answer(s, other_revision)),
    ("another value", |s| alter_answer(s, other_value)),
    ("a message more", |s| alter_answer(s, message_more)),
    ("another text", |s| alter_answer(s, other_text)),
    ("a trailer less", |s| alter_answer(s, trailer_less)),
    ("positions in another order", swapped_positions),
];

/// Alters the first answer to which the change applies.
fn alter_answer(scenario: &Scenario, change: fn(&mut Answer) -> bool) -> Option<Scenario> {
    let mut altered = scenario.clone();
    let mut answers = altered.steps.iter_mut().filter_map(|s| s.answer_mut());
    answers.any(change).then_some(altered)
}

fn other_revision(answer: &mut Answer) -> bool {
    let is_revision = |key: &str| key.ends_with("Revision");
    answer
        .messages
        .iter_mut()
        .any(|m| alter(m, "", is_revision))
}

fn other_value(answer: &mut Answer) -> bool {
    answer.messages.iter_mut().any(|m| alter(m, "", |_| true))
}

fn message_more(answer: &mut Answer) -> bool {
    let last = answer.messages.last().cloned();
    answer.messages.extend(last.clone());
    last.is_some()
}

fn other_text(answer: &mut Answer) -> bool {
    let known = answer
        .message
        .as_mut()
        .filter(|_| !answer.trailers.is_empty());
    known.map(|text| text.push('.')).is_some()
}

fn trailer_less(answer: &mut Answer) -> bool {
    answer.trailers.pop_last().is_some()
}

fn swapped_positions(scenario: &Scenario) -> Option<Scenario> {
    let mut altered = scenario.clone();
    let order = &mut altered.positions_ascending;
    (order.len() > 1).then(|| order.swap(0, 1))?;
    Some(altered)
}

/// Changes the first wanted text with this key that is not a name.
fn alter(value: &mut Value, key: &str, wanted: fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) if wanted(key) && !text.contains('<') => {
            text.push('7');
            true
        }
        Value::Array(items) => items.iter_mut().any(|item| alter(item, key, wanted)),
        Value::Object(fields) => fields
            .iter_mut()
            .any(|(key, value)| alter(value, key, wanted)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
