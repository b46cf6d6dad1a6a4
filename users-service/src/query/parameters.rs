//! The parameters of the list.

use super::cursor::{CursorError, Cursors};
use crate::domain::{Personal, UserId};
use crate::integration::message::millis_of;
use crate::read_model::{NameFilter, PREFIX_LENGTH, PagePlace, PageRequest};
use serde::Deserialize;
use std::ops::RangeInclusive;
use web::{InputError, Problem};

const DEFAULT_LIMIT: usize = 100;
pub(super) const MAX_LIMIT: usize = 1_000;
/// The lengths of names in filters, in characters of the folded name. No name is longer.
const NAME_LENGTH: RangeInclusive<usize> = 1..=400;

/// `GET /?limit=&cursor=&username=&prefix=&family_name=&created_after=`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    limit: Option<String>,
    cursor: Option<String>,
    username: Option<String>,
    prefix: Option<String>,
    family_name: Option<String>,
    created_after: Option<String>,
}

/// The result of reading a parameter.
type Read<T> = Result<T, InputError>;

impl Parameters {
    /// The wanted page.
    ///
    /// # Errors
    /// 422 with every wrong parameter.
    pub(super) fn page(&self, cursors: &Cursors) -> Result<PageRequest, Problem> {
        let (limit, first) = (self.limit(), self.first());
        let page = match &self.cursor {
            Some(cursor) => self.next(cursor, cursors),
            None => first,
        };
        match (page, limit) {
            (Ok(page), Ok(limit)) => Ok(PageRequest {
                limit: limit.unwrap_or(page.limit),
                ..page
            }),
            (page, limit) => {
                let mut errors: Vec<_> = limit.err().into_iter().collect();
                errors.extend(page.err().unwrap_or_default());
                Err(Problem::invalid_input(errors))
            }
        }
    }

    /// The page that a cursor leads to.
    fn next(&self, cursor: &str, cursors: &Cursors) -> Result<PageRequest, Vec<InputError>> {
        let filters = [
            ("username", &self.username),
            ("prefix", &self.prefix),
            ("family_name", &self.family_name),
            ("created_after", &self.created_after),
        ];
        let given = filters.into_iter().filter(|(_, given)| given.is_some());
        let given = given.map(|(name, _)| {
            let rule = format!("`{name}` must be left out, because `cursor` has the filters");
            InputError::parameter(name, rule)
        });
        let mut errors: Vec<_> = given.collect();
        let page = cursors.read(cursor).map_err(|error| {
            let rule = match error {
                CursorError::Unknown => "`cursor` must be the `next` of a previous page",
                CursorError::Expired => "`cursor` has expired; begin with the first page",
            };
            InputError::parameter("cursor", rule)
        });
        match page {
            Ok(page) if errors.is_empty() => Ok(page),
            page => {
                errors.extend(page.err());
                Err(errors)
            }
        }
    }

    /// The first page.
    fn first(&self) -> Result<PageRequest, Vec<InputError>> {
        let username = filter("username", self.username.as_deref(), NAME_LENGTH);
        let prefix = filter("prefix", self.prefix.as_deref(), PREFIX_LENGTH);
        let family_name = filter("family_name", self.family_name.as_deref(), NAME_LENGTH);
        let family_name = family_name.and_then(|name| self.alone(name));
        let after = self.created_after();
        match (username, prefix, family_name, after) {
            (Ok(username), Ok(prefix), Ok(family_name), Ok(after)) => {
                let filters = [
                    username.map(NameFilter::Username),
                    prefix.map(NameFilter::Prefix),
                    family_name.map(NameFilter::FamilyName),
                ];
                Ok(PageRequest {
                    after,
                    filters: filters.into_iter().flatten().collect(),
                    limit: DEFAULT_LIMIT,
                })
            }
            (username, prefix, family_name, after) => {
                let names = [username.err(), prefix.err(), family_name.err()];
                let errors = names.into_iter().chain([after.err()]);
                Err(errors.flatten().collect())
            }
        }
    }

    /// Two filters that many users admit are refused together, because a page would have to look at users of the one until
    /// enough of them admit the other. A username is unique.
    fn alone<T>(&self, family_name: Option<T>) -> Read<Option<T>> {
        let many = self.prefix.is_some() && self.username.is_none();
        if family_name.is_some() && many {
            let rule = "`family_name` cannot be combined with `prefix`";
            return Err(InputError::parameter("family_name", rule));
        }
        Ok(family_name)
    }

    fn limit(&self) -> Read<Option<usize>> {
        let Some(limit) = &self.limit else {
            return Ok(None);
        };
        let limit = limit.parse().ok();
        let limit = limit.filter(|limit| (1..=MAX_LIMIT).contains(limit));
        let rule = || format!("`limit` must be from 1 to {MAX_LIMIT}");
        let limit = limit.ok_or_else(|| InputError::parameter("limit", rule()));
        limit.map(Some)
    }

    /// The place after all users of this time.
    fn created_after(&self) -> Read<Option<PagePlace>> {
        let Some(time) = &self.created_after else {
            return Ok(None);
        };
        let rule = "`created_after` must be a time such as `2026-11-21T02:27:14.123Z`";
        let created = millis_of(time);
        let created = created.ok_or_else(|| InputError::parameter("created_after", rule))?;
        Ok(Some(PagePlace {
            created,
            id: UserId::new(u64::MAX),
        }))
    }
}

/// The folded text of a filter.
fn filter(
    name: &'static str,
    text: Option<&str>,
    length: RangeInclusive<usize>,
) -> Read<Option<Personal<String>>> {
    let Some(text) = text else {
        return Ok(None);
    };
    let folded = Personal::new(text.to_owned()).folded();
    if length.contains(&folded.reveal().chars().count()) {
        return Ok(Some(folded));
    }
    let (min, max) = length.into_inner();
    let rule = format!("`{name}` must have {min} to {max} characters");
    Err(InputError::parameter(name, rule))
}
