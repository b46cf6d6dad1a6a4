//! A process starts without its servers, says what is missing, and refuses wrong secrets without showing them.

use crate::support::until;
use clap::Parser;
use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use users_service::config::Config;
use users_service::startup::{Application, Role};

const NOT_READY: (StatusCode, &str) = (StatusCode::SERVICE_UNAVAILABLE, "not ready");

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

/// A configuration whose servers are all away: nobody listens on port 1.
fn config(folder: &Path, secret: &str) -> Config {
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

/// Starts the role with all servers away, and checks what it says of itself then.
async fn starts(role: Role, (code, status): (StatusCode, &str), missing: &[&str]) {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path(), &format!("{}\n", "0e".repeat(32)));
    let application = Application::build(role, &config).await.unwrap();
    let url = format!("http://{}", application.address());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(application.run(stop))
    });
    let readiness = || async {
        let answer = reqwest::get(format!("{url}/_readyz")).await.ok()?;
        Some((answer.status(), answer.json::<Value>().await.ok()?))
    };
    let (answered, told) = until("it listens", readiness).await;
    assert_eq!((answered, &told["status"]), (code, &Value::from(status)));
    for dependency in missing {
        let state = told["dependencies"][dependency].as_str().unwrap();
        assert!(state.starts_with("down: "), "{told}");
    }
    assert_eq!(told["dependencies"]["subject keys"], "up");
    let health = reqwest::get(format!("{url}/_healthz")).await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let mode = std::fs::metadata(&config.data.folder)
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    shutdown.cancel();
    // The roles were started on this test's runtime, so it must not be blocked while they stop.
    let stopped = tokio::task::spawn_blocking(|| running.join().unwrap());
    stopped.await.unwrap().unwrap();
}

#[tokio::test]
async fn commands_miss_store_and_ids() {
    starts(Role::CommandApi, NOT_READY, &["event store", "ids"]).await;
}

#[tokio::test]
async fn an_eraser_misses_the_store() {
    starts(Role::Eraser, NOT_READY, &["event store", "eraser"]).await;
}

#[tokio::test]
async fn the_list_misses_nothing() {
    starts(Role::QueryApi, (StatusCode::OK, "ready"), &[]).await;
}

#[tokio::test]
async fn a_projector_misses_the_broker_and_its_loops() {
    let missing = ["broker", "event store", "projector", "completeness"];
    starts(Role::Projector, NOT_READY, &missing).await;
}

#[tokio::test]
async fn all_roles_in_one_process_miss_everything() {
    starts(
        Role::Serve,
        NOT_READY,
        &["event store", "broker", "ids", "eraser", "publisher"],
    )
    .await;
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_not_shown() {
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
async fn roles_that_start_at_once_share_new_files() {
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
