//! Users' rows in the database.

use super::{Known, number};
use crate::domain::{NameField, UserId};
use crate::read_model::{Row, decode, profile, user};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use std::collections::{BTreeMap, BTreeSet};

/// The rows and holds of these users. The answer contains each user.
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
        profile: profile(row)?,
    }))
}

/// Holds a user, or lifts the hold.
pub(super) async fn write_hold(
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
        super::hold_table::hold(&mut *connection, user, *revision, reason).await?;
    }
    Ok(())
}

/// Writes the changed rows. Each replaces only the row that was read, so two concurrent writers do no harm at any isolation
/// level.
pub(super) async fn write_changed(
    connection: &mut SqliteConnection,
    known: &BTreeMap<UserId, Known>,
) -> Result<(), sqlx::Error> {
    let (mut new, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for (user, known) in known.iter().filter(|(_, known)| known.is_changed()) {
        match (&known.before, &known.now) {
            (None, Some(row)) => new.push(written(*user, row, None)?),
            (Some(before), Some(row)) => changed.push(written(*user, row, Some(before.revision))?),
            (_, None) => gone.push(Value::from(number(user.number()))),
        }
    }
    for (statement, rows) in [(INSERT, new), (UPDATE, changed), (DELETE, gone)] {
        if rows.is_empty() {
            continue;
        }
        let count = rows.len() as u64;
        let query = sqlx::query(statement).bind(Value::from(rows).to_string());
        if query.execute(&mut *connection).await?.rows_affected() != count {
            return Err(sqlx::Error::RowNotFound);
        }
    }
    Ok(())
}

const INSERT: &str = "
    INSERT INTO users (id, revision, event, key, username, given_name, family_name)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
    FROM json_each(?) WHERE true ON CONFLICT DO NOTHING";

const UPDATE: &str = "
    UPDATE users SET revision = value ->> 1, event = value ->> 2, key = value ->> 3,
        username = value ->> 4, given_name = value ->> 5, family_name = value ->> 6
    FROM json_each(?) WHERE users.id = value ->> 0 AND users.revision = value ->> 7";

const DELETE: &str = "DELETE FROM users WHERE id IN (SELECT value FROM json_each(?))";

/// A row as the statements above take it: the columns in the order of [`INSERT`], and the revision of the row that was read.
fn written(user: UserId, row: &Row, before: Option<u64>) -> Result<Value, sqlx::Error> {
    let profile = row.profile.as_ref();
    let mut columns = vec![
        Value::from(number(user.number())),
        Value::from(number(row.revision)),
        row.event.map(|event| event.to_string()).into(),
        profile.map(|profile| profile.key.to_string()).into(),
    ];
    for field in NameField::ALL {
        let sealed = profile.and_then(|profile| profile.names.get(&field));
        let sealed = sealed.map(serde_json::to_value).transpose();
        columns.push(sealed.map_err(decode)?.into());
    }
    columns.push(before.map(number).into());
    Ok(columns.into())
}
