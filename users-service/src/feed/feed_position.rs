//! A place in the feed, whose text listeners send back as `Last-Event-ID`.

use crate::opaque_text;
use event_streams::Position;
use std::fmt;
use std::str::FromStr;

/// A place in the feed: after the event at this position of the log. `None` is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPosition(pub Option<Position>);

/// The text is not that of a place in the feed of this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAFeedPosition;

impl fmt::Display for FeedPosition {
    /// Letters, digits, `-` and `_`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.0.map(|Position { commit, prepare }| [commit, prepare]);
        f.write_str(&opaque_text::encode(
            position.as_ref().map_or(&[], |numbers| numbers),
        ))
    }
}

impl FromStr for FeedPosition {
    type Err = NotAFeedPosition;

    fn from_str(text: &str) -> Result<Self, NotAFeedPosition> {
        match opaque_text::decode(text).as_deref() {
            Some([]) => Ok(Self(None)),
            Some(&[commit, prepare]) => Ok(Self(Some(Position { commit, prepare }))),
            _ => Err(NotAFeedPosition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

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
