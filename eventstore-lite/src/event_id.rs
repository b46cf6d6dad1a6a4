//! Ids of events as they stand on the wire.

use ::uuid::Uuid;

use crate::wire::shared::{self, uuid};

/// The id, if it is there and is one.
pub(crate) fn parse(id: &shared::Uuid) -> Option<Uuid> {
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

/// As a client wants it: as two halves, or as text.
pub(crate) fn write(id: Uuid, structured: bool) -> shared::Uuid {
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
