//! Disturbances from outside: garbage on the port of a process, and a hangup of its terminal.

use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
use serde_json::Value;
use system_tests::system::Node;
use system_tests::{Part, System, unique, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The system as `make up` runs it, logging at `level`.
async fn whole_system(level: &str) -> Result<System> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    System::of(&Part::WHOLE, broker, level).await
}

#[tokio::test]
async fn a_hangup_stops_no_part() -> Result<()> {
    let system = whole_system("info").await?;
    for part in Part::WHOLE {
        system.signal(part, "HUP")?;
        wait::until(&format!("{part:?} has received the hangup"), || async {
            let log = system.log(part)?;
            ensure!(log.contains("a hangup stops nothing"), "not yet");
            Ok(())
        })
        .await?;
    }
    let users = system.users()?;
    let user = users.created(&unique("after")).await?;
    users.until_listed(&[user]).await?;
    system.ready().await
}

/// Counts the log lines that `picked` selects.
fn lines(log: &str, picked: impl Fn(&Value) -> bool) -> usize {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.filter(picked).count()
}

#[tokio::test]
async fn garbage_on_a_port_is_logged_at_debug() -> Result<()> {
    let system = whole_system("debug").await?;
    for part in [Part::Serve, Part::Uuids] {
        let address = system.address(part).context("an address")?;
        for garbage in [
            &b"\0\xff\x80 garbage\r\n\r\n"[..],
            b"GET / HTTP/9.9\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(garbage).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            ensure!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
        }
        wait::until("both are in the log", || async {
            let log = system.log(part)?;
            let logged = lines(&log, |line| {
                line["level"] == "DEBUG" && line["fields"]["message"] == NO_VALID_REQUEST
            });
            ensure!(logged == 2, "{logged}");
            Ok(())
        })
        .await?;
        let log = system.log(part)?;
        // The client of the event store logs an error while the store is still down.
        let errors = lines(&log, |line| {
            line["level"] == "ERROR" && line["target"] != "eventstore::grpc"
        });
        ensure!(errors == 0, "{log}");
    }
    Ok(())
}

const NO_VALID_REQUEST: &str = "a connection ended without a valid request";
