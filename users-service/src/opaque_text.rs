//! The layout of opaque texts that callers send back: a version, a place in the feed, a consistency token. Each has the epoch of
//! the store, and some numbers.

use crate::stored_event::EPOCH;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The first byte. Another layout will have another one.
const LAYOUT: u8 = 1;
const NUMBER: usize = 8;

/// The text of these numbers: letters, digits, `-` and `_`.
pub(crate) fn encode(numbers: &[u64]) -> String {
    let mut bytes = vec![LAYOUT];
    for number in [&[EPOCH], numbers].concat() {
        bytes.extend(number.to_be_bytes());
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The numbers of this text. `None` if it is none of this store.
pub(crate) fn decode(text: &str) -> Option<Vec<u64>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (numbers, []) = bytes.strip_prefix(&[LAYOUT])?.as_chunks::<NUMBER>() else {
        return None;
    };
    let mut numbers = numbers.iter().map(|number| u64::from_be_bytes(*number));
    (numbers.next()? == EPOCH).then(|| numbers.collect())
}
