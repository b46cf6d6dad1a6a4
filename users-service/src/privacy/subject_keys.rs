//! The store of users' keys, which can destroy keys: one SQLite file, shared by the roles on one machine, or a schema of a
//! PostgreSQL database, shared by the roles on several machines.
//!
//! Invariants:
//! - Each key is handed out to one user, and only after its batch is durable.
//! - A destroyed key is refused for ever, because its id (a fingerprint of the key) stays on a list.
//! - Only the keys on that list count as destroyed. A key that is not in the store at all is missing, and callers treat that
//!   as an error.
//! - When [`SubjectKeys::destroy`] returns, the key is in no file of the database or its write-ahead log, and that is durable.
//! - Stored keys are wrapped by the master key. No key is kept in memory after its use.
//! - An unused key that is handed back is handed out again.

mod destroyer;
mod key_database;
mod key_forgetting;
mod partitions;
mod requirements;

use super::cipher::{KeyId, MasterKey, SubjectKey};
use crate::database::{Database, Databases, over_rows, rows_of};
use destroyer::Destroyer;
use key_database::KeyDatabase;
use serde_json::json;
use sqlx::AssertSqlSafe;
use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// How many keys are generated in one durable write.
const BATCH: usize = 256;
/// The next batch is generated when fewer keys than this are ready.
const LOW: usize = BATCH / 2;

/// The store of subject keys.
#[derive(Debug, Clone)]
pub struct SubjectKeys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: KeyDatabase,
    /// Keys generated ahead. This starts with the first request for a key, because most roles never need one.
    ready: Mutex<Option<mpsc::Receiver<SubjectKey>>>,
    /// Keys that were handed back unused. There are never more of them than there were keys in use at one time.
    handed_back: StdMutex<Vec<SubjectKey>>,
    destroyer: Destroyer,
    /// A key that was looked up and is neither in the store nor destroyed.
    lost: StdMutex<Option<KeyId>>,
}

/// The result of looking up a key.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// The key.
    Found(SubjectKey),
    /// The key was destroyed, so everything that it sealed is erased.
    Destroyed,
    /// The store never had the key, or lost it. This is not an erasure.
    Missing,
}

/// A failure of the key store.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The database failed.
    #[error("the key store failed")]
    Database(#[from] sqlx::Error),
    /// The settings of the PostgreSQL server, or the rights of our role, do not allow what the store promises.
    #[error("the PostgreSQL server cannot hold the subject keys: {0}")]
    Unsuitable(String),
    /// A key does not unwrap, because the master key is wrong or the stored key is damaged.
    #[error("key {0} does not unwrap with this master key")]
    DoesNotUnwrap(KeyId),
    /// The database was busy or failed; the service's log has the reason. The caller can destroy the key again.
    #[error("key {0} is not destroyed yet")]
    NotDestroyed(KeyId),
    /// A needed key is neither in the store nor destroyed.
    #[error("key {0} is lost")]
    Lost(KeyId),
    /// No key was generated in time.
    #[error("no key is ready")]
    NoneReady,
}

impl SubjectKeys {
    /// Opens the store. A missing database is created. A PostgreSQL server that is away is no error: the store opens when it
    /// is there, and all calls fail until then.
    ///
    /// # Errors
    /// If the database cannot be opened, does not suit, or has keys that the master key does not unwrap.
    pub async fn open(databases: &Databases, master: MasterKey) -> Result<Self, KeysError> {
        let database = KeyDatabase::new(databases.clone(), master);
        match database.get().await {
            Err(error) if database.may_open_later(&error) => {
                tracing::warn!(%error, "the key store is not open yet; this is retried");
            }
            opened => opened.map(drop)?,
        }
        Ok(Self(Arc::new(Inner {
            destroyer: Destroyer::start(database.clone()),
            database,
            ready: Mutex::default(),
            handed_back: StdMutex::default(),
            lost: StdMutex::default(),
        })))
    }

    /// An unused key for one user. It costs no durable write if a batch is ready.
    ///
    /// # Errors
    /// [`KeysError::NoneReady`] if no key is ready within some seconds.
    pub async fn fresh(&self) -> Result<SubjectKey, KeysError> {
        if let Some(key) = self.handed_back().pop() {
            return Ok(key);
        }
        let next = async {
            let mut ready = self.0.ready.lock().await;
            let ready = ready.get_or_insert_with(|| self.start_generating());
            ready.recv().await
        };
        match tokio::time::timeout(Duration::from_secs(5), next).await {
            Ok(Some(key)) => Ok(key),
            Ok(None) | Err(_) => Err(KeysError::NoneReady),
        }
    }

    /// Takes back an unused key, to hand it out again. Nothing that is stored may be sealed under it.
    pub fn hand_back(&self, key: SubjectKey) {
        self.handed_back().push(key);
    }

    fn handed_back(&self) -> MutexGuard<'_, Vec<SubjectKey>> {
        let keys = self.0.handed_back.lock();
        keys.unwrap_or_else(PoisonError::into_inner)
    }

    fn start_generating(&self) -> mpsc::Receiver<SubjectKey> {
        let (generated, ready) = mpsc::channel(LOW);
        tokio::spawn(generate_ahead(self.0.database.clone(), generated));
        ready
    }

    /// Looks up a key in the database. Nothing is cached between calls.
    ///
    /// # Errors
    /// If the database fails, or the key does not unwrap.
    pub async fn find(&self, id: KeyId) -> Result<Lookup, KeysError> {
        let found = self.find_many(&[id]).await?.remove(&id);
        Ok(found.unwrap_or(Lookup::Missing))
    }

    /// Looks up many keys at once. The result has an entry for each of them.
    ///
    /// # Errors
    /// If the database fails, or a key does not unwrap.
    pub async fn find_many(&self, ids: &[KeyId]) -> Result<HashMap<KeyId, Lookup>, KeysError> {
        let found = self.look_up(ids).await?;
        let missing =
            |(id, lookup): (&KeyId, &Lookup)| matches!(lookup, Lookup::Missing).then_some(*id);
        if let Some(id) = found.iter().find_map(missing) {
            self.lost().get_or_insert(id);
        }
        Ok(found)
    }

    /// Looks up many keys whose ids come from outside. A missing key is not reported as lost, because the store may never
    /// have had it.
    pub(crate) async fn look_up(&self, ids: &[KeyId]) -> Result<HashMap<KeyId, Lookup>, KeysError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        tracing::debug!(keys = ids.len(), "looking up keys");
        let database = self.0.database.get().await?;
        let rows: Vec<(Vec<u8>, Option<Vec<u8>>, i64)> =
            sqlx::query_as(AssertSqlSafe(looking_up(database, ids)))
                .bind(rows_of_ids(ids))
                .fetch_all(database.pool())
                .await?;
        rows.into_iter().map(|row| self.looked_up(row)).collect()
    }

    fn looked_up(
        &self,
        (id, wrapped, destroyed): (Vec<u8>, Option<Vec<u8>>, i64),
    ) -> Result<(KeyId, Lookup), KeysError> {
        let id = key_id(&id)?;
        let lookup = match wrapped {
            _ if destroyed > 0 => Lookup::Destroyed,
            None => Lookup::Missing,
            Some(wrapped) => Lookup::Found(unwrap(self.0.database.master(), id, &wrapped)?),
        };
        Ok((id, lookup))
    }

    /// Destroys the key permanently. Returns when that is durable and no file contains the key any more. Idempotent.
    ///
    /// # Errors
    /// [`KeysError::NotDestroyed`]. The caller retries until it succeeds.
    pub async fn destroy(&self, id: KeyId) -> Result<(), KeysError> {
        self.0.destroyer.destroy(id).await
    }

    /// A cheap query for the readiness check.
    ///
    /// # Errors
    /// If the database fails. [`KeysError::Lost`] as long as a key that was looked up is missing.
    pub async fn check(&self) -> Result<(), KeysError> {
        let lost = *self.lost();
        let ids = [lost.unwrap_or(KeyId::from_bytes([0; 16]))];
        let found = self.look_up(&ids).await?;
        match (lost, found.get(&ids[0])) {
            (Some(id), Some(Lookup::Missing)) => return Err(KeysError::Lost(id)),
            (Some(_), Some(Lookup::Found(_) | Lookup::Destroyed)) => {
                self.lost().take_if(|now| Some(*now) == lost);
            }
            (None, _) | (_, None) => {}
        }
        Ok(())
    }

    fn lost(&self) -> MutexGuard<'_, Option<KeyId>> {
        self.0.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The statement that looks up keys of these ids. Subqueries use the indexes, whatever the planner assumes about the number of
/// ids.
fn looking_up(database: &Database, ids: &[KeyId]) -> String {
    let table = partitions::table_of(database.dialect(), ids);
    let rows = database.text(over_rows!("", ROWS, ""));
    format!(
        "SELECT unhex(value ->> 0), (SELECT wrapped FROM {table} WHERE id = unhex(value ->> 0)),
             (SELECT count(*) FROM destroyed WHERE id = unhex(value ->> 0))
         FROM {rows}"
    )
}

fn rows_of_ids(ids: &[KeyId]) -> String {
    rows_of(ids.iter().map(|id| json!([id.to_string()])).collect())
}

fn unwrap(master: &MasterKey, id: KeyId, wrapped: &[u8]) -> Result<SubjectKey, KeysError> {
    let key = master.unwrap(id, wrapped);
    key.map_err(|_| KeysError::DoesNotUnwrap(id))
}

fn key_id(bytes: &[u8]) -> Result<KeyId, sqlx::Error> {
    let id = bytes.try_into().map(KeyId::from_bytes);
    id.map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Generates batches of keys until the store is dropped. Each batch is durable before its first key is handed out.
async fn generate_ahead(database: KeyDatabase, generated: mpsc::Sender<SubjectKey>) {
    loop {
        match generate_batch(&database).await {
            Ok(keys) => {
                for key in keys {
                    if generated.send(key).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(error, "no keys were generated; this is retried");
                let pause = Duration::from_millis(rand::random_range(250..=1000));
                tokio::select! {
                    () = generated.closed() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

async fn generate_batch(database: &KeyDatabase) -> Result<Vec<SubjectKey>, KeysError> {
    let keys: Vec<SubjectKey> = std::iter::repeat_with(SubjectKey::generate)
        .take(BATCH)
        .collect();
    let master = database.master();
    let row = |key: &SubjectKey| json!([key.id().to_string(), hex::encode(master.wrap(key))]);
    let rows = rows_of(keys.iter().map(row).collect());
    let database = database.get().await?;
    let insert = database.text(over_rows!(
        "INSERT INTO keys (id, wrapped)
         SELECT unhex(value ->> 0), unhex(value ->> 1) FROM ",
        ROWS,
        ""
    ));
    let insert = sqlx::query(insert).bind(rows);
    insert.execute(database.pool()).await?;
    Ok(keys)
}

#[cfg(test)]
mod tests;
