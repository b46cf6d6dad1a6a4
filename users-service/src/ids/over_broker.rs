//! Ids over RabbitMQ.

use super::{FetchError, IdService};
use crate::domain::UserId;
use anyhow::{Context as _, anyhow};
use futures::future::{BoxFuture, FutureExt as _};
use messaging::{RpcClient, RpcError};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The queue that takes requests for ids.
pub const QUEUE: &str = "uuids";

/// How long one request may take.
pub(super) const TIMEOUT: Duration = Duration::from_millis(500);
/// The status of a refusal of a field. The field is always `after`, because the count is always in range.
pub(super) const INVALID: u16 = 422;

/// Ids by RPC on the queue `uuids`: `{"count":N,"after":"<id>"?}` → `{"data":["…"]}` or `{"error":{…}}`.
#[derive(Debug)]
pub struct OverBroker {
    client: RpcClient,
}

#[derive(Serialize)]
struct IdRequest {
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Data(Vec<String>),
    Error(Refusal),
}

#[derive(Deserialize)]
struct Refusal {
    status: u16,
    message: String,
}

impl OverBroker {
    /// Requests ids from the client's queue.
    #[must_use]
    pub fn new(client: RpcClient) -> Self {
        Self { client }
    }

    async fn request(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> Result<Vec<UserId>, FetchError> {
        let after = after.map(|id| id.to_string());
        let request = serde_json::to_vec(&IdRequest { count, after })
            .context("the request does not serialize")?;
        let reply = self.client.call(request, TIMEOUT).await?;
        match serde_json::from_slice(&reply).context("malformed reply")? {
            Reply::Data(ids) => Ok(parse(&ids)?),
            Reply::Error(Refusal { status, .. }) if status == INVALID => {
                Err(FetchError::AfterTooFar)
            }
            Reply::Error(refusal) => Err(anyhow!("refused: {}", refusal.message).into()),
        }
    }
}

impl From<RpcError> for FetchError {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::TimedOut => Self::TimedOut,
            RpcError::Unavailable(_) | RpcError::Unroutable => Self::Failed(error.into()),
        }
    }
}

impl IdService for OverBroker {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        self.request(count, after).boxed()
    }
}

pub(super) fn parse(ids: &[String]) -> anyhow::Result<Vec<UserId>> {
    let parse = |id: &String| id.parse().context("the reply has a malformed id");
    ids.iter().map(parse).collect()
}
