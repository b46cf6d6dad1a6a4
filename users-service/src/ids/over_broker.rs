//! Ids over RabbitMQ: services meet on the bus.

use super::IdService;
use crate::domain::UserId;
use anyhow::{Context as _, bail};
use futures::future::{BoxFuture, FutureExt as _};
use messaging::RpcClient;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long one request may take.
const WITHIN: Duration = Duration::from_millis(500);
/// How long this way is not tried after it failed, so that not every command pays for it.
const AVOIDED: Duration = Duration::from_secs(1);

/// RPC on the queue `uuids`: `{"count":N,"after":"<id>"?}` → `{"data":["…"]}` or `{"error":{…}}`.
#[derive(Debug)]
pub struct OverBroker {
    client: RpcClient,
    avoided_until: Mutex<Option<Instant>>,
}

#[derive(Serialize)]
struct Request {
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
    message: String,
}

impl OverBroker {
    /// A way over the client's queue.
    #[must_use]
    pub fn new(client: RpcClient) -> Self {
        Self {
            client,
            avoided_until: Mutex::default(),
        }
    }

    async fn ask(&self, count: usize, after: Option<UserId>) -> anyhow::Result<Vec<UserId>> {
        let after = after.map(|id| id.to_string());
        let request = serde_json::to_vec(&Request { count, after })?;
        let reply = self.client.call(request, WITHIN).await?;
        match serde_json::from_slice(&reply).context("the reply is none")? {
            Reply::Data(ids) => parse(&ids),
            Reply::Error(refusal) => bail!("refused: {}", refusal.message),
        }
    }

    fn avoid(&self, until: Option<Instant>) {
        if let Ok(mut avoided) = self.avoided_until.lock() {
            *avoided = until;
        }
    }

    fn is_avoided(&self) -> bool {
        let until = self.avoided_until.lock().ok().and_then(|until| *until);
        until.is_some_and(|until| Instant::now() < until)
    }
}

impl IdService for OverBroker {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, anyhow::Result<Vec<UserId>>> {
        async move {
            if self.is_avoided() {
                bail!("it failed a moment ago");
            }
            let ids = self.ask(count, after).await;
            self.avoid(ids.is_err().then(|| Instant::now() + AVOIDED));
            ids
        }
        .boxed()
    }
}

pub(super) fn parse(ids: &[String]) -> anyhow::Result<Vec<UserId>> {
    let parse = |id: &String| id.parse().context("an id is none");
    ids.iter().map(parse).collect()
}
