//! The bare insertion of the rows of a list: the same tables, statements and transactions as those of a rebuild, without log, keys,
//! sealing and terms. It is what a rebuild is compared with.

use super::path::rate;
use super::setup::{Prepared, Setup};
use anyhow::Result;
use sqlx::{AnyPool, AssertSqlSafe, Row as _};
use std::time::Instant;
use users_service::database::Dialect;

/// The number of users in one transaction, as in a rebuild.
const BATCH: usize = 1_000;
const TABLES: [&str; 2] = [
    include_str!("../../../../../users-service/tables/ledger.sql"),
    include_str!("../../../../../users-service/tables/directory.sql"),
];

/// The tables with the rows of users, their columns, and which of these are numbers.
const ROWS: [(&str, &[(&str, bool)]); 3] = [
    (
        "ledger",
        &[
            ("id", true),
            ("revision", true),
            ("event", false),
            ("key", false),
        ],
    ),
    (
        "users",
        &[
            ("id", true),
            ("created", true),
            ("key", false),
            ("username", false),
            ("given_name", false),
            ("family_name", false),
            ("terms", false),
        ],
    ),
    ("terms", &[("term", true), ("created", true), ("id", true)]),
];

/// Inserts the rows of a list of users 1 to `users` into empty tables. Returns users per second.
pub(super) async fn measure(prepared: &Prepared, setup: Setup, users: usize) -> Result<f64> {
    let [list, _] = setup.read_models();
    let list = prepared.tables(list).await?;
    let mut batches = Vec::new();
    for first in (1..=users).step_by(BATCH) {
        let mut batch = Vec::new();
        for (table, columns) in ROWS {
            batch.push(rows(&list, table, columns, first).await?);
        }
        batches.push(batch);
    }
    let empty = prepared.new_tables("bare", &TABLES).await?;
    let statements = ROWS.map(|(table, columns)| insertion(setup.dialect, table, columns));
    let began = Instant::now();
    for batch in batches {
        let mut transaction = empty.begin().await?;
        for (statement, rows) in statements.iter().zip(batch) {
            let insert = sqlx::query(AssertSqlSafe(statement.clone())).bind(rows);
            insert.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
    }
    Ok(rate(users, began.elapsed()))
}

/// The rows of a batch, as a JSON array of arrays.
async fn rows(
    tables: &AnyPool,
    table: &str,
    columns: &[(&str, bool)],
    first: usize,
) -> Result<String> {
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let last = first + BATCH - 1;
    let names = names.join(", ");
    let select = format!("SELECT {names} FROM {table} WHERE id BETWEEN {first} AND {last}");
    let rows = sqlx::query(AssertSqlSafe(select)).fetch_all(tables).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let mut values = Vec::with_capacity(columns.len());
        for (column, is_number) in columns {
            values.push(if *is_number {
                serde_json::Value::from(row.try_get::<i64, _>(*column)?)
            } else {
                row.try_get::<Option<String>, _>(*column)?.into()
            });
        }
        all.push(serde_json::Value::from(values));
    }
    Ok(serde_json::Value::from(all).to_string())
}

fn insertion(dialect: Dialect, table: &str, columns: &[(&str, bool)]) -> String {
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let values = columns.iter().enumerate().map(|(at, (_, is_number))| {
        if *is_number {
            format!("CAST(value ->> {at} AS bigint)")
        } else {
            format!("value ->> {at}")
        }
    });
    let values: Vec<_> = values.collect();
    let each = match dialect {
        Dialect::Sqlite => "json_each($1)",
        Dialect::Postgres => "json_array_elements($1::json)",
    };
    let (names, values) = (names.join(", "), values.join(", "));
    format!("INSERT INTO {table} ({names}) SELECT {values} FROM {each}")
}
