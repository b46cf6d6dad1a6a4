//! Ids over HTTP, used while the broker is unavailable.

use super::over_broker::{INVALID, parse};
use super::{FetchError, IdService};
use crate::domain::UserId;
use anyhow::Context as _;
use futures::future::{BoxFuture, FutureExt as _};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long one request may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// Ids by `GET {url}/?count=N&after=<id>` → `{"data":["…"]}`.
#[derive(Debug)]
pub struct OverHttp {
    client: reqwest::Client,
    url: String,
    /// A file with the access token.
    token: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Ids {
    data: Vec<String>,
}

impl OverHttp {
    /// Requests ids from the service at `url` (`http://127.0.0.1:6000`), and shows it the access token in this file.
    ///
    /// # Errors
    /// If the HTTP client cannot be created, or the URL is invalid.
    pub fn new(url: &str, token: Option<PathBuf>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let url = url.trim_end_matches('/').to_owned();
        client.get(&url).build()?;
        Ok(Self { client, url, token })
    }

    async fn request(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> Result<Vec<UserId>, FetchError> {
        let after = after.map(|id| format!("&after={id}")).unwrap_or_default();
        let url = format!("{}/?count={count}{after}", self.url);
        let mut request = self.client.get(url);
        if let Some(file) = &self.token {
            let text = tokio::fs::read_to_string(file).await;
            let token = Zeroizing::new(text.context("cannot read UUIDS_TOKEN_FILE")?);
            request = request.bearer_auth(token.trim());
        }
        let answer = request.send().await?;
        if answer.status() == INVALID {
            return Err(FetchError::AfterTooFar);
        }
        let ids: Ids = answer.error_for_status()?.json().await?;
        Ok(parse(&ids.data)?)
    }
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            Self::TimedOut
        } else {
            Self::Failed(error.into())
        }
    }
}

impl IdService for OverHttp {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        self.request(count, after).boxed()
    }
}
