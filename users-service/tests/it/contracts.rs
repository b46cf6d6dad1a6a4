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

/// Today's contracts after a change of the value at this place.
fn changed(pointer: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut document = today();
    change(document.pointer_mut(pointer).expect(pointer));
    document
}

fn insert(member: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |object| {
        drop(
            object
                .as_object_mut()
                .unwrap()
                .insert(member.to_owned(), value),
        )
    }
}

fn remove(member: &'static str) -> impl FnOnce(&mut Value) {
    move |object| {
        drop(
            object
                .as_object_mut()
                .unwrap()
                .remove(member)
                .expect(member),
        )
    }
}

fn set(value: Value) -> impl FnOnce(&mut Value) {
    move |there| *there = value
}

/// The members with text or number, or objects and lists of such, of a schema or a part of it.
const CREATED: &str = "/components/schemas/user.created.v1/anyOf/0";
const CREATED_HEADERS: &str = "/components/schemas/user.created.v1.headers";
const CREATE: &str = "/components/schemas/CreateUser/properties/data";
const REPLY: &str = "/components/schemas/CommandReply";

fn at(schema: &str, rest: &str) -> String {
    format!("{schema}{rest}")
}

#[test]
fn breaking_changes_of_what_is_sent_are_found() {
    let text = || json!({"type": "string"});
    for (what, changed) in [
        (
            "an event is removed",
            changed("/operations", remove("send.user.fenced.v1")),
        ),
        (
            "another routing key",
            changed(
                "/channels/user.created.v1/address",
                set(json!("user.made.v1")),
            ),
        ),
        (
            "another exchange",
            changed(
                "/channels/user.created.v1/bindings/amqp/exchange/name",
                set(json!("people")),
            ),
        ),
        (
            "another message on a channel",
            changed("/operations/send.user.deleted.v1/messages", |messages| {
                messages
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"$ref": "#/channels/user.fenced.v1/messages/user.fenced.v1"}))
            }),
        ),
        (
            "another media type",
            changed(
                "/components/messages/user.created.v1/contentType",
                set(json!("text/plain")),
            ),
        ),
        (
            "no headers",
            changed("/components/messages/user.created.v1", remove("headers")),
        ),
        (
            "a header is removed",
            changed(
                &at(CREATED_HEADERS, "/properties"),
                remove("cloudEvents:traceparent"),
            ),
        ),
        (
            "a header becomes optional",
            changed(
                &at(CREATED_HEADERS, "/required/0"),
                set(json!("cloudEvents:type")),
            ),
        ),
        (
            "a header has another form",
            changed(
                &at(CREATED_HEADERS, "/properties/cloudEvents:sequence/pattern"),
                set(json!(".")),
            ),
        ),
        (
            "a header has any form",
            changed(
                &at(CREATED_HEADERS, "/properties/cloudEvents:sequence"),
                remove("pattern"),
            ),
        ),
        (
            "a header has no format",
            changed(
                &at(CREATED_HEADERS, "/properties/cloudEvents:time"),
                remove("format"),
            ),
        ),
        (
            "another constant",
            changed(
                &at(CREATED_HEADERS, "/properties/cloudEvents:source/const"),
                set(json!("users")),
            ),
        ),
        (
            "no constant",
            changed(
                &at(CREATED_HEADERS, "/properties/cloudEvents:source"),
                remove("const"),
            ),
        ),
        (
            "more values",
            changed(
                &at(CREATED_HEADERS, "/properties/cloudEvents:specversion"),
                |schema| {
                    remove("const")(schema);
                    insert("enum", json!(["1.0", "1.1"]))(schema);
                },
            ),
        ),
        (
            "a member is removed",
            changed(&at(CREATED, "/properties"), remove("key")),
        ),
        (
            "a member is renamed",
            changed(&at(CREATED, "/properties"), |members| {
                remove("key")(members);
                insert("key_id", text())(members);
            }),
        ),
        (
            "a member becomes optional",
            changed(&at(CREATED, "/required"), set(json!(["id", "sealed"]))),
        ),
        (
            "another type",
            changed(&at(CREATED, "/properties/id/type"), set(json!("integer"))),
        ),
        (
            "one type more",
            changed(
                &at(CREATED, "/properties/id/type"),
                set(json!(["string", "null"])),
            ),
        ),
        (
            "any type",
            changed(&at(CREATED, "/properties/id"), remove("type")),
        ),
        (
            "a nested member is removed",
            changed(
                &at(CREATED, "/properties/sealed/properties"),
                remove("username"),
            ),
        ),
        (
            "a nested member becomes optional",
            changed(&at(CREATED, "/properties/sealed"), remove("required")),
        ),
        (
            "another encoding",
            changed(
                &at(
                    CREATED,
                    "/properties/sealed/properties/username/contentEncoding",
                ),
                set(json!("base16")),
            ),
        ),
        (
            "one form more",
            changed("/components/schemas/user.created.v1/anyOf", |forms| {
                forms.as_array_mut().unwrap().push(
                    json!({"type": "object", "properties": {"id": text()}, "required": ["id"]}),
                );
            }),
        ),
        (
            "a larger range",
            changed(&at(REPLY, "/properties/status/maximum"), set(json!(999))),
        ),
        (
            "no range",
            changed(&at(REPLY, "/properties/status"), remove("minimum")),
        ),
        (
            "other items",
            changed(
                &at(
                    REPLY,
                    "/properties/problem/properties/errors/items/properties/detail/type",
                ),
                set(json!("object")),
            ),
        ),
        (
            "any items",
            changed(
                &at(REPLY, "/properties/problem/properties/errors"),
                remove("items"),
            ),
        ),
        ("no reply", changed("/operations/execute", remove("reply"))),
        (
            "a keyword that nobody compares",
            changed(&at(CREATED, "/properties/id"), insert("not", json!({}))),
        ),
    ] {
        assert_ne!(breaking_changes(&today(), &changed), [""; 0], "{what}");
    }
}

#[test]
fn breaking_changes_of_what_is_received_are_found() {
    for (what, changed) in [
        (
            "a command is removed",
            changed("/operations/execute/messages", |commands| {
                commands.as_array_mut().unwrap().remove(0);
            }),
        ),
        (
            "another queue",
            changed("/channels/commands/address", set(json!("commands"))),
        ),
        (
            "another queue in the binding",
            changed(
                "/channels/commands/bindings/amqp/queue/durable",
                set(json!(false)),
            ),
        ),
        (
            "another name",
            changed(
                "/components/schemas/CreateUser/properties/command/const",
                set(json!("MakeUser")),
            ),
        ),
        (
            "a member is removed",
            changed(&at(CREATE, "/properties"), remove("id")),
        ),
        (
            "one more required member",
            changed(
                &at(CREATE, "/properties"),
                insert("email", json!({"type": "string"})),
            ),
        ),
        (
            "an optional member becomes required",
            changed(
                &at(CREATE, "/required"),
                set(json!(["id", "username", "given_name", "family_name"])),
            ),
        ),
        (
            "another type",
            changed(
                &at(CREATE, "/properties/username/type"),
                set(json!("object")),
            ),
        ),
        (
            "a shorter name",
            changed(
                &at(CREATE, "/properties/given_name/maxLength"),
                set(json!(99)),
            ),
        ),
        (
            "a longer name",
            changed(
                &at(CREATE, "/properties/given_name/minLength"),
                set(json!(2)),
            ),
        ),
        (
            "a new limit",
            changed(
                &at(CREATE, "/properties/username"),
                insert("maxLength", json!(64)),
            ),
        ),
        (
            "a new form",
            changed(
                &at(CREATE, "/properties/username"),
                insert("pattern", json!("^[a-z]*$")),
            ),
        ),
        (
            "one form less",
            changed(&at(CREATE, "/properties/id/anyOf"), |forms| {
                drop(forms.as_array_mut().unwrap().remove(1))
            }),
        ),
        (
            "a smaller range",
            changed(
                &at(CREATE, "/properties/id/anyOf/1/maximum"),
                set(json!(1000)),
            ),
        ),
        (
            "fewer values",
            changed(
                &at(CREATE, "/properties/username"),
                insert("enum", json!(["ada"])),
            ),
        ),
    ] {
        let changed = if what == "one more required member" {
            let mut changed = changed;
            let required = changed.pointer_mut(&at(CREATE, "/required")).unwrap();
            required.as_array_mut().unwrap().push(json!("email"));
            changed
        } else {
            changed
        };
        assert_ne!(breaking_changes(&today(), &changed), [""; 0], "{what}");
    }
}

#[test]
fn compatible_changes_are_accepted() {
    let text = || json!({"type": "string"});
    for (what, changed) in [
        ("nothing", today()),
        (
            "a new event",
            changed(
                "/operations",
                insert(
                    "send.user.created.v2",
                    json!({
                        "action": "send",
                        "channel": {"$ref": "#/channels/user.created.v2"},
                        "messages": [],
                    }),
                ),
            ),
        ),
        (
            "a new optional header",
            changed(
                &at(CREATED_HEADERS, "/properties"),
                insert("cloudEvents:tracestate", text()),
            ),
        ),
        (
            "a new required header",
            changed(CREATED_HEADERS, |schema| {
                insert("cloudEvents:dataschema", text())(&mut schema["properties"]);
                schema["required"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!("cloudEvents:dataschema"));
            }),
        ),
        (
            "a member that is always sent now",
            changed(&at(CREATED_HEADERS, "/required"), |required| {
                required
                    .as_array_mut()
                    .unwrap()
                    .push(json!("cloudEvents:traceparent"));
            }),
        ),
        (
            "a new member",
            changed(&at(CREATED, "/properties"), insert("email", text())),
        ),
        (
            "a form that is not sent any more",
            changed("/components/schemas/user.created.v1/anyOf", |forms| {
                drop(forms.as_array_mut().unwrap().remove(1));
            }),
        ),
        (
            "a smaller range of what is sent",
            changed(&at(REPLY, "/properties/status/maximum"), set(json!(503))),
        ),
        (
            "another description",
            changed(CREATED, insert("description", json!("Better words."))),
        ),
        (
            "a new command",
            changed("/operations/execute/messages", |commands| {
                commands
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"$ref": "#/channels/commands/messages/PraiseUser"}));
            }),
        ),
        (
            "a new optional member of a command",
            changed(&at(CREATE, "/properties"), insert("email", text())),
        ),
        (
            "a required member becomes optional",
            changed(
                &at(CREATE, "/required"),
                set(json!(["username", "given_name"])),
            ),
        ),
        (
            "a longer name",
            changed(
                &at(CREATE, "/properties/given_name/maxLength"),
                set(json!(200)),
            ),
        ),
        (
            "no limit",
            changed(&at(CREATE, "/properties/given_name"), remove("maxLength")),
        ),
        (
            "one form more",
            changed(&at(CREATE, "/properties/id/anyOf"), |forms| {
                forms.as_array_mut().unwrap().push(json!({"type": "null"}));
            }),
        ),
        (
            "unknown members are ignored",
            changed(CREATE, remove("additionalProperties")),
        ),
    ] {
        assert_eq!(breaking_changes(&today(), &changed), [""; 0], "{what}");
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
