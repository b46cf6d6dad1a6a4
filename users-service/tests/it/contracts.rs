//! The contracts of the messages: they are served to everybody, and no change breaks a program that was written for the frozen
//! ones in `tests/fixtures/contracts`.
//!
//! `FREEZE_CONTRACTS=1 cargo test -p users-service --test it contracts` freezes today's, unless they break the frozen ones.

mod breaking_changes;
mod narrower;

use crate::starting::config;
use crate::support::until;
use breaking_changes::breaking_changes;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use users_service::contracts;
use users_service::startup::{Application, Role};

fn today() -> Value {
    serde_json::from_str(&contracts::text(&contracts::asyncapi())).unwrap()
}

#[test]
fn no_change_of_a_message_breaks_a_program_that_was_written_for_the_frozen_contracts() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/contracts/asyncapi.json"
    );
    let path = PathBuf::from(path);
    if let Ok(frozen) = std::fs::read_to_string(&path) {
        let frozen = serde_json::from_str(&frozen).unwrap();
        let breaking = breaking_changes(&frozen, &today());
        assert!(breaking.is_empty(), "see ADR 21: {breaking:#?}");
    }
    if std::env::var_os("FREEZE_CONTRACTS").is_some() {
        std::fs::write(&path, contracts::text(&today())).unwrap();
    }
    assert!(path.exists(), "the frozen contracts are missing");
}

const CREATED: &str = "/components/schemas/user.created.v1/anyOf/0";
const HEADERS: &str = "/components/schemas/user.created.v1.headers";
const CREATE: &str = "/components/schemas/CreateUser/properties/data";
const REPLY: &str = "/components/schemas/CommandReply/properties";
const REMOVED: Value = Value::Null;

/// The document with another value at each of these places. A list grows at `-`.
fn patched(mut document: Value, patch: &[(&str, &str, Value)]) -> Value {
    for (schema, rest, value) in patch {
        let place = format!("{schema}{rest}");
        let (parent, member) = place.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).expect(parent) {
            Value::Object(members) if value.is_null() => {
                drop(members.remove(member).expect(&place))
            }
            Value::Object(members) => drop(members.insert(member.to_owned(), value.clone())),
            Value::Array(list) if member == "-" => list.push(value.clone()),
            Value::Array(list) => drop(list.remove(member.parse().unwrap())),
            other => panic!("{other} has no members"),
        }
    }
    document
}

/// A change of today's contracts, with its name.
type Planted = (&'static str, Vec<(&'static str, &'static str, Value)>);

fn assert_breaking(before: &Value, planted: Vec<Planted>) {
    for (what, patch) in planted {
        let found = breaking_changes(before, &patched(before.clone(), &patch));
        assert!(!found.is_empty(), "{what}");
    }
}

fn text() -> Value {
    json!({"type": "string"})
}

#[test]
fn breaking_changes_of_where_messages_are_found_are_found() {
    let created = "/channels/user.created.v1";
    let fenced = json!({"$ref": "#/channels/user.fenced.v1/messages/user.fenced.v1"});
    let binding = "/channels/commands/bindings/amqp/queue";
    let execute = "/operations/execute";
    assert_breaking(
        &today(),
        vec![
            (
                "an event is removed",
                vec![("/operations", "/send.user.fenced.v1", REMOVED)],
            ),
            (
                "an event is received",
                vec![(
                    "/operations/send.user.fenced.v1",
                    "/action",
                    json!("receive"),
                )],
            ),
            (
                "another routing key",
                vec![(created, "/address", json!("user.made.v1"))],
            ),
            (
                "another exchange",
                vec![(created, "/bindings/amqp/exchange/name", json!("people"))],
            ),
            (
                "another message on a channel",
                vec![("/operations/send.user.deleted.v1", "/messages/-", fenced)],
            ),
            (
                "another media type",
                vec![(
                    "/components/messages/user.created.v1",
                    "/contentType",
                    json!("text/plain"),
                )],
            ),
            (
                "no headers",
                vec![("/components/messages/user.created.v1", "/headers", REMOVED)],
            ),
            (
                "a command is removed",
                vec![(execute, "/messages/0", REMOVED)],
            ),
            (
                "another queue",
                vec![("/channels/commands", "/address", json!("commands"))],
            ),
            (
                "another kind of queue",
                vec![(binding, "/durable", json!(false))],
            ),
            ("no reply", vec![(execute, "/reply", REMOVED)]),
            (
                "a reply to another place",
                vec![(
                    execute,
                    "/reply/address/location",
                    json!("$message.header#/answer-to"),
                )],
            ),
        ],
    );
}

#[test]
fn breaking_changes_of_what_is_sent_are_found() {
    let other_form = json!({"type": "object", "properties": {"id": text()}, "required": ["id"]});
    assert_breaking(
        &today(),
        vec![
            (
                "a header is removed",
                vec![(HEADERS, "/properties/cloudEvents:traceparent", REMOVED)],
            ),
            (
                "a header is removed, and no others are allowed",
                vec![
                    (HEADERS, "/properties/cloudEvents:traceparent", REMOVED),
                    (HEADERS, "/additionalProperties", json!(false)),
                ],
            ),
            (
                "a header becomes optional",
                vec![(HEADERS, "/required/0", REMOVED)],
            ),
            (
                "a header has another form",
                vec![(
                    HEADERS,
                    "/properties/cloudEvents:sequence/pattern",
                    json!("."),
                )],
            ),
            (
                "a header has any form",
                vec![(HEADERS, "/properties/cloudEvents:sequence/pattern", REMOVED)],
            ),
            (
                "a header has no format",
                vec![(HEADERS, "/properties/cloudEvents:time/format", REMOVED)],
            ),
            (
                "another constant",
                vec![(
                    HEADERS,
                    "/properties/cloudEvents:source/const",
                    json!("users"),
                )],
            ),
            (
                "no constant",
                vec![(HEADERS, "/properties/cloudEvents:source/const", REMOVED)],
            ),
            (
                "more values",
                vec![
                    (
                        HEADERS,
                        "/properties/cloudEvents:specversion/const",
                        REMOVED,
                    ),
                    (
                        HEADERS,
                        "/properties/cloudEvents:specversion/enum",
                        json!(["1.0", "1.1"]),
                    ),
                ],
            ),
            (
                "a member is removed",
                vec![(CREATED, "/properties/key", REMOVED)],
            ),
            (
                "a member is renamed",
                vec![
                    (CREATED, "/properties/key", REMOVED),
                    (CREATED, "/properties/key_id", text()),
                ],
            ),
            (
                "a member becomes optional",
                vec![(CREATED, "/required", json!(["id", "sealed"]))],
            ),
            (
                "another type",
                vec![(CREATED, "/properties/id/type", json!("integer"))],
            ),
            (
                "one type more",
                vec![(CREATED, "/properties/id/type", json!(["string", "null"]))],
            ),
            ("any type", vec![(CREATED, "/properties/id/type", REMOVED)]),
            (
                "a nested member is removed",
                vec![(CREATED, "/properties/sealed/properties/username", REMOVED)],
            ),
            (
                "nested members become optional",
                vec![(CREATED, "/properties/sealed/required", REMOVED)],
            ),
            (
                "another encoding",
                vec![(
                    CREATED,
                    "/properties/sealed/properties/username/contentEncoding",
                    json!("base16"),
                )],
            ),
            (
                "one form more",
                vec![(
                    "/components/schemas/user.created.v1",
                    "/anyOf/-",
                    other_form,
                )],
            ),
            (
                "a larger range",
                vec![(REPLY, "/status/maximum", json!(999))],
            ),
            ("no range", vec![(REPLY, "/status/minimum", REMOVED)]),
            (
                "other items",
                vec![(
                    REPLY,
                    "/problem/properties/errors/items/properties/detail/type",
                    json!("object"),
                )],
            ),
            (
                "any items",
                vec![(REPLY, "/problem/properties/errors/items", REMOVED)],
            ),
            (
                "a keyword that nobody compares",
                vec![(CREATED, "/properties/id/not", json!({}))],
            ),
        ],
    );
}

#[test]
fn breaking_changes_of_what_is_received_are_found() {
    assert_breaking(
        &today(),
        vec![
            (
                "another name",
                vec![(
                    "/components/schemas/CreateUser",
                    "/properties/command/const",
                    json!("MakeUser"),
                )],
            ),
            (
                "a member is removed",
                vec![(CREATE, "/properties/id", REMOVED)],
            ),
            (
                "one more required member",
                vec![
                    (CREATE, "/properties/email", text()),
                    (CREATE, "/required/-", json!("email")),
                ],
            ),
            (
                "an optional member becomes required",
                vec![(CREATE, "/required/-", json!("id"))],
            ),
            (
                "another type",
                vec![(CREATE, "/properties/username/type", json!("object"))],
            ),
            (
                "a smaller maximum",
                vec![(CREATE, "/properties/given_name/maxLength", json!(99))],
            ),
            (
                "a larger minimum",
                vec![(CREATE, "/properties/given_name/minLength", json!(2))],
            ),
            (
                "a new limit",
                vec![(CREATE, "/properties/username/maxLength", json!(64))],
            ),
            (
                "a new form",
                vec![(CREATE, "/properties/username/pattern", json!("^[a-z]*$"))],
            ),
            (
                "one form less",
                vec![(CREATE, "/properties/id/anyOf/1", REMOVED)],
            ),
            (
                "a smaller range",
                vec![(CREATE, "/properties/id/anyOf/1/maximum", json!(1000))],
            ),
            (
                "fewer values",
                vec![(CREATE, "/properties/username/enum", json!(["ada"]))],
            ),
            (
                "a restriction of all forms",
                vec![(CREATE, "/properties/id/maxLength", json!(3))],
            ),
            (
                "a keyword that nobody compares",
                vec![(CREATE, "/properties/username/not", json!({}))],
            ),
            (
                "unknown members of one type",
                vec![(CREATE, "/additionalProperties", text())],
            ),
        ],
    );
    let open = patched(today(), &[(CREATE, "/additionalProperties", REMOVED)]);
    assert_breaking(
        &open,
        vec![
            (
                "unknown members are refused",
                vec![(CREATE, "/additionalProperties", json!(false))],
            ),
            (
                "a rule for a member that was ignored",
                vec![(CREATE, "/properties/email", text())],
            ),
        ],
    );
}

#[test]
fn compatible_changes_are_accepted() {
    let operation = json!({"action": "send", "channel": {"$ref": "#/channels/user.created.v2"}, "messages": []});
    let command = json!({"$ref": "#/channels/commands/messages/PraiseUser"});
    let compatible: Vec<Planted> = vec![
        ("nothing", vec![]),
        (
            "a new event",
            vec![("/operations", "/send.user.created.v2", operation)],
        ),
        (
            "a new optional header",
            vec![(HEADERS, "/properties/cloudEvents:tracestate", text())],
        ),
        (
            "a new header",
            vec![
                (HEADERS, "/properties/cloudEvents:dataschema", text()),
                (HEADERS, "/required/-", json!("cloudEvents:dataschema")),
            ],
        ),
        (
            "a member that is always sent now",
            vec![(HEADERS, "/required/-", json!("cloudEvents:traceparent"))],
        ),
        ("a new member", vec![(CREATED, "/properties/email", text())]),
        (
            "a form that is not sent any more",
            vec![("/components/schemas/user.created.v1", "/anyOf/1", REMOVED)],
        ),
        (
            "a smaller range of what is sent",
            vec![(REPLY, "/status/maximum", json!(503))],
        ),
        (
            "another description",
            vec![(CREATED, "/description", json!("Better words."))],
        ),
        (
            "a new command",
            vec![("/operations/execute", "/messages/-", command)],
        ),
        (
            "a new optional member of a command",
            vec![(CREATE, "/properties/email", text())],
        ),
        (
            "a required member becomes optional",
            vec![(CREATE, "/required/0", REMOVED)],
        ),
        (
            "a larger maximum",
            vec![(CREATE, "/properties/given_name/maxLength", json!(200))],
        ),
        (
            "no maximum",
            vec![(CREATE, "/properties/given_name/maxLength", REMOVED)],
        ),
        (
            "one form more",
            vec![(CREATE, "/properties/id/anyOf/-", json!({"type": "null"}))],
        ),
        (
            "unknown members are ignored",
            vec![(CREATE, "/additionalProperties", REMOVED)],
        ),
    ];
    for (what, patch) in compatible {
        let found = breaking_changes(&today(), &patched(today(), &patch));
        assert_eq!(found, [""; 0], "{what}");
    }
}

/// Serves the role, which authenticates its callers, until the token is cancelled.
async fn served(role: Role, folder: &TempDir, shutdown: CancellationToken) -> String {
    let mut config = config(folder.path(), &"0e".repeat(32));
    config.access.auth_secret_file = Some(folder.path().join("secret"));
    let application = Application::build(role, &config).await.unwrap();
    let url = format!("http://{}", application.address());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(application.run(shutdown))
    });
    until("the process listens", async || {
        reqwest::get(format!("{url}/_healthz")).await.ok()
    })
    .await;
    url
}

#[tokio::test]
async fn the_contracts_are_served_to_everybody() {
    let folder = TempDir::new().unwrap();
    for role in [Role::Api, Role::QueryApi] {
        let shutdown = CancellationToken::new();
        let _stops_when_dropped = shutdown.clone().drop_guard();
        let url = served(role, &folder, shutdown).await;
        let get = async |path: &str| reqwest::get(format!("{url}{path}")).await.unwrap();
        assert_eq!(get("/").await.status(), StatusCode::UNAUTHORIZED);
        let document = get("/asyncapi.json").await;
        let media_type = "application/vnd.aai.asyncapi+json;version=3.0.0";
        assert_eq!(document.headers()["content-type"], media_type);
        assert_eq!(document.json::<Value>().await.unwrap(), today());
        for (name, schema) in contracts::schemas() {
            let served = get(&format!("/schemas/{name}")).await;
            assert_eq!(served.headers()["content-type"], "application/schema+json");
            assert_eq!(served.text().await.unwrap(), contracts::text(&schema));
        }
        let unknown = get("/schemas/user.praised.v1").await;
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
        let put = Client::new().request(Method::PUT, format!("{url}/asyncapi.json"));
        let put = put.send().await.unwrap();
        assert_eq!(put.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
