use super::*;
use std::collections::HashSet;
use tempfile::TempDir;

fn master(byte: &str) -> MasterKey {
    byte.repeat(32).parse().unwrap()
}

async fn open(folder: &TempDir) -> SubjectKeys {
    let path = folder.path().join("keys.db");
    SubjectKeys::open(&path, master("0a")).await.unwrap()
}

/// Whether any file of the folder contains the bytes.
fn is_in_a_file(folder: &TempDir, needle: &[u8]) -> bool {
    let holds = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    let mut entries = std::fs::read_dir(folder.path()).unwrap();
    entries.any(|entry| holds(&entry.unwrap().path()))
}

async fn wrapped(keys: &SubjectKeys, id: KeyId) -> Vec<u8> {
    let (wrapped,) = sqlx::query_as("SELECT wrapped FROM keys WHERE id = unhex(?)")
        .bind(id.to_string())
        .fetch_one(&keys.0.pool)
        .await
        .unwrap();
    wrapped
}

#[tokio::test]
async fn no_key_is_handed_out_twice_by_two_processes() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    let mut ids = HashSet::new();
    for _ in 0..2 * BATCH {
        assert!(ids.insert(one.fresh().await.unwrap().id()));
        assert!(ids.insert(other.fresh().await.unwrap().id()));
    }
}

async fn rows(keys: &SubjectKeys) -> i64 {
    let count = sqlx::query_as("SELECT count(*) FROM keys");
    let (count,): (i64,) = count.fetch_one(&keys.0.pool).await.unwrap();
    count
}

#[tokio::test]
async fn a_key_that_is_handed_back_is_handed_out_next() {
    let folder = TempDir::new().unwrap();
    let keys = open(&folder).await;
    let first = keys.fresh().await.unwrap();
    let id = first.id();
    keys.hand_back(first);
    for _ in 0..4 * BATCH {
        let next = keys.fresh().await.unwrap();
        assert_eq!(next.id(), id);
        keys.hand_back(next);
    }
    assert_eq!(rows(&keys).await, 256);
}

#[tokio::test]
async fn a_key_that_was_handed_out_is_found_by_another_process() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    let key = one.fresh().await.unwrap();
    match other.find(key.id()).await.unwrap() {
        Lookup::Found(found) => assert_eq!(found.id(), key.id()),
        lookup @ (Lookup::Destroyed | Lookup::Missing) => panic!("{lookup:?}"),
    }
}

#[tokio::test]
async fn a_destroyed_key_is_not_a_missing_one() {
    let folder = TempDir::new().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    let (destroyed, kept) = (one.fresh().await.unwrap(), one.fresh().await.unwrap());
    let missing = SubjectKey::generate();
    one.destroy(destroyed.id()).await.unwrap();
    let ids = [destroyed.id(), kept.id(), missing.id()];
    let found = other.find_many(&ids).await.unwrap();
    assert!(matches!(found[&destroyed.id()], Lookup::Destroyed));
    assert!(matches!(found[&kept.id()], Lookup::Found(_)));
    assert!(matches!(found[&missing.id()], Lookup::Missing));
}

#[tokio::test]
async fn a_key_can_be_destroyed_twice_and_before_the_store_has_it() {
    let folder = TempDir::new().unwrap();
    let keys = open(&folder).await;
    let stranger = SubjectKey::generate().id();
    for _ in 0..2 {
        keys.destroy(stranger).await.unwrap();
        assert!(matches!(
            keys.find(stranger).await.unwrap(),
            Lookup::Destroyed
        ));
    }
}

#[tokio::test]
async fn a_destroyed_key_is_refused_even_if_a_backup_brings_it_back() {
    let folder = TempDir::new().unwrap();
    let keys = open(&folder).await;
    let id = keys.fresh().await.unwrap().id();
    let backup = wrapped(&keys, id).await;
    keys.destroy(id).await.unwrap();
    sqlx::query("INSERT INTO keys (id, wrapped) VALUES (unhex(?), ?)")
        .bind(id.to_string())
        .bind(backup)
        .execute(&keys.0.pool)
        .await
        .unwrap();
    assert!(matches!(keys.find(id).await.unwrap(), Lookup::Destroyed));
}

#[tokio::test]
async fn a_destroyed_key_is_in_no_file() {
    let folder = TempDir::new().unwrap();
    let keys = open(&folder).await;
    let (destroyed, kept) = (keys.fresh().await.unwrap(), keys.fresh().await.unwrap());
    let (gone, stays) = (
        wrapped(&keys, destroyed.id()).await,
        wrapped(&keys, kept.id()).await,
    );
    assert!(
        is_in_a_file(&folder, &gone),
        "the control failed: the search did not find a stored key"
    );
    keys.destroy(destroyed.id()).await.unwrap();
    assert!(!is_in_a_file(&folder, &gone));
    assert!(is_in_a_file(&folder, &stays));
}

#[tokio::test]
async fn destroying_waits_for_a_reader_of_the_write_ahead_log() {
    let folder = TempDir::new().unwrap();
    let (keys, reader) = (open(&folder).await, open(&folder).await);
    let id = keys.fresh().await.unwrap().id();
    let gone = wrapped(&keys, id).await;
    let mut reading = reader.0.pool.begin().await.unwrap();
    let seen: (i64,) = sqlx::query_as("SELECT count(*) FROM keys")
        .fetch_one(&mut *reading)
        .await
        .unwrap();
    assert!(seen.0 > 0);
    let destroying = tokio::spawn({
        let keys = keys.clone();
        async move { keys.destroy(id).await }
    });
    while !matches!(reader.find(id).await.unwrap(), Lookup::Destroyed) {
        tokio::task::yield_now().await;
    }
    assert!(!destroying.is_finished());
    reading.rollback().await.unwrap();
    destroying.await.unwrap().unwrap();
    assert!(!is_in_a_file(&folder, &gone));
}

#[tokio::test]
async fn many_keys_are_destroyed_concurrently() {
    let folder = TempDir::new().unwrap();
    let keys = open(&folder).await;
    let mut destroying = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (keys, id) = (keys.clone(), keys.fresh().await.unwrap().id());
        destroying.spawn(async move { keys.destroy(id).await.map(|()| id) });
    }
    while let Some(destroyed) = destroying.join_next().await {
        let id = destroyed.unwrap().unwrap();
        assert!(matches!(keys.find(id).await.unwrap(), Lookup::Destroyed));
    }
}

#[tokio::test]
async fn a_wrong_master_key_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    open(&folder).await.fresh().await.unwrap();
    let path = folder.path().join("keys.db");
    let opened = SubjectKeys::open(&path, master("0b")).await;
    assert!(matches!(opened, Err(KeysError::DoesNotUnwrap(_))));
}

#[tokio::test]
async fn the_store_is_not_ready_while_a_key_is_lost() {
    let folder = TempDir::new().unwrap();
    let keys = open(&folder).await;
    keys.check().await.unwrap();
    let lost = SubjectKey::generate().id();
    assert!(matches!(keys.find(lost).await.unwrap(), Lookup::Missing));
    for _ in 0..2 {
        assert!(matches!(keys.check().await, Err(KeysError::Lost(id)) if id == lost));
    }
    keys.destroy(lost).await.unwrap();
    keys.check().await.unwrap();
    keys.check().await.unwrap();
}
