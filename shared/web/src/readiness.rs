//! Reports whether the service can do its work now, and which dependencies are missing.
//!
//! A service is *ready* (200) when every dependency is up, *degraded* (200) when only useful ones are down, and *not ready*
//! (503) when a needed one is down. So a load balancer removes only a process that cannot do its work. A script that waits
//! for a whole system waits for `"status":"ready"`.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use futures::future::{BoxFuture, FutureExt as _, join_all};
use serde_json::{Map, Value, json};

/// How long a check may take before its dependency counts as down.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How important a dependency is for the work of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Without this dependency the process cannot do its work and is not ready.
    Needed,
    /// Without this dependency a part of the work is missing and the process is degraded.
    Useful,
}

/// One dependency of a service.
#[derive(Clone)]
struct Dependency {
    name: &'static str,
    importance: Importance,
    check: Check,
}

/// The named dependencies of a service. Every request of `/_readyz` runs all their checks.
#[derive(Clone, Default)]
pub struct Readiness {
    dependencies: Vec<Dependency>,
}

impl Readiness {
    /// The readiness of a service without dependencies, which is always ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dependency without which the service is not ready. `check` fails with the reason why the dependency is down;
    /// `/_readyz` shows this reason to every caller.
    #[must_use]
    pub fn needs<F>(self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.with(Importance::Needed, name, check)
    }

    /// Adds a dependency without which the service is degraded; otherwise like [`Readiness::needs`].
    #[must_use]
    pub fn uses<F>(self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.with(Importance::Useful, name, check)
    }

    /// Adds a dependency of the given importance, like [`Readiness::needs`] or [`Readiness::uses`].
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

    /// Runs all checks at once and returns each dependency with its result.
    async fn check(&self) -> Vec<(&Dependency, Result<(), String>)> {
        join_all(self.dependencies.iter().map(|dependency| async move {
            let answer = tokio::time::timeout(CHECK_TIMEOUT, (dependency.check)()).await;
            let answer =
                answer.unwrap_or_else(|_| Err(format!("no answer within {CHECK_TIMEOUT:?}")));
            (dependency, answer)
        }))
        .await
    }
}

/// `GET /_healthz`: the process runs. The answer does not depend on dependencies, because a restart would not bring them
/// back.
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "up"}))
}

/// `GET /_readyz`: 200 `{"status":"ready","dependencies":{"event store":"up"}}`, or
/// `{"status":"degraded","message":"missing: broker","dependencies":{"broker":"down: …", …}}` with 200, or the same with
/// `"not ready"` and 503.
pub(crate) async fn readyz(readiness: Data<Readiness>) -> HttpResponse {
    let answers = readiness.check().await;
    let down = answers.iter().filter(|(_, answer)| answer.is_err());
    let down: Vec<&Dependency> = down.map(|(dependency, _)| *dependency).collect();
    let names: Vec<_> = down.iter().map(|dependency| dependency.name).collect();
    let dependencies: Map<String, Value> = answers
        .iter()
        .map(|(dependency, answer)| (dependency.name.to_owned(), state_text(answer).into()))
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

fn state_text(answer: &Result<(), String>) -> String {
    match answer {
        Ok(()) => "up".to_owned(),
        Err(reason) => format!("down: {reason}"),
    }
}
