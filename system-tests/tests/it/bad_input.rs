//! Bad input changes nothing and is never answered 500. Every refusal is a problem+json that says what is wrong.

use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::audit::user_events;
use system_tests::client::{Answer, id, user};
use system_tests::system::Node;
use system_tests::{Part, System, Users, unique};

/// A bad request and its expected refusal.
struct Case {
    method: Method,
    path: String,
    content_type: Option<&'static str>,
    body: Vec<u8>,
    status: u16,
    coding: Option<&'static str>,
    /// A field that a 422 names.
    field: Option<&'static str>,
}

impl Case {
    fn get(path: &str, status: u16) -> Self {
        Self::new(Method::GET, path, Vec::new(), status)
    }

    fn query(path: &str, field: &'static str) -> Self {
        Self::get(path, 422).naming(field)
    }

    fn post(body: impl Into<Vec<u8>>, status: u16) -> Self {
        Self::new(Method::POST, "/", body.into(), status).typed("application/json")
    }

    fn new(method: Method, path: &str, body: Vec<u8>, status: u16) -> Self {
        Self {
            method,
            path: path.to_owned(),
            content_type: None,
            coding: None,
            body,
            status,
            field: None,
        }
    }

    fn typed(self, content_type: &'static str) -> Self {
        let content_type = Some(content_type);
        Self {
            content_type,
            ..self
        }
    }

    fn coded(self, coding: &'static str) -> Self {
        let coding = Some(coding);
        Self { coding, ..self }
    }

    fn naming(self, field: &'static str) -> Self {
        let field = Some(field);
        Self { field, ..self }
    }

    async fn check(&self, service: &Users) -> Result<()> {
        let mut request = service.request(self.method.clone(), &self.path);
        if let Some(content_type) = self.content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(coding) = self.coding {
            request = request.header("content-encoding", coding);
        }
        let answer = Answer::to(request.body(self.body.clone())).await?;
        self.judge(&answer).with_context(|| {
            let body = String::from_utf8_lossy(&self.body[..self.body.len().min(80)]);
            format!(
                "{} {} {:?} {body}: {answer:?}",
                self.method, self.path, self.content_type
            )
        })
    }

    fn judge(&self, answer: &Answer) -> Result<()> {
        ensure!(answer.status == self.status, "{} expected", self.status);
        ensure!(
            answer.content_type.starts_with("application/problem+json"),
            "not a problem+json"
        );
        let message = answer.body["message"].as_str().context("a message")?;
        ensure!(!message.is_empty() && answer.body["status"] == self.status);
        if let Some(field) = self.field {
            let errors = answer.body["errors"].as_array().context("errors")?;
            let is_at = |error: &Value| {
                error["pointer"] == format!("#/{field}") || error["parameter"] == field
            };
            let named = errors.iter().any(is_at) && message.contains(field);
            ensure!(named, "the field is not named");
        }
        Ok(())
    }
}

/// Values of a field that are well-formed JSON but not a valid name.
fn invalid_names() -> [Value; 12] {
    [
        json!(""),
        json!("  "),
        json!("a".repeat(10_000)),
        json!("a\u{0}b"),
        json!("a\nb"),
        json!("ab\u{202E}c"),
        json!("\u{200B}\u{200B}\u{200B}"),
        json!(1),
        json!(true),
        json!(["a"]),
        json!({"a": "b"}),
        Value::Null,
    ]
}

fn bad_users(path: &str) -> Vec<Case> {
    let change = |body: Vec<u8>, status| {
        Case::new(Method::PATCH, path, body, status).typed("application/json")
    };
    let mut cases = Vec::new();
    for field in ["username", "given_name", "family_name"] {
        let mut missing = user("bad");
        missing.as_object_mut().map(|user| user.remove(field));
        cases.push(Case::post(missing.to_string(), 422).naming(field));
        let misspelt = user("bad").to_string().replace(field, "other");
        cases.push(Case::post(misspelt, 422).naming("other"));
        for value in invalid_names() {
            let mut wrong = user("bad");
            wrong[field] = value.clone();
            cases.push(Case::post(wrong.to_string(), 422).naming(field));
            let body = json!({field: value}).to_string().into_bytes();
            cases.push(change(body, 422).naming(field));
        }
    }
    cases
}

fn bad_bodies(path: &str) -> Vec<Case> {
    let good = || user("bad").to_string().into_bytes();
    let malformed: [&[u8]; 7] = [
        b"",
        b"{",
        b"{\"username\":",
        b"not json",
        b"{\"username\":\"\xff\",\"given_name\":\"a\",\"family_name\":\"b\"}",
        br#"{"username":"\ud800","given_name":"a","family_name":"b"}"#,
        b"{}{}",
    ];
    let mut cases: Vec<_> = malformed
        .iter()
        .map(|body| Case::post(*body, 400))
        .collect();
    for body in ["[]", "null", "1", "\"a\"", "{}"] {
        cases.push(Case::post(body, 422));
    }
    cases.push(Case::post(vec![b'['; 16_000], 400));
    let nested = |depth| {
        format!(
            r#"{{"username":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    cases.push(Case::post(nested(100), 422).naming("username"));
    cases.push(Case::post(nested(8_000), 400));
    let twice = r#"{"username":"bad","username":"bad","given_name":"a","family_name":"b"}"#;
    cases.push(Case::post(twice, 422).naming("username"));
    for (method, path) in [(Method::POST, "/"), (Method::PATCH, path)] {
        let new = |body, status| Case::new(method.clone(), path, body, status);
        for size in [16 * 1024 + 1, 1 << 20] {
            let mut large = good();
            large.resize(size, b' ');
            cases.push(new(large, 413).typed("application/json"));
        }
        cases.push(new(b"{".to_vec(), 400).typed("application/json"));
        let not_utf_8 = b"{\"given_name\":\"a\",\"note\":\"\xff\"}".to_vec();
        cases.push(new(not_utf_8, 400).typed("application/json"));
        let json = || new(good(), 415).typed("application/json");
        cases.extend([json().coded("gzip"), json().coded("identity, br")]);
        cases.push(new(good(), 415));
        cases.push(new(good(), 415).typed("text/plain"));
        cases.push(new(good(), 415).typed("application/json-patch+json"));
        cases.push(new(good(), 415).typed("application/x-www-form-urlencoded"));
        cases.push(new(good(), 415).typed("multipart/form-data; boundary=x"));
    }
    cases
}

fn bad_paths() -> Vec<Case> {
    let invalid_ids = [
        "/abc",
        "/-1",
        "/+1",
        "/01",
        "/1.5",
        "/0x10",
        "/1%20",
        "/%00",
        "/%ff",
        "/%zz",
        "/1/2",
        "/99999999999999999999999",
        "/a/b/c",
        "/1/",
        "//",
        "/_nothing",
        "/12345",
    ];
    let mut cases = Vec::new();
    for path in invalid_ids {
        cases.push(Case::get(path, 404));
        cases.push(Case::new(Method::DELETE, path, Vec::new(), 404));
        let change = json!({"given_name": "a"}).to_string().into_bytes();
        cases.push(Case::new(Method::PATCH, path, change, 404).typed("application/json"));
    }
    let long = format!("/{}", "1".repeat(8 * 1024));
    cases.push(Case::get(&long, 414));
    cases.push(Case::new(Method::PUT, "/", Vec::new(), 405));
    cases.push(Case::new(Method::POST, "/1", Vec::new(), 405));
    cases.push(Case::new(Method::TRACE, "/1", Vec::new(), 405));
    cases
}

fn bad_queries() -> Vec<Case> {
    let mut cases = vec![
        Case::get("/?limit=%zz", 400),
        Case::get("/?limit=%ff", 400),
        Case::get("/?limit=1%", 400),
        Case::get("/?%ff=1", 400),
    ];
    for limit in ["", "0", "-1", "abc", "1001", "1.5", "99999999999999999999"] {
        cases.push(Case::query(&format!("/?limit={limit}"), "limit"));
    }
    for cursor in ["abc", "-1", "99999999999999999999999"] {
        cases.push(Case::query(&format!("/?cursor={cursor}"), "cursor"));
    }
    cases
}

fn bad_id_requests() -> Vec<Case> {
    let mut cases = vec![
        Case::get("/?count=%zz", 400),
        Case::get("/?count=%ff", 400),
        Case::get("/?count=1%", 400),
        Case::get("/abc", 404),
        Case::get("/-1", 404),
        Case::get("/a/b", 404),
        Case::get("/99999999999999999999999", 404),
        Case::new(Method::POST, "/", Vec::new(), 405),
        Case::new(Method::DELETE, "/1", Vec::new(), 405),
    ];
    for count in ["", "0", "-1", "abc", "10001", "1.5", "99999999999999999999"] {
        cases.push(Case::query(&format!("/?count={count}"), "count"));
    }
    for after in ["abc", "-1", "99999999999999999999999"] {
        cases.push(Case::query(&format!("/?count=1&after={after}"), "after"));
    }
    cases
}

fn no_panic(system: &System) -> Result<()> {
    for part in system.parts() {
        let log = system.log(part)?;
        let panic = log.lines().find(|line| line.contains("panicked"));
        ensure!(panic.is_none(), "{part:?}: {panic:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_users_service_refuses_bad_input_and_nothing_changes() -> Result<()> {
    let system = System::start().await?;
    let (users, store) = (system.users()?, system.store()?);
    let existing = users.created(&unique("existing")).await?;
    let path = format!("/{}", id(&existing));
    users.until_listed(std::slice::from_ref(&existing)).await?;
    let before = user_events(&store).await?;
    let tables = [
        bad_users(&path),
        bad_bodies(&path),
        bad_paths(),
        bad_queries(),
    ];
    for case in tables.iter().flatten() {
        case.check(&users).await?;
    }
    let after = user_events(&store).await?;
    ensure!(before == after, "events were written: {after:?}");
    ensure!(users.get(&path[1..]).await?.body == existing);
    // Once a later user is listed, all earlier events have been applied too.
    let later = users.created(&unique("later")).await?;
    users.until_listed(&[existing, later]).await?;
    no_panic(&system)
}

#[tokio::test]
async fn the_uuids_service_refuses_bad_input_and_goes_on() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let system = System::of(&[Part::Uuids, Part::Store], broker, "info").await?;
    let uuids = Users::new(&system.uuids_url())?;
    for case in bad_id_requests() {
        case.check(&uuids).await?;
    }
    Answer::to(uuids.request(Method::GET, "/?count=1"))
        .await?
        .expect(200)?;
    no_panic(&system)
}
