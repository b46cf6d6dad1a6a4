//! The tables of the directory.

use super::row::{Row, SearchTerms};
use crate::database::{Dialect, Statement, over_rows, rows_of_numbers, write_rows};
use crate::domain::{NameField, UserId};
use crate::read_model::{decode_error, number, positive, user};
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use std::collections::{BTreeMap, BTreeSet};

const LOAD: Statement = over_rows!(
    "SELECT users.id, created, key, username, given_name, family_name, terms
     FROM (SELECT CAST(value ->> 0 AS bigint) AS wanted FROM ",
    ROWS,
    ") AS rows JOIN users ON users.id = wanted"
);

const UPSERT: Statement = over_rows!(
    "INSERT INTO users (id, created, key, username, given_name, family_name, terms)
     SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
     FROM ",
    ROWS,
    " WHERE true ON CONFLICT (id) DO UPDATE SET created = excluded.created, key = excluded.key,
        username = excluded.username, given_name = excluded.given_name, family_name = excluded.family_name,
        terms = excluded.terms"
);

const DELETE: Statement = over_rows!(
    "DELETE FROM users WHERE id IN (SELECT CAST(value ->> 0 AS bigint) FROM ",
    ROWS,
    ")"
);

const INSERT_TERMS: Statement = over_rows!(
    "INSERT INTO terms (term, created, id)
     SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint), CAST(value ->> 2 AS bigint) FROM ",
    ROWS,
    " WHERE true ON CONFLICT DO NOTHING"
);

const DELETE_TERMS: Statement = over_rows!(
    "DELETE FROM terms WHERE (term, created, id) IN
        (SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint), CAST(value ->> 2 AS bigint) FROM ",
    ROWS,
    ")"
);

/// The rows of these users that exist.
pub(super) async fn load(
    dialect: Dialect,
    connection: &mut AnyConnection,
    users: &[UserId],
) -> Result<BTreeMap<UserId, Row>, sqlx::Error> {
    if users.is_empty() {
        return Ok(BTreeMap::new());
    }
    let users = users.iter().map(|user| number(user.number()));
    let load = sqlx::query(dialect.text(LOAD)).bind(rows_of_numbers(users));
    let rows = load.fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok((user(row)?, decoded(row)?)))
        .collect()
}

/// The columns of [`Row`].
pub(super) fn decoded(row: &AnyRow) -> Result<Row, sqlx::Error> {
    let mut names = BTreeMap::new();
    for field in NameField::ALL {
        let sealed: String = row.try_get(field.as_str())?;
        let sealed = serde_json::from_value(sealed.into()).map_err(decode_error)?;
        names.insert(field, sealed);
    }
    let key: String = row.try_get("key")?;
    let terms: String = row.try_get("terms")?;
    Ok(Row {
        created: positive(row, "created")?,
        key: key.parse().map_err(decode_error)?,
        names,
        terms: serde_json::from_str(&terms).map_err(decode_error)?,
    })
}

/// Writes what differs, in at most four statements.
pub(super) async fn write(
    dialect: Dialect,
    connection: &mut AnyConnection,
    before: &BTreeMap<UserId, Row>,
    after: &BTreeMap<UserId, Option<Row>>,
) -> Result<(), sqlx::Error> {
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    let (mut new_terms, mut old_terms) = (Vec::new(), Vec::new());
    for (&user, row) in after {
        let earlier = before.get(&user);
        if row.as_ref() == earlier {
            continue;
        }
        match row {
            Some(row) => changed.push(columns(user, row)?),
            None => gone.push([number(user.number())].into()),
        }
        let (has, had) = (term_rows(user, row.as_ref()), term_rows(user, earlier));
        new_terms.extend(has.difference(&had).map(|term| term.to_vec().into()));
        old_terms.extend(had.difference(&has).map(|term| term.to_vec().into()));
    }
    let statements = [
        (UPSERT, changed),
        (DELETE, gone),
        (DELETE_TERMS, old_terms),
        (INSERT_TERMS, new_terms),
    ];
    write_rows(dialect, connection, statements).await
}

fn term_rows(user: UserId, row: Option<&Row>) -> BTreeSet<[i64; 3]> {
    let of_row = |row: &Row| {
        let created = number(row.created);
        let terms = row.terms.all().into_iter();
        terms
            .map(|term| [term, created, number(user.number())])
            .collect()
    };
    row.map(of_row).unwrap_or_default()
}

fn columns(user: UserId, row: &Row) -> Result<Value, sqlx::Error> {
    let mut columns = vec![
        Value::from(number(user.number())),
        Value::from(number(row.created)),
        row.key.to_string().into(),
    ];
    for field in NameField::ALL {
        let sealed = row.names.get(&field);
        columns.push(serde_json::to_value(sealed).map_err(decode_error)?);
    }
    columns.push(terms_text(&row.terms)?.into());
    Ok(columns.into())
}

fn terms_text(terms: &SearchTerms) -> Result<String, sqlx::Error> {
    serde_json::to_string(terms).map_err(decode_error)
}
