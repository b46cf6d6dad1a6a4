//! The ledger and the holds of users in the database.

use super::{Known, hold_table};
use crate::database::{Dialect, Statement, over_rows, rows_of, rows_of_numbers};
use crate::domain::UserId;
use crate::projection::ledger::Entry;
use crate::read_model::{decode_error, number, user};
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use std::collections::{BTreeMap, BTreeSet};

const LOAD: Statement = over_rows!(
    "SELECT wanted AS id, ledger.revision, event, key, held.id AS held
     FROM (SELECT CAST(value ->> 0 AS bigint) AS wanted FROM ",
    ROWS,
    ") AS rows LEFT JOIN ledger ON ledger.id = wanted LEFT JOIN held ON held.id = wanted"
);

const INSERT: Statement = over_rows!(
    "INSERT INTO ledger (id, revision, event, key)
     SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint), value ->> 2, value ->> 3 FROM ",
    ROWS,
    " WHERE true ON CONFLICT DO NOTHING"
);

const UPDATE: Statement = over_rows!(
    "UPDATE ledger SET revision = CAST(value ->> 1 AS bigint), event = value ->> 2, key = value ->> 3 FROM ",
    ROWS,
    " WHERE ledger.id = CAST(value ->> 0 AS bigint) AND ledger.revision = CAST(value ->> 4 AS bigint)"
);

const DELETE: Statement = over_rows!(
    "DELETE FROM ledger WHERE (id, revision) IN
        (SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint) FROM ",
    ROWS,
    ")"
);

/// The entries and holds of these users. The answer contains each user.
pub(super) async fn load(
    dialect: Dialect,
    connection: &mut AnyConnection,
    users: &BTreeSet<UserId>,
) -> Result<BTreeMap<UserId, Known<'static>>, sqlx::Error> {
    let ids = users.iter().map(|user| number(user.number()));
    let load = sqlx::query(dialect.text(LOAD)).bind(rows_of_numbers(ids));
    let rows = load.fetch_all(connection).await?;
    let known = rows.iter().map(|row| {
        let before = entry(row)?;
        let known = Known {
            before,
            now: before,
            held: row.try_get::<Option<i64>, _>("held")?.is_some(),
            ..Known::default()
        };
        Ok((user(row)?, known))
    });
    known.collect()
}

fn entry(row: &AnyRow) -> Result<Option<Entry>, sqlx::Error> {
    let Some(revision) = row.try_get::<Option<i64>, _>("revision")? else {
        return Ok(None);
    };
    let key: Option<String> = row.try_get("key")?;
    let event: String = row.try_get("event")?;
    Ok(Some(Entry {
        revision: u64::try_from(revision).map_err(decode_error)?,
        event: event.parse().map_err(decode_error)?,
        key: key
            .map(|key| key.parse())
            .transpose()
            .map_err(decode_error)?,
    }))
}

/// Holds a user, or lifts the hold.
pub(super) async fn write_hold(
    connection: &mut AnyConnection,
    user: UserId,
    known: &Known<'_>,
) -> Result<(), sqlx::Error> {
    let final_now = known.now.as_ref().is_some_and(Entry::is_final);
    if known.held && (known.lifted || final_now) {
        let lift = sqlx::query("DELETE FROM held WHERE id = $1").bind(number(user.number()));
        lift.execute(&mut *connection).await?;
    }
    if let Some((revision, reason)) = known.hold.as_ref().filter(|_| !final_now) {
        hold_table::hold(&mut *connection, user, *revision, reason).await?;
    }
    Ok(())
}

/// Writes the changed entries. Each replaces only the entry that was read, so two concurrent writers do no harm at any isolation
/// level.
pub(super) async fn write_changed(
    dialect: Dialect,
    connection: &mut AnyConnection,
    known: &BTreeMap<UserId, Known<'_>>,
) -> Result<(), sqlx::Error> {
    let (mut new, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for (&user, known) in known.iter().filter(|(_, known)| known.is_changed()) {
        match (&known.before, &known.now) {
            (None, Some(entry)) => new.push(columns(user, entry, None)),
            (Some(before), Some(entry)) => changed.push(columns(user, entry, Some(before))),
            (Some(before), None) => {
                gone.push([number(user.number()), number(before.revision)].into());
            }
            (None, None) => {}
        }
    }
    for (statement, rows) in [(INSERT, new), (UPDATE, changed), (DELETE, gone)] {
        if rows.is_empty() {
            continue;
        }
        let count = rows.len() as u64;
        let write = sqlx::query(dialect.text(statement)).bind(rows_of(rows));
        if write.execute(&mut *connection).await?.rows_affected() != count {
            return Err(sqlx::Error::RowNotFound);
        }
    }
    Ok(())
}

/// The columns of an entry, and the revision of the one that it replaces.
fn columns(user: UserId, entry: &Entry, before: Option<&Entry>) -> Value {
    let columns = [
        Value::from(number(user.number())),
        number(entry.revision).into(),
        entry.event.to_string().into(),
        entry.key.map(|key| key.to_string()).into(),
        before.map(|before| number(before.revision)).into(),
    ];
    columns.to_vec().into()
}
