//! The store of users' keys, which can destroy keys: one SQLite file, shared by the roles on one machine.
//!
//! Invariants:
//! - Each key is handed out to one user, and only after its batch is durable.
//! - A destroyed key is refused for ever, because its id (a fingerprint of the key) stays on a list.
//! - Only the keys on that list count as destroyed. A key that is not in the store at all is missing, and callers treat that
//!   as an error.
//! - When [`SubjectKeys::destroy`] returns, the key is in neither the file nor its write-ahead log, and that is durable.
//! - Stored keys are wrapped by the master key. No key is kept in memory after its use.
//! - An unused key that is handed back is handed out again.

mod destroyer;

use super::cipher::{KeyId, MasterKey, SubjectKey};
use crate::database::{self, CONNECTIONS};
use destroyer::Destroyer;
use sqlx::sqlite::SqlitePool;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// How many keys are generated in one durable write.
const BATCH: usize = 256;
/// The next batch is generated when fewer keys than this are ready.
const LOW: usize = BATCH / 2;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS keys (id BLOB PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS destroyed (id BLOB PRIMARY KEY) WITHOUT ROWID;";

/// The store of subject keys.
#[derive(Debug, Clone)]
pub struct SubjectKeys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: SqlitePool,
    master: MasterKey,
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
    /// Opens the store. A missing file is created.
    ///
    /// # Errors
    /// If the file cannot be opened, or has keys that the master key does not unwrap.
    pub async fn open(path: &Path, master: MasterKey) -> Result<Self, KeysError> {
        let options = database::options(path);
        let pool = database::pool(CONNECTIONS).connect_with(options).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        check_master_key(&pool, &master).await?;
        Ok(Self(Arc::new(Inner {
            destroyer: Destroyer::start(pool.clone()),
            pool,
            master,
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
        let (pool, master) = (self.0.pool.clone(), self.0.master.clone());
        tokio::spawn(generate_ahead(pool, master, generated));
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
        let wanted: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let wanted = serde_json::Value::from(wanted).to_string();
        let rows: Vec<(Vec<u8>, Option<Vec<u8>>, bool)> = sqlx::query_as(
            "SELECT unhex(value), wrapped, destroyed.id IS NOT NULL FROM json_each(?)
             LEFT JOIN keys ON keys.id = unhex(value) LEFT JOIN destroyed ON destroyed.id = unhex(value)",
        )
        .bind(wanted)
        .fetch_all(&self.0.pool)
        .await?;
        rows.into_iter().map(|row| self.looked_up(row)).collect()
    }

    fn looked_up(
        &self,
        (id, wrapped, destroyed): (Vec<u8>, Option<Vec<u8>>, bool),
    ) -> Result<(KeyId, Lookup), KeysError> {
        let id = key_id(&id)?;
        let lookup = match wrapped {
            _ if destroyed => Lookup::Destroyed,
            None => Lookup::Missing,
            Some(wrapped) => Lookup::Found(unwrap(&self.0.master, id, &wrapped)?),
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

/// Refuses a master key that does not unwrap the stored keys, before another key is wrapped with it.
async fn check_master_key(pool: &SqlitePool, master: &MasterKey) -> Result<(), KeysError> {
    let any: Option<(Vec<u8>, Vec<u8>)> = sqlx::query_as("SELECT id, wrapped FROM keys LIMIT 1")
        .fetch_optional(pool)
        .await?;
    match any {
        Some((id, wrapped)) => unwrap(master, key_id(&id)?, &wrapped).map(drop),
        None => Ok(()),
    }
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
async fn generate_ahead(pool: SqlitePool, master: MasterKey, generated: mpsc::Sender<SubjectKey>) {
    loop {
        match generate_batch(&pool, &master).await {
            Ok(keys) => {
                for key in keys {
                    if generated.send(key).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "no keys were generated; this is retried");
                let pause = Duration::from_millis(rand::random_range(250..=1000));
                tokio::select! {
                    () = generated.closed() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

async fn generate_batch(
    pool: &SqlitePool,
    master: &MasterKey,
) -> Result<Vec<SubjectKey>, sqlx::Error> {
    let keys: Vec<SubjectKey> = std::iter::repeat_with(SubjectKey::generate)
        .take(BATCH)
        .collect();
    let row = |key: &SubjectKey| [key.id().to_string(), hex::encode(master.wrap(key))];
    let rows: Vec<_> = keys.iter().map(row).collect();
    sqlx::query(
        "INSERT INTO keys (id, wrapped)
         SELECT unhex(value ->> 0), unhex(value ->> 1) FROM json_each(?)",
    )
    .bind(serde_json::json!(rows).to_string())
    .execute(pool)
    .await?;
    Ok(keys)
}

#[cfg(test)]
mod tests;
