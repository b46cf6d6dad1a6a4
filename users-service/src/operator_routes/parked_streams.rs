//! The routes of parked streams. They need the event store only.

use super::{ADMIN, Operators};
use crate::integration::publisher::operator::{self, Waiting};
use actix_web::web::{Data, Path, ServiceConfig, get, post, resource};
use actix_web::{HttpRequest, HttpResponse};
use event_streams::EventStreams;
use serde_json::{Value, json};
use web::{Json, Problem, secured};

/// The parked streams of this store.
#[derive(Debug, Clone)]
pub struct ParkedStreams {
    store: EventStreams,
    operators: Operators,
}

impl ParkedStreams {
    /// The parked streams of this store, for these operators.
    #[must_use]
    pub fn new(store: EventStreams, operators: Operators) -> Self {
        Self { store, operators }
    }

    /// Adds `GET /operations/parked`, `POST /operations/parked/retry` and `POST /operations/parked/{stream}/skip`.
    pub fn add_to(&self, config: &mut ServiceConfig) {
        let list = secured(get().to(list), ADMIN);
        let retry = secured(post().to(retry), ADMIN);
        let skip = secured(post().to(skip), ADMIN);
        config
            .app_data(Data::new(self.clone()))
            .service(resource("/operations/parked").route(list))
            .service(resource("/operations/parked/retry").route(retry))
            .service(resource("/operations/parked/{stream}/skip").route(skip));
    }
}

async fn list(parked: Data<ParkedStreams>) -> Result<HttpResponse, Problem> {
    let listed = async { Ok(operator::list(&parked.store).await?) };
    let listed = parked.operators.run(Box::pin(listed)).await?;
    let data: Vec<_> = listed.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

async fn retry(parked: Data<ParkedStreams>) -> Result<HttpResponse, Problem> {
    let retried = operator::retry(&parked.store);
    parked.operators.run(Box::pin(retried)).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn skip(
    parked: Data<ParkedStreams>,
    stream: Path<String>,
    request: HttpRequest,
    Json(body): Json,
) -> Result<HttpResponse, Problem> {
    let (revision, decision) = parked.operators.decision(&request, body)?;
    let skipped = operator::skip(&parked.store, &stream, Some(revision), &decision);
    let skipped = parked.operators.run(Box::pin(skipped)).await?;
    Ok(HttpResponse::Ok().json(shown(&skipped)))
}

fn shown(Waiting { parked, event_type }: &Waiting) -> Value {
    json!({"stream": parked.stream, "revision": parked.revision, "type": event_type})
}
