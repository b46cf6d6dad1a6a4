//! Two projectors on one database at once, and batches among a million users.

use crate::bus::{ReadModel, statistics};
use crate::counting::total;
use crate::support::{App, on_both, tables, until};
use private_postgres::PrivatePostgres;
use rand::seq::SliceRandom as _;
use std::collections::BTreeMap;
use users_service::database::Databases;
use users_service::domain::UserId;
use users_service::projection::view::{Outcome, View};
use users_service::read_model::{ERASED, ProvenChange, ProvenEvent};
use uuid::Uuid;

const USERS: u64 = 150;
const CHANGES: u64 = 3;

on_both! {
    two_projectors_that_interleave_lose_and_repeat_nothing,
}

/// The event of this user and revision, always the same one.
fn event(user: u64, revision: u64) -> ProvenEvent {
    let change = if revision == 0 {
        ProvenChange::Created(None)
    } else {
        ProvenChange::Patched(None)
    };
    ProvenEvent {
        id: Uuid::from_u64_pair(user, revision),
        user: UserId::new(user),
        revision,
        created: 951_825_600_000 + user * 60_000,
        change,
    }
}

/// Applies all events, each several times, in batches of an order of its own. Returns how often each was applied.
async fn interleave(view: View) -> BTreeMap<(UserId, u64), u64> {
    let mut events: Vec<_> = (1..=USERS)
        .flat_map(|user| (0..=CHANGES).map(move |revision| event(user, revision)))
        .collect();
    let mut applied = BTreeMap::new();
    while !events.is_empty() {
        events.shuffle(&mut rand::rng());
        let mut again = Vec::new();
        for batch in events.chunks(40) {
            let outcomes = view.apply(batch.to_vec()).await.unwrap();
            for (event, outcome) in batch.iter().zip(outcomes) {
                match outcome {
                    Outcome::Applied => {
                        *applied.entry((event.user, event.revision)).or_default() += 1;
                    }
                    Outcome::Duplicate => {}
                    Outcome::Gap => again.push(event.clone()),
                    Outcome::Held | Outcome::Conflict => panic!("{event:?}: {outcome:?}"),
                }
            }
        }
        events = again;
    }
    applied
}

async fn two_projectors_that_interleave_lose_and_repeat_nothing(app: App) {
    let databases = app.databases();
    let (one, other) = (
        statistics(&databases).await.1,
        statistics(&databases).await.1,
    );
    let (one, other) = tokio::join!(
        tokio::spawn(interleave(one)),
        tokio::spawn(interleave(other))
    );
    let (mut all, other) = (one.unwrap(), other.unwrap());
    assert!(!all.is_empty() && !other.is_empty(), "both have worked");
    for (event, times) in other {
        *all.entry(event).or_default() += times;
    }
    assert_eq!(all.len() as u64, USERS * (CHANGES + 1));
    assert!(all.values().all(|times| *times == 1), "{all:?}");
    let expected = [USERS, USERS * CHANGES, 0];
    assert_eq!(total(&databases).await, expected);
    // The control: an event that is forgotten and applied again is counted twice.
    let tables = tables(&databases, "statistics_g1").await;
    for forget in [
        "UPDATE ledger SET revision = 2 WHERE id = 7",
        "DELETE FROM counts WHERE id = 7",
    ] {
        sqlx::query(forget).execute(&tables).await.unwrap();
    }
    let again = statistics(&databases).await.1;
    let outcomes = again.apply(vec![event(7, 3)]).await.unwrap();
    assert_eq!(outcomes, [Outcome::Applied]);
    assert_ne!(total(&databases).await, expected);
}

/// The rows of the directory that the server has read in scans of whole tables, when all connections have ended. Before, their
/// numbers are not there.
async fn scanned(databases: &Databases) -> i64 {
    let look = tables(databases, "public").await;
    let alone = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    until("all connections have ended", async || {
        let others: i64 = sqlx::query_scalar(alone).fetch_one(&look).await.unwrap();
        (others == 0).then_some(())
    })
    .await;
    let scanned = "SELECT CAST(sum(seq_tup_read) AS bigint) FROM pg_stat_user_tables WHERE schemaname = 'directory_g1'";
    let scanned = sqlx::query_scalar(scanned).fetch_one(&look).await;
    look.close().await;
    scanned.unwrap()
}

/// A directory with a million users, who all have term 5.
async fn million(databases: &Databases) {
    let fill = "
        SET synchronous_commit TO off;
        INSERT INTO ledger SELECT n, 0, '00000000-0000-0000-0000-000000000000', repeat('0a', 16) FROM generate_series(1, 1000000) n;
        INSERT INTO users SELECT n, n, repeat('0a', 16), 'AAAA', 'AAAA', 'AAAA',
            '{\"username\":[' || n + 10 || '],\"family_name\":[5]}' FROM generate_series(1, 1000000) n;
        INSERT INTO terms SELECT n + 10, n, n FROM generate_series(1, 1000000) n;
        INSERT INTO terms SELECT 5, n, n FROM generate_series(1, 1000000) n;";
    let filling = tables(databases, "directory_g1").await;
    sqlx::raw_sql(fill).execute(&filling).await.unwrap();
    for table in ["ledger", "users", "terms"] {
        let analyze = sqlx::AssertSqlSafe(format!("VACUUM ANALYZE {table}"));
        sqlx::raw_sql(analyze).execute(&filling).await.unwrap();
    }
    filling.close().await;
}

async fn count_terms(databases: &Databases) -> i64 {
    let counting = tables(databases, "directory_g1").await;
    let count = sqlx::query_scalar("SELECT count(*) FROM terms");
    let count = count.fetch_one(&counting).await;
    counting.close().await;
    count.unwrap()
}

/// The planner takes a set of JSON rows for a hundred rows, however many there are.
#[tokio::test]
async fn a_batch_among_a_million_users_of_postgresql_scans_no_table() {
    let url = PrivatePostgres::shared().await.database().await;
    let databases = Databases::Postgres(url);
    drop(ReadModel::open(&databases).await);
    million(&databases).await;
    let before = scanned(&databases).await;
    let view = ReadModel::open(&databases).await.view();
    for users in [1..2, 2..102, 102..3_102] {
        let erase = |user| ProvenEvent {
            revision: ERASED,
            change: ProvenChange::Deleted,
            ..event(user, 0)
        };
        let outcomes = view.apply(users.map(erase).collect()).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied));
    }
    drop(view);
    assert_eq!(scanned(&databases).await, before);
    assert_eq!(count_terms(&databases).await, 2 * (1_000_000 - 3_101));
    let control = scanned(&databases).await;
    assert!(control > before + 1_000_000, "the control failed");
}
