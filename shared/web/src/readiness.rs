//! Whether the service can do its work now, and if not, for want of what.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpResponse, web::Data};
use futures::future::{BoxFuture, FutureExt as _, join_all};
use serde_json::{Map, Value, json};

/// How long one dependency may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The named dependencies of a service, each with a check that is made anew for every request of `/_readyz`.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
}

impl Readiness {
    /// Of a service that needs nothing: always ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dependency; `check` answers with why it is down. The reason is shown to whoever asks.
    #[must_use]
    pub fn with<F>(
        mut self,
        dependency: &'static str,
        check: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check: Check = Arc::new(move || check().boxed());
        self.checks.push((dependency, check));
        self
    }

    /// Each dependency with why it is down, all asked at once.
    async fn ask(&self) -> Vec<(&'static str, Result<(), String>)> {
        join_all(self.checks.iter().map(|(dependency, check)| async {
            let answer = tokio::time::timeout(PATIENCE, check()).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            (*dependency, answer)
        }))
        .await
    }
}

/// `GET /_healthz`: the process runs. It says nothing about dependencies, so that nobody restarts it for their sake.
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "up"}))
}

/// `GET /_readyz`: 200 `{"status":"ready","dependencies":{"event store":"up"}}`, or
/// 503 `{"status":"not ready","message":"…","dependencies":{"event store":"down: …"}}`.
pub(crate) async fn readyz(readiness: Data<Readiness>) -> HttpResponse {
    let answers = readiness.ask().await;
    let down: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| answer.is_err())
        .map(|(name, _)| *name)
        .collect();
    let dependencies: Map<String, Value> = answers
        .iter()
        .map(|(name, answer)| ((*name).to_owned(), told(answer).into()))
        .collect();
    if down.is_empty() {
        return HttpResponse::Ok().json(json!({"status": "ready", "dependencies": dependencies}));
    }
    let message = format!("missing: {}", down.join(", "));
    HttpResponse::ServiceUnavailable()
        .json(json!({"status": "not ready", "message": message, "dependencies": dependencies}))
}

fn told(answer: &Result<(), String>) -> String {
    match answer {
        Ok(()) => "up".to_owned(),
        Err(why) => format!("down: {why}"),
    }
}
