//! A full disk under the keys and the read model. The disk is real, and small: a tmpfs that only the process sees.

use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
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

async fn dependency(system: &System, name: &str) -> Result<String> {
    let (_, body) = system.readiness(Part::Serve).await?;
    let state = body["dependencies"][name].as_str();
    Ok(state.context("a dependency")?.to_owned())
}

#[tokio::test]
async fn a_full_disk_under_the_keys_and_the_read_model_loses_nothing_that_was_acknowledged()
-> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let amqp_url = broker.vhost().await;
    let mut system = System::prepare(&Part::WHOLE, broker, &amqp_url, "info")?;
    system.set_small_disk(Part::Serve, DISK_KIB)?;
    for part in Part::WHOLE {
        system.start_part(part).await?;
    }
    system.ready().await?;
    let process = system.process_id(Part::Serve);
    let (users, store) = (system.users()?, system.store()?);
    let mut acknowledged = Load::begin(&users, 20, 100).finished().await?.acknowledged;
    let (deleted, refused) = (
        acknowledged.pop().context("a user")?,
        acknowledged.pop().context("a user")?,
    );
    users.delete(id(&deleted)).await?.expect(204)?;

    let folder = system.data_folder(Part::Serve)?;
    let filler = fill(&folder)?;
    // The keys that were made ahead are used up, and the read model grows.
    let (mut keys_failed, mut failures) = (false, 0);
    for _ in 0..20 {
        let outcome = Load::begin(&users, 100, 400).finished().await?;
        acknowledged.extend(outcome.acknowledged);
        failures += outcome.failures.len();
        let log = system.log(Part::Serve)?;
        let mut lines = log.lines();
        keys_failed =
            lines.any(|line| line.contains("no keys were generated") && line.contains(FULL));
        if keys_failed && failures > 0 {
            break;
        }
    }
    ensure!(keys_failed && failures > 0, "the disk was never full");
    wait::until("the read model reports the full disk", || async {
        let projector = dependency(&system, "projector").await?;
        ensure!(projector.contains(FULL), "{projector}");
        Ok(())
    })
    .await?;
    let not_now = users.delete(id(&refused)).await?;
    ensure!(not_now.status == 503, "{not_now:?}");
    users.get(id(&deleted)).await?.expect(404)?;

    fs::remove_file(filler)?;
    system.ready().await?;
    ensure!(
        system.process_id(Part::Serve) == process,
        "nobody restarted it"
    );
    acknowledged.push(users.created(&unique("after")).await?);
    wait::until("nothing acknowledged is missing", || async {
        audit(&acknowledged, &users, &store).await?.none()
    })
    .await?;
    // The deletion that was answered 503 is finished without a second request.
    for gone in [&deleted, &refused] {
        wait::until("the deleted user is gone", || async {
            users.get(id(gone)).await?.expect(404)?;
            ensure!(
                !users
                    .list(100)
                    .await?
                    .iter()
                    .any(|user| id(user) == id(gone))
            );
            Ok(())
        })
        .await?;
    }
    let held = http()?.get(format!(
        "http://{}/operations/held",
        system.address(Part::Serve).context("an address")?
    ));
    let held = Answer::to(held).await?.expect(200)?;
    ensure!(held.body["total"] == 0, "{held:?}");
    for partition in 0..4 {
        let dead = system
            .messages(&format!("users.directory.g1.{partition}.dead"))
            .await?;
        ensure!(dead.is_empty(), "{dead:?}");
    }
    Ok(())
}
