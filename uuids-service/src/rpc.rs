//! Requests over RabbitMQ: one reply for each request on the queue [`QUEUE`].

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ids::Ids,
    request::{self, Remedy, RequestError},
};

/// The queue of the requests.
pub(crate) const QUEUE: &str = "uuids";

/// `{"count":10,"after":"1509466340062097408"}`; `after` is optional.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdRequest {
    count: u64,
    after: Option<String>,
}

/// `{"data":["1509466340062097408",…]}`, or `{"error":{"status":422,"field":"after","message":"…"}}` (without `field`
/// if the whole request is malformed), or `{"error":{"status":503,"message":"…","retry_after":1}}`.
pub(crate) async fn reply(ids: &Ids, request: &[u8]) -> Vec<u8> {
    let Ok(request) = serde_json::from_slice::<IdRequest>(request) else {
        let message = r#"the request must be {"count":…,"after":"…"}"#;
        return error(&json!({"status": 422, "message": message}));
    };
    match answer(ids, request).await {
        Ok(body) => body,
        Err(reason) => error(&error_details(reason)),
    }
}

async fn answer(ids: &Ids, request: IdRequest) -> Result<Vec<u8>, RequestError> {
    let after = request.after.map(|after| after.parse::<u64>());
    let after = after.transpose().map_err(|_| RequestError::After)?;
    let issued = request::take(ids, request.count, after).await?;
    Ok(request::json(&issued))
}

fn error_details(error: RequestError) -> Value {
    let message = error.to_string();
    match error.remedy() {
        Remedy::ChangeField(field) => json!({"status": 422, "field": field, "message": message}),
        Remedy::RetryAfter(seconds) => {
            json!({"status": 503, "message": message, "retry_after": seconds})
        }
    }
}

fn error(error: &Value) -> Vec<u8> {
    json!({ "error": error }).to_string().into_bytes()
}
