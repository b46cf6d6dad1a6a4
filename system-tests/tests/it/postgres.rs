//! The services on a PostgreSQL server, which keeps subject keys and read models for all processes.

use anyhow::{Result, ensure};
use private_broker::PrivateBroker;
use private_postgres::PrivatePostgres;
use system_tests::audit::{audit, audit_finds_a_planted_loss};
use system_tests::client::id;
use system_tests::load::Load;
use system_tests::process::Process;
use system_tests::system::Node;
use system_tests::{Part, System, Users, unique, wait};

/// The users that are created at each API, at 25 per second.
const USERS: usize = 100;

/// A system on this server, and a second API, which shares no folder with the first one.
async fn on(server: &PrivatePostgres) -> Result<(System, Process, Users)> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let mut system = System::prepare(&Part::ROLES, broker, &url, "info")?;
    system.use_database(&server.database().await);
    for part in Part::ROLES {
        system.start_part(part).await?;
    }
    system.ready().await?;
    let elsewhere = system.folder().join("elsewhere");
    let mut other = system.process(Part::Api)?.twin()?;
    other.set_variable("USERS_BIND", "127.0.0.1:0");
    other.set_variable("USERS_DATA", elsewhere);
    other.start()?;
    let users = Users::new(&format!("http://{}", other.address().await?))?;
    Ok((system, other, users))
}

/// Neither API keeps anything on its own disk.
fn has_no_files(system: &System) -> Result<()> {
    for folder in ["users", "elsewhere"] {
        let folder = system.folder().join(folder);
        ensure!(!folder.exists(), "{}", folder.display());
    }
    Ok(())
}

#[tokio::test]
async fn apis_on_two_machines_share_a_server_whose_death_loses_nothing() -> Result<()> {
    let server = PrivatePostgres::start(&["wal_recycle=off"]).await?;
    let (system, _other, there) = on(&server).await?;
    let (here, store) = (system.users()?, system.store()?);
    let loads = [&here, &there].map(|users| Load::begin(users, USERS, 25));
    for load in &loads {
        load.acknowledged(USERS / 4).await?;
    }
    server.kill().await?;
    wait::until("the API reports the missing server", || async {
        let (status, body) = system.readiness(Part::Api).await?;
        let keys = body["dependencies"]["subject keys"].as_str();
        let is_down = keys.is_some_and(|keys| keys.starts_with("down: "));
        ensure!(status == 503 && is_down, "{status} {body}");
        Ok(())
    })
    .await?;
    server.restart().await?;
    let mut acknowledged = Vec::new();
    for load in loads {
        acknowledged.extend(load.finished().await?.acknowledged);
    }
    system.ready().await?;
    wait::until("nothing acknowledged is missing", || async {
        audit(&acknowledged, &here, &store).await?.none()
    })
    .await?;
    audit_finds_a_planted_loss(&acknowledged, &here, &store).await?;
    has_no_files(&system)
}

#[tokio::test]
async fn what_one_api_acknowledges_the_other_one_knows_and_what_it_erases_is_gone() -> Result<()> {
    let server = PrivatePostgres::start(&["wal_recycle=off"]).await?;
    let (system, _other, there) = on(&server).await?;
    let here = system.users()?;
    let user = here.created(&unique("ada")).await?;
    let known = there.get(id(&user)).await?.expect(200)?;
    ensure!(known.body == user, "{known:?}");
    there.until_listed(std::slice::from_ref(&user)).await?;
    there.delete(id(&user)).await?.expect(204)?;
    here.get(id(&user)).await?.expect(404)?;
    // Its row may still be there, but its key is not.
    for users in [&here, &there] {
        let listed = users.list(100).await?;
        ensure!(!listed.iter().any(|row| id(row) == id(&user)), "{listed:?}");
    }
    has_no_files(&system)
}
