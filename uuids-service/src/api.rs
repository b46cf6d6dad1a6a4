//! The HTTP routes: `GET /?count=&after=` and `GET /{id}`.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, ServiceConfig, get, resource},
};
use serde::Deserialize;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use web::{PathId, Problem, Query, secured};

use crate::{
    clock::EPOCH,
    domain::id::Id,
    ids::Ids,
    media_type::MediaType,
    request::{self, Remedy, RequestError},
};

/// The scope of callers who may take and explain ids.
const READ: &str = "uuids:read";

/// `?count=1..=10000&after=<id>`; one id by default.
#[derive(Deserialize)]
struct IdQuery {
    count: Option<u64>,
    after: Option<u64>,
}

pub(crate) fn routes(ids: Arc<Ids>) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let ids = Data::from(ids);
    move |config: &mut ServiceConfig| {
        config
            .app_data(ids.clone())
            .service(resource("/").route(secured(get().to(issue), &[READ])))
            .service(resource("/{id}").route(secured(get().to(explain), &[READ])));
    }
}

/// 200 `{"data":["1509466340062097408",…]}`, ascending, or one id a line for `Accept: text/plain`; 406; 422; 503 with
/// `Retry-After`.
async fn issue(
    ids: Data<Ids>,
    request: HttpRequest,
    Query(query): Query<IdQuery>,
) -> Result<HttpResponse, Problem> {
    let form = MediaType::accepted_by(&request)?;
    let issued = request::take(&ids, query.count.unwrap_or(1), query.after).await?;
    let body = match form {
        MediaType::Json => request::json(&issued),
        MediaType::Text => request::lines(&issued),
    };
    Ok(HttpResponse::Ok()
        .content_type(form.content_type())
        .insert_header((header::VARY, "accept"))
        .body(body))
}

/// 200 `{"id":"1509466340062097408","timestamp":"2026-05-28T08:00:19.999Z","worker":247,"sequence":0}`; 404.
async fn explain(PathId(number): PathId) -> Result<HttpResponse, Problem> {
    let id = Id::parse(number).ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().json(json!({
        "id": number.to_string(),
        "timestamp": timestamp(id).ok_or_else(Problem::internal)?,
        "worker": id.worker(),
        "sequence": id.sequence(),
    })))
}

fn timestamp(id: Id) -> Option<String> {
    let since_1970 = EPOCH + std::time::Duration::from_millis(id.millisecond());
    let nanos = i128::try_from(since_1970.as_nanos()).ok()?;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    time.format(&Rfc3339).ok()
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let reason = error.to_string();
        match error.remedy() {
            Remedy::ChangeField(field) => Self::invalid(field, reason),
            Remedy::RetryAfter(seconds) => Self::unavailable(reason, seconds),
        }
    }
}
