//! A process starts without its servers and reports the missing ones. It refuses invalid secrets without showing them.

use crate::support::until;
use clap::Parser;
use futures::future::join_all;
use private_postgres::PrivatePostgres;
use reqwest::StatusCode;
use serde_json::Value;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use users_service::config::{Config, PlainCommands};
use users_service::database::Databases;
use users_service::privacy::search_secret::SearchSecret;
use users_service::read_model::{Directory, Generation, Projection, Registry, Statistics};
use users_service::startup::{Application, Role};

const NOT_READY: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "not ready");

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

/// A configuration with unavailable servers: nothing listens on port 1.
pub(crate) fn config(folder: &Path, secret: &str) -> Config {
    let file = folder.join("secret");
    std::fs::write(&file, secret).unwrap();
    let file = file.display().to_string();
    let data = folder.join("data").display().to_string();
    let arguments = [
        ("--eventstore-url", "esdb://127.0.0.1:1?tls=false"),
        ("--amqp-url", "amqp://guest:guest@127.0.0.1:1/%2f"),
        ("--uuids-url", "http://127.0.0.1:1"),
        ("--bind", "127.0.0.1:0"),
        ("--health-bind", "127.0.0.1:0"),
        ("--data", &data),
        ("--master-key-file", &file),
        ("--username-secret-file", &file),
    ];
    let arguments = arguments
        .into_iter()
        .flat_map(|(name, value)| [name, value]);
    Arguments::parse_from(std::iter::once("users-service").chain(arguments)).config
}

/// A running role.
struct Running {
    url: String,
    shutdown: CancellationToken,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(role: Role, config: &Config) -> Self {
        let application = Application::build(role, config).await.unwrap();
        let url = format!("http://127.0.0.1:{}", application.address().port());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(application.run(stop))
        });
        Self {
            url,
            shutdown,
            thread,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        // The roles run on this test's runtime, so it must not be blocked while they stop.
        let stopped = tokio::task::spawn_blocking(|| self.thread.join().unwrap());
        stopped.await.unwrap().unwrap();
    }

    /// The status of the answer to a GET, as soon as the process listens.
    async fn status(&self, path: &str) -> StatusCode {
        let url = format!("{}{path}", self.url);
        let answer = || async { reqwest::get(&url).await.ok() };
        until("the process listens", answer).await.status()
    }
}

/// Read models that were built before.
async fn built(folder: &Path) {
    let mut builder = std::fs::DirBuilder::new();
    let data = folder.join("data");
    builder.recursive(true).mode(0o700).create(&data).unwrap();
    let databases = Databases::Folder(data);
    let registry = Registry::new(databases.clone());
    let secret = SearchSecret::of(&crate::support::master());
    let projections: [&dyn Projection; 2] = [&Directory::new(secret), &Statistics];
    for projection in projections {
        let begun = registry.begin(projection, 4, 0).await.unwrap();
        let generation = Generation::open(&databases, projection, (begun.number, 4)).await;
        let name = generation.unwrap().read_model();
        registry.switch(name, begun.number, 0).await.unwrap();
    }
}

/// Starts the role while all servers are unavailable, and checks its readiness.
async fn assert_starts(role: Role, (code, status): (StatusCode, &str), missing: &[&str]) {
    let folder = TempDir::new().unwrap();
    built(folder.path()).await;
    let config = config(folder.path(), &format!("{}\n", "0e".repeat(32)));
    let running = Running::start(role, &config).await;
    let url = &running.url;
    let readiness = || async {
        let answer = reqwest::get(format!("{url}/_readyz")).await.ok()?;
        Some((answer.status(), answer.json::<Value>().await.ok()?))
    };
    let (answered, body) = until("the process listens", readiness).await;
    assert_eq!((answered, &body["status"]), (code, &Value::from(status)));
    for dependency in missing {
        let state = body["dependencies"][dependency].as_str().unwrap();
        assert!(state.starts_with("down: "), "{body}");
    }
    assert_eq!(body["dependencies"]["subject keys"], "up");
    let health = reqwest::get(format!("{url}/_healthz")).await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let mode = std::fs::metadata(&config.data.folder)
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    running.stop().await;
}

/// The statuses of the lists of parked streams and held users. 503 is a list that waits for the store.
async fn operations(role: Role, change: impl Fn(&mut Config)) -> [StatusCode; 2] {
    let folder = TempDir::new().unwrap();
    built(folder.path()).await;
    let mut config = config(folder.path(), &"0e".repeat(32));
    change(&mut config);
    let running = Running::start(role, &config).await;
    let parked = running.status("/operations/parked").await;
    let held = running.status("/operations/directory/held").await;
    let of_statistics = running.status("/operations/statistics/held").await;
    assert_eq!(of_statistics == 404, held == 404, "{of_statistics} {held}");
    running.stop().await;
    [parked, held]
}

#[tokio::test]
async fn each_role_serves_the_routes_of_operators_for_the_data_that_it_has() {
    const LATER: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    const NONE: StatusCode = StatusCode::NOT_FOUND;
    for (role, expected) in [
        (Role::Serve, [LATER, StatusCode::OK]),
        (Role::Api, [LATER, StatusCode::OK]),
        (Role::CommandApi, [LATER, NONE]),
        (Role::QueryApi, [NONE, StatusCode::OK]),
        (Role::Projector, [NONE, StatusCode::OK]),
        (Role::Publisher, [LATER, NONE]),
        (Role::Eraser, [NONE, NONE]),
    ] {
        assert_eq!(operations(role, |_| {}).await, expected, "{role:?}");
    }
    let everywhere = |config: &mut Config| config.bind.health = "0.0.0.0:0".parse().unwrap();
    let not_loopback = operations(Role::Projector, everywhere).await;
    assert_eq!(not_loopback, [NONE, NONE], "everybody would be let in");
    let nameless = |config: &mut Config| {
        config.access.auth_jwks = Some("keys.json".to_owned());
        config.data.username_secret_file = None;
    };
    let nameless = operations(Role::Projector, nameless).await;
    assert_eq!(nameless, [NONE, NONE], "callers would have no pseudonym");
}

#[tokio::test]
async fn a_command_api_reports_that_store_and_ids_are_missing() {
    assert_starts(Role::CommandApi, NOT_READY, &["event store", "ids"]).await;
}

#[tokio::test]
async fn an_eraser_reports_that_the_store_is_missing() {
    let missing = ["event store", "eraser", "sweep"];
    assert_starts(Role::Eraser, NOT_READY, &missing).await;
}

#[tokio::test]
async fn without_servers_the_list_answers_and_the_feed_waits() {
    let missing = ["feed of events"];
    assert_starts(Role::QueryApi, (StatusCode::OK, "degraded"), &missing).await;
}

#[tokio::test]
async fn a_projector_reports_that_broker_and_store_are_missing() {
    let missing = ["broker", "event store", "projector", "completeness"];
    assert_starts(Role::Projector, NOT_READY, &missing).await;
}

#[tokio::test]
async fn a_process_with_all_roles_reports_all_missing_servers() {
    assert_starts(
        Role::Serve,
        NOT_READY,
        &["event store", "broker", "ids", "eraser", "publisher"],
    )
    .await;
}

#[tokio::test]
async fn an_invalid_secret_is_refused_and_not_shown() {
    let folder = TempDir::new().unwrap();
    for wrong in ["", "0123abc", &"zz".repeat(32)] {
        let config = config(folder.path(), wrong);
        let refused = Application::build(Role::Serve, &config).await;
        let error = format!("{:?}", refused.err().unwrap());
        assert!(error.contains("has no valid secret"), "{error}");
        assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
    }
}

#[tokio::test]
async fn roles_that_start_at_the_same_time_share_new_files() {
    for _ in 0..2 {
        let folder = TempDir::new().unwrap();
        let config = config(folder.path(), &"0e".repeat(32));
        let roles = [
            Role::Serve,
            Role::Api,
            Role::QueryApi,
            Role::Projector,
            Role::Eraser,
        ];
        let started = join_all(roles.map(|role| Application::build(role, &config))).await;
        for application in started {
            application.unwrap();
        }
    }
}

#[test]
fn plain_commands_are_refused_if_callers_are_authenticated_and_nobody_says_otherwise() {
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path(), &"0e".repeat(32));
    assert!(config.accepts_plain_commands());
    config.access.auth_jwks = Some("keys.json".to_owned());
    assert!(!config.accepts_plain_commands());
    config.commands.commands_plain = Some(PlainCommands::Accept);
    assert!(config.accepts_plain_commands());
}

#[tokio::test]
async fn a_service_that_lets_everybody_in_does_not_listen_on_all_addresses() {
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path(), &"0e".repeat(32));
    config.bind.users = "0.0.0.0:0".parse().unwrap();
    let refused = Application::build(Role::Api, &config).await;
    let reason = refused.err().unwrap().to_string();
    assert!(reason.contains("AUTH_SECRET_FILE"), "{reason}");
    config.access.insecure = true;
    assert!(Application::build(Role::Api, &config).await.is_ok());
}

/// What readiness says of the keys, and its status code.
async fn state_of_keys(url: &str) -> Option<(StatusCode, String)> {
    let answer = reqwest::get(format!("{url}/_readyz")).await.ok()?;
    let status = answer.status();
    let body: Value = answer.json().await.ok()?;
    let state = body["dependencies"]["subject keys"].as_str()?;
    Some((status, state.to_owned()))
}

#[tokio::test]
async fn a_process_starts_while_postgresql_is_away_and_heals_whenever_it_comes_back() {
    let server = PrivatePostgres::start(&["wal_recycle=off"]).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path(), &"0e".repeat(32));
    config.data.database_url = Some(server.database().await);
    server.kill().await.unwrap();
    let running = Running::start(Role::CommandApi, &config).await;
    for _ in 0..2 {
        let (status, state) = until("the process listens", || state_of_keys(&running.url)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(state.starts_with("down: "), "{state}");
        server.restart().await.unwrap();
        until("the keys are there", async || {
            let (_, state) = state_of_keys(&running.url).await?;
            (state == "up").then_some(())
        })
        .await;
        server.kill().await.unwrap();
    }
    running.stop().await;
}

#[tokio::test]
async fn roles_that_start_at_the_same_time_share_a_new_schema() {
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path(), &"0e".repeat(32));
    config.data.database_url = Some(PrivatePostgres::shared().await.database().await);
    let roles = [
        Role::CommandApi,
        Role::Publisher,
        Role::Eraser,
        Role::Eraser,
    ];
    let started = join_all(roles.map(|role| Application::build(role, &config))).await;
    for application in started {
        application.unwrap();
    }
}

#[tokio::test]
async fn a_database_url_of_another_kind_is_refused_and_not_repeated() {
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path(), &"0e".repeat(32));
    for url in [
        "mysql://users:hidden@host/users",
        "hidden",
        "postgres:hidden",
        "postgres://hidden:x:y",
    ] {
        config.data.database_url = Some(url.to_owned());
        let refused = Application::build(Role::CommandApi, &config).await;
        let error = format!("{:?}", refused.err().unwrap());
        assert!(error.contains("DATABASE_URL"), "{error}");
        assert!(!error.contains("hidden"), "{error}");
    }
}

#[test]
fn the_help_does_not_show_the_url_of_the_database() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_users-service"))
        .args(["command-api", "--help"])
        .env("DATABASE_URL", "postgres://users:hidden@host/users")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("DATABASE_URL"), "{help}");
    assert!(!help.contains("hidden"), "{help}");
}
