//! A place in the feed, whose text listeners send back as `Last-Event-ID`.

use crate::stored_event::EPOCH;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event_streams::Position;
use std::fmt;
use std::str::FromStr;

/// The layout of the text: this byte, the epoch of the store, and the position in its log, if there is one.
const LAYOUT: u8 = 1;
const START: usize = 1 + 8;
const LENGTH: usize = START + 2 * 8;

/// A place in the feed: after the event at this position of the log. `None` is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPosition(pub Option<Position>);

/// The text is not that of a place in the feed of this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAFeedPosition;

impl fmt::Display for FeedPosition {
    /// Letters, digits, `-` and `_`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![LAYOUT];
        bytes.extend(EPOCH.to_be_bytes());
        if let Some(Position { commit, prepare }) = self.0 {
            bytes.extend(commit.to_be_bytes());
            bytes.extend(prepare.to_be_bytes());
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for FeedPosition {
    type Err = NotAFeedPosition;

    fn from_str(text: &str) -> Result<Self, NotAFeedPosition> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAFeedPosition)?;
        let (start, place) = bytes.split_at_checked(START).ok_or(NotAFeedPosition)?;
        if start[0] != LAYOUT || start[1..] != EPOCH.to_be_bytes() {
            return Err(NotAFeedPosition);
        }
        if place.is_empty() {
            return Ok(Self(None));
        }
        let place: [u8; LENGTH - START] = place.try_into().map_err(|_| NotAFeedPosition)?;
        let [commit, prepare] = [&place[..8], &place[8..]].map(|number| {
            number
                .iter()
                .fold(0, |high, low| high << 8 | u64::from(*low))
        });
        Ok(Self(Some(Position { commit, prepare })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_anything_else_is_refused() {
        let at = |commit, prepare| FeedPosition(Some(Position { commit, prepare }));
        let beginning = FeedPosition(None);
        for position in [at(u64::MAX - 1, 4_710), at(0, 0), beginning] {
            let text = position.to_string();
            assert_eq!(text.parse(), Ok(position));
            assert_eq!(text[1..].parse::<FeedPosition>(), Err(NotAFeedPosition));
        }
        let long = ["A", "_"].map(|digit| digit.repeat(34));
        for wrong in ["", "4711", "ä", &long[0], &long[1], &long[0][..12]] {
            assert_eq!(wrong.parse::<FeedPosition>(), Err(NotAFeedPosition));
        }
    }

    #[test]
    fn a_position_of_another_epoch_is_refused() {
        let beginning = FeedPosition(None);
        let mut bytes = URL_SAFE_NO_PAD.decode(beginning.to_string()).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(&bytes).parse(), Ok(beginning));
        bytes[8] += 1;
        let other = URL_SAFE_NO_PAD.encode(bytes).parse::<FeedPosition>();
        assert_eq!(other, Err(NotAFeedPosition));
    }
}
