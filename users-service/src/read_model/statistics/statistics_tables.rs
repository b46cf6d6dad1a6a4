//! The tables of the statistics.

use super::count::Counted;
use super::windows::WindowSize;
use crate::database::{Dialect, Statement, over_rows, rows_of_numbers, write_rows};
use crate::domain::UserId;
use crate::read_model::{decode_error, number, user};
use crate::stored_event::UserCount;
use serde_json::Value;
use sqlx::{AnyConnection, Row as _};
use std::collections::BTreeMap;

const LOAD: Statement = over_rows!(
    "SELECT counts.id, counted FROM (SELECT CAST(value ->> 0 AS bigint) AS wanted FROM ",
    ROWS,
    ") AS listed JOIN counts ON counts.id = wanted"
);

const UPSERT: Statement = over_rows!(
    "INSERT INTO counts (id, counted) SELECT CAST(value ->> 0 AS bigint), value ->> 1 FROM ",
    ROWS,
    " WHERE true ON CONFLICT (id) DO UPDATE SET counted = excluded.counted"
);

const DELETE: Statement = over_rows!(
    "DELETE FROM counts WHERE id IN (SELECT CAST(value ->> 0 AS bigint) FROM ",
    ROWS,
    ")"
);

const ADD: Statement = over_rows!(
    "INSERT INTO windows (minutes, start, created, renamed, deleted)
     SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint), CAST(value ->> 2 AS bigint),
            CAST(value ->> 3 AS bigint), CAST(value ->> 4 AS bigint) FROM ",
    ROWS,
    " WHERE true ON CONFLICT (minutes, start) DO UPDATE SET created = windows.created + excluded.created,
        renamed = windows.renamed + excluded.renamed, deleted = windows.deleted + excluded.deleted"
);

/// Differences of the numbers of a window: created, renamed, deleted.
type Difference = [i64; 3];

/// What is counted of these users.
pub(super) async fn load(
    dialect: Dialect,
    connection: &mut AnyConnection,
    users: &[UserId],
) -> Result<BTreeMap<UserId, Counted>, sqlx::Error> {
    if users.is_empty() {
        return Ok(BTreeMap::new());
    }
    let users = users.iter().map(|user| number(user.number()));
    let load = sqlx::query(dialect.text(LOAD)).bind(rows_of_numbers(users));
    let rows = load.fetch_all(connection).await?;
    let counted = rows.iter().map(|row| {
        let counted: Option<String> = row.try_get("counted")?;
        let counted = match counted {
            Some(count) => Counted::Events(serde_json::from_str(&count).map_err(decode_error)?),
            None => Counted::Settled,
        };
        Ok((user(row)?, counted))
    });
    counted.collect()
}

/// Writes what differs, in at most three statements.
pub(super) async fn write(
    dialect: Dialect,
    connection: &mut AnyConnection,
    before: &BTreeMap<UserId, Counted>,
    after: &BTreeMap<UserId, Option<Counted>>,
) -> Result<(), sqlx::Error> {
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    let mut differences = BTreeMap::new();
    for (user, counted) in after {
        let earlier = before.get(user);
        if counted.as_ref() == earlier {
            continue;
        }
        let id = number(user.number());
        match counted {
            Some(counted) => changed.push(vec![Value::from(id), text(counted)?.into()].into()),
            None => gone.push([id].into()),
        }
        for (sign, counted) in [(-1, earlier), (1, counted.as_ref())] {
            if let Some(count) = counted.and_then(Counted::count) {
                add(&mut differences, sign, count);
            }
        }
    }
    let windows = differences.into_iter().filter(|(_, by)| *by != [0; 3]);
    let windows = windows.map(|((minutes, start), [created, renamed, deleted])| {
        [minutes, start, created, renamed, deleted].to_vec().into()
    });
    let statements = [(UPSERT, changed), (DELETE, gone), (ADD, windows.collect())];
    write_rows(dialect, connection, statements).await
}

fn add(differences: &mut BTreeMap<(i64, i64), Difference>, sign: i64, count: &UserCount) {
    let created = count.created.map(|minute| (minute, [1, 0, 0]));
    let deleted = count.deleted.map(|minute| (minute, [0, 0, 1]));
    let renamed = count.renamed.iter();
    let renamed = renamed.map(|(&minute, &times)| (minute, [0, number(times), 0]));
    for (minute, by) in created.into_iter().chain(renamed).chain(deleted) {
        for size in WindowSize::ALL {
            let start = number(minute - minute % size.minutes());
            let window = differences
                .entry((number(size.minutes()), start))
                .or_insert([0; 3]);
            for (difference, by) in window.iter_mut().zip(by) {
                *difference += sign * by;
            }
        }
    }
}

/// The text of the column. `None` if the count is final.
fn text(counted: &Counted) -> Result<Option<String>, sqlx::Error> {
    match counted {
        Counted::Events(count) => {
            let text = serde_json::to_string(count).map_err(decode_error)?;
            Ok(Some(text))
        }
        Counted::Final(_) | Counted::Settled => Ok(None),
    }
}
