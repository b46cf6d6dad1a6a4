//! Users that are appended to the log past the command side, as fast as the store takes them.

use super::setup::Prepared;
use anyhow::{Result, anyhow};
use event_streams::{EventStreams, Expected};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::fs;
use users_service::domain::{
    Claim, FamilyName, GivenName, Profile, ReservationName, UserEvent, UserId, Username,
};
use users_service::privacy::subject_keys::SubjectKeys;
use users_service::stored_event::{StoredEvent, user_stream};
use uuid::Uuid;

/// How many appends wait for their answer.
const AT_ONCE: usize = 256;

/// Appends so many users, with the ids from 1 on. The usernames are `user1`, `user2` …
pub(super) async fn append(prepared: &Prepared, users: usize) -> Result<()> {
    eprintln!("appending {users} users");
    let master = fs::read_to_string(prepared.system.folder().join("master.key"))?;
    let master = master.parse().map_err(|_| anyhow!("no master key"))?;
    let keys = SubjectKeys::open(&prepared.databases, master).await?;
    let store = prepared.system.store()?;
    let appends = (1..=users).map(|number| append_one(&store, &keys, number));
    let appends = stream::iter(appends).buffer_unordered(AT_ONCE);
    appends.try_collect().await
}

async fn append_one(store: &EventStreams, keys: &SubjectKeys, number: usize) -> Result<()> {
    let event = UserEvent::Created {
        profile: Profile {
            username: Username::parse(format!("user{number}"))?,
            given_name: GivenName::parse(format!("Given{number}"))?,
            family_name: FamilyName::parse(format!("Family{number}"))?,
        },
        claim: Claim {
            reservation: ReservationName::new("username-00"),
            revision: 0,
        },
    };
    let user = UserId::new(u64::try_from(number)?);
    let event = StoredEvent::encode(Uuid::new_v4(), user, &event, &keys.fresh().await?);
    store
        .append(&user_stream(user), Expected::NoStream, vec![event])
        .await?;
    Ok(())
}
