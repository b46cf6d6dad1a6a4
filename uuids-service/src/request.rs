//! What may be asked for, whichever way it is asked, and the answer.

use serde::{Serialize, Serializer};

use crate::{
    domain::{
        id::Id,
        issuer::{Issued, Refusal},
    },
    ids::Ids,
};

/// The most ids that one request can have.
const MOST: u16 = 10_000;
/// The digits of the greatest id, its quotation marks and a comma.
const MOST_BYTES_EACH: usize = 19 + 3;

/// Why a request got no ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("`count` must be a number between 1 and {MOST}")]
    Count,
    #[error("`after` must be an id")]
    After,
    #[error(transparent)]
    Issuer(#[from] Refusal),
}

/// What the client can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// Ask for something else in this field.
    Field(&'static str),
    /// Ask again in so many seconds, by this process's clock; at least 1.
    Later(u64),
}

impl Refused {
    pub(crate) fn blame(self) -> Blame {
        match self {
            Self::Count => Blame::Field("count"),
            Self::After | Self::Issuer(Refusal::AfterTooFar) => Blame::Field("after"),
            Self::Issuer(Refusal::OutOfWindow) => Blame::Later(1),
            Self::Issuer(Refusal::AheadOfTheClock { by_ms }) => {
                Blame::Later(by_ms.div_ceil(1_000).max(1))
            }
        }
    }
}

/// `{"data":["1509466340062097408",…]}`: decimal text, as a JSON number of that size is not safe with every client.
#[derive(Serialize)]
struct Answer {
    data: Texts,
}

struct Texts(Issued);

struct Text(Id);

/// Ids for a request of `count` ids above the id `after`, as the body of an answer.
pub(crate) async fn take(ids: &Ids, count: u64, after: Option<u64>) -> Result<Vec<u8>, Refused> {
    let count = u16::try_from(count).map_err(|_| Refused::Count)?;
    if !(1..=MOST).contains(&count) {
        return Err(Refused::Count);
    }
    let after = after.map(|number| Id::parse(number).ok_or(Refused::After));
    let issued = ids.take(count, after.transpose()?).await?;
    Ok(answer(issued))
}

fn answer(issued: Issued) -> Vec<u8> {
    let mut body = Vec::with_capacity(issued.count() * MOST_BYTES_EACH + r#"{"data":[]}"#.len());
    let data = Texts(issued);
    serde_json::to_writer(&mut body, &Answer { data }).expect("a Vec takes all that is written");
    body
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.ids().map(Text))
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.number())
    }
}
