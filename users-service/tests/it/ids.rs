//! Ids over the broker, and over HTTP while the broker is unavailable.

use crate::support::{create, serve, spawn_app, user};
use actix_web::{HttpResponse, web as actix};
use futures::future::{BoxFuture, FutureExt as _};
use messaging::{Broker, RpcClient, serve_rpc};
use private_broker::{PrivateBroker, as_account};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio_util::sync::{CancellationToken, DropGuard};
use users_service::domain::UserId;
use users_service::ids::{FetchError, IdService, IdSource, OverBroker, OverHttp};

/// The received requests, in their order.
type Requests = Arc<Mutex<Vec<Value>>>;

async fn over_broker(reply: Value) -> (OverBroker, Requests, DropGuard) {
    over_broker_at(&PrivateBroker::shared().await.vhost().await, reply)
}

fn over_broker_at(url: &str, reply: Value) -> (OverBroker, Requests, DropGuard) {
    let of = |account| Broker::connect(&as_account(url, account), "ids").unwrap();
    let shutdown = CancellationToken::new();
    let requests = Requests::default();
    let received = Arc::clone(&requests);
    let answer = move |request: Vec<u8>| {
        let request = serde_json::from_slice(&request).unwrap();
        received.lock().unwrap().push(request);
        let reply = reply.to_string().into_bytes();
        async move { reply }
    };
    let server = of("uuids-service");
    tokio::spawn(serve_rpc(server, "uuids", answer, shutdown.clone()));
    let client = of("users-command-api");
    let service = OverBroker::new(RpcClient::new(client, "uuids"));
    (service, requests, shutdown.drop_guard())
}

type Query = actix::Query<std::collections::HashMap<String, String>>;

/// An HTTP service that returns ids above `after` and counts the requests.
fn over_http() -> (OverHttp, Arc<AtomicUsize>, DropGuard) {
    over_http_that(|query| {
        let number = |name: &str| query.get(name).map_or(0, |number| number.parse().unwrap());
        let after: u64 = number("after");
        let ids: Vec<_> = (after + 1..=after + number("count"))
            .map(|id| id.to_string())
            .collect();
        HttpResponse::Ok().json(json!({ "data": ids }))
    })
}

fn over_http_that(
    answer: impl Fn(&Query) -> HttpResponse + Clone + Send + 'static,
) -> (OverHttp, Arc<AtomicUsize>, DropGuard) {
    let server = web::Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let url = format!("http://{}/", server.address());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let routes = move |config: &mut actix::ServiceConfig| {
        let (counted, answer) = (Arc::clone(&counted), answer.clone());
        let answer = move |query: Query| {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = answer(&query);
            async move { answer }
        };
        config.route("/", actix::get().to(answer));
    };
    std::thread::spawn(move || {
        let serving = server.run(web::Readiness::new(), routes, stop);
        actix_web::rt::System::new().block_on(serving)
    });
    (
        OverHttp::new(&url, None).unwrap(),
        requests,
        shutdown.drop_guard(),
    )
}

/// Fetches ids as soon as the queue of the service is served.
async fn fetched(service: &OverBroker, count: usize, after: Option<UserId>) -> Vec<UserId> {
    crate::support::until("ids come over the broker", || async {
        service.fetch(count, after).await.ok()
    })
    .await
}

#[tokio::test]
async fn ids_come_over_the_broker() {
    let (service, requests, _serving) = over_broker(json!({"data": ["7", "8"]})).await;
    let ids = [7, 8].map(UserId::new);
    assert_eq!(fetched(&service, 2, None).await, ids);
    assert_eq!(fetched(&service, 3, Some(UserId::new(6))).await, ids);
    let requests = requests.lock().unwrap();
    assert_eq!(requests.first(), Some(&json!({"count": 2})));
    assert_eq!(requests.last(), Some(&json!({"count": 3, "after": "6"})));
}

#[tokio::test]
async fn ids_come_over_http_while_the_broker_is_unavailable() {
    let broker = Broker::connect("amqp://guest:guest@127.0.0.1:1/%2f", "ids").unwrap();
    let unavailable = OverBroker::new(RpcClient::new(broker, "uuids"));
    let (over_http, _, _serving) = over_http();
    let source = IdSource::new(vec![Box::new(unavailable), Box::new(over_http)]);
    for id in 1..20 {
        assert_eq!(source.next().await, Ok(UserId::new(id)));
    }
}

#[tokio::test]
async fn a_refusal_over_the_broker_is_an_error() {
    let refusal = json!({"error": {"status": 503, "message": "not now", "retry_after": 1}});
    let (service, requests, _serving) = over_broker(refusal).await;
    crate::support::until("the service got a request", || async {
        assert!(service.fetch(1, None).await.is_err());
        (!requests.lock().unwrap().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refusal_of_the_last_id_is_recognised_on_both_routes() {
    let refusal = json!({"error": {"status": 422, "field": "after", "message": "too far"}});
    let (over_broker, _, _serving) = over_broker(refusal).await;
    let last = Some(UserId::new(6));
    crate::support::until("the broker's refusal", || async {
        let refused = over_broker.fetch(1, last).await.unwrap_err();
        matches!(refused, FetchError::AfterTooFar).then_some(())
    })
    .await;
    let (over_http, _, _serving) = over_http_that(|_| HttpResponse::UnprocessableEntity().finish());
    let refused = over_http.fetch(9, last).await.unwrap_err();
    assert!(matches!(refused, FetchError::AfterTooFar), "{refused:?}");
}

#[tokio::test]
async fn a_creation_that_gets_no_id_is_answered_503_with_retry_after() {
    let broker = Broker::connect("amqp://guest:guest@127.0.0.1:1/%2f", "ids").unwrap();
    let unavailable = OverBroker::new(RpcClient::new(broker, "uuids"));
    let (refusing, requests, _serving) =
        over_http_that(|_| HttpResponse::ServiceUnavailable().finish());
    let source = IdSource::new(vec![Box::new(unavailable), Box::new(refusing)]);
    let app = spawn_app().await;
    let shutdown = CancellationToken::new();
    let address = serve(app.handler_with(source), shutdown.clone());
    let _serving_users = shutdown.drop_guard();
    let create = reqwest::Client::new().post(format!("http://{address}/"));
    let answer = create.json(&user("ada")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    // The name was not claimed.
    app.created("ada").await;
}

/// Counts the requests that waited on this route in vain. A probe fetches a single id, and is not counted.
struct Counted(OverBroker, Arc<AtomicUsize>);

impl IdService for Counted {
    fn fetch(
        &self,
        count: usize,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        let fetched = async move {
            let answer = self.0.fetch(count, after).await;
            let waited = count > 1 && matches!(answer, Err(FetchError::TimedOut));
            self.1.fetch_add(usize::from(waited), Ordering::SeqCst);
            answer
        };
        fetched.boxed()
    }
}

fn signal(pid: &str, signal: &str) {
    let sent = Command::new("kill").args([signal, pid]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn while_the_broker_hangs_only_the_creation_in_flight_waits_for_it() {
    let node = PrivateBroker::start().await.unwrap();
    let pid = crate::support::until("the node knows its process id", || async {
        let nodes = node.management("GET", "nodes", &Value::Null).await.ok()?;
        Some(nodes[0]["os_pid"].as_str()?.to_owned())
    })
    .await;
    let reply = json!({"data": ["7", "8"]});
    let (over_broker, received, _serving) = over_broker_at(&node.vhost().await, reply);
    fetched(&over_broker, 2, None).await;
    let (over_http, _, _serving) = over_http();
    let waited = Arc::new(AtomicUsize::new(0));
    let counted = Counted(over_broker, Arc::clone(&waited));
    let source = IdSource::new(vec![Box::new(counted), Box::new(over_http)]);
    let app = spawn_app().await;
    let handler = app.handler_with(source.clone());

    signal(&pid, "-STOP");
    for number in 0..1_000 {
        let created = create(&handler, &format!("ada{number}")).await;
        created.unwrap();
    }
    let waited = waited.load(Ordering::SeqCst);
    signal(&pid, "-CONT");
    assert!(waited <= 1, "{waited} requests waited for the broker");

    crate::support::until("requests go over the broker again", || async {
        let _ = source.next().await;
        let received = received.lock().unwrap();
        let last = received.last()?;
        (last["count"] != 1).then_some(())
    })
    .await;
}
