//! The keys of users, in a store that can forget: one SQLite file, shared by the roles of one machine.
//!
//! Invariants:
//! - A key is handed out to one user, and only after the batch that it was made in is durable.
//! - A destroyed key is refused for ever: its id is its fingerprint, and stays on a list.
//! - Only what is on that list is destroyed; a key that is not there at all is missing, which is an error elsewhere.
//! - When [`SubjectKeys::destroy`] returns, the key is in neither the file nor its log, and that is durable.
//! - Keys lie wrapped by the master key, and none is kept in memory after it was used.
//! - A key that comes back unused is handed out again.

mod destroyer;

use super::cipher::{Hexadecimal, KeyId, MasterKey, SubjectKey};
use crate::database::{self, CONNECTIONS};
use destroyer::Destroyer;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// How many keys are made in one durable write.
const BATCH: usize = 256;
/// The next batch is made when fewer than this many keys wait.
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
    /// Keys made ahead, once somebody has asked for one: most roles never do.
    ready: Mutex<Option<mpsc::Receiver<SubjectKey>>>,
    /// Keys that were handed out and not used: at most as many as were out at one moment.
    handed_back: StdMutex<Vec<SubjectKey>>,
    destroyer: Destroyer,
    /// A key that was asked for and is neither there nor destroyed.
    lost: StdMutex<Option<KeyId>>,
}

/// What the store knows of a key.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// Here it is.
    Found(SubjectKey),
    /// It was destroyed: what it sealed is erased.
    Destroyed,
    /// The store never had it, or lost it. This is not an erasure.
    Missing,
}

/// Why the store did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The database failed.
    #[error("the key store failed")]
    Database(#[from] sqlx::Error),
    /// A key does not unwrap: another master key, or damage.
    #[error("key {0} does not unwrap with this master key")]
    DoesNotUnwrap(KeyId),
    /// The database was busy or failed, as the log says. Destroying the key again tries again.
    #[error("key {0} is not destroyed yet")]
    NotDestroyed(KeyId),
    /// A key that somebody needs is neither there nor destroyed.
    #[error("key {0} is lost")]
    Lost(KeyId),
    /// No key could be made ahead.
    #[error("no key is ready")]
    NoneReady,
}

impl SubjectKeys {
    /// Opens the store, made anew if the file is missing.
    ///
    /// # Errors
    /// When the file cannot be opened, or holds keys that the master key does not unwrap.
    pub async fn open(path: &Path, master: MasterKey) -> Result<Self, KeysError> {
        let options = database::options(path);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_with(options)
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        prove(&pool, &master).await?;
        Ok(Self(Arc::new(Inner {
            destroyer: Destroyer::start(pool.clone()),
            pool,
            master,
            ready: Mutex::default(),
            handed_back: StdMutex::default(),
            lost: StdMutex::default(),
        })))
    }

    /// A key that nothing was ever sealed under, for one user. Costs no durable write while batches keep up.
    ///
    /// # Errors
    /// [`KeysError::NoneReady`] when the store has been failing for some seconds.
    pub async fn fresh(&self) -> Result<SubjectKey, KeysError> {
        if let Some(key) = self.handed_back().pop() {
            return Ok(key);
        }
        let next = async {
            let mut ready = self.0.ready.lock().await;
            let ready = ready.get_or_insert_with(|| self.begin_to_make_ahead());
            ready.recv().await
        };
        match tokio::time::timeout(Duration::from_secs(5), next).await {
            Ok(Some(key)) => Ok(key),
            Ok(None) | Err(_) => Err(KeysError::NoneReady),
        }
    }

    /// Takes back a key under which nothing is sealed that is stored anywhere. It is handed out again.
    pub fn hand_back(&self, key: SubjectKey) {
        self.handed_back().push(key);
    }

    fn handed_back(&self) -> MutexGuard<'_, Vec<SubjectKey>> {
        let keys = self.0.handed_back.lock();
        keys.unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_to_make_ahead(&self) -> mpsc::Receiver<SubjectKey> {
        let (made, ready) = mpsc::channel(LOW);
        let (pool, master) = (self.0.pool.clone(), self.0.master.clone());
        tokio::spawn(make_ahead(pool, master, made));
        ready
    }

    /// What the store knows of the key now: nothing is remembered between calls.
    ///
    /// # Errors
    /// When the database fails, or the key does not unwrap.
    pub async fn find(&self, id: KeyId) -> Result<Lookup, KeysError> {
        let found = self.find_many(&[id]).await?.remove(&id);
        Ok(found.unwrap_or(Lookup::Missing))
    }

    /// [`find`](Self::find) for many keys at once; the answer has each of them.
    ///
    /// # Errors
    /// When the database fails, or a key does not unwrap.
    pub async fn find_many(&self, ids: &[KeyId]) -> Result<HashMap<KeyId, Lookup>, KeysError> {
        let found = self.look_up(ids).await?;
        let missing =
            |(id, lookup): (&KeyId, &Lookup)| matches!(lookup, Lookup::Missing).then_some(*id);
        if let Some(id) = found.iter().find_map(missing) {
            self.lost().get_or_insert(id);
        }
        Ok(found)
    }

    /// [`find_many`](Self::find_many) for ids that come from outside: one that the store never had says nothing of the
    /// store, so a missing key is not remembered as lost.
    pub(crate) async fn look_up(&self, ids: &[KeyId]) -> Result<HashMap<KeyId, Lookup>, KeysError> {
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

    /// Destroys the key for ever, and returns when that is durable and no file holds it any more. Idempotent.
    ///
    /// # Errors
    /// [`KeysError::NotDestroyed`]; the caller tries again until it succeeds.
    pub async fn destroy(&self, id: KeyId) -> Result<(), KeysError> {
        self.0.destroyer.destroy(id).await
    }

    /// One cheap look at the file, for readiness.
    ///
    /// # Errors
    /// When the database fails, or [`KeysError::Lost`] for as long as a key that was asked for is missing.
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

/// Refuses a master key that is not the one of the keys in the file, before one more is made under it.
async fn prove(pool: &SqlitePool, master: &MasterKey) -> Result<(), KeysError> {
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

/// Makes batch after batch, each one durable before its first key goes out, until the store is dropped.
async fn make_ahead(pool: SqlitePool, master: MasterKey, made: mpsc::Sender<SubjectKey>) {
    loop {
        match make_batch(&pool, &master).await {
            Ok(keys) => {
                for key in keys {
                    if made.send(key).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "no keys were made ahead");
                let pause = Duration::from_millis(rand::random_range(250..=1000));
                tokio::select! {
                    () = made.closed() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

async fn make_batch(pool: &SqlitePool, master: &MasterKey) -> Result<Vec<SubjectKey>, sqlx::Error> {
    let keys: Vec<SubjectKey> = std::iter::repeat_with(SubjectKey::generate)
        .take(BATCH)
        .collect();
    let row = |key: &SubjectKey| {
        [
            key.id().to_string(),
            Hexadecimal(&master.wrap(key)).to_string(),
        ]
    };
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
