//! The lifecycle of the original service's load script, and its promises about ids.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use private_broker::PrivateBroker;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use system_tests::client::{Answer, http, id, user};
use system_tests::system::Node;
use system_tests::{Part, System, Users, unique};

async fn of(parts: &[Part]) -> Result<System> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    System::of(parts, broker, "info").await
}

/// The system as `make up` runs it, with all roles of users-service in one process.
async fn whole_system() -> Result<System> {
    of(&Part::WHOLE).await
}

/// POST 201, GET 200 at once, PATCH 204, DELETE 204, GET 404, DELETE 404; returns the id.
async fn lifecycle(users: &Users) -> Result<u64> {
    let new = user(&unique("life"));
    let created = users.create(&new).await?.expect(201)?;
    let id = created.id()?;
    ensure!(created.location == Some(format!("/{id}")), "{created:?}");
    let mut expected = new;
    expected["id"] = json!(id);
    ensure!(created.body == expected, "{created:?}");
    ensure!(users.get(&id).await?.expect(200)?.body == expected);

    expected["given_name"] = json!("Changed");
    let patched = users.patch(&id, &json!({"given_name": "Changed"})).await?;
    ensure!(patched.expect(204)?.body == Value::Null);
    ensure!(users.get(&id).await?.expect(200)?.body == expected);

    users.delete(&id).await?.expect(204)?;
    users.get(&id).await?.expect(404)?;
    users.delete(&id).await?.expect(404)?;
    users
        .patch(&id, &json!({"given_name": "Late"}))
        .await?
        .expect(404)?;
    Ok(id.parse()?)
}

#[tokio::test]
async fn one_caller_walks_through_lives_one_after_the_other_with_increasing_ids() -> Result<()> {
    let system = whole_system().await?;
    let users = system.users()?;
    let mut last = 0;
    for _ in 0..10 {
        let id = lifecycle(&users).await?;
        ensure!(id > last, "{id} after {last}");
        last = id;
    }
    Ok(())
}

#[tokio::test]
async fn a_hundred_and_twenty_three_lives_overlap_with_distinct_ids() -> Result<()> {
    let system = System::start().await?;
    let users = system.users()?;
    let lives = (0..123).map(|_| lifecycle(&users));
    let ids: BTreeSet<_> = try_join_all(lives).await?.into_iter().collect();
    ensure!(ids.len() == 123, "{} distinct ids", ids.len());
    Ok(())
}

#[tokio::test]
async fn sixteen_callers_at_once_each_see_their_ids_increase() -> Result<()> {
    let system = whole_system().await?;
    let callers = (0..16).map(|_| async {
        let users = system.users()?;
        let mut ids = Vec::<u64>::new();
        for _ in 0..10 {
            let user = users.created(&unique("caller")).await?;
            ids.push(user["id"].as_str().context("an id")?.parse()?);
        }
        ensure!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        anyhow::Ok(ids)
    });
    let ids: BTreeSet<_> = try_join_all(callers).await?.into_iter().flatten().collect();
    ensure!(ids.len() == 160, "{} distinct ids", ids.len());
    Ok(())
}

#[tokio::test]
async fn ids_over_http_are_distinct_and_increase_from_batch_to_batch() -> Result<()> {
    let system = of(&[Part::Uuids, Part::Store]).await?;
    let http = http()?;
    let mut ids = Vec::<u64>::new();
    for count in [1, 10_000, 2, 4096] {
        let url = format!("{}/?count={count}", system.uuids_url());
        let answer = Answer::to(http.get(url)).await?.expect(200)?;
        let batch = answer.body["data"].as_array().context("data")?.clone();
        ensure!(batch.len() == count, "{} for {count}", batch.len());
        for id in batch {
            ids.push(id.as_str().context("a string")?.parse()?);
        }
    }
    ensure!(ids.is_sorted_by(|a, b| a < b), "not increasing");
    Ok(())
}

#[tokio::test]
async fn the_list_follows_creations_changes_and_deletions() -> Result<()> {
    let system = whole_system().await?;
    let users = system.users()?;
    let names = (0..5).map(|_| unique("list"));
    let mut expected = Vec::new();
    for name in names {
        expected.push(users.created(&name).await?);
    }
    users.delete(id(&expected.remove(1))).await?.expect(204)?;
    let change = json!({"family_name": "Changed"});
    users.patch(id(&expected[0]), &change).await?.expect(204)?;
    expected[0]["family_name"] = change["family_name"].clone();
    users.until_listed(&expected).await
}
