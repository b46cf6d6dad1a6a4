//! What only a PostgreSQL server can do: crash, be away, keep its log, have the wrong settings.

use super::place::{Place, is_in_a_file, master, open, pool};
use super::{KeysError, Lookup, SubjectKeys, wrapped};
use crate::database::Databases;
use private_postgres::PrivatePostgres;
use std::time::Duration;

const SUITABLE: &[&str] = &["wal_recycle=off"];

#[tokio::test]
async fn a_transaction_that_is_older_than_the_destruction_keeps_no_key() {
    let place = Place::database().await;
    let keys = open(&place).await;
    let id = keys.fresh().await.unwrap().id();
    let gone = wrapped(&keys, id).await;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
    let mut older = pool(&keys).await.begin_with(begin).await.unwrap();
    let look = sqlx::query("SELECT id FROM destroyed");
    look.fetch_all(&mut *older).await.unwrap();
    keys.destroy(id).await.unwrap();
    assert!(!is_in_a_file(&place, &gone));
    older.rollback().await.unwrap();
}

#[tokio::test]
async fn a_server_that_crashes_keeps_the_keys_and_not_the_destroyed_ones() {
    let server = PrivatePostgres::start(SUITABLE).await.unwrap();
    let place = Place::of(&server).await;
    let keys = open(&place).await;
    let kept = keys.fresh().await.unwrap().id();
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert!(matches!(keys.find(kept).await.unwrap(), Lookup::Found(_)));
    let id = keys.fresh().await.unwrap().id();
    let gone = wrapped(&keys, id).await;
    keys.destroy(id).await.unwrap();
    server.kill().await.unwrap();
    assert!(!is_in_a_file(&place, &gone));
    server.restart().await.unwrap();
    assert!(matches!(keys.find(id).await.unwrap(), Lookup::Destroyed));
    assert!(matches!(keys.find(kept).await.unwrap(), Lookup::Found(_)));
    assert!(!is_in_a_file(&place, &gone));
}

#[tokio::test]
async fn a_key_is_not_destroyed_while_the_server_keeps_the_log_that_has_it() {
    let server = PrivatePostgres::start(SUITABLE).await.unwrap();
    let place = Place::of(&server).await;
    let superuser = async |statement| server.execute(place.name(), statement).await.unwrap();
    superuser("SELECT pg_create_physical_replication_slot('standby', true)").await;
    let keys = open(&place).await;
    let id = keys.fresh().await.unwrap().id();
    let gone = wrapped(&keys, id).await;
    let second = keys.fresh().await.unwrap().id();
    assert!(matches!(
        keys.destroy(id).await,
        Err(KeysError::NotDestroyed(refused)) if refused == id
    ));
    assert!(matches!(keys.find(id).await.unwrap(), Lookup::Destroyed));
    assert!(matches!(keys.find(second).await.unwrap(), Lookup::Found(_)));
    assert!(is_in_a_file(&place, &gone), "the control failed");
    superuser("SELECT pg_drop_replication_slot('standby')").await;
    keys.destroy(id).await.unwrap();
    assert!(!is_in_a_file(&place, &gone));
}

#[tokio::test]
async fn a_store_opens_when_its_server_comes() {
    let server = PrivatePostgres::start(SUITABLE).await.unwrap();
    let place = Place::of(&server).await;
    server.kill().await.unwrap();
    let keys = open(&place).await;
    assert!(matches!(keys.check().await, Err(KeysError::Database(_))));
    let stranger = super::SubjectKey::generate().id();
    assert!(matches!(
        keys.destroy(stranger).await,
        Err(KeysError::NotDestroyed(_))
    ));
    server.restart().await.unwrap();
    keys.check().await.unwrap();
    let id = keys.fresh().await.unwrap().id();
    server.kill().await.unwrap();
    assert!(keys.check().await.is_err());
    server.restart().await.unwrap();
    keys.check().await.unwrap();
    assert!(matches!(keys.find(id).await.unwrap(), Lookup::Found(_)));
}

async fn refusal(databases: &Databases) -> String {
    match SubjectKeys::open(databases, master("0a")).await {
        Err(KeysError::Unsuitable(remedies)) => remedies,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_role_without_rights_is_told_what_to_grant() {
    let server = PrivatePostgres::shared().await;
    let place = Place::of(server).await;
    let revoke = format!("REVOKE users_services FROM {}", place.name());
    server.execute("postgres", &revoke).await.unwrap();
    let remedies = refusal(&place.databases).await;
    let role = place.name();
    assert_eq!(
        remedies,
        format!(
            "GRANT pg_checkpoint TO {role}; GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {role} in this database; \
             GRANT EXECUTE ON FUNCTION pg_ls_waldir() TO {role} in this database"
        )
    );
}

#[tokio::test]
async fn a_server_with_settings_that_keep_keys_is_refused_until_they_are_changed() {
    let server = PrivatePostgres::start(&[]).await.unwrap();
    let place = Place::of(&server).await;
    let superuser = async |statement: &str| server.execute("postgres", statement).await.unwrap();
    let role = place.name();
    for setting in ["wal_recycle = off", "log_min_duration_statement = 0"] {
        superuser(&format!("ALTER ROLE {role} SET {setting}")).await;
    }
    assert_eq!(
        refusal(&place.databases).await,
        format!(
            "set wal_recycle = off in its configuration, and reload it; it logs parameters of statements: ALTER ROLE {role} SET \
             log_parameter_max_length = 0, and the same for log_parameter_max_length_on_error"
        )
    );
    for setting in ["wal_recycle", "log_min_duration_statement"] {
        superuser(&format!("ALTER ROLE {role} RESET {setting}")).await;
    }
    superuser("ALTER SYSTEM SET wal_recycle = off").await;
    superuser("ALTER SYSTEM SET log_statement = 'all'").await;
    superuser(&format!(
        "ALTER ROLE {role} SET log_parameter_max_length = 0"
    ))
    .await;
    superuser("SELECT pg_reload_conf()").await;
    // The server's processes read the configuration some time later.
    let opened = async || SubjectKeys::open(&place.databases, master("0a")).await;
    let keys = tokio::time::timeout(Duration::from_mins(1), async {
        loop {
            if let Ok(keys) = opened().await {
                return keys;
            }
        }
    });
    let keys = keys.await.unwrap();
    let id = keys.fresh().await.unwrap().id();
    let gone = wrapped(&keys, id).await;
    keys.destroy(id).await.unwrap();
    assert!(!is_in_a_file(&place, &gone));
}

/// Gives the server a certificate for `localhost`, which is its own authority, and returns the certificate.
async fn certify(server: &PrivatePostgres) -> String {
    let names = vec!["localhost".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let mut statements = Vec::new();
    // The server does not use a key that belongs to somebody else, so it writes the file itself.
    for (file, text) in [("server.crt", &certificate), ("server.key", &key)] {
        statements.push(format!(
            "COPY (SELECT unnest(string_to_array('{}', '|'))) TO PROGRAM 'umask 077 && cat >{file}'",
            text.trim().replace('\r', "").replace('\n', "|")
        ));
    }
    statements.push("ALTER SYSTEM SET ssl = on".to_owned());
    for statement in statements {
        server.execute("postgres", &statement).await.unwrap();
    }
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    certificate
}

#[tokio::test]
async fn a_server_is_reached_over_tls_if_its_certificate_is_right() {
    let server = PrivatePostgres::start(SUITABLE).await.unwrap();
    let place = Place::of(&server).await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    std::fs::write(&root, certify(&server).await).unwrap();
    let Databases::Postgres(url) = &place.databases else {
        panic!("the place is a server");
    };
    let insisting = |host: &str| {
        let url = url.replace("127.0.0.1", host);
        let root = root.display();
        Databases::Postgres(format!("{url}?sslmode=verify-full&sslrootcert={root}"))
    };
    let keys = SubjectKeys::open(&insisting("localhost"), master("0a")).await;
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let encrypted = sqlx::query_scalar(encrypted);
    let keys = keys.unwrap();
    let encrypted: bool = encrypted.fetch_one(pool(&keys).await).await.unwrap();
    assert!(encrypted);
    let other_name = SubjectKeys::open(&insisting("127.0.0.1"), master("0a")).await;
    assert!(matches!(other_name, Err(KeysError::Database(_))));
}
