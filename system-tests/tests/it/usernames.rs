//! Two living users never hold the same username.

use anyhow::{Result, ensure};
use futures::future::{join_all, try_join, try_join_all};
use serde_json::json;
use system_tests::audit::user_events;
use system_tests::client::{id, user};
use system_tests::{Answer, System, Users, unique};

fn named(name: &str) -> serde_json::Value {
    json!({"username": name})
}

async fn taken(users: &Users, name: &str) -> Result<()> {
    let refused = users.create(&user(name)).await?.expect(409)?;
    ensure!(refused.content_type.starts_with("application/problem+json"));
    ensure!(refused.body["message"].is_string(), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn of_sixty_four_callers_one_gets_the_name() -> Result<()> {
    let system = System::start().await?;
    let users = system.users()?;
    let new = user(&unique("contended"));
    let answers = try_join_all((0..64).map(|_| users.create(&new))).await?;
    let count = |status| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    ensure!((count(201), count(409)) == (1, 63), "{answers:?}");
    Ok(())
}

#[tokio::test]
async fn a_name_is_reserved_in_every_way_and_freed_at_once() -> Result<()> {
    let system = System::start().await?;
    let users = system.users()?;
    let (first, second, third) = (unique("first"), unique("second"), unique("third"));
    let ada = users.created(&first).await?;
    let bob = users.created(&third).await?;

    taken(&users, &first).await?;
    taken(&users, &first.to_uppercase()).await?;
    users.patch(id(&bob), &named(&first)).await?.expect(409)?;
    ensure!(
        users.get(id(&bob)).await?.body == bob,
        "a refusal changes nothing"
    );
    users.patch(id(&ada), &named(&first)).await?.expect(204)?;

    users.patch(id(&ada), &named(&second)).await?.expect(204)?;
    taken(&users, &second).await?;
    let eve = users.created(&first).await?;

    users.delete(id(&ada)).await?.expect(204)?;
    users.created(&second).await?;
    users.delete(id(&eve)).await?.expect(204)?;
    users.patch(id(&bob), &named(&first)).await?.expect(204)?;
    users.created(&third).await?;
    Ok(())
}

#[tokio::test]
async fn renames_to_one_name_at_once_succeed_for_one_user() -> Result<()> {
    let system = System::start().await?;
    let users = system.users()?;
    let wanted = unique("wanted");
    let names: Vec<_> = (0..8).map(|_| unique("renamer")).collect();
    let crowd = try_join_all(names.iter().map(|name| users.created(name))).await?;
    let change = named(&wanted);
    let renames = crowd.iter().map(|user| users.patch(id(user), &change));
    let answers = join_all(renames)
        .await
        .into_iter()
        .collect::<Result<Vec<Answer>>>()?;
    let count = |status| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    ensure!((count(204), count(409)) == (1, 7), "{answers:?}");
    Ok(())
}

#[tokio::test]
async fn two_patches_at_once_both_land() -> Result<()> {
    let system = System::start().await?;
    let users = system.users()?;
    let user = users.created(&unique("patched")).await?;
    for round in 0..10 {
        let given = json!({"given_name": format!("Given {round}")});
        let family = json!({"family_name": format!("Family {round}")});
        let answers = try_join(
            users.patch(id(&user), &given),
            users.patch(id(&user), &family),
        );
        let (one, other) = answers.await?;
        one.expect(204)?;
        other.expect(204)?;
        let now = users.get(id(&user)).await?.expect(200)?.body;
        ensure!(now["given_name"] == given["given_name"], "{now}");
        ensure!(now["family_name"] == family["family_name"], "{now}");
    }
    Ok(())
}

#[tokio::test]
async fn an_uncontended_post_costs_two_appends() -> Result<()> {
    let system = System::start().await?;
    let user = system.users()?.created(&unique("single")).await?;
    let stored = user_events(&system.store()?).await?;
    let streams: Vec<_> = stored.iter().map(|(stream, ..)| stream.as_str()).collect();
    ensure!(streams.len() == 2, "{stored:?}");
    ensure!(streams[0].starts_with("username-"), "{stored:?}");
    ensure!(streams[1] == format!("users-{}", id(&user)), "{stored:?}");
    Ok(())
}
