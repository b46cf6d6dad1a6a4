use super::*;
use tempfile::TempDir;

fn folder() -> (TempDir, Databases) {
    let folder = tempfile::tempdir().unwrap();
    let databases = Databases::Folder(folder.path().to_owned());
    (folder, databases)
}

async fn pragma(database: &Database, pragma: &str) -> i64 {
    let read = sqlx::query_scalar(AssertSqlSafe(format!("PRAGMA {pragma}")));
    read.fetch_one(database.pool()).await.unwrap()
}

#[tokio::test]
async fn a_flush_goes_through_the_cache_of_the_disk() {
    let (_folder, databases) = folder();
    let database = databases.open("a", Durability::AtOnce).await.unwrap();
    for (name, expected) in [
        ("fullfsync", 1),
        ("checkpoint_fullfsync", 1),
        ("secure_delete", 1),
        ("synchronous", 2),
        ("busy_timeout", 5_000),
    ] {
        assert_eq!(pragma(&database, name).await, expected, "{name}");
    }
    let impatient = databases.impatient("a").unwrap();
    assert_eq!(pragma(&impatient, "busy_timeout").await, 0);
    let later = databases.open("a", Durability::Later).await.unwrap();
    assert_eq!(pragma(&later, "synchronous").await, 1);
}

#[tokio::test]
async fn a_file_may_have_any_name() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("50 % of #1, é? yes&mode=memory");
    std::fs::create_dir(&path).unwrap();
    let databases = Databases::Folder(path.clone());
    databases.open("a", Durability::AtOnce).await.unwrap();
    assert!(path.join("a.db").exists());
}

#[test]
fn the_url_of_a_database_is_not_printed() {
    let databases = Databases::Postgres("postgres://users:secret@localhost/users".to_owned());
    assert_eq!(format!("{databases:?}"), "Postgres");
}

/// SQLite itself ends the transaction when the file may have no more pages.
#[tokio::test]
async fn a_transaction_that_a_full_disk_ended_leaves_no_connection_unusable() {
    let (_folder, databases) = folder();
    let small = "PRAGMA max_page_count = 8;".to_owned();
    let database = databases.connect_lazy("a", small, 1).unwrap();
    let create = sqlx::query("CREATE TABLE blobs (bytes BLOB)");
    create.execute(database.pool()).await.unwrap();
    for attempt in 0..3 {
        let mut transaction = database.begin().await.unwrap();
        let fill = sqlx::query("INSERT INTO blobs VALUES (zeroblob(100000))");
        let error = fill.execute(&mut *transaction).await.unwrap_err();
        assert!(
            error.to_string().contains("disk is full"),
            "{attempt}: {error}"
        );
    }
    let fits = sqlx::query("INSERT INTO blobs VALUES (zeroblob(1))");
    let mut transaction = database.begin().await.unwrap();
    fits.execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_connection_whose_transaction_was_dropped_stays_in_the_pool() {
    let (_folder, databases) = folder();
    let database = databases.durable("a").unwrap();
    let mark = sqlx::query("CREATE TEMPORARY TABLE mark (of_connection INTEGER)");
    mark.execute(database.pool()).await.unwrap();
    drop(database.begin().await.unwrap());
    let find = sqlx::query("SELECT * FROM mark");
    find.fetch_all(database.pool()).await.unwrap();
}
