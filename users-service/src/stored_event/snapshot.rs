//! Snapshots of users: what is known without a key in clear, the names sealed.

use super::name_versions::{SNAPSHOT, USER_SNAPSHOT};
use super::sealed_names::SealedNames;
use super::{EPOCH, Undecodable, json, user_stream};
use crate::domain::{Changes, Claim, Profile, UserId};
use crate::privacy::cipher::SubjectKey;
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The schema of snapshots that this program writes. A new schema has streams of its own.
const SCHEMA: u32 = 1;
/// Every schema that some version of this program writes or wrote.
const SCHEMAS: [u32; 1] = [SCHEMA];

/// A user after some event of the user's stream. Only active users have snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSnapshot {
    /// The key, the claim, and the names, which are sealed for the snapshot.
    pub names: SealedNames,
    /// The id and the revision of the last event of the user's stream.
    pub last: (Uuid, u64),
    /// The revision of the last event that changed the user.
    pub changed: u64,
}

/// The members of a snapshot beside those of [`SealedNames`].
#[derive(Serialize, Deserialize)]
struct Head {
    epoch: u64,
    standing: LifeStage,
    event_id: Uuid,
    revision: u64,
    changed: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LifeStage {
    Active,
}

/// The stream of the user's snapshots, of the schema that this program writes.
#[must_use]
pub fn snapshot_stream(user: UserId) -> String {
    stream_of(SCHEMA, user)
}

/// The streams of the user's snapshots, of every schema, whether or not they exist.
pub fn snapshot_streams(user: UserId) -> impl Iterator<Item = String> {
    SCHEMAS
        .into_iter()
        .map(move |schema| stream_of(schema, user))
}

fn stream_of(schema: u32, user: UserId) -> String {
    format!("snapshot-{schema}-{}", user_stream(user))
}

impl UserSnapshot {
    /// Seals the names for a snapshot of this user.
    #[must_use]
    pub fn seal(user: UserId, profile: Profile, claim: &Claim, key: &SubjectKey) -> SealedNames {
        let place = (snapshot_stream(user), &SNAPSHOT);
        SealedNames::seal(place, &Changes::from(profile), claim, key)
    }

    /// Decodes a snapshot.
    ///
    /// # Errors
    /// If it is malformed, of another version, or of another epoch. It is then of no use.
    pub fn decode(event: &RecordedEvent) -> Result<Self, Undecodable> {
        if event.event_type != USER_SNAPSHOT {
            return Err(Undecodable::UnknownType(event.event_type.clone()));
        }
        let malformed = || Undecodable::Malformed(USER_SNAPSHOT.to_owned());
        let head: Head = serde_json::from_slice(&event.data).map_err(|_| malformed())?;
        if head.epoch != EPOCH {
            return Err(malformed());
        }
        Ok(Self {
            names: SealedNames::decode(event, &SNAPSHOT)?,
            last: (head.event_id, head.revision),
            changed: head.changed,
        })
    }

    /// Encodes the snapshot for its stream.
    #[must_use]
    pub fn encode(self, id: Uuid, user: UserId) -> NewEvent {
        #[derive(Serialize)]
        struct Data {
            #[serde(flatten)]
            names: Map<String, Value>,
            #[serde(flatten)]
            head: Head,
        }
        let (event_id, revision) = self.last;
        let head = Head {
            epoch: EPOCH,
            standing: LifeStage::Active,
            event_id,
            revision,
            changed: self.changed,
        };
        let event = self.names.encode(id, user);
        let names = serde_json::from_slice(&event.data).unwrap_or_default();
        NewEvent {
            data: json(&Data { names, head }),
            ..event
        }
    }
}
