//! The cursor of a next page: the place of the last user and the filters of the first page, sealed.
//!
//! Invariants: all processes with the same master key read each other's cursors. A cursor shows no name, and ends after an hour.

use crate::clock::Clock;
use crate::domain::{Personal, UserId};
use crate::privacy::cipher::{MasterKey, MessageKey};
use crate::read_model::{NameFilter, PagePlace, PageRequest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a cursor is valid.
pub const VALID: Duration = Duration::from_hours(1);

/// The purpose for which the key is derived from the master key.
const PURPOSE: &str = "cursors";
const PLACE: &[&str] = &["directory"];

/// Writes and reads cursors.
#[derive(Debug, Clone)]
pub struct Cursors {
    key: MessageKey,
    clock: Clock,
}

/// Why a cursor is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CursorError {
    /// This service did not make it.
    Unknown,
    /// It is older than an hour.
    Expired,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct SealedPage {
    made: u64,
    created: u64,
    id: u64,
    limit: usize,
    filters: Vec<SealedFilter>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SealedFilter {
    Username(String),
    Prefix(String),
    FamilyName(String),
}

impl Cursors {
    /// Cursors of the service with this master key.
    #[must_use]
    pub fn new(master: &MasterKey, clock: Clock) -> Self {
        Self {
            key: master.message_key(PURPOSE),
            clock,
        }
    }

    /// The cursor of the page after this place: letters, digits, `-` and `_`.
    pub(super) fn write(&self, request: &PageRequest, place: PagePlace) -> String {
        let content = SealedPage {
            made: self.clock.now(),
            created: place.created,
            id: place.id.number(),
            limit: request.limit,
            filters: request.filters.iter().map(sealed).collect(),
        };
        let content = serde_json::to_vec(&content).map(Zeroizing::new);
        let content = content.expect("numbers and texts always serialize");
        URL_SAFE_NO_PAD.encode(self.key.seal(PLACE, &content))
    }

    /// The page that a cursor leads to.
    pub(super) fn read(&self, cursor: &str) -> Result<PageRequest, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
        let opened = bytes.and_then(|bytes| self.key.open(PLACE, &bytes).ok());
        let content =
            opened.and_then(|content| serde_json::from_slice::<SealedPage>(&content).ok());
        let content = content.ok_or(CursorError::Unknown)?;
        let age = self.clock.now().saturating_sub(content.made);
        if Duration::from_millis(age) > VALID {
            return Err(CursorError::Expired);
        }
        Ok(PageRequest {
            after: Some(PagePlace {
                created: content.created,
                id: UserId::new(content.id),
            }),
            filters: content.filters.into_iter().map(opened_filter).collect(),
            limit: content.limit,
        })
    }
}

fn sealed(filter: &NameFilter) -> SealedFilter {
    match filter {
        NameFilter::Username(name) => SealedFilter::Username(name.reveal().clone()),
        NameFilter::Prefix(beginning) => SealedFilter::Prefix(beginning.reveal().clone()),
        NameFilter::FamilyName(name) => SealedFilter::FamilyName(name.reveal().clone()),
    }
}

fn opened_filter(filter: SealedFilter) -> NameFilter {
    match filter {
        SealedFilter::Username(name) => NameFilter::Username(Personal::new(name)),
        SealedFilter::Prefix(beginning) => NameFilter::Prefix(Personal::new(beginning)),
        SealedFilter::FamilyName(name) => NameFilter::FamilyName(Personal::new(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    fn cursors(digits: &str, now: u64) -> Cursors {
        let master = digits.repeat(32).parse().unwrap();
        Cursors::new(&master, Clock::new(move || now))
    }

    fn request() -> PageRequest {
        let text = |text: &str| Personal::new(text.to_owned());
        PageRequest {
            after: Some(PagePlace {
                created: 5,
                id: UserId::new(7),
            }),
            filters: vec![
                NameFilter::Username(text("lovelace")),
                NameFilter::Prefix(text("love")),
                NameFilter::FamilyName(text("byron")),
            ],
            limit: 10,
        }
    }

    fn written() -> String {
        cursors("01", NOW).write(&request(), request().after.unwrap())
    }

    #[test]
    fn a_cursor_is_read_for_an_hour_by_every_process_with_the_master_key() {
        let last = NOW + u64::try_from(VALID.as_millis()).unwrap();
        for now in [0, NOW, last] {
            assert_eq!(cursors("01", now).read(&written()), Ok(request()));
        }
        let late = cursors("01", last + 1).read(&written());
        assert_eq!(late, Err(CursorError::Expired));
        let other = cursors("02", NOW).read(&written());
        assert_eq!(other, Err(CursorError::Unknown));
    }

    #[test]
    fn a_changed_cursor_is_unknown() {
        let cursor = written();
        for position in 0..cursor.len() {
            let mut forged = cursor.clone();
            let is_a = forged.as_bytes()[position] == b'A';
            forged.replace_range(position..=position, if is_a { "B" } else { "A" });
            let read = cursors("01", NOW).read(&forged);
            // The last character has bits that mean nothing, and are refused if they are set.
            assert_eq!(read, Err(CursorError::Unknown), "{position}");
        }
        for text in ["", "7", "ä"] {
            assert_eq!(cursors("01", NOW).read(text), Err(CursorError::Unknown));
        }
    }

    #[test]
    fn a_cursor_shows_no_name() {
        let bytes = URL_SAFE_NO_PAD.decode(written()).unwrap();
        for name in ["lovelace", "love", "byron"] {
            let name = name.as_bytes();
            assert!(!bytes.windows(name.len()).any(|window| window == name));
        }
    }
}
