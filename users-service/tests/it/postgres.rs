//! Read models on a PostgreSQL server of their own: erased data in its files, and a server that is away.

use crate::bus::{Bus, PACE, STATISTICS, read_model, statistics, until_listed};
use crate::counting::until_counted;
use crate::listing::{get_from, project};
use crate::rebuilding::Hosted;
use crate::support::{App, id, spawn_app_on, until};
use private_postgres::PrivatePostgres;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::io::BufRead as _;
use std::path::Path;
use std::time::Duration;
use users_service::clock::Clock;
use users_service::domain::UserId;
use users_service::read_model::{ERASED, GenerationState};

/// So long that no test sees a second look at the log.
const NEVER: Duration = Duration::from_hours(10);

const SOON: Duration = Duration::from_millis(20);

async fn server() -> PrivatePostgres {
    PrivatePostgres::start(&["wal_recycle=off"]).await.unwrap()
}

/// Those of the needles that are in some file of the server. The server deletes files meanwhile.
fn found<'a>(server: &PrivatePostgres, needles: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
    let mut files = Vec::new();
    collect(server.folder(), &mut files);
    let mut found = Vec::new();
    for needle in needles {
        if files.iter().any(|file| contains(file, needle)) {
            found.push(&needle[..]);
        }
    }
    found
}

fn collect(folder: &Path, files: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(std::fs::read(&path).unwrap_or_default());
        }
    }
}

/// Reads as a stream, because the standard library then looks for the first byte, fast also in a debug build.
fn contains(mut bytes: &[u8], needle: &[u8]) -> bool {
    while bytes.skip_until(needle[0]).unwrap() > 0 {
        if bytes.starts_with(&needle[1..]) {
            return true;
        }
    }
    false
}

/// What the directory stores of a user: its sealed names, and its terms as numbers and as text.
async fn stored(app: &App, user: &Value) -> Vec<Vec<u8>> {
    let tables = app.tables().await;
    let user: i64 = id(user).parse().unwrap();
    let names = "SELECT username, given_name, family_name FROM users WHERE id = $1";
    let names: (String, String, String) = sqlx::query_as(names)
        .bind(user)
        .fetch_one(&tables)
        .await
        .unwrap();
    let terms = sqlx::query_scalar("SELECT term FROM terms WHERE id = $1 ORDER BY term").bind(user);
    let terms: Vec<i64> = terms.fetch_all(&tables).await.unwrap();
    assert!(terms.len() >= 3);
    let mut stored = [names.0, names.1, names.2].map(String::into_bytes).to_vec();
    for term in terms {
        stored.push(term.to_le_bytes().to_vec());
        stored.push(term.to_string().into_bytes());
    }
    stored
}

/// Makes the server write what it may copy of its rows: pages, their images in the log, and statistics.
async fn make_copies(app: &App) {
    for statement in ["CHECKPOINT", "VACUUM FREEZE ANALYZE", "CHECKPOINT"] {
        let tables = app.tables().await;
        sqlx::raw_sql(statement).execute(&tables).await.unwrap();
    }
}

/// A user whose names and terms have no part in common with those of `ada`.
async fn other_user(app: &App) -> Value {
    let body = json!({"username": "grace", "given_name": "Grace", "family_name": "Hopper"});
    app.create(&body).await.json().await.unwrap()
}

#[tokio::test]
async fn the_names_and_terms_of_an_erased_user_vanish_from_all_files_of_the_server() {
    let server = server().await;
    let app = spawn_app_on(&server).await;
    let (ada, grace) = (app.created("ada").await, other_user(&app).await);
    project(&app, &[&ada, &grace]).await;
    let (of_ada, of_grace) = (stored(&app, &ada).await, stored(&app, &grace).await);
    make_copies(&app).await;
    assert_eq!(found(&server, &of_ada), of_ada, "the control failed");
    app.delete(&ada).await;
    project(&app, &[&ada]).await;
    // Nothing removes them yet: this view pauses for a minute.
    assert_eq!(found(&server, &of_ada), of_ada, "the control failed");
    let model = read_model(&app).await;
    let mut dump = app.tables().await.begin().await.unwrap();
    let reading = sqlx::query("SELECT term FROM terms JOIN users ON users.id = terms.id");
    reading.fetch_all(&mut *dump).await.unwrap();
    let _view = model.view_with_pause(SOON);
    until("the rewrite waits for the reader", async || {
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted";
        let waiting = sqlx::query_scalar(waiting);
        let waiting: i64 = waiting.fetch_one(&app.tables().await).await.unwrap();
        (waiting > 0).then_some(())
    })
    .await;
    assert_eq!(found(&server, &of_ada), of_ada);
    until_listed(&app, &model, &[(id(&grace), "grace")]).await;
    dump.rollback().await.unwrap();
    until("the files have nothing of the user", async || {
        found(&server, &of_ada).is_empty().then_some(())
    })
    .await;
    make_copies(&app).await;
    assert_eq!(found(&server, &of_ada), Vec::<&[u8]>::new());
    assert_eq!(found(&server, &of_grace), of_grace, "the search works");
    assert_eq!(stored(&app, &grace).await, of_grace);
}

#[tokio::test]
async fn a_deleted_generation_leaves_its_names_in_no_file_of_the_server() {
    let server = server().await;
    let hosted = Hosted::of(spawn_app_on(&server).await).await;
    let _host = hosted.host();
    let ada = hosted.app.created("ada").await;
    hosted.until_listed(&["ada"]).await;
    let mut names = stored(&hosted.app, &ada).await;
    // The next generation has the same terms, and seals the names anew.
    names.truncate(3);
    hosted.rebuild(1).await;
    let (retired, current) = (GenerationState::Retired, GenerationState::Current);
    hosted
        .until_generations(&[(1, retired), (2, current)])
        .await;
    make_copies(&hosted.app).await;
    assert_eq!(found(&server, &names), names, "the control failed");
    hosted.clock.advance(Duration::from_secs(11));
    hosted.until_generations(&[(2, current)]).await;
    assert_eq!(found(&server, &names), Vec::<&[u8]>::new());
}

/// The next start finds the schema as it was, and the next erasure another rewrite.
#[tokio::test]
async fn tables_that_were_written_again_are_as_before() {
    let server = server().await;
    let app = spawn_app_on(&server).await;
    let tables = app.tables().await;
    let described = async || -> Vec<(String, String)> {
        let described = "SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'directory_g1'
            UNION ALL SELECT relname || '.' || attname, format('%s %s %s', atttypid::regtype, attnotnull, attstattarget)
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            WHERE relnamespace = 'directory_g1'::regnamespace AND relkind = 'r' AND attnum > 0
            ORDER BY 1";
        let described = sqlx::query_as(described).fetch_all(&tables);
        described.await.unwrap()
    };
    let _view = read_model(&app).await.view_with_pause(SOON);
    let before = described().await;
    assert!(before.iter().any(|(name, _)| name == "users_by_creation"));
    for erased in 1..=2 {
        let ada = app.created("ada").await;
        project(&app, &[&ada]).await;
        app.delete(&ada).await;
        project(&app, &[&ada]).await;
        until("the erasure has left nothing", async || {
            let removed = sqlx::query_scalar("SELECT removed FROM erasures WHERE erased = removed");
            let removed: Option<i64> = removed.fetch_optional(&tables).await.unwrap();
            (removed == Some(erased)).then_some(())
        })
        .await;
        assert_eq!(described().await, before);
        let _opened_again = read_model(&app).await;
        assert_eq!(described().await, before);
    }
}

/// No file of the server has a name in clear, in no spelling.
#[tokio::test]
async fn no_clear_name_is_in_a_file_of_the_server() {
    let server = server().await;
    let app = spawn_app_on(&server).await;
    let body = json!({"username": "canaryname", "given_name": "Canarygiven", "family_name": "Canaryfamily"});
    let user: Value = app.create(&body).await.json().await.unwrap();
    project(&app, &[&user]).await;
    make_copies(&app).await;
    // The server itself has descriptions with the word "Canary".
    let names = [
        "canaryname",
        "canarygiven",
        "Canarygiven",
        "canaryfamily",
        "Canaryfamily",
    ];
    let names = names.map(|name| name.as_bytes().to_vec());
    assert_eq!(found(&server, &names), Vec::<&[u8]>::new());
    let stored = stored(&app, &user).await;
    assert_eq!(found(&server, &stored), stored, "the search works");
}

async fn count_applied(app: &App) -> Option<i64> {
    let applied = sqlx::query_scalar("SELECT count(*) FROM ledger");
    applied.fetch_one(&app.tables().await).await.ok()
}

/// Both read models, killed servers, and the numbers afterwards.
#[tokio::test]
async fn a_server_that_is_killed_while_it_is_written_loses_and_repeats_nothing() {
    const ROUND: usize = 40;
    let server = server().await;
    let (app, bus) = tokio::join!(spawn_app_on(&server), Bus::new());
    let model = read_model(&app).await;
    let (directory, (_, counts)) = (model.view(), statistics(&app.databases()).await);
    bus.broker.declare(&STATISTICS.topology()).await.unwrap();
    let projectors = [
        bus.projector(&app, &directory, NEVER),
        bus.projector(&app, &counts, NEVER),
    ];
    let publisher = bus.publisher(&app, PACE);
    let mut users = Vec::new();
    for round in 1..=3 {
        for number in 0..ROUND {
            let name = format!("ada-{round}-{number}");
            let user = app.created(&name).await;
            app.patch(&user, &json!({"username": format!("{name}-b")}))
                .await;
            users.push(id(&user).to_owned());
        }
        let before = i64::try_from((round - 1) * ROUND).unwrap();
        until("some are projected", async || {
            count_applied(&app).await.filter(|count| *count > before)
        })
        .await;
        server.kill().await.unwrap();
        let answer = get_from(model.clone().list(&app, Clock::of_machine()), "/").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("retry-after"));
        server.restart().await.unwrap();
    }
    let count = u64::try_from(users.len()).unwrap();
    until_counted(&app.databases(), [count, count, 0]).await;
    until("everybody is listed by the last name", async || {
        let listed = crate::bus::listed(&app, &model).await;
        let right = listed.iter().all(|(_, name)| name.ends_with("-b"));
        (right && listed.len() == users.len()).then_some(())
    })
    .await;
    for projector in &projectors {
        projector.ready().await;
    }
    publisher.ready().await;
    for user in users {
        let user: UserId = user.parse().unwrap();
        let standing = directory.standing(user).await.unwrap();
        assert!(!standing.held);
        assert!(standing.revision() < Some(ERASED));
    }
    assert_eq!(bus.dead_letters().await, Vec::<String>::new());
    until_counted(&app.databases(), [count, count, 0]).await;
}
