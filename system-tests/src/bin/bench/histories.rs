//! Users with long histories.

use anyhow::{Context, Result, ensure};
use event_streams::{EventStreams, Expected, NewEvent, RecordedEvent};
use serde_json::json;
use system_tests::client::id;
use system_tests::{Part, System, unique, wait};
use uuid::Uuid;

/// The list of the API is ready when a projector has built it.
pub(crate) const PARTS: [Part; 4] = [Part::Store, Part::Uuids, Part::Projector, Part::Api];

/// How many events one append has.
const SET: usize = 500;

/// Creates a user with so many events, and returns its id. The service writes the first two, and the others are copies of the
/// second one under ids of their own: a sealed name opens in every event of its stream and type.
pub(crate) async fn user_with(system: &System, events: usize) -> Result<String> {
    let users = system.users()?;
    let user = users.created(&unique("long")).await?;
    let id = id(&user).to_owned();
    if events < 2 {
        return Ok(id);
    }
    let change = json!({"given_name": "Copied"});
    users.patch(&id, &change).await?.expect(204)?;
    let store = system.store()?;
    let stream = format!("users-{id}");
    let patched = store.read_last(&stream).await?.context("a change")?;
    append_copies(&store, &patched, events - 2).await?;
    let shown = users.get(&id).await?.expect(200)?.body;
    ensure!(shown["given_name"] == "Copied", "{shown}");
    // Whether there is a snapshot depends on the number of events. Wait for one only if there are many.
    if events >= SET {
        wait::until("the snapshot is written", || async {
            let snapshot = store.read_last(&format!("snapshot-1-{stream}")).await?;
            snapshot.context("no snapshot yet")
        })
        .await?;
    }
    Ok(id)
}

async fn append_copies(store: &EventStreams, event: &RecordedEvent, count: usize) -> Result<()> {
    let mut revision = event.revision;
    let mut left = count;
    while left > 0 {
        let set = left.min(SET);
        let copy = |_| NewEvent {
            id: Uuid::new_v4(),
            event_type: event.event_type.clone().into(),
            data: event.data.clone(),
            metadata: event.metadata.clone(),
        };
        let copies = (0..set).map(copy).collect();
        let expected = Expected::Revision(revision);
        let appended = store.append(&event.stream, expected, copies).await?;
        revision = appended.revision;
        left -= set;
    }
    Ok(())
}
