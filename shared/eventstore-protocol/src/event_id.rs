//! Event ids in their wire format.

use ::uuid::Uuid;

use crate::shared::{self, uuid};

/// Parses an id; `None` if it is missing or its text is not a UUID.
#[must_use]
pub fn parse(id: &shared::Uuid) -> Option<Uuid> {
    match id.value.as_ref()? {
        uuid::Value::String(text) => Uuid::parse_str(text).ok(),
        uuid::Value::Structured(halves) => {
            let (most, least) = (halves.most_significant_bits, halves.least_significant_bits);
            Some(Uuid::from_u64_pair(
                most.cast_unsigned(),
                least.cast_unsigned(),
            ))
        }
    }
}

/// Writes an id as two halves if `structured`, and otherwise as text.
#[must_use]
pub fn write(id: Uuid, structured: bool) -> shared::Uuid {
    let (most, least) = id.as_u64_pair();
    let value = if structured {
        uuid::Value::Structured(uuid::Structured {
            most_significant_bits: most.cast_signed(),
            least_significant_bits: least.cast_signed(),
        })
    } else {
        uuid::Value::String(id.to_string())
    };
    shared::Uuid { value: Some(value) }
}
