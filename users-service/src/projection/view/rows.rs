//! Users' rows as they lie in the database.

use super::{Known, number};
use crate::domain::{NameField, UserId};
use crate::projection::directory::Row;
use crate::query::read_model::{decode, entry, user};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use std::collections::{BTreeMap, BTreeSet};

/// What is there of these users; the answer has each of them.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    users: &BTreeSet<UserId>,
) -> Result<BTreeMap<UserId, Known>, sqlx::Error> {
    let ids: Vec<u64> = users.iter().map(|user| user.number()).collect();
    let rows = sqlx::query(
        "SELECT value AS id, users.revision, users.event, users.key, username, given_name, family_name,
                held.id IS NOT NULL AS held
         FROM json_each(?) LEFT JOIN users ON users.id = value LEFT JOIN held ON held.id = value",
    )
    .bind(serde_json::Value::from(ids).to_string())
    .fetch_all(connection)
    .await?;
    let known = rows.iter().map(|row| {
        let before = loaded(row)?;
        let known = Known {
            now: before.clone(),
            before,
            held: row.try_get("held")?,
            ..Known::default()
        };
        Ok((user(row)?, known))
    });
    known.collect()
}

fn loaded(row: &SqliteRow) -> Result<Option<Row>, sqlx::Error> {
    let Some(revision) = row.try_get::<Option<i64>, _>("revision")? else {
        return Ok(None);
    };
    let event: Option<String> = row.try_get("event")?;
    Ok(Some(Row {
        revision: u64::try_from(revision).map_err(decode)?,
        event: event
            .map(|event| event.parse())
            .transpose()
            .map_err(decode)?,
        entry: entry(row)?,
    }))
}

/// Writes what has changed of one user.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    user: UserId,
    known: &Known,
) -> Result<(), sqlx::Error> {
    let final_now = known.now.as_ref().is_some_and(Row::is_final);
    if known.held && (known.lifted || final_now) {
        let lift = sqlx::query("DELETE FROM held WHERE id = ?").bind(number(user.number()));
        lift.execute(&mut *connection).await?;
    }
    if let Some((revision, reason)) = known.hold.as_ref().filter(|_| !final_now) {
        super::ledger::hold(&mut *connection, user, *revision, reason).await?;
    }
    match &known.now {
        now if *now == known.before => Ok(()),
        Some(row) => write_row(connection, user, known.before.as_ref(), row).await,
        None => {
            let delete = sqlx::query("DELETE FROM users WHERE id = ?").bind(number(user.number()));
            delete.execute(connection).await.map(drop)
        }
    }
}

/// Only over the row that was read, so that two appliers are harmless whatever the database's isolation.
async fn write_row(
    connection: &mut SqliteConnection,
    user: UserId,
    before: Option<&Row>,
    row: &Row,
) -> Result<(), sqlx::Error> {
    let statement = match before {
        None => {
            "INSERT INTO users (revision, event, key, username, given_name, family_name, id)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        }
        Some(_) => {
            "UPDATE users SET revision = ?, event = ?, key = ?, username = ?, given_name = ?, family_name = ?
             WHERE id = ? AND revision = ?"
        }
    };
    let entry = row.entry.as_ref();
    let mut query = sqlx::query(statement)
        .bind(number(row.revision))
        .bind(row.event.map(|event| event.to_string()))
        .bind(entry.map(|entry| entry.key.to_string()));
    for field in NameField::ALL {
        let sealed = entry.and_then(|entry| entry.names.get(&field));
        let sealed = sealed
            .map(serde_json::to_value)
            .transpose()
            .map_err(decode)?;
        query = query.bind(sealed.and_then(|sealed| sealed.as_str().map(ToOwned::to_owned)));
    }
    query = query.bind(number(user.number()));
    if let Some(before) = before {
        query = query.bind(number(before.revision));
    }
    match query.execute(connection).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(sqlx::Error::RowNotFound),
    }
}
