//! Validation of a request for ids and the body of its answer, for HTTP and RabbitMQ alike.

use serde::{Serialize, Serializer};

use crate::{
    domain::{
        id::Id,
        issuer::{Issued, Refusal},
    },
    ids::Ids,
};

/// The most ids that one request may ask for.
const MAX_COUNT: u16 = 10_000;
/// The digits of the greatest id, two quotation marks and a comma.
const MAX_BYTES_PER_ID: usize = 19 + 3;

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

/// `{"data":["1509466340062097408",…]}`: decimal text, because some clients lose digits of a JSON number this large.
#[derive(Serialize)]
struct Answer {
    data: IdTexts,
}

struct IdTexts(Issued);

struct IdText(Id);

/// Takes `count` ids above the id `after` and returns the body of the answer.
pub(crate) async fn take(
    ids: &Ids,
    count: u64,
    after: Option<u64>,
) -> Result<Vec<u8>, RequestError> {
    let count = u16::try_from(count).map_err(|_| RequestError::Count)?;
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(RequestError::Count);
    }
    let after = after.map(|number| Id::parse(number).ok_or(RequestError::After));
    let issued = ids.take(count, after.transpose()?).await?;
    Ok(answer(issued))
}

fn answer(issued: Issued) -> Vec<u8> {
    let mut body = Vec::with_capacity(issued.count() * MAX_BYTES_PER_ID + r#"{"data":[]}"#.len());
    let data = IdTexts(issued);
    serde_json::to_writer(&mut body, &Answer { data }).expect("writing to a Vec does not fail");
    body
}

impl Serialize for IdTexts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.ids().map(IdText))
    }
}

impl Serialize for IdText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.number())
    }
}
