//! What a user costs on the way into the list, counted in what the processes log.

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use private_broker::PrivateBroker;
use system_tests::system::Node;
use system_tests::{Part, System, unique, wait};

const USERS: usize = 1_000;
const CONNECTIONS: usize = 32;
/// The fewest users that a look-up or a transaction must serve on average while publisher and projector catch up.
const USERS_AT_ONCE: usize = 10;

const LOOK_UP: &str = "looking up keys";

/// How often a part logged this message.
fn count(system: &System, part: Part, message: &str) -> Result<usize> {
    let log = system.log(part)?;
    Ok(log.lines().filter(|line| line.contains(message)).count())
}

#[tokio::test]
async fn users_come_into_the_list_many_at_once() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let parts = [Part::Store, Part::Uuids, Part::Api, Part::Projector];
    let all = [parts.as_slice(), &[Part::Publisher]].concat();
    let mut system = System::prepare(&all, broker, &url, "debug")?;
    for part in parts {
        system.start_part(part).await?;
        system.serves(part).await?;
    }
    let users = system.users()?;
    let prefix = unique("cost");
    let create = |number| {
        let name = format!("{prefix}-{number}");
        let users = &users;
        async move { users.created(&name).await }
    };
    let creating = stream::iter(0..USERS).map(create);
    let created: Vec<_> = creating.buffer_unordered(CONNECTIONS).try_collect().await?;
    system.start_part(Part::Publisher).await?;
    wait::until("all users are listed", || async {
        ensure!(users.list(USERS).await?.len() == created.len(), "not yet");
        Ok(())
    })
    .await?;
    for (part, message) in [
        (Part::Publisher, LOOK_UP),
        (Part::Projector, LOOK_UP),
        (Part::Projector, "applied events"),
    ] {
        let times = count(&system, part, message)?;
        ensure!(times > 0, "{part:?} logs no {message:?}");
        let bound = USERS / USERS_AT_ONCE;
        ensure!(
            times <= bound,
            "{part:?}: {message:?} {times} times, more than {bound}"
        );
    }
    system.end();
    Ok(())
}
