//! Generates messages of the right type with random content, and damages some of them.

use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use crate::support::dynamic::Method;

/// The maximum depth of nested messages.
const DEEPEST: usize = 7;
const TEXTS: [&str; 14] = [
    "",
    "s",
    "t",
    "$all",
    "$$",
    "$$s",
    "$s",
    "type",
    "content-type",
    "application/json",
    "0@s",
    "(a*)*$",
    "\u{0}",
    "00000000-0000-0000-0000-000000000001",
];
const BYTES: [&[u8]; 8] = [
    b"",
    b"s",
    b"t",
    b"$$s",
    b"\xff\xfe",
    b"{\"$maxCount\":1}",
    b"0@s",
    b"{\"$tb\":-1}",
];
const NUMBERS: [u64; 9] = [0, 1, 2, 7, 64, 128, i64::MAX as u64, u64::MAX - 1, u64::MAX];

/// One of ten messages is random bytes, and two are damaged.
pub(super) fn message(method: &Method, rng: &mut SmallRng) -> Vec<u8> {
    match rng.random_range(0..10) {
        0 => noise(rng),
        1 | 2 => damaged(random(&method.input(), DEEPEST, rng).encode_to_vec(), rng),
        _ => random(&method.input(), DEEPEST, rng).encode_to_vec(),
    }
}

fn noise(rng: &mut SmallRng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..200)];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn damaged(mut bytes: Vec<u8>, rng: &mut SmallRng) -> Vec<u8> {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            break;
        }
        let place = rng.random_range(0..bytes.len());
        match rng.random_range(0..3) {
            0 => bytes[place] = rng.random(),
            1 => bytes.truncate(place),
            _ => bytes.insert(place, rng.random()),
        }
    }
    bytes
}

fn random(message: &MessageDescriptor, depth: usize, rng: &mut SmallRng) -> DynamicMessage {
    let mut random = DynamicMessage::new(message.clone());
    for field in message.fields() {
        if depth > 0 && rng.random_bool(0.85) {
            random.set_field(&field, content(&field, depth - 1, rng));
        }
    }
    random
}

fn content(field: &FieldDescriptor, depth: usize, rng: &mut SmallRng) -> Value {
    if field.is_map() {
        let entries = (0..rng.random_range(0..4)).map(|_| {
            let (key, value) = (text(rng), text(rng));
            (MapKey::String(key), Value::String(value))
        });
        Value::Map(entries.collect())
    } else if field.is_list() {
        let values = (0..rng.random_range(0..4)).map(|_| value(&field.kind(), depth, rng));
        Value::List(values.collect())
    } else {
        value(&field.kind(), depth, rng)
    }
}

fn text(rng: &mut SmallRng) -> String {
    (*TEXTS.choose(rng).unwrap()).to_owned()
}

#[expect(clippy::cast_possible_truncation, reason = "any number will do")]
fn value(kind: &Kind, depth: usize, rng: &mut SmallRng) -> Value {
    let number = *NUMBERS.choose(rng).unwrap();
    match kind {
        Kind::Message(message) => Value::Message(random(message, depth, rng)),
        Kind::Enum(_) => Value::EnumNumber((number % 9) as i32),
        Kind::Bool => Value::Bool(rng.random()),
        Kind::String => Value::String(text(rng)),
        Kind::Bytes => Value::Bytes((*BYTES.choose(rng).unwrap()).into()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number.cast_signed()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number),
        Kind::Double => Value::F64(f64::NAN),
        Kind::Float => Value::F32(f32::NAN),
    }
}
