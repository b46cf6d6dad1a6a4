//! The same tests for both kinds of database. What only a server can do is in [`server`].

mod place;
mod server;

use super::*;
use place::{Place, is_in_a_file, master, open, pool};
use std::collections::HashSet;

/// Tests of a store in a place, once for each kind of database.
macro_rules! on_both {
    ($($test:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $test() { super::$test(&super::Place::folder()).await; })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $test() { super::$test(&super::Place::database().await).await; })*
        }
    };
}

on_both! {
    no_key_is_handed_out_twice_by_two_processes,
    a_key_that_is_handed_back_is_handed_out_next,
    a_key_that_was_handed_out_is_found_by_another_process,
    a_destroyed_key_is_not_a_missing_one,
    a_key_can_be_destroyed_twice_and_before_the_store_has_it,
    a_destroyed_key_is_refused_even_if_a_backup_brings_it_back,
    a_destroyed_key_is_in_no_file,
    destroying_waits_for_a_reader,
    many_keys_are_destroyed_concurrently,
    a_wrong_master_key_is_refused_at_the_start,
    the_store_is_not_ready_while_a_key_is_lost,
    no_reader_misses_a_key_while_its_neighbours_are_destroyed,
    two_processes_destroy_the_same_keys_at_once,
}

async fn wrapped(keys: &SubjectKeys, id: KeyId) -> Vec<u8> {
    let wrapped = sqlx::query_scalar("SELECT wrapped FROM keys WHERE id = unhex($1)");
    let wrapped = wrapped.bind(id.to_string());
    wrapped.fetch_one(pool(keys).await).await.unwrap()
}

async fn no_key_is_handed_out_twice_by_two_processes(place: &Place) {
    let (one, other) = (open(place).await, open(place).await);
    let mut ids = HashSet::new();
    for _ in 0..2 * BATCH {
        assert!(ids.insert(one.fresh().await.unwrap().id()));
        assert!(ids.insert(other.fresh().await.unwrap().id()));
    }
}

async fn rows(keys: &SubjectKeys) -> i64 {
    let count = sqlx::query_as("SELECT count(*) FROM keys");
    let (count,): (i64,) = count.fetch_one(pool(keys).await).await.unwrap();
    count
}

async fn a_key_that_is_handed_back_is_handed_out_next(place: &Place) {
    let keys = open(place).await;
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

async fn a_key_that_was_handed_out_is_found_by_another_process(place: &Place) {
    let (one, other) = (open(place).await, open(place).await);
    let key = one.fresh().await.unwrap();
    match other.find(key.id()).await.unwrap() {
        Lookup::Found(found) => assert_eq!(found.id(), key.id()),
        lookup @ (Lookup::Destroyed | Lookup::Missing) => panic!("{lookup:?}"),
    }
}

async fn a_destroyed_key_is_not_a_missing_one(place: &Place) {
    let (one, other) = (open(place).await, open(place).await);
    let (destroyed, kept) = (one.fresh().await.unwrap(), one.fresh().await.unwrap());
    let missing = SubjectKey::generate();
    one.destroy(destroyed.id()).await.unwrap();
    let ids = [destroyed.id(), kept.id(), missing.id()];
    let found = other.find_many(&ids).await.unwrap();
    assert!(matches!(found[&destroyed.id()], Lookup::Destroyed));
    assert!(matches!(found[&kept.id()], Lookup::Found(_)));
    assert!(matches!(found[&missing.id()], Lookup::Missing));
}

async fn a_key_can_be_destroyed_twice_and_before_the_store_has_it(place: &Place) {
    let keys = open(place).await;
    let stranger = SubjectKey::generate().id();
    for _ in 0..2 {
        keys.destroy(stranger).await.unwrap();
        assert!(matches!(
            keys.find(stranger).await.unwrap(),
            Lookup::Destroyed
        ));
    }
}

async fn a_destroyed_key_is_refused_even_if_a_backup_brings_it_back(place: &Place) {
    let keys = open(place).await;
    let id = keys.fresh().await.unwrap().id();
    let backup = wrapped(&keys, id).await;
    keys.destroy(id).await.unwrap();
    sqlx::query("INSERT INTO keys (id, wrapped) VALUES (unhex($1), $2)")
        .bind(id.to_string())
        .bind(backup)
        .execute(pool(&keys).await)
        .await
        .unwrap();
    assert!(matches!(keys.find(id).await.unwrap(), Lookup::Destroyed));
}

async fn a_destroyed_key_is_in_no_file(place: &Place) {
    let keys = open(place).await;
    let (destroyed, kept) = (keys.fresh().await.unwrap(), keys.fresh().await.unwrap());
    let (gone, stays) = (
        wrapped(&keys, destroyed.id()).await,
        wrapped(&keys, kept.id()).await,
    );
    place.make_copies(&keys).await;
    assert!(
        is_in_a_file(place, &gone),
        "the control failed: the search did not find a stored key"
    );
    keys.destroy(destroyed.id()).await.unwrap();
    assert!(!is_in_a_file(place, &gone));
    assert!(is_in_a_file(place, &stays));
}

async fn destroying_waits_for_a_reader(place: &Place) {
    let (keys, reader) = (open(place).await, open(place).await);
    let id = keys.fresh().await.unwrap().id();
    let gone = wrapped(&keys, id).await;
    let mut reading = pool(&reader).await.begin().await.unwrap();
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
    assert!(!is_in_a_file(place, &gone));
}

async fn many_keys_are_destroyed_concurrently(place: &Place) {
    let keys = open(place).await;
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

async fn a_wrong_master_key_is_refused_at_the_start(place: &Place) {
    open(place).await.fresh().await.unwrap();
    let opened = SubjectKeys::open(&place.databases, master("0b")).await;
    assert!(matches!(opened, Err(KeysError::DoesNotUnwrap(_))));
}

async fn the_store_is_not_ready_while_a_key_is_lost(place: &Place) {
    let keys = open(place).await;
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

async fn no_reader_misses_a_key_while_its_neighbours_are_destroyed(place: &Place) {
    let (keys, reader) = (open(place).await, open(place).await);
    let mut ids = Vec::new();
    for _ in 0..BATCH {
        ids.push(keys.fresh().await.unwrap().id());
    }
    let (destroyed, kept) = ids.split_at(BATCH / 2);
    let (destroyed, kept) = (destroyed.to_vec(), kept.to_vec());
    let destroying = tokio::spawn(async move {
        for few in destroyed.chunks(16) {
            let all = few.iter().map(|id| keys.destroy(*id));
            futures::future::try_join_all(all).await.unwrap();
        }
    });
    let mut lookups = 0;
    while !destroying.is_finished() {
        let found = reader.find_many(&kept).await.unwrap();
        let (one, all) = (reader.find(kept[0]).await.unwrap(), found.into_values());
        for lookup in all.chain([one]) {
            assert!(matches!(lookup, Lookup::Found(_)), "{lookup:?}");
            lookups += 1;
        }
    }
    destroying.await.unwrap();
    assert!(lookups > kept.len());
    assert_eq!(reader.find_many(&ids).await.unwrap().len(), BATCH);
}

async fn two_processes_destroy_the_same_keys_at_once(place: &Place) {
    let (one, other) = (open(place).await, open(place).await);
    let mut destroying = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let id = one.fresh().await.unwrap().id();
        for keys in [one.clone(), other.clone()] {
            destroying.spawn(async move { keys.destroy(id).await.map(|()| id) });
        }
    }
    while let Some(destroyed) = destroying.join_next().await {
        let id = destroyed.unwrap().unwrap();
        assert!(matches!(one.find(id).await.unwrap(), Lookup::Destroyed));
    }
}
