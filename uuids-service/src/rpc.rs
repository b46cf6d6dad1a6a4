//! The RabbitMQ side: one request, one reply, on the queue [`QUEUE`].

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ids::Ids,
    request::{self, Blame, Refused},
};

/// The queue that requests are sent to.
pub(crate) const QUEUE: &str = "uuids";

/// `{"count":10,"after":"1509466340062097408"}`; `after` may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    count: u64,
    after: Option<String>,
}

/// `{"data":["1509466340062097408",…]}`, or `{"error":{"status":422,"field":"after","message":"…"}}` (without `field`
/// where the whole request is wrong), or `{"error":{"status":503,"message":"…","retry_after":1}}`.
pub(crate) async fn reply(ids: &Ids, request: &[u8]) -> Vec<u8> {
    let Ok(asked) = serde_json::from_slice::<Asked>(request) else {
        let message = r#"the request must be {"count":…,"after":"…"}"#;
        return error(&json!({"status": 422, "message": message}));
    };
    match answer(ids, asked).await {
        Ok(body) => body,
        Err(refused) => error(&told(refused)),
    }
}

async fn answer(ids: &Ids, asked: Asked) -> Result<Vec<u8>, Refused> {
    let after = asked.after.map(|after| after.parse::<u64>());
    let after = after.transpose().map_err(|_| Refused::After)?;
    request::take(ids, asked.count, after).await
}

fn told(refused: Refused) -> Value {
    let message = refused.to_string();
    match refused.blame() {
        Blame::Field(field) => json!({"status": 422, "field": field, "message": message}),
        Blame::Later(seconds) => {
            json!({"status": 503, "message": message, "retry_after": seconds})
        }
    }
}

fn error(error: &Value) -> Vec<u8> {
    json!({ "error": error }).to_string().into_bytes()
}
