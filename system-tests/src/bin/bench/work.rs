//! What is asked for, and which answer is the expected one.

use crate::empty_handler;
use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use system_tests::client::{id, user};
use system_tests::{Users, unique};

/// How many users are made at once.
const AT_ONCE: usize = 64;

/// One kind of request to one server; clones share their counter, so that no two make the same user.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    name: String,
    address: SocketAddr,
    kind: Kind,
    sent: Arc<AtomicUsize>,
}

#[derive(Debug, Clone)]
enum Kind {
    Empty,
    Ids,
    /// Ids of users that are there.
    Get(Arc<[String]>),
    /// The prefix of the names of users to be made.
    Post(String),
    /// Ids of users that are there, each to be deleted once.
    Delete(Arc<[String]>),
}

/// Makes so many users; returns their ids.
pub(crate) async fn seed(users: &Users, count: usize) -> Result<Arc<[String]>> {
    let made = stream::iter(0..count)
        .map(|_| async { users.created(&unique("known")).await })
        .buffer_unordered(AT_ONCE);
    let made: Vec<_> = made.try_collect().await?;
    Ok(made.iter().map(|user| id(user).to_owned()).collect())
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

    pub(crate) fn post(address: SocketAddr) -> Self {
        Self::new("users POST /", address, Kind::Post(unique("bench")))
    }

    pub(crate) fn delete(address: SocketAddr, ids: Arc<[String]>) -> Self {
        Self::new("users DELETE /{id}", address, Kind::Delete(ids))
    }

    /// The same before a store that acknowledges late.
    pub(crate) fn late(mut self) -> Self {
        self.name.push_str(", late store");
        self
    }

    fn new(name: &str, address: SocketAddr, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            address,
            kind,
            sent: Arc::default(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The next request, if there is one more to be made.
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
            Kind::Post(prefix) => {
                let new = user(&format!("{prefix}-{number}"));
                ("POST", "/".to_owned(), new.to_string())
            }
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
        Ok(Some(request.body(Full::from(body))?))
    }

    /// Whether this is the answer of a server that did its work.
    pub(crate) fn expects(&self, status: u16, body: &[u8]) -> bool {
        match self.kind {
            Kind::Empty => status == 200 && body == empty_handler::BODY.as_bytes(),
            Kind::Ids => status == 200 && body.starts_with(b"{\"data\":[\""),
            Kind::Get(_) => status == 200 && is_user(body),
            Kind::Post(_) => status == 201 && is_user(body),
            Kind::Delete(_) => status == 204 && body.is_empty(),
        }
    }
}

fn is_user(body: &[u8]) -> bool {
    body.starts_with(b"{\"id\":\"") && body.ends_with(b"\"}")
}
