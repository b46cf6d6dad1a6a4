//! Finding users by their names and by the time of their creation.

use crate::bus::{ReadModel, read_model, repair, view};
use crate::listing::{get, get_from, project};
use crate::support::{App, id, on_both, spawn_app};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use users_service::clock::Clock;

/// Users with these names (username, given name, family name), in the view.
async fn users(app: &App, names: &[[&str; 3]]) -> Vec<Value> {
    let mut users = Vec::new();
    for [username, given, family] in names {
        let body = json!({"username": username, "given_name": given, "family_name": family});
        let user: Value = app.create(&body).await.json().await.unwrap();
        assert_eq!(user["username"], *username);
        users.push(user);
    }
    project(app, &users.iter().collect::<Vec<_>>()).await;
    users
}

async fn found(app: &App, query: &str) -> Vec<Value> {
    let (status, body) = get(app, &format!("/?{query}")).await;
    assert_eq!(status, StatusCode::OK, "{query}: {body}");
    assert_eq!(body["next"], Value::Null);
    body["data"].as_array().unwrap().clone()
}

on_both! {
    users_are_found_by_username_beginning_and_family_name_in_any_spelling,
    a_renamed_user_is_found_by_the_new_name_alone,
    an_erased_user_leaves_no_search_term,
    a_user_with_the_term_of_another_name_is_not_found,
    created_after_leaves_out_users_up_to_that_time,
    a_cursor_has_the_filters_and_stays_right_while_users_come_and_go,
    a_page_links_to_the_next_one_by_its_cursor_alone,
    a_cursor_expires_after_an_hour,
}

async fn users_are_found_by_username_beginning_and_family_name_in_any_spelling(app: App) {
    let all = users(
        &app,
        &[
            ["AdaLovelace", "Ada", "Lovelace"],
            ["adam", "Adam", "Smith"],
            ["eda", "Eda", "LOVELACE"],
        ],
    )
    .await;
    let [ada, adam, eda] = &all[..] else { panic!() };
    for (query, expected) in [
        ("username=adalovelace", vec![ada]),
        ("username=ADALOVELACE", vec![ada]),
        ("username=ada", vec![]),
        ("prefix=ada", vec![ada, adam]),
        ("prefix=ADAM", vec![adam]),
        ("prefix=adalovelace", vec![ada]),
        ("prefix=lov", vec![]),
        ("family_name=lovelace", vec![ada, eda]),
        ("family_name=love", vec![]),
        ("username=eda&family_name=lovelace", vec![eda]),
        ("username=eda&family_name=smith", vec![]),
        ("username=adam&prefix=ada", vec![adam]),
        ("username=adam&prefix=ada&family_name=smith", vec![adam]),
    ] {
        let found = found(&app, query).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
    }
}

async fn a_renamed_user_is_found_by_the_new_name_alone(app: App) {
    let ada = users(&app, &[["ada", "Ada", "Lovelace"]]).await.remove(0);
    app.patch(&ada, &json!({"username": "augusta"})).await;
    project(&app, &[&ada]).await;
    assert_eq!(found(&app, "username=augusta").await.len(), 1);
    assert_eq!(found(&app, "prefix=aug").await.len(), 1);
    assert_eq!(found(&app, "family_name=lovelace").await.len(), 1);
    assert_eq!(found(&app, "username=ada").await, Vec::<Value>::new());
    assert_eq!(found(&app, "prefix=ada").await, Vec::<Value>::new());
}

async fn an_erased_user_leaves_no_search_term(app: App) {
    let ada = users(&app, &[["ada", "Ada", "Lovelace"]]).await.remove(0);
    let tables = app.tables().await;
    let terms = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM terms");
        count.fetch_one(&tables).await.unwrap()
    };
    assert_eq!(terms().await, 3);
    app.delete(&ada).await;
    // Although the view still has the user.
    assert_eq!(found(&app, "prefix=ada").await, Vec::<Value>::new());
    project(&app, &[&ada]).await;
    assert_eq!(terms().await, 0);
}

/// Two texts may have the same term. A user who is not wanted is left out.
async fn a_user_with_the_term_of_another_name_is_not_found(app: App) {
    let both = users(&app, &[["ada", "Ada", "Lovelace"], ["eda", "Eda", "Byron"]]).await;
    let tables = app.tables().await;
    let copied = sqlx::query(
        "INSERT INTO terms (term, created, id) SELECT term, created + 1, $2 FROM terms WHERE id = $1",
    );
    let number = |user: &Value| id(user).parse::<i64>().unwrap();
    let copied = copied.bind(number(&both[0])).bind(number(&both[1]));
    assert_eq!(copied.execute(&tables).await.unwrap().rows_affected(), 3);
    for query in ["username=ada", "prefix=ada", "family_name=lovelace"] {
        assert_eq!(found(&app, query).await, [both[0].clone()], "{query}");
    }
}

async fn created_after_leaves_out_users_up_to_that_time(app: App) {
    let all = users(
        &app,
        &[
            ["ada", "Ada", "Lovelace"],
            ["eda", "Eda", "Byron"],
            ["ida", "Ida", "Byron"],
        ],
    )
    .await;
    let tables = app.tables().await;
    for (table, user, created) in [0, 1, 2].into_iter().flat_map(|at: usize| {
        let user = id(&all[at]).parse::<i64>().unwrap();
        let created = 951_782_400_000 + i64::try_from(at).unwrap();
        ["users", "terms"].map(|table| (table, user, created))
    }) {
        let set = format!("UPDATE {table} SET created = {created} WHERE id = {user}");
        let set = sqlx::query(sqlx::AssertSqlSafe(set));
        set.execute(&tables).await.unwrap();
    }
    for (query, expected) in [
        ("created_after=2000-02-28T23:59:59.999Z", &all[..]),
        ("created_after=2000-02-29T00:00:00.000Z", &all[1..]),
        ("created_after=2000-02-29T01:00:00.001%2B01:00", &all[2..]),
        ("created_after=2000-02-29T00:00:00.002Z", &[]),
        (
            "created_after=2000-02-29T00:00:00Z&family_name=byron",
            &all[1..],
        ),
        ("created_after=2000-02-29T00:00:00Z&username=ada", &[]),
    ] {
        assert_eq!(found(&app, query).await, expected, "{query}");
    }
}

async fn a_cursor_has_the_filters_and_stays_right_while_users_come_and_go(app: App) {
    let names = ["ada1", "bob1", "ada2", "ada3", "ada4"];
    let all = users(&app, &names.map(|name| [name, "A", "B"])).await;
    let (_, body) = get(&app, "/?prefix=ada&limit=2").await;
    assert_eq!(body["data"], json!([all[0], all[2]]));
    let next = format!("/?cursor={}", body["next"].as_str().unwrap());
    // The last user of the page goes, and so does one of the next page; another one comes.
    for gone in [2, 3] {
        app.delete(&all[gone]).await;
        project(&app, &[&all[gone]]).await;
    }
    let ada5 = users(&app, &[["ada5", "A", "B"]]).await.remove(0);
    let (_, body) = get(&app, &next).await;
    assert_eq!(body, json!({"data": [all[4], ada5], "next": null}));
    let (_, body) = get(&app, &format!("{next}&limit=1")).await;
    assert_eq!(body["data"], json!([all[4]]));
}

async fn a_page_links_to_the_next_one_by_its_cursor_alone(app: App) {
    let all = users(
        &app,
        &["ada", "adb", "adc"].map(|name| [name, "A", "Byron"]),
    )
    .await;
    let list = read_model(&app).await.list(&app, Clock::of_machine());
    let answer = get_from(list.clone(), "/?family_name=byron&limit=2").await;
    let link = answer.headers()["link"].to_str().unwrap().to_owned();
    let next = link
        .strip_prefix("<")
        .and_then(|link| link.strip_suffix(">; rel=\"next\""));
    let next = next.unwrap();
    assert!(next.starts_with("?cursor="), "{link}");
    let answer = get_from(list, &format!("/{next}")).await;
    assert!(!answer.headers().contains_key("link"), "the last page");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({"data": [all[2]], "next": null}));
}

async fn a_cursor_expires_after_an_hour(app: App) {
    users(&app, &["ada", "adb", "adc"].map(|name| [name, "A", "B"])).await;
    let now = Arc::new(AtomicU64::new(1_764_000_000_000));
    let clock = Arc::clone(&now);
    let clock = Clock::new(move || clock.load(Ordering::SeqCst));
    let list = read_model(&app).await.list(&app, clock);
    let first: Value = get_from(list.clone(), "/?limit=1")
        .await
        .json()
        .await
        .unwrap();
    let next = format!("/?cursor={}", first["next"].as_str().unwrap());
    now.fetch_add(60 * 60 * 1_000, Ordering::SeqCst);
    assert_eq!(get_from(list.clone(), &next).await.status(), StatusCode::OK);
    now.fetch_add(1, Ordering::SeqCst);
    let expired = get_from(list, &next).await;
    assert_eq!(expired.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let body: Value = expired.json().await.unwrap();
    assert!(body["message"].as_str().unwrap().contains("has expired"));
}

/// The files of the read model have neither a name nor a search term in clear.
#[tokio::test]
async fn no_clear_name_is_in_a_file_of_sqlite() {
    let app = spawn_app().await;
    let view = view(&app).await;
    let body = json!({"username": "canaryname", "given_name": "Canarygiven", "family_name": "Canaryfamily"});
    let user: Value = app.create(&body).await.json().await.unwrap();
    let user = id(&user).parse().unwrap();
    repair(&app, &view).catch_up(user, false).await.unwrap();
    let ReadModel { generation, .. } = read_model(&app).await;
    assert_eq!(generation.revision(user).await.unwrap(), Some(0));
    let mut looked_at = 0;
    for file in std::fs::read_dir(app.folder.path()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("directory_g1") {
            let bytes = std::fs::read(&path).unwrap().to_ascii_lowercase();
            let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!has(b"canary"), "{name}");
            looked_at += usize::from(has(b"ledger"));
        }
    }
    assert!(looked_at > 0, "the search finds what is there");
}
