//! A full disk under the keys and the read model. The disk is real, and small: a tmpfs that only the process sees.

use anyhow::{Context, Result, bail, ensure};
use private_broker::PrivateBroker;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use system_tests::audit::audit;
use system_tests::client::{Answer, http, id};
use system_tests::load::Load;
use system_tests::system::Node;
use system_tests::{Part, System, unique, wait};

const DISK_KIB: u32 = 3 * 1_024;
/// What SQLite says when the disk is full.
const FULL: &str = "database or disk is full";

/// Fills the disk of this folder to the last byte, and returns the file that fills it.
fn fill(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("filler");
    let mut file = File::create(&path)?;
    for size in [64 * 1_024, 1_024, 1] {
        let bytes = vec![0; size];
        let failure = loop {
            if let Err(failure) = file.write(&bytes) {
                break failure;
            }
        };
        ensure!(failure.kind() == ErrorKind::StorageFull, "{failure}");
    }
    Ok(path)
}

/// A system whose process with all roles of users-service has a small disk for its data.
async fn on_a_small_disk() -> Result<System> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let amqp_url = broker.vhost().await;
    let mut system = System::prepare(&Part::WHOLE, broker, &amqp_url, "info")?;
    system.set_small_disk(Part::Serve, DISK_KIB)?;
    for part in Part::WHOLE {
        system.start_part(part).await?;
    }
    system.ready().await?;
    Ok(system)
}

/// Creates users until a creation fails because no key can be made. Returns the acknowledged users.
async fn create_until_no_key_is_left(system: &System) -> Result<Vec<Value>> {
    let users = system.users()?;
    let mut acknowledged = Vec::new();
    for _ in 0..20 {
        let outcome = Load::begin(&users, 100, 400).finished().await?;
        acknowledged.extend(outcome.acknowledged);
        let log = system.log(Part::Serve)?;
        let full = |line: &str| line.contains("no keys were generated") && line.contains(FULL);
        if !outcome.failures.is_empty() && log.lines().any(full) {
            return Ok(acknowledged);
        }
    }
    bail!("the disk was never full")
}

async fn until_the_read_model_reports_the_full_disk(system: &System) -> Result<()> {
    wait::until("the read model reports the full disk", || async {
        let (_, body) = system.readiness(Part::Serve).await?;
        let projector = &body["dependencies"]["projector"];
        ensure!(projector.to_string().contains(FULL), "{projector}");
        Ok(())
    })
    .await
}

/// Nobody is held, and no message is a dead letter.
async fn nobody_was_given_up(system: &System) -> Result<()> {
    let address = system.address(Part::Serve).context("an address")?;
    let held = http()?.get(format!("http://{address}/operations/directory/held"));
    let held = Answer::to(held).await?.expect(200)?;
    ensure!(held.body["total"] == 0, "{held:?}");
    for partition in 0..4 {
        let queue = format!("users.directory.g1.{partition}.dead");
        let dead = system.messages(&queue).await?;
        ensure!(dead.is_empty(), "{dead:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_full_disk_under_the_keys_and_the_read_model_loses_nothing_that_was_acknowledged()
-> Result<()> {
    let system = on_a_small_disk().await?;
    let process = system.process_id(Part::Serve);
    let (users, store) = (system.users()?, system.store()?);
    let first = Load::begin(&users, 20, 100).finished().await?;
    let mut acknowledged = first.acknowledged;
    let deleted = acknowledged.pop().context("a user")?;
    let refused = acknowledged.pop().context("a user")?;
    users.delete(id(&deleted)).await?.expect(204)?;

    let filler = fill(&system.data_folder(Part::Serve)?)?;
    acknowledged.extend(create_until_no_key_is_left(&system).await?);
    until_the_read_model_reports_the_full_disk(&system).await?;
    users.delete(id(&refused)).await?.expect(503)?;
    users.get(id(&deleted)).await?.expect(404)?;

    fs::remove_file(filler)?;
    system.ready().await?;
    ensure!(system.process_id(Part::Serve) == process, "no restart");
    acknowledged.push(users.created(&unique("after")).await?);
    wait::until("nothing acknowledged is missing", || async {
        audit(&acknowledged, &users, &store).await?.none()
    })
    .await?;
    // The deletion that was answered 503 is finished without a second request.
    for gone in [&deleted, &refused] {
        wait::until("the deleted user is gone", || async {
            users.get(id(gone)).await?.expect(404)?;
            let listed = users.list(100).await?;
            ensure!(!listed.iter().any(|user| id(user) == id(gone)));
            Ok(())
        })
        .await?;
    }
    nobody_was_given_up(&system).await
}
