//! A crash of the machine takes the view's file back to a former state: commits that were not flushed are gone.

use crate::bus::{Bus, PACE, ReadModel, listed, until_listed, until_published, view};
use crate::support::{id, spawn_app};
use serde_json::json;
use std::time::Duration;
use users_service::database::Databases;
use users_service::domain::UserId;
use users_service::read_model::ERASED;

/// So long that only the comparison at the start of a projector is seen.
const NEVER: Duration = Duration::from_hours(10);

#[tokio::test]
async fn a_file_put_back_by_a_crash_finds_all_that_was_acknowledged_since() {
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    let current = crate::bus::read_model(&app).await;
    let written = view(&app).await;
    let _publisher = bus.publisher(&app, PACE);
    let (ada, bob) = (app.created("ada").await, app.created("bob").await);
    let projector = bus.projector(&app, &written, Duration::from_millis(50));
    until_listed(&app, &current, &[(id(&ada), "ada"), (id(&bob), "bob")]).await;
    projector.stop().await;
    let moment_ago = tempfile::tempdir().unwrap();
    for file in ["directory_g1.db", "directory_g1.db-wal"] {
        std::fs::copy(app.folder.path().join(file), moment_ago.path().join(file)).unwrap();
    }

    let projector = bus.projector(&app, &written, NEVER);
    let eve = app.created("eve").await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    app.delete(&bob).await;
    let now = [(id(&ada), "augusta"), (id(&eve), "eve")];
    until_listed(&app, &current, &now).await;
    until_published(&app).await;
    projector.stop().await;

    let put_back = ReadModel::open(&Databases::Folder(moment_ago.path().to_owned())).await;
    let before = listed(&app, &put_back).await;
    assert_eq!(before, [(id(&ada).to_owned(), "ada".to_owned())]);
    let restored = put_back.view();
    let _projector = bus.projector(&app, &restored, NEVER);
    until_listed(&app, &put_back, &now).await;
    let bob: UserId = id(&bob).parse().unwrap();
    crate::support::until("the erasure is applied again", async || {
        let standing = restored.standing(bob).await.unwrap();
        (standing.revision() == Some(ERASED)).then_some(())
    })
    .await;
}
