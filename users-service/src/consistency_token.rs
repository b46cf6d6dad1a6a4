//! The token of a command, with which its caller reads its own writes: a query that carries the token waits until the read model
//! has the command.

use crate::domain::UserId;
use crate::opaque_text;
use actix_web::http::header::HeaderName;
use std::fmt;
use std::str::FromStr;

/// The header of commands' answers and of queries.
pub(crate) const CONSISTENCY_TOKEN: HeaderName = HeaderName::from_static("consistency-token");

/// The revision of a deleted user: no event can follow.
pub(crate) const LAST_REVISION: u64 = i64::MAX.cast_unsigned();

/// The command's user, and the revision of the command's last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsistencyToken {
    /// The user.
    pub user: UserId,
    /// The revision that the read model must have of the user's stream.
    pub revision: u64,
}

/// The text is no token of this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAToken;

impl fmt::Display for ConsistencyToken {
    /// Letters, digits, `-` and `_`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [self.user.number(), self.revision];
        f.write_str(&opaque_text::encode(&numbers))
    }
}

impl FromStr for ConsistencyToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        match opaque_text::decode(text).as_deref() {
            Some(&[user, revision]) => Ok(Self {
                user: UserId::new(user),
                revision,
            }),
            _ => Err(NotAToken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    #[test]
    fn a_token_is_read_as_it_was_written_and_anything_else_is_refused() {
        let token = ConsistencyToken {
            user: UserId::new(1_509_466_340_062_097_408),
            revision: 7,
        };
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token));
        for wrong in ["", "7", "ä", &text[1..], &"A".repeat(34)] {
            assert_eq!(wrong.parse::<ConsistencyToken>(), Err(NotAToken), "{wrong}");
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        bytes[8] += 1;
        let other_epoch = URL_SAFE_NO_PAD.encode(bytes);
        assert_eq!(other_epoch.parse::<ConsistencyToken>(), Err(NotAToken));
    }
}
