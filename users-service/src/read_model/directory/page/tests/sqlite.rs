//! The cost of a page in SQLite.

use super::*;
use rusqlite::{Connection, StatementStatus};

const FEW: i64 = 1_000;

/// A directory with so many users. All of them have term 5.
async fn filled(folder: &std::path::Path, users: i64) -> Connection {
    directory(&Databases::Folder(folder.to_owned())).await;
    let connection = Connection::open(folder.join("directory_g1.db")).unwrap();
    let fill = format!(
        "PRAGMA synchronous = OFF;
         CREATE TEMPORARY TABLE numbers AS
            WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {users})
            SELECT n FROM counted;
         INSERT INTO users SELECT n, n, 'k', 'u', 'g', 'f', '{{}}' FROM numbers;
         INSERT INTO terms SELECT 5, n, n FROM numbers;"
    );
    connection.execute_batch(&fill).unwrap();
    connection
}

/// The steps of SQLite's machine that a page takes, and the rows that it finds.
fn cost(connection: &Connection, statement: &str, after: i64) -> (i32, usize) {
    // SQLite gives `$1` a number by where it stands, and `?1` the number 1.
    let statement = statement.replace('$', "?");
    let mut statement = connection.prepare(&statement).unwrap();
    let found = match statement.parameter_count() {
        4 => statement.query([after, after, LIMIT, 5]),
        _ => statement.query([after, after, LIMIT]),
    };
    let mut found = found.unwrap();
    let mut rows = 0;
    while found.next().unwrap().is_some() {
        rows += 1;
    }
    drop(found);
    (statement.get_status(StatementStatus::VmStep), rows)
}

#[tokio::test]
async fn a_page_costs_the_same_among_a_thousand_users_and_among_a_million() {
    let (few, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let few = filled(few.path(), FEW).await;
    let many = filled(many.path(), MANY).await;
    for statement in [LIST, FIND] {
        let expected = cost(&few, statement, FEW / 2);
        assert_eq!(expected.1, 101);
        for after in [1, MANY / 2, MANY - 500] {
            assert_eq!(cost(&many, statement, after), expected, "{statement}");
        }
        // The control: a page that looks at all users costs more among more of them.
        let wasteful = statement.replace("ORDER BY", "ORDER BY +");
        let wasteful = |connection| cost(connection, &wasteful, 0).0;
        assert!(wasteful(&many) > 100 * wasteful(&few));
    }
}
