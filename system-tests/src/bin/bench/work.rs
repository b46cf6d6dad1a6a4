//! What is asked for, and which answer is the expected one.

use crate::empty_handler;
use anyhow::Result;
use futures::future::try_join_all;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use system_tests::client::{id, user};
use system_tests::{Users, unique};

/// How many users GET reads in turn.
const KNOWN: usize = 256;

/// One kind of request to one server; clones share their counter, so that no two make the same user.
#[derive(Debug, Clone)]
pub(crate) struct Work {
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
}

/// Makes the users that GET reads; returns their ids.
pub(crate) async fn seed(users: &Users) -> Result<Arc<[String]>> {
    let names: Vec<_> = (0..KNOWN).map(|_| unique("known")).collect();
    let made = try_join_all(names.iter().map(|name| users.created(name))).await?;
    Ok(made.iter().map(|user| id(user).to_owned()).collect())
}

impl Work {
    pub(crate) fn empty(address: SocketAddr) -> Self {
        Self::new(address, Kind::Empty)
    }

    pub(crate) fn ids(address: SocketAddr) -> Self {
        Self::new(address, Kind::Ids)
    }

    pub(crate) fn get(address: SocketAddr, known: Arc<[String]>) -> Self {
        Self::new(address, Kind::Get(known))
    }

    pub(crate) fn post(address: SocketAddr) -> Self {
        Self::new(address, Kind::Post(unique("bench")))
    }

    fn new(address: SocketAddr, kind: Kind) -> Self {
        let sent = Arc::default();
        Self {
            address,
            kind,
            sent,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Empty => "empty handler",
            Kind::Ids => "uuids GET /?count=1",
            Kind::Get(_) => "users GET /{id}",
            Kind::Post(_) => "users POST /",
        }
    }

    /// The next request.
    pub(crate) fn request(&self) -> Result<Request<Full<Bytes>>> {
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
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json");
        Ok(request.body(Full::from(body))?)
    }

    /// Whether this is the answer of a server that did its work.
    pub(crate) fn expects(&self, status: u16, body: &[u8]) -> bool {
        match self.kind {
            Kind::Empty => status == 200 && body == empty_handler::BODY.as_bytes(),
            Kind::Ids => status == 200 && body.starts_with(b"{\"data\":[\""),
            Kind::Get(_) => status == 200 && is_user(body),
            Kind::Post(_) => status == 201 && is_user(body),
        }
    }
}

fn is_user(body: &[u8]) -> bool {
    body.starts_with(b"{\"id\":\"") && body.ends_with(b"\"}")
}
