//! The accounts of the broker: each can do what its roles need, and nothing else. A refusal names account, permission and object.

use crate::bus::directory::topology as directory;
use crate::bus::{Bus, PACE, forged, view};
use crate::support::{spawn_app, until};
use messaging::{
    Binding, Broker, Consumer, Destination, Incoming, PublishError, Publisher, Queue, QueueKind,
    RpcClient, Topology, serve_rpc,
};
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use users_service::command::queue::topology as commands;
use users_service::ids::{IdService as _, OverBroker};

const DEFAULT: &str = "amq.default";
const GROUP: &str = "users.directory.g1";
const DEAD: &str = "users.directory.g1.dead";
const PARTITION: &str = "users.directory.g1.0";
const DEAD_OF_PARTITION: &str = "users.directory.g1.0.dead";
const INBOX: &str = "outside.inbox";

const EXCHANGES: [&str; 5] = [DEFAULT, "users", "users.events", GROUP, DEAD];
const QUEUES: [&str; 6] = [
    "users",
    "users.dead",
    PARTITION,
    DEAD_OF_PARTITION,
    "uuids",
    INBOX,
];

/// What an account may do.
struct Rights {
    account: &'static str,
    declares: &'static [&'static str],
    publishes_to: &'static [&'static str],
    consumes: &'static [&'static str],
}

/// RabbitMQ's permissions do not tell the exchange `users` from the queue `users`: who may declare or bind the one may declare or
/// consume the other.
const ACCOUNTS: [Rights; 6] = [
    Rights {
        account: "users-service",
        declares: &[
            "users",
            "users.dead",
            "users.events",
            GROUP,
            DEAD,
            PARTITION,
            DEAD_OF_PARTITION,
        ],
        publishes_to: &[DEFAULT, "users", "users.events", GROUP, DEAD],
        consumes: &["users", PARTITION, DEAD_OF_PARTITION],
    },
    Rights {
        account: "users-command-api",
        declares: &["users", "users.dead"],
        publishes_to: &[DEFAULT],
        consumes: &["users"],
    },
    Rights {
        account: "users-publisher",
        declares: &["users", "users.events"],
        publishes_to: &["users", "users.events"],
        consumes: &["users"],
    },
    Rights {
        account: "users-projector",
        declares: &["users.events", GROUP, DEAD, PARTITION, DEAD_OF_PARTITION],
        publishes_to: &[GROUP, DEAD],
        consumes: &[PARTITION, DEAD_OF_PARTITION],
    },
    Rights {
        account: "uuids-service",
        declares: &["uuids"],
        publishes_to: &[DEFAULT],
        consumes: &["uuids"],
    },
    Rights {
        account: "outside",
        declares: &[INBOX],
        publishes_to: &[],
        consumes: &[INBOX],
    },
];

fn queue(name: &str, kind: QueueKind) -> Topology {
    let queue = Queue {
        name: name.to_owned(),
        kind,
    };
    Topology {
        queues: vec![queue],
        ..Topology::default()
    }
}

/// The whole topology, and the consumer that keeps the queue of ids alive.
async fn declared(bus: &Bus) -> Consumer {
    for topology in [
        directory(),
        commands(QueueKind::Plain),
        queue(INBOX, QueueKind::Log),
    ] {
        bus.broker.declare(&topology).await.unwrap();
    }
    let ids = queue("uuids", QueueKind::Requests);
    let mut ids = Consumer::new(bus.broker.clone(), ids, "uuids".into(), 1);
    assert!(matches!(ids.next(1).await, Incoming::Opened { .. }));
    ids
}

/// Every exchange and every queue by itself, with its name.
fn objects() -> Vec<(String, Topology)> {
    let published = users_service::integration::consumer::published();
    let mut objects = Vec::new();
    for topology in [
        published,
        directory(),
        commands(QueueKind::Plain),
        queue(INBOX, QueueKind::Log),
        queue("uuids", QueueKind::Requests),
    ] {
        for exchange in topology.exchanges {
            let name = exchange.name.clone();
            let exchanges = vec![exchange];
            objects.push((
                name,
                Topology {
                    exchanges,
                    ..Topology::default()
                },
            ));
        }
        for Queue { name, kind } in topology.queues {
            objects.push((name.clone(), queue(&name, kind)));
        }
    }
    objects.retain(|(name, _)| EXCHANGES.contains(&&**name) || QUEUES.contains(&&**name));
    objects
}

/// Whether a refusal says which account lacks which permission for what.
fn names(refusal: &str, account: &str, permission: &str, object: &str) -> bool {
    [
        format!("lacks the permission `{permission}`"),
        format!("'{account}'"),
        format!("'{object}'"),
    ]
    .iter()
    .all(|part| refusal.contains(part))
}

/// Checks that the operation succeeded if it is allowed, and was refused with the reason if not.
fn check(
    allowed: &[&str],
    outcome: &Result<(), String>,
    (account, permission, object): (&str, &str, &str),
) {
    let tried = format!("{account} {permission} {object}: {outcome:?}");
    match outcome {
        Ok(()) => assert!(allowed.contains(&object), "{tried}"),
        Err(refusal) => {
            assert!(!allowed.contains(&object), "{tried}");
            assert!(names(refusal, account, permission, object), "{tried}");
        }
    }
}

/// Whether the broker takes a message. A message that no queue takes was not refused.
async fn publish(broker: &Broker, exchange: &str) -> Result<(), String> {
    let publisher = Publisher::new(broker.clone(), Topology::default());
    let exchange = if exchange == DEFAULT { "" } else { exchange };
    match publisher
        .publish(forged(exchange, "nowhere", &[], b"{}"))
        .await
    {
        Ok(()) | Err(PublishError::Unroutable) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn consume(broker: &Broker, queue: &str) -> Result<(), String> {
    let mut consumer = Consumer::new(broker.clone(), Topology::default(), queue.into(), 1);
    let opened = consumer.next(1).await;
    consumer.close().await;
    match opened {
        Incoming::Opened { .. } => Ok(()),
        Incoming::Closed(error) => Err(error.to_string()),
        Incoming::Batch(_) => panic!("a message before the queue is open"),
    }
}

#[tokio::test]
async fn each_account_can_do_what_its_roles_need_and_nothing_else() {
    let bus = Bus::new().await;
    let _ids = declared(&bus).await;
    for Rights {
        account,
        declares,
        publishes_to,
        consumes,
    } in ACCOUNTS
    {
        let broker = bus.account(account);
        for (name, object) in objects() {
            let outcome = broker.declare(&object).await.map(drop);
            let outcome = outcome.map_err(|error| error.to_string());
            check(declares, &outcome, (account, "configure", &name));
        }
        for exchange in EXCHANGES {
            let outcome = publish(&broker, exchange).await;
            check(publishes_to, &outcome, (account, "write", exchange));
        }
        for queue in QUEUES {
            let outcome = consume(&broker, queue).await;
            check(consumes, &outcome, (account, "read", queue));
        }
    }
}

#[tokio::test]
async fn another_team_gets_every_message_by_a_queue_of_its_own_and_forges_none() {
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    let outside = bus.account("outside");
    let bound = |source: &str| Topology {
        bindings: vec![Binding {
            source: source.to_owned(),
            destination: Destination::Queue(INBOX.to_owned()),
            routing_key: "#".to_owned(),
        }],
        ..queue(INBOX, QueueKind::Log)
    };
    let refused = outside.declare(&bound("users")).await.unwrap_err();
    assert!(
        names(&refused.to_string(), "outside", "read", "users"),
        "{refused}"
    );
    let inbox = bound("users.events");
    let mut inbox = Consumer::new(outside.clone(), inbox, INBOX.into(), 10);
    assert!(matches!(inbox.next(1).await, Incoming::Opened { .. }));
    let _publisher = bus.publisher(&app, PACE);
    app.created("ada").await;
    let received = crate::bus::receive(&mut inbox, 1).await;
    assert_eq!(
        received[0].header("cloudEvents:type"),
        Some("user.created.v1")
    );
    for exchange in ["users", "users.events"] {
        let refused = publish(&outside, exchange).await.unwrap_err();
        assert!(names(&refused, "outside", "write", exchange), "{refused}");
    }
}

/// Takes one permission from an account of this virtual host.
async fn take(bus: &Bus, account: &str, permission: &str) {
    let mut permissions = bus.permissions(account).await;
    permissions[permission] = json!("^$");
    bus.permit(account, &permissions).await;
}

#[tokio::test]
async fn a_role_whose_account_lacks_a_permission_says_so() {
    let app = spawn_app().await;
    app.created("ada").await;
    for (permission, object) in [("write", "users"), ("read", "users")] {
        let bus = Bus::new().await;
        take(&bus, "users-publisher", permission).await;
        if permission == "read" {
            let binding = "e/users/e/users.events/%23";
            bus.manage("DELETE", "bindings", binding, &json!(null))
                .await;
        }
        let publisher = bus.publisher(&app, PACE);
        publisher
            .unhealthy(&format!("lacks the permission `{permission}`"))
            .await;
        publisher.unhealthy("'users-publisher'").await;
        publisher.unhealthy(&format!("'{object}'")).await;
        publisher.kill().await;
    }
    let view = view(&app).await;
    for (permission, object) in [
        ("configure", "users.events"),
        ("write", PARTITION),
        ("read", GROUP),
    ] {
        let bus = Bus::new().await;
        take(&bus, "users-projector", permission).await;
        let projector = bus.projector(&app, &view, Duration::from_secs(1));
        let lacking = format!("lacks the permission `{permission}`");
        projector.unhealthy(&lacking).await;
        projector.unhealthy("'users-projector'").await;
        projector.unhealthy(object).await;
        projector.kill().await;
    }
    for permission in ["configure", "read"] {
        let bus = Bus::new().await;
        bus.declare(QueueKind::Plain).await;
        take(&bus, "users-command-api", permission).await;
        let commands = bus.commands(&app).await;
        let lacking = format!("lacks the permission `{permission}`");
        commands.unhealthy(&lacking).await;
        commands.unhealthy("'users-command-api'").await;
        commands.kill().await;
    }
}

#[tokio::test]
async fn a_client_of_ids_that_may_not_publish_says_so() {
    let bus = Bus::new().await;
    let shutdown = CancellationToken::new();
    let _serving = shutdown.clone().drop_guard();
    let reply = |_| async { br#"{"data":["7"]}"#.to_vec() };
    let server = bus.account("uuids-service");
    tokio::spawn(serve_rpc(server, "uuids", reply, shutdown));
    let client = || OverBroker::new(RpcClient::new(bus.account("users-command-api"), "uuids"));
    until("an id", async || client().fetch(1, None).await.ok()).await;
    take(&bus, "users-command-api", "write").await;
    let text = until("a refusal", async || {
        let refused = client().fetch(1, None).await.unwrap_err();
        let refused = format!("{refused:?}");
        refused.contains("lacks").then_some(refused)
    })
    .await;
    assert!(
        names(&text, "users-command-api", "write", DEFAULT),
        "{text}"
    );
}

#[tokio::test]
async fn a_login_that_the_broker_refuses_is_named_without_its_password() {
    let bus = Bus::new().await;
    let url = bus.url().replace("guest:guest@", "stranger:secret@");
    let refused = Broker::connect(&url, "test").unwrap().check().await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("\"stranger\""), "{refused}");
    assert!(refused.contains("ACCESS_REFUSED"), "{refused}");
    assert!(!refused.contains("secret"), "{refused}");
}
