//! Versions of stored events: an earlier version is read as today's, and an unknown one costs its own user only.
//!
//! `UserCreated.v0` is made up. This process knows it, and the executable of the service does not. So the executable is the
//! older process.

use crate::bus::{
    Bus, PACE, listed, parked_streams, read_model, repair, until_listed, until_published, view,
};
use crate::publishing::{sequences, types};
use crate::support::{App, SECRET, id, spawn_app, until, user};
use event_streams::{Expected, NewEvent};
use messaging::Consumer;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use users_service::domain::{NameField, Personal, UserId, Username};
use users_service::integration::publisher::Pace;
use users_service::privacy::cipher::Place;
use users_service::privacy::pseudonym::UsernameSecret;
use users_service::stored_event::{
    NameSource, NamesMeaning, NamesVersion, ReservationEvent, read_more_versions,
};
use uuid::Uuid;

const MADE_UP: &str = "UserCreated.v0";

/// It has one name, `Ada Lovelace`, from which all of today's names are made.
static VERSIONS: [NamesVersion; 1] = [NamesVersion {
    stored: MADE_UP,
    meaning: NamesMeaning::Created,
    names: &[
        NameSource {
            field: NameField::Username,
            member: "name",
            upcast: |name| name.to_lowercase().replace(' ', "."),
        },
        NameSource {
            field: NameField::GivenName,
            member: "name",
            upcast: |name| name.split(' ').next().unwrap_or_default().to_owned(),
        },
        NameSource {
            field: NameField::FamilyName,
            member: "name",
            upcast: |name| name.split(' ').skip(1).collect::<Vec<_>>().join(" "),
        },
    ],
}];

/// Stores a user as the made-up version did, and returns the user as answers must show it.
async fn stored_in_the_made_up_version(app: &App) -> Value {
    let id = UserId::new(77);
    let secret: UsernameSecret = SECRET.repeat(32).parse().unwrap();
    let reservation = secret.reservation(&Username::parse("ada.lovelace").unwrap());
    let claimed = ReservationEvent::claimed(id).encode(Uuid::new_v4());
    let claimed = app
        .store
        .append(reservation.as_str(), Expected::NoStream, vec![claimed]);
    claimed.await.unwrap();
    let key = app.keys.fresh().await.unwrap();
    let place = Place {
        container: "users-77",
        event_type: MADE_UP,
        field: "name",
    };
    let sealed = key.seal(place, &Personal::new("Ada Lovelace".to_owned()));
    let data = json!({"id": "77", "key": key.id().to_string(), "sealed": {"name": sealed}});
    let metadata = json!({"reservation": reservation.as_str(), "claim_revision": 0});
    let created = NewEvent {
        id: Uuid::new_v4(),
        event_type: MADE_UP.into(),
        data: data.to_string().into(),
        metadata: metadata.to_string().into(),
    };
    let created = app
        .store
        .append("users-77", Expected::NoStream, vec![created]);
    created.await.unwrap();
    json!({"id": "77", "username": "ada.lovelace", "given_name": "Ada", "family_name": "Lovelace"})
}

async fn read(app: &App, user: &Value) -> Value {
    let answer = app.get(user).await;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn an_earlier_version_is_read_as_todays_by_commands_projection_replay_and_publisher() {
    read_more_versions(&VERSIONS);
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    let mut ada = stored_in_the_made_up_version(&app).await;
    assert_eq!(read(&app, &ada).await, ada);
    let rival = app.create(&user("ADA.Lovelace")).await;
    assert_eq!(rival.status(), StatusCode::CONFLICT);

    let mut probe = bus.probe().await;
    let _publisher = bus.publisher(&app, PACE);
    assert_eq!(types(&mut probe, 1).await, ["user.created.v1"]);
    let (view, model) = (view(&app).await, read_model(&app).await);
    let never = Duration::from_hours(10);
    let projector = bus.projector(&app, &view, never);
    until_listed(&app, &model, &[("77", "ada.lovelace")]).await;

    let patch = json!({"given_name": "Augusta"});
    assert_eq!(app.patch(&ada, &patch).await, StatusCode::NO_CONTENT);
    ada["given_name"] = json!("Augusta");
    assert_eq!(read(&app, &ada).await, ada);
    until_published(&app).await;
    projector.stop().await;
    repair(&app, &view)
        .catch_up(UserId::new(77), true)
        .await
        .unwrap();
    assert_eq!(
        listed(&app, &model).await,
        [("77".to_owned(), "ada.lovelace".to_owned())]
    );
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_user_with_an_unknown_event_version_can_be_deleted_and_nobody_else_notices() {
    let app = spawn_app().await;
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    app.append(&format!("users-{}", id(&ada)), "UserPatched.v9", "{}")
        .await;
    let patch = json!({"given_name": "Augusta"});
    assert_eq!(
        app.get(&ada).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        app.patch(&ada, &patch).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let rival = app.create(&user("ada")).await;
    assert_eq!(
        rival.status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "the name may be taken"
    );
    assert_eq!(app.patch(&eda, &patch).await, StatusCode::NO_CONTENT);
    app.created("ida").await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
}

/// The executable of the service, ended when it is dropped.
struct Older {
    process: Child,
    url: String,
}

impl Drop for Older {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Older {
    async fn start(role: &str, app: &App, bus: &Bus) -> Self {
        let folder = app.folder.path();
        let secret = |name: &str, byte: &str| {
            let path = folder.join(name);
            std::fs::write(&path, byte.repeat(32)).unwrap();
            path
        };
        let process = Command::new(env!("CARGO_BIN_EXE_users-service"))
            .arg(role)
            .args(["--eventstore-url", &app.store_url()])
            .args(["--amqp-url", bus.url()])
            .args(["--bind", "127.0.0.1:0", "--health-bind", "127.0.0.1:0"])
            .arg("--data")
            .arg(folder)
            .arg("--master-key-file")
            .arg(secret("master", "0c"))
            .arg("--username-secret-file")
            .arg(secret("usernames", SECRET))
            .stdout(Stdio::piped())
            .spawn();
        let mut process = process.unwrap();
        let log = BufReader::new(process.stdout.take().unwrap());
        let mut older = Self {
            process,
            url: String::new(),
        };
        let (sender, address) = tokio::sync::oneshot::channel();
        let sender = Mutex::new(Some(sender));
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                let address = line["fields"]["address"].as_str();
                let sender = address.and_then(|_| sender.lock().unwrap().take());
                if let (Some(sender), Some(address)) = (sender, address) {
                    let _ = sender.send(address.to_owned());
                }
            }
        });
        older.url = format!("http://{}", address.await.unwrap());
        until("the older process is ready", async || {
            let answer = reqwest::get(format!("{}/_readyz", older.url)).await.ok()?;
            (answer.status() == StatusCode::OK).then_some(())
        })
        .await;
        older
    }

    async fn status(&self, method: Method, user: &Value, body: &Value) -> StatusCode {
        let request = reqwest::Client::new().request(method, format!("{}/{}", self.url, id(user)));
        request.json(body).send().await.unwrap().status()
    }
}

/// Receives messages up to this one. A publisher that takes over may repeat some that were sent before.
async fn until_sent(probe: &mut Consumer, sequence: &str) {
    while sequences(probe, 1).await != [sequence] {}
}

#[tokio::test]
async fn a_newer_process_serves_and_sends_what_an_older_one_beside_it_does_not_know() {
    read_more_versions(&VERSIONS);
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    let mut probe = bus.probe().await;
    let _older = Older::start("publisher", &app, &bus).await;
    let older = Older::start("command-api", &app, &bus).await;
    let ada = stored_in_the_made_up_version(&app).await;
    let eda = app.created("eda").await;
    assert_eq!(sequences(&mut probe, 1).await, [format!("{}.0", id(&eda))]);
    let expected = json!([{"stream": "users-77", "revision": 0, "unknown": MADE_UP}]);
    until("the older publisher parks the user", async || {
        (parked_streams(&app).await == expected).then_some(())
    })
    .await;

    let patch = json!({"given_name": "Augusta"});
    for method in [Method::GET, Method::PATCH] {
        let status = older.status(method.clone(), &ada, &patch).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{method}");
    }
    assert_eq!(
        older.status(Method::GET, &eda, &patch).await,
        StatusCode::OK
    );
    assert_eq!(
        older.status(Method::PATCH, &eda, &patch).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(read(&app, &ada).await, ada);
    assert_eq!(sequences(&mut probe, 1).await, [format!("{}.1", id(&eda))]);

    // The older publisher is alive, so time alone would never make the newer one take over.
    let patient = Pace {
        takeover: Duration::from_secs(10),
        ..PACE
    };
    let newer = bus.publisher(&app, patient);
    until_sent(&mut probe, "77.0").await;
    newer.parks_nothing().await;
    until("nothing is parked", async || {
        (parked_streams(&app).await == json!(null)).then_some(())
    })
    .await;
    let ida = app.created("ida").await;
    until_sent(&mut probe, &format!("{}.0", id(&ida))).await;
}

#[tokio::test]
async fn one_takeover_for_an_unknown_type_causes_no_other() {
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    let _probe = bus.probe().await;
    // Its type is known here, but it cannot be sent, so its stream stays parked.
    app.append("users-77", "UserCreated.v1", "{}").await;
    let parked = json!([{"stream": "users-77", "revision": 0, "unknown": "UserCreated.v1"}]);
    let older = json!({"commit": 0, "prepare": 0, "beginning": true, "holder": Uuid::new_v4(), "parked": parked});
    app.append(
        "publisher-users",
        "PublisherCheckpoint.v1",
        &older.to_string(),
    )
    .await;
    let patient = Pace {
        takeover: Duration::from_hours(10),
        ..PACE
    };
    let newer = bus.publisher(&app, patient);
    newer.parks("users-77 at revision 0 (UserCreated.v1").await;
    let checkpoints = app.events("publisher-users").await;
    for written in &checkpoints[1..] {
        let written: Value = serde_json::from_slice(&written.data).unwrap();
        assert_eq!(
            written["parked"],
            json!([{"stream": "users-77", "revision": 0}])
        );
    }
    assert!(checkpoints.len() > 1);
}

#[tokio::test]
async fn a_newer_projector_lists_a_user_whom_an_older_one_held() {
    read_more_versions(&VERSIONS);
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    let (view, model) = (view(&app).await, read_model(&app).await);
    let mut probe = bus.probe().await;
    let _publisher = bus.publisher(&app, PACE);
    let ada = stored_in_the_made_up_version(&app).await;
    let eda = app.created("eda").await;
    // No projector has a queue yet, so each must read the log.
    until_sent(&mut probe, &format!("{}.0", id(&eda))).await;
    until_published(&app).await;
    let older = Older::start("projector", &app, &bus).await;
    until_listed(&app, &model, &[(id(&eda), "eda")]).await;
    let user: UserId = id(&ada).parse().unwrap();
    until("the older projector holds the user", async || {
        view.standing(user).await.unwrap().held.then_some(())
    })
    .await;
    drop(older);
    let _newer = bus.projector(&app, &view, Duration::from_hours(10));
    until_listed(&app, &model, &[("77", "ada.lovelace"), (id(&eda), "eda")]).await;
    assert!(!view.standing(user).await.unwrap().held);
}
