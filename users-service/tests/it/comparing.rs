//! The comparison with the log: what it costs, and which positions it believes.

use crate::bus::directory::topology;
use crate::bus::{Bus, PACE, ReadModel, read_model, repair, until_listed, until_published, view};
use crate::support::{App, id, on_both};
use event_streams::{Expected, NewEvent, Position};
use futures::StreamExt as _;
use serde_json::json;
use std::time::Duration;
use users_service::database::Dialect;
use users_service::domain::{
    Claim, FamilyName, GivenName, Profile, ReservationName, UserEvent, UserId, Username,
};
use users_service::stored_event::{StoredEvent, user_stream};

const NEVER: Duration = Duration::from_hours(10);

const BEHIND: u64 = 5_000;

/// Users that the log has and the view has not, past the command side.
async fn users_behind(app: &App, count: u64) {
    let append = |number: u64| async move {
        let key = app.keys.fresh().await.unwrap();
        let event = UserEvent::Created {
            profile: Profile {
                username: Username::parse(format!("ada{number}")).unwrap(),
                given_name: GivenName::parse("Ada").unwrap(),
                family_name: FamilyName::parse("Lovelace").unwrap(),
            },
            claim: Claim {
                reservation: ReservationName::new("username-00"),
                revision: 0,
            },
        };
        let user = UserId::new(number);
        let event = StoredEvent::encode(uuid::Uuid::new_v4(), user, &event, &key);
        let stream = user_stream(user);
        let appended = app.store.append(&stream, Expected::NoStream, vec![event]);
        appended.await.unwrap();
    };
    futures::stream::iter(1..=count)
        .for_each_concurrent(64, append)
        .await;
}

/// Counts the transactions that change the view. Each leaves an end in SQLite's write-ahead log, which a reader that stays
/// where it is keeps from being begun anew. In PostgreSQL each leaves its number in the rows that it writes.
enum Transactions {
    Sqlite {
        file: std::path::PathBuf,
        reading: sqlx::Transaction<'static, sqlx::Any>,
        before: usize,
    },
    Postgres(sqlx::AnyPool),
}

impl Transactions {
    async fn begin(app: &App) -> Self {
        let tables = app.tables().await;
        if app.databases.dialect() == Dialect::Postgres {
            return Self::Postgres(tables);
        }
        let mut reading = tables.begin().await.unwrap();
        sqlx::query("SELECT id FROM ledger LIMIT 1")
            .fetch_optional(&mut *reading)
            .await
            .unwrap();
        let file = app.folder.path().join("directory_g1.db-wal");
        let before = commits(&file);
        Self::Sqlite {
            file,
            reading,
            before,
        }
    }

    async fn end(self) -> usize {
        match self {
            Self::Sqlite {
                file,
                reading,
                before,
            } => {
                let commits = commits(&file) - before;
                reading.rollback().await.unwrap();
                commits
            }
            Self::Postgres(tables) => {
                let numbers = sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM users");
                let numbers: i64 = numbers.fetch_one(&tables).await.unwrap();
                usize::try_from(numbers).unwrap()
            }
        }
    }
}

/// Frames that end a transaction, by SQLite's file format: 32 bytes of header, then frames of 24 bytes of header and a
/// page; the second number of a frame's header is not zero if it ends a transaction.
fn commits(write_ahead_log: &std::path::Path) -> usize {
    let log = std::fs::read(write_ahead_log).unwrap();
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let page = number(8) as usize;
    let frames = (32..log.len()).step_by(24 + page);
    frames.filter(|frame| number(frame + 4) > 0).count()
}

async fn end_of_log(app: &App) -> Position {
    app.store.log_end().await.unwrap().unwrap()
}

async fn count_listed(app: &App, read_model: &ReadModel) -> usize {
    read_model.users(app).await.len()
}

on_both! {
    a_position_beyond_the_end_of_the_log_is_compared_again_from_the_beginning,
    the_last_of_all_positions_is_compared_again_from_the_beginning,
    five_thousand_users_behind_cost_no_read_of_a_stream_and_few_transactions,
    a_stream_is_read_only_where_a_page_does_not_follow_and_in_sets,
    a_publishers_checkpoint_beyond_the_end_of_the_log_is_not_believed,
    after_a_process_ended_while_it_applied_events_of_the_log_each_is_tried_alone_and_counted,
}

async fn after_a_process_ended_while_it_applied_events_of_the_log_each_is_tried_alone_and_counted(
    app: App,
) {
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    let [ada, eda] = [ada, eda].map(|user| id(&user).parse::<UserId>().unwrap());
    let tables = app.tables().await;
    let ended = sqlx::query("INSERT INTO together (single) VALUES (1)");
    ended.execute(&tables).await.unwrap();
    for (user, times) in [(ada, 3), (eda, 2)] {
        for _ in 0..times {
            view.count_attempt((user, 0)).await.unwrap();
        }
    }
    repair(&app, &view)
        .complete(end_of_log(&app).await)
        .await
        .unwrap();
    assert!(view.standing(ada).await.unwrap().held);
    assert!(!view.standing(eda).await.unwrap().held);
    assert_eq!(count_listed(&app, &read_model).await, 1);
    assert_eq!(view.attempts((eda, 0)).await.unwrap(), 2, "taken back");
    // This process has not ended, so the next events are applied together again, and not counted.
    let ida = app.created("ida").await;
    for _ in 0..3 {
        view.count_attempt((id(&ida).parse().unwrap(), 0))
            .await
            .unwrap();
    }
    repair(&app, &view)
        .complete(end_of_log(&app).await)
        .await
        .unwrap();
    assert_eq!(count_listed(&app, &read_model).await, 2);
}

async fn five_thousand_users_behind_cost_no_read_of_a_stream_and_few_transactions(app: App) {
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    users_behind(&app, BEHIND).await;
    let end = end_of_log(&app).await;
    let (calls, transactions) = (app.store_calls().await, Transactions::begin(&app).await);
    repair(&app, &view).complete(end).await.unwrap();
    let calls = app.store_calls().await - calls;
    let transactions = transactions.end().await;
    assert_eq!(count_listed(&app, &read_model).await, 5_000);
    assert!(calls <= 20, "{calls} calls");
    assert!(transactions <= 40, "{transactions} transactions");
}

/// Every tenth of 1,000 users has an entry that does not agree with the log.
async fn a_stream_is_read_only_where_a_page_does_not_follow_and_in_sets(app: App) {
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    users_behind(&app, 1_000).await;
    let tables = app.tables().await;
    for user in (10_i64..=1_000).step_by(10) {
        sqlx::query("INSERT INTO ledger (id, revision, event) VALUES ($1, 0, $2)")
            .bind(user)
            .bind(uuid::Uuid::nil().to_string())
            .execute(&tables)
            .await
            .unwrap();
    }
    let end = end_of_log(&app).await;
    let (calls, transactions) = (app.store_calls().await, Transactions::begin(&app).await);
    repair(&app, &view).complete(end).await.unwrap();
    let calls = app.store_calls().await - calls;
    let transactions = transactions.end().await;
    assert_eq!(count_listed(&app, &read_model).await, 1_000);
    // One read finds that the log has another event, and a second one reads the whole stream.
    assert!((200..=220).contains(&calls), "{calls} calls");
    assert!(transactions <= 20, "{transactions} transactions");
}

/// An earlier version stored what a filtered subscription says at the end of the log of a fresh server.
async fn a_position_beyond_the_end_of_the_log_is_compared_again_from_the_beginning(app: App) {
    is_compared_again(app, 1 << 40).await;
}

async fn the_last_of_all_positions_is_compared_again_from_the_beginning(app: App) {
    is_compared_again(app, u64::MAX).await;
}

async fn is_compared_again(app: App, beyond: u64) {
    let bus = Bus::new().await;
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    bus.broker.declare(&topology()).await.unwrap();
    let _other_team = bus.probe().await;
    let binding = "e/users.events/e/users.directory.g1/%23";
    bus.manage("DELETE", "bindings", binding, &serde_json::Value::Null)
        .await;
    let ada = app.created("ada").await;
    let _publisher = bus.publisher(&app, PACE);
    until_published(&app).await;
    let commit = beyond;
    let prepare = beyond;
    view.advance(Position { commit, prepare }, 0).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
}

/// As an earlier version stored it.
async fn a_publishers_checkpoint_beyond_the_end_of_the_log_is_not_believed(app: App) {
    let bus = Bus::new().await;
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    let checkpoint = NewEvent {
        id: uuid::Uuid::new_v4(),
        event_type: "PublisherCheckpoint.v1".into(),
        data: json!({"commit": u64::MAX, "prepare": u64::MAX})
            .to_string()
            .into(),
        metadata: bytes::Bytes::new(),
    };
    let stream = "publisher-users";
    let appended = app
        .store
        .append(stream, Expected::NoStream, vec![checkpoint]);
    appended.await.unwrap();
    let ada = app.created("ada").await;
    let _publisher = bus.publisher(&app, PACE);
    let projector = bus.projector(&app, &view, Duration::from_millis(50));
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
    projector.ready().await;
    let end = end_of_log(&app).await;
    assert!(view.complete_up_to().await.unwrap() <= Some(end));
    let eda = app.created("eda").await;
    let both = [(id(&ada), "ada"), (id(&eda), "eda")];
    until_listed(&app, &read_model, &both).await;
    let end = end_of_log(&app).await;
    assert!(view.complete_up_to().await.unwrap() <= Some(end));
}
