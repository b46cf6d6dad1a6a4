//! The kinds of requests, and the expected answer of each.

use crate::empty_handler;
use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use system_tests::client::{id, user};
use system_tests::{Users, unique};

/// The number of users that are created at once.
const CONCURRENT_CREATIONS: usize = 64;

/// One kind of request to one server. Clones share a counter, so that no two requests create the same user.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    name: String,
    address: SocketAddr,
    kind: Kind,
    /// The prefix of the idempotency keys, if the requests have keys.
    keys: Option<String>,
    sent: Arc<AtomicUsize>,
}

#[derive(Debug, Clone)]
enum Kind {
    Empty,
    Ids,
    /// The ids of existing users.
    Get(Arc<[String]>),
    /// The path of a page of the list.
    Page(&'static str),
    /// The id of one user, whose given name each request changes.
    Patch(String),
    /// The prefix of the usernames, and the ids of the acknowledged users.
    Post(String, Arc<Mutex<Vec<u64>>>),
    /// The prefix of the usernames. Like `Post`, but to a route that does not create a user.
    Bare(String),
    /// The ids of existing users, each of which is deleted once.
    Delete(Arc<[String]>),
}

/// Creates this many users and returns their ids.
pub(crate) async fn seed(users: &Users, count: usize) -> Result<Arc<[String]>> {
    let created = stream::iter(0..count)
        .map(|_| async { users.created(&unique("known")).await })
        .buffer_unordered(CONCURRENT_CREATIONS);
    let created: Vec<_> = created.try_collect().await?;
    Ok(created.iter().map(|user| id(user).to_owned()).collect())
}

impl Work {
    pub(crate) fn empty(address: SocketAddr) -> Self {
        Self::new("empty handler", address, Kind::Empty)
    }

    pub(crate) fn ids(address: SocketAddr) -> Self {
        Self::new("uuids GET /?count=1", address, Kind::Ids)
    }

    pub(crate) fn get(address: SocketAddr, known: Arc<[String]>) -> Self {
        Self::new("users GET /{id}", address, Kind::Get(known))
    }

    /// Reads of one user, who has so many events.
    pub(crate) fn get_long(address: SocketAddr, user: String, events: usize) -> Self {
        let name = format!("users GET /{{id}}, history of {events}");
        Self::new(&name, address, Kind::Get([user].into()))
    }

    /// Reads of a page of the list, which must not be empty.
    pub(crate) fn page(address: SocketAddr, path: &'static str) -> Self {
        Self::new(&format!("users GET {path}"), address, Kind::Page(path))
    }

    /// Changes of one user.
    pub(crate) fn patch(address: SocketAddr, user: String) -> Self {
        Self::new("users PATCH /{id}, one user", address, Kind::Patch(user))
    }

    pub(crate) fn post(address: SocketAddr) -> Self {
        let kind = Kind::Post(unique("bench"), Arc::default());
        Self::new("users POST /", address, kind)
    }

    /// The same requests, each with an idempotency key of its own.
    pub(crate) fn keyed(mut self) -> Self {
        self.name.push_str(", Idempotency-Key");
        self.keys = Some(unique("key"));
        self
    }

    pub(crate) fn bare(address: SocketAddr) -> Self {
        Self::new("bare route", address, Kind::Bare(unique("bench")))
    }

    pub(crate) fn delete(address: SocketAddr, ids: Arc<[String]>) -> Self {
        Self::new("users DELETE /{id}", address, Kind::Delete(ids))
    }

    /// The ids of all users whose creation was acknowledged to this work.
    pub(crate) fn acknowledged(&self) -> Vec<u64> {
        match &self.kind {
            Kind::Post(_, ids) => ids.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Kind::Empty
            | Kind::Ids
            | Kind::Get(_)
            | Kind::Page(_)
            | Kind::Patch(_)
            | Kind::Bare(_)
            | Kind::Delete(_) => Vec::new(),
        }
    }

    /// The same work against the late store.
    pub(crate) fn late(mut self) -> Self {
        self.name.push_str(", late store");
        self
    }

    fn new(name: &str, address: SocketAddr, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            address,
            kind,
            keys: None,
            sent: Arc::default(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The next request, or `None` if there are no more.
    pub(crate) fn request(&self) -> Result<Option<Request<Full<Bytes>>>> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let (method, path, body) = match &self.kind {
            Kind::Empty => ("GET", "/".to_owned(), String::new()),
            Kind::Ids => ("GET", "/?count=1".to_owned(), String::new()),
            Kind::Get(ids) => (
                "GET",
                format!("/{}", ids[number % ids.len()]),
                String::new(),
            ),
            Kind::Page(path) => ("GET", (*path).to_owned(), String::new()),
            Kind::Patch(id) => ("PATCH", format!("/{id}"), new_name(number)),
            Kind::Post(prefix, _) => ("POST", "/".to_owned(), new_user(prefix, number)),
            Kind::Bare(prefix) => ("POST", "/bare".to_owned(), new_user(prefix, number)),
            Kind::Delete(ids) => match ids.get(number) {
                Some(id) => ("DELETE", format!("/{id}"), String::new()),
                None => return Ok(None),
            },
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json");
        let request = match &self.keys {
            Some(prefix) => request.header("idempotency-key", format!("{prefix}-{number}")),
            None => request,
        };
        Ok(Some(request.body(Full::from(body))?))
    }

    /// Whether this is the expected answer. Records the user that it acknowledges.
    pub(crate) fn accepts(&self, status: u16, body: &[u8]) -> bool {
        match &self.kind {
            Kind::Empty => status == 200 && body == empty_handler::BODY.as_bytes(),
            Kind::Ids => status == 200 && body.starts_with(b"{\"data\":[\""),
            Kind::Page(_) => status == 200 && body.starts_with(b"{\"data\":[{"),
            Kind::Get(_) => status == 200 && user_id(body).is_ok(),
            Kind::Bare(_) => status == 201 && user_id(body).is_ok(),
            Kind::Post(_, ids) => match user_id(body) {
                Ok(id) if status == 201 => {
                    let mut ids = ids.lock().unwrap_or_else(PoisonError::into_inner);
                    ids.push(id);
                    true
                }
                Ok(_) | Err(_) => false,
            },
            Kind::Patch(_) | Kind::Delete(_) => status == 204 && body.is_empty(),
        }
    }
}

fn new_name(number: usize) -> String {
    json!({"given_name": format!("Given {number}")}).to_string()
}

fn new_user(prefix: &str, number: usize) -> String {
    user(&format!("{prefix}-{number}")).to_string()
}

/// The id in an answer with one user.
fn user_id(body: &[u8]) -> Result<u64> {
    let id = body.strip_prefix(b"{\"id\":\"").context("no id")?;
    let end = id.iter().position(|byte| *byte == b'"').context("no id")?;
    Ok(std::str::from_utf8(&id[..end])?.parse()?)
}
