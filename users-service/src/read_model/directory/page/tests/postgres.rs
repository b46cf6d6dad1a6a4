//! The cost of a page in PostgreSQL.

use super::*;
use crate::database::postgres_settings;
use private_postgres::PrivatePostgres;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

/// The server reads a smaller table as a whole.
const FEW: i64 = 10_000;

/// A directory with so many users. All of them have term 5.
async fn filled(users: i64) -> PgConnection {
    let url = PrivatePostgres::shared().await.database().await;
    directory(&Databases::Postgres(url.clone())).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let fill = format!(
        "SET synchronous_commit TO off;
         INSERT INTO users SELECT n, n, repeat('k', 32), repeat('u', 60), repeat('g', 60), repeat('f', 60), '{{}}' FROM generate_series(1, {users}) n;
         INSERT INTO terms SELECT 5, n, n FROM generate_series(1, {users}) n;
         INSERT INTO terms SELECT 1000 + n, n, n FROM generate_series(1, {users}) n;"
    );
    execute(&mut connection, &postgres_settings("directory_g1")).await;
    execute(&mut connection, &fill).await;
    execute(&mut connection, "VACUUM ANALYZE users").await;
    execute(&mut connection, "VACUUM ANALYZE terms").await;
    connection
}

async fn execute(connection: &mut PgConnection, statements: &str) {
    let statements = sqlx::raw_sql(AssertSqlSafe(statements));
    statements.execute(connection).await.unwrap();
}

/// The rows that a page examines and the rows that it has, with a plan for these parameters or for any.
async fn cost(
    connection: &mut PgConnection,
    (mode, statement): (&str, &str),
    after: i64,
) -> (u64, u64) {
    let term = if statement.contains("$4") { ", 5" } else { "" };
    let prepare = format!("SET plan_cache_mode TO {mode}; PREPARE page AS {statement}");
    execute(connection, &prepare).await;
    let explain =
        format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE page ({after}, {after}, {LIMIT}{term})");
    let explained = sqlx::raw_sql(AssertSqlSafe(explain));
    let explained = explained.fetch_one(&mut *connection).await.unwrap();
    let plan: String = explained.try_get_unchecked(0).unwrap();
    execute(connection, "DEALLOCATE page").await;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let plan = &plan[0]["Plan"];
    (examined(plan), plan["Actual Rows"].as_u64().unwrap())
}

/// The rows that the scans of a plan have found or thrown away.
fn examined(plan: &Value) -> u64 {
    let number = |name: &str| plan[name].as_u64().unwrap_or_default();
    let scan = plan["Node Type"].as_str().unwrap().ends_with("Scan");
    let removed = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
    let here = number("Actual Loops") * (number("Actual Rows") + removed);
    let parts = plan["Plans"].as_array().into_iter().flatten();
    parts.map(examined).sum::<u64>() + if scan { here } else { 0 }
}

#[tokio::test]
async fn a_page_of_postgresql_costs_the_same_among_ten_thousand_users_and_among_a_million() {
    let (mut few, mut many) = (filled(FEW).await, filled(MANY).await);
    for (statement, scans) in [(LIST, 1), (FIND, 2)] {
        for mode in ["force_custom_plan", "force_generic_plan"] {
            let page = (mode, statement);
            let expected = (scans * 101, 101);
            assert_eq!(cost(&mut few, page, FEW / 2).await, expected, "{page:?}");
            for after in [1, MANY / 2, MANY - 500] {
                assert_eq!(cost(&mut many, page, after).await, expected, "{page:?}");
            }
            // The control: a page that looks at all users costs more among more of them.
            let wasteful = statement.replace("ORDER BY", "ORDER BY 0 +");
            let wasteful = (mode, wasteful.as_str());
            let (few, _) = cost(&mut few, wasteful, 0).await;
            let (many, _) = cost(&mut many, wasteful, 0).await;
            assert!(many > 40 * few, "{many} {few}");
        }
    }
}
