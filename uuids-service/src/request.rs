//! Validation of a request for ids and the forms of its answer, for HTTP and RabbitMQ alike.

use crate::{
    domain::{
        id::Id,
        issuer::{Issued, Refusal},
    },
    ids::Ids,
};

/// The most ids that one request may ask for.
const MAX_COUNT: u16 = 10_000;
/// The digits of the greatest id.
const MOST_DIGITS: usize = 19;

/// Why a request got no ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("`count` must be a number between 1 and {MAX_COUNT}")]
    Count,
    #[error("`after` must be an id")]
    After,
    #[error(transparent)]
    Issuer(#[from] Refusal),
}

/// What the client can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Send another value in this field.
    ChangeField(&'static str),
    /// Retry after this many seconds by this process's clock; at least 1.
    RetryAfter(u64),
}

impl RequestError {
    pub(crate) fn remedy(self) -> Remedy {
        match self {
            Self::Count => Remedy::ChangeField("count"),
            Self::After | Self::Issuer(Refusal::AfterTooFar) => Remedy::ChangeField("after"),
            Self::Issuer(Refusal::OutOfWindow) => Remedy::RetryAfter(1),
            Self::Issuer(Refusal::AheadOfTheClock { by_ms }) => {
                Remedy::RetryAfter(by_ms.div_ceil(1_000).max(1))
            }
        }
    }
}

/// Takes `count` ids above the id `after`.
pub(crate) async fn take(
    ids: &Ids,
    count: u64,
    after: Option<u64>,
) -> Result<Issued, RequestError> {
    let count = u16::try_from(count).map_err(|_| RequestError::Count)?;
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(RequestError::Count);
    }
    let after = after.map(|number| Id::parse(number).ok_or(RequestError::After));
    Ok(ids.take(count, after.transpose()?).await?)
}

/// `{"data":["1509466340062097408",…]}`: decimal text, because some clients lose digits of a JSON number this large.
pub(crate) fn json(issued: &Issued) -> Vec<u8> {
    written(issued, r#"{"data":[""#, r#"",""#, r#""]}"#)
}

/// One id a line.
pub(crate) fn lines(issued: &Issued) -> Vec<u8> {
    written(issued, "", "\n", "\n")
}

/// The ids in decimal, with text before, between and after them. An answer has at least one id.
fn written(issued: &Issued, before: &str, between: &str, after: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(issued.count() * (MOST_DIGITS + between.len()) + 16);
    let mut digits = itoa::Buffer::new();
    body.extend_from_slice(before.as_bytes());
    for (place, id) in issued.ids().enumerate() {
        if place > 0 {
            body.extend_from_slice(between.as_bytes());
        }
        body.extend_from_slice(digits.format(id.number()).as_bytes());
    }
    body.extend_from_slice(after.as_bytes());
    body
}
