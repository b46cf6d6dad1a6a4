//! The operator's commands, as real processes beside the roles and while these are stopped.

use anyhow::{Context, Result, ensure};
use event_streams::{Direction, EventStreams, Expected, NewEvent};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;
use system_tests::client::{Answer, http, id};
use system_tests::{Part, System, unique, wait};

/// Appends an event to a user's stream, as a faulty program would.
async fn append(store: &EventStreams, user: &Value, event_type: &'static str) -> Result<()> {
    let event = NewEvent {
        id: uuid::Uuid::new_v4(),
        event_type: event_type.into(),
        data: "{}".into(),
        metadata: "".into(),
    };
    let stream = format!("users-{}", id(user));
    store.append(&stream, Expected::Any, vec![event]).await?;
    Ok(())
}

/// What the command prints. It must succeed.
fn printed(mut command: Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

async fn until_printed(system: &System, arguments: &[&str], expected: &str) -> Result<()> {
    wait::until(&format!("{arguments:?} prints {expected:?}"), || async {
        let found = printed(system.command(Part::Projector, arguments)?)?;
        ensure!(found == expected, "{found}");
        Ok(())
    })
    .await
}

/// A command that gives up the event of this revision.
fn give_up(system: &System, command: [&str; 2], named: &str, revision: &str) -> Result<Command> {
    let [list, operation] = command;
    let reason = "a faulty program wrote it";
    let arguments = [
        list,
        operation,
        named,
        "--revision",
        revision,
        "--by",
        "grace",
        "--reason",
        reason,
    ];
    system.command(Part::Projector, &arguments)
}

/// The statistics hold the user too, and have their own decisions. After the first one, the user is held there as `second`.
fn give_up_in_the_statistics(system: &System, user: &str, second: String) -> Result<()> {
    for (revision, left) in [("1", second), ("2", String::new())] {
        let mut drop = give_up(system, ["held", "drop"], user, revision)?;
        drop.args(["--read-model", "statistics"]);
        let dropped = printed(drop)?;
        ensure!(dropped == left, "{dropped}");
    }
    Ok(())
}

/// Each decision is in the log, with the read model that it names.
async fn decisions_are_recorded(store: &EventStreams) -> Result<()> {
    const DECISIONS: [(&str, Option<&str>); 6] = [
        ("ParkedEventSkipped.v1", None),
        ("HeldEventDropped.v1", Some("directory")),
        ("ParkedEventSkipped.v1", None),
        ("HeldEventDropped.v1", Some("directory")),
        ("HeldEventDropped.v1", Some("statistics")),
        ("HeldEventDropped.v1", Some("statistics")),
    ];
    let recorded = store
        .read("operations", Direction::ForwardFrom(0), 10)
        .await?;
    let mut decisions = Vec::new();
    for event in &recorded {
        let data: Value = serde_json::from_slice(&event.data)?;
        let read_model = data["read_model"].as_str().map(str::to_owned);
        decisions.push((event.event_type.as_str(), read_model));
    }
    let decisions: Vec<_> = decisions
        .iter()
        .map(|(event_type, read_model)| (*event_type, read_model.as_deref()))
        .collect();
    ensure!(decisions == DECISIONS, "{decisions:?}");
    Ok(())
}

#[tokio::test]
async fn an_operator_gives_up_events_beside_the_running_roles_and_while_they_are_stopped()
-> Result<()> {
    let mut system = System::start().await?;
    let (users, store) = (system.users()?, system.store()?);
    let ada = users.created(&unique("ada")).await?;
    let (stream, user) = (format!("users-{}", id(&ada)), id(&ada).to_owned());
    users.until_listed(std::slice::from_ref(&ada)).await?;
    append(&store, &ada, "UserPromoted.v9").await?;
    append(&store, &ada, "UserPromoted.v10").await?;
    append(&store, &ada, "RenameFenced.v1").await?;

    // The publisher parks the stream, and the comparison with the log holds the user.
    let waiting = |revision, event_type| format!("{stream} {revision} {event_type}\n");
    let first = waiting(1, "UserPromoted.v9");
    until_printed(&system, &["parked", "list"], &first).await?;
    let held =
        |revision, event_type| format!("{user} {revision} unknown event type {event_type}\n");
    let first_held = held(1, "UserPromoted.v9");
    until_printed(&system, &["held", "list"], &first_held).await?;
    let skipped = printed(give_up(&system, ["parked", "skip"], &stream, "1")?)?;
    ensure!(skipped == first, "{skipped}");
    until_printed(
        &system,
        &["parked", "list"],
        &waiting(2, "UserPromoted.v10"),
    )
    .await?;
    let dropped = printed(give_up(&system, ["held", "drop"], &user, "1")?)?;
    ensure!(dropped == held(2, "UserPromoted.v10"), "{dropped}");
    let url = system.address(Part::Projector).context("an address")?;
    let readiness = Answer::to(http()?.get(format!("http://{url}/_readyz"))).await?;
    let holds = &readiness.body["dependencies"]["held users"];
    let named = format!("down: held: {user} at revision 2: unknown event type UserPromoted.v10");
    ensure!(
        readiness.status == 200 && *holds == json!(named),
        "{readiness:?}"
    );

    // The same while publisher and projector are stopped.
    system.kill(Part::Publisher)?;
    system.kill(Part::Projector)?;
    let replayed = system.command(Part::Projector, &["held", "replay", &user])?;
    ensure!(printed(replayed)? == held(2, "UserPromoted.v10"));
    let skipped = printed(give_up(&system, ["parked", "skip"], &stream, "2")?)?;
    ensure!(skipped == waiting(2, "UserPromoted.v10"), "{skipped}");
    let dropped = printed(give_up(&system, ["held", "drop"], &user, "2")?)?;
    ensure!(dropped.is_empty(), "{dropped}");
    let again = give_up(&system, ["held", "drop"], &user, "2")?.output()?;
    let told = String::from_utf8(again.stderr)?;
    ensure!(
        !again.status.success() && told.starts_with(&format!("Error: user {user} is not held\n")),
        "{told}"
    );
    give_up_in_the_statistics(&system, &user, held(2, "UserPromoted.v10"))?;
    system.start_part(Part::Publisher).await?;
    system.start_part(Part::Projector).await?;
    system.ready().await?;
    until_printed(&system, &["parked", "list"], "").await?;
    users.until_listed(std::slice::from_ref(&ada)).await?;
    decisions_are_recorded(&store).await
}

/// The process that replays a user is killed at a random moment, again and again. Whatever it left, the projector and another
/// replay go on from there.
#[tokio::test]
async fn a_replay_that_is_killed_anywhere_leaves_nothing_that_the_next_one_does_not_mend()
-> Result<()> {
    let mut system = System::start().await?;
    let (users, store) = (system.users()?, system.store()?);
    let ada = users.created(&unique("ada")).await?;
    users.until_listed(std::slice::from_ref(&ada)).await?;
    for _ in 0..600 {
        append(&store, &ada, "RenameFenced.v1").await?;
    }
    append(&store, &ada, "UserPromoted.v9").await?;
    append(&store, &ada, "RenameFenced.v1").await?;
    let held = format!("{} 601 unknown event type UserPromoted.v9\n", id(&ada));
    until_printed(&system, &["held", "list"], &held).await?;
    for moment in 1..=20 {
        let mut replay = system
            .command(Part::Projector, &["held", "replay", id(&ada)])?
            .stdout(Stdio::null())
            .spawn()?;
        let moment = Duration::from_millis(moment * 10);
        let ended = wait::until_within(moment, "the replay ends", || {
            let ended = replay.try_wait();
            async move { ended?.context("it runs") }
        });
        if ended.await.is_err() {
            replay.kill()?;
        }
        replay.wait()?;
        until_printed(&system, &["held", "list"], &held).await?;
    }
    system.kill(Part::Projector)?;
    let drop = system.command(
        Part::Projector,
        &[
            "held",
            "drop",
            id(&ada),
            "--by",
            "grace",
            "--reason",
            "a test",
        ],
    )?;
    ensure!(printed(drop)?.is_empty());
    system.start_part(Part::Projector).await?;
    users.until_listed(std::slice::from_ref(&ada)).await
}
