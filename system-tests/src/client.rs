//! A client of the users service for tests. Its answers keep the status, some headers and the body.

use crate::wait;
use anyhow::{Context, Result, ensure};
use reqwest::header::{self, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::Duration;

/// A complete HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The media type; empty if the answer has none.
    pub content_type: String,
    /// The header `Location`.
    pub location: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body; null if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// Sends a request and reads its answer.
    pub async fn to(request: RequestBuilder) -> Result<Self> {
        let response = request.send().await?;
        let header = |name| {
            let value = response.headers().get(name)?;
            Some(value.to_str().ok()?.to_owned())
        };
        Ok(Self {
            status: response.status().as_u16(),
            content_type: header(header::CONTENT_TYPE).unwrap_or_default(),
            location: header(header::LOCATION),
            headers: response.headers().clone(),
            body: serde_json::from_slice(&response.bytes().await?).unwrap_or_default(),
        })
    }

    /// The text of a header, if the answer has it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The last part of the problem's type, such as `username-taken`; empty if the answer is no problem.
    #[must_use]
    pub fn problem(&self) -> &str {
        let uri = self.body["type"].as_str().unwrap_or_default();
        uri.strip_prefix("urn:problem-type:").unwrap_or(uri)
    }

    /// The user id in the body.
    pub fn id(&self) -> Result<String> {
        let id = self.body["id"].as_str();
        Ok(id.with_context(|| format!("no id in {self:?}"))?.to_owned())
    }

    /// Fails unless the answer has this status.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{status} expected, got {self:?}");
        Ok(self)
    }
}

/// The body of a POST for a user with this username; the other names are derived from it.
#[must_use]
pub fn user(username: &str) -> Value {
    json!({"username": username, "given_name": format!("Given {username}"), "family_name": format!("Family {username}")})
}

/// The id of a user in an answer or in the list.
#[must_use]
pub fn id(user: &Value) -> &str {
    user["id"].as_str().unwrap_or("no id")
}

/// An HTTP client that gives up on a silent server.
pub fn http() -> Result<Client> {
    Ok(Client::builder()
        .timeout(Duration::from_secs(30))
        .no_proxy()
        .build()?)
}

/// A client of the users service.
#[derive(Debug, Clone)]
pub struct Users {
    http: Client,
    base: String,
}

impl Users {
    /// A client of the service at `base`, `http://host:port`.
    pub fn new(base: &str) -> Result<Self> {
        Ok(Self {
            http: http()?,
            base: base.to_owned(),
        })
    }

    /// Builds a request to a path of the service without sending it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// `POST /`
    pub async fn create(&self, user: &Value) -> Result<Answer> {
        Answer::to(self.request(Method::POST, "/").json(user)).await
    }

    /// `POST /` that must succeed; returns the user in the answer.
    pub async fn created(&self, username: &str) -> Result<Value> {
        Ok(self.create(&user(username)).await?.expect(201)?.body)
    }

    /// `GET /{id}`
    pub async fn get(&self, id: &str) -> Result<Answer> {
        Answer::to(self.request(Method::GET, &format!("/{id}"))).await
    }

    /// `PATCH /{id}`
    pub async fn patch(&self, id: &str, changes: &Value) -> Result<Answer> {
        Answer::to(self.request(Method::PATCH, &format!("/{id}")).json(changes)).await
    }

    /// `DELETE /{id}`
    pub async fn delete(&self, id: &str) -> Result<Answer> {
        Answer::to(self.request(Method::DELETE, &format!("/{id}"))).await
    }

    /// Waits until the list has exactly these users in this order.
    pub async fn until_listed(&self, expected: &[Value]) -> Result<()> {
        wait::until("the list is as expected", || async {
            let listed = self.list(2).await?;
            ensure!(listed == expected, "{listed:?} instead of {expected:?}");
            Ok(())
        })
        .await
    }

    /// Reads the whole list `GET /?limit=&cursor=` in pages of `limit` users.
    pub async fn list(&self, limit: usize) -> Result<Vec<Value>> {
        self.list_of(limit, "").await
    }

    /// Reads the list of the users that a filter admits (`&username=ada`) in pages of `limit` users.
    pub async fn list_of(&self, limit: usize, filter: &str) -> Result<Vec<Value>> {
        let mut users = Vec::new();
        let mut path = format!("/?limit={limit}{filter}");
        loop {
            let page = Answer::to(self.request(Method::GET, &path)).await?;
            let mut page = page.expect(200)?.body;
            let rows = page["data"].as_array_mut().context("a page has data")?;
            ensure!(
                rows.len() <= limit,
                "a page has {} rows, limit {limit}",
                rows.len()
            );
            users.append(rows);
            let Some(cursor) = page["next"].as_str() else {
                return Ok(users);
            };
            path = format!("/?limit={limit}&cursor={cursor}");
        }
    }
}
