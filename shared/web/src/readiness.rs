//! Whether the service can do its work now, and what it lacks if it cannot do all of it.
//!
//! Three states: *ready* (200), when every dependency is up; *degraded* (200), when every needed one is up; *not ready*
//! (503), when a needed one is down. So a load balancer withdraws only a process that cannot do its work, and a script that
//! waits for a whole system waits for `"status":"ready"`.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use futures::future::{BoxFuture, FutureExt as _, join_all};
use serde_json::{Map, Value, json};

/// How long one dependency may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What a process can still do when a dependency is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Not its work: without this dependency it is not ready.
    Needed,
    /// Its work, but for a part of it: without this dependency it is degraded.
    Useful,
}

/// One dependency of a service.
#[derive(Clone)]
struct Dependency {
    name: &'static str,
    importance: Importance,
    check: Check,
}

/// The named dependencies of a service, each with a check that is made anew for every request of `/_readyz`.
#[derive(Clone, Default)]
pub struct Readiness {
    dependencies: Vec<Dependency>,
}

impl Readiness {
    /// Of a service that needs nothing: always ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dependency without which the service is not ready; `check` answers with why it is down. Every caller of
    /// `/_readyz` is shown the reason.
    #[must_use]
    pub fn needs<F>(self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.with(Importance::Needed, name, check)
    }

    /// Adds a dependency without which the service is degraded; otherwise as [`Readiness::needs`].
    #[must_use]
    pub fn uses<F>(self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.with(Importance::Useful, name, check)
    }

    /// [`Readiness::needs`] or [`Readiness::uses`], by `importance`.
    #[must_use]
    pub fn with<F>(
        mut self,
        importance: Importance,
        name: &'static str,
        check: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check: Check = Arc::new(move || check().boxed());
        self.dependencies.push(Dependency {
            name,
            importance,
            check,
        });
        self
    }

    /// Each dependency with why it is down, all asked at once.
    async fn ask(&self) -> Vec<(&Dependency, Result<(), String>)> {
        join_all(self.dependencies.iter().map(|dependency| async move {
            let answer = tokio::time::timeout(PATIENCE, (dependency.check)()).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            (dependency, answer)
        }))
        .await
    }
}

/// `GET /_healthz`: the process runs. It says nothing about dependencies, so that nobody restarts it for their sake.
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "up"}))
}

/// `GET /_readyz`: 200 `{"status":"ready","dependencies":{"event store":"up"}}`, or
/// `{"status":"degraded","message":"missing: broker","dependencies":{"broker":"down: …", …}}` with 200, or the same with
/// `"not ready"` and 503.
pub(crate) async fn readyz(readiness: Data<Readiness>) -> HttpResponse {
    let answers = readiness.ask().await;
    let down = answers.iter().filter(|(_, answer)| answer.is_err());
    let down: Vec<&Dependency> = down.map(|(dependency, _)| *dependency).collect();
    let names: Vec<_> = down.iter().map(|dependency| dependency.name).collect();
    let dependencies: Map<String, Value> = answers
        .iter()
        .map(|(dependency, answer)| (dependency.name.to_owned(), told(answer).into()))
        .collect();
    let (status, text) = state(&down);
    let mut body = json!({"status": text, "dependencies": dependencies});
    if !names.is_empty() {
        body["message"] = format!("missing: {}", names.join(", ")).into();
    }
    HttpResponse::build(status).json(body)
}

fn state(down: &[&Dependency]) -> (StatusCode, &'static str) {
    let needed = |dependency: &&Dependency| dependency.importance == Importance::Needed;
    if down.is_empty() {
        (StatusCode::OK, "ready")
    } else if down.iter().any(needed) {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    } else {
        (StatusCode::OK, "degraded")
    }
}

fn told(answer: &Result<(), String>) -> String {
    match answer {
        Ok(()) => "up".to_owned(),
        Err(why) => format!("down: {why}"),
    }
}
