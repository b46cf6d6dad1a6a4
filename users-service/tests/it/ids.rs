//! Ids over the broker, and over HTTP while the broker is away.

use actix_web::{HttpResponse, web as actix};
use messaging::{Broker, RpcClient, serve_rpc};
use private_broker::PrivateBroker;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio_util::sync::{CancellationToken, DropGuard};
use users_service::domain::UserId;
use users_service::ids::{IdService, IdSource, OverBroker, OverHttp};

/// What was asked, in the order of asking.
type Asked = Arc<Mutex<Vec<Value>>>;

async fn over_broker(reply: Value) -> (OverBroker, Asked, DropGuard) {
    let url = PrivateBroker::shared().await.vhost().await;
    let broker = Broker::connect(&url, "ids").unwrap();
    let shutdown = CancellationToken::new();
    let asked = Asked::default();
    let heard = Arc::clone(&asked);
    let answer = move |request: Vec<u8>| {
        let request = serde_json::from_slice(&request).unwrap();
        heard.lock().unwrap().push(request);
        let reply = reply.to_string().into_bytes();
        async move { reply }
    };
    tokio::spawn(serve_rpc(broker.clone(), "uuids", answer, shutdown.clone()));
    let service = OverBroker::new(RpcClient::new(broker, "uuids"));
    (service, asked, shutdown.drop_guard())
}

fn over_http(reply: &'static str) -> (OverHttp, DropGuard) {
    let server = web::Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let url = format!("http://{}/", server.address());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let routes = move |config: &mut actix::ServiceConfig| {
        let answer = move |query: actix::Query<std::collections::HashMap<String, String>>| async move {
            assert_eq!(query.get("count").map(String::as_str), Some("9"));
            HttpResponse::Ok()
                .content_type("application/json")
                .body(reply)
        };
        config.route("/", actix::get().to(answer));
    };
    std::thread::spawn(move || {
        let serving = server.run(web::Readiness::new(), routes, stop);
        actix_web::rt::System::new().block_on(serving)
    });
    (OverHttp::new(&url).unwrap(), shutdown.drop_guard())
}

/// The service answers as soon as somebody serves its queue.
async fn fetched(service: &OverBroker, count: usize, after: Option<UserId>) -> Vec<UserId> {
    crate::support::until("ids come over the broker", || async {
        service.fetch(count, after).await.ok()
    })
    .await
}

#[tokio::test]
async fn ids_come_over_the_broker() {
    let (service, asked, _serving) = over_broker(json!({"data": ["7", "8"]})).await;
    let ids = [7, 8].map(UserId::new);
    assert_eq!(fetched(&service, 2, None).await, ids);
    assert_eq!(fetched(&service, 3, Some(UserId::new(6))).await, ids);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.first(), Some(&json!({"count": 2})));
    assert_eq!(asked.last(), Some(&json!({"count": 3, "after": "6"})));
}

#[tokio::test]
async fn ids_come_over_http_while_the_broker_is_away() {
    let broker = Broker::connect("amqp://guest:guest@127.0.0.1:1/%2f", "ids").unwrap();
    let away = OverBroker::new(RpcClient::new(broker, "uuids"));
    let (over_http, _serving) = over_http(r#"{"data":["7","8"]}"#);
    let source = IdSource::new(vec![Box::new(away), Box::new(over_http)]);
    assert_eq!(source.next().await, Ok(UserId::new(7)));
    assert_eq!(source.next().await, Ok(UserId::new(8)));
}

#[tokio::test]
async fn a_refusal_over_the_broker_is_no_id() {
    let refusal = json!({"error": {"status": 503, "message": "not now", "retry_after": 1}});
    let (service, asked, _serving) = over_broker(refusal).await;
    crate::support::until("it was asked", || async {
        assert!(service.fetch(1, None).await.is_err());
        (!asked.lock().unwrap().is_empty()).then_some(())
    })
    .await;
}
