//! A message, or an event wherever it comes from, that kills the process which applies it.

use super::strangers::{COPIED, Stranger};
use super::{QUEUES, in_long_form, set_places, waiting};
use anyhow::{Context as _, Result, bail, ensure};
use private_broker::PrivateBroker;
use serde_json::Value;
use system_tests::client::{Answer, http, id};
use system_tests::deliveries::user_log;
use system_tests::flow::Flow;
use system_tests::system::{Node, System};
use system_tests::{Part, unique, wait};

/// A message is tried three times after its first delivery, and an event three times after its first page.
const MOST_DEATHS: usize = 10;

/// The route of held users.
fn held(system: &System) -> Result<String> {
    let address = system.address(Part::Projector).context("an address")?;
    Ok(format!("http://{address}/operations/directory/held"))
}

/// Creates a user. Returns the id of the only event.
async fn poison(flow: &mut Flow) -> Result<(Value, String)> {
    let ada = flow.system.users()?.created(&unique("ada")).await?;
    let (log, _) = user_log(&flow.system.store()?).await?;
    flow.expect(id(&ada), ada.clone());
    Ok((ada, log.last().context("an event")?.id.clone()))
}

async fn replay(system: &System, user: &Value) -> Result<()> {
    let route = format!("{}/{}/replay", held(system)?, id(user));
    let replayed = Answer::to(http()?.post(route)).await?.expect(200)?.body;
    ensure!(replayed["held"].is_null(), "{replayed}");
    Ok(())
}

/// Ends the projector whenever it is at this place. Starts it again and again until it lives and has no message left, or holds
/// a user. Returns how often it died.
async fn deaths(system: &mut System, place: &str) -> Result<usize> {
    let broker = PrivateBroker::shared().await;
    let (url, list) = (system.amqp_url(), http()?.get(held(system)?));
    let projector = system.process(Part::Projector)?;
    set_places(projector, place)?;
    wait::until("the broker has counted the messages", || async {
        let waiting = waiting(broker, &url, &QUEUES).await?;
        ensure!(waiting > 0, "none yet");
        Ok(())
    })
    .await?;
    for deaths in 0..MOST_DEATHS {
        projector.start()?;
        let done = wait::until("every message is done, or a user is held", || async {
            let list = list.try_clone().context("a request without a body")?;
            let held = Answer::to(list).await?.expect(200)?.body;
            let waiting = waiting(broker, &url, &QUEUES).await?;
            ensure!(held["total"] == 1 || waiting == 0, "{held}, {waiting}");
            Ok(())
        });
        tokio::select! {
            done = done => return done.map(|()| deaths),
            end = projector.until_ended() => {
                let end = end?;
                ensure!(end.starts_with("signal: 6"), "{end}");
            }
        }
    }
    bail!("the message kills every projector")
}

/// The projector dies at this place at most so often, and then the next commands are applied. Returns how often it died, and the
/// held users.
async fn survived(flow: &mut Flow, place: &str, most: usize) -> Result<(usize, Value)> {
    flow.published().await?;
    let deaths = deaths(&mut flow.system, place).await?;
    ensure!((1..=most).contains(&deaths), "{deaths} deaths");
    flow.under_traffic(async |_, traffic| traffic.more(60).await)
        .await?;
    let held = Answer::to(http()?.get(held(&flow.system)?)).await?;
    Ok((deaths, held.expect(200)?.body))
}

fn is_held_alone(held: &Value, user: &Value) -> Result<()> {
    ensure!(
        held["total"] == 1 && held["data"][0]["user"] == id(user),
        "{held}"
    );
    Ok(())
}

/// The user's event may be applied from the log before its message kills the process, and then nobody is held.
#[tokio::test]
async fn a_message_that_kills_the_process_is_given_up_and_delays_no_other() -> Result<()> {
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    let mut stranger = Stranger::begin(&flow.system).await?;
    flow.system.kill(Part::Projector)?;
    let messages = in_long_form(1_000, 100_000);
    let (ada, poison) = poison(&mut flow).await?;
    flow.under_traffic(async |_, _| {
        let genuine = stranger.copied(COPIED).await?;
        let repeats = genuine.iter().skip(1).cycle().take(messages);
        stranger.send(repeats.cloned()).await.map(drop)
    })
    .await?;
    let place = format!("directory-{poison}=return");
    // The first attempt is not counted, because the message was not delivered before. Three are.
    let (deaths, held) = survived(&mut flow, &place, 4).await?;
    if held["total"] != 0 {
        is_held_alone(&held, &ada)?;
        replay(&flow.system, &ada).await?;
    }
    let what = "a message that killed the process";
    flow.verdict(&format!(
        "{what} {deaths} times, among {messages}; held: {}",
        held["total"]
    ))
    .await
}

#[tokio::test]
async fn an_event_that_kills_the_process_holds_its_user_and_delays_no_other() -> Result<()> {
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    flow.system.kill(Part::Projector)?;
    let (ada, poison) = poison(&mut flow).await?;
    flow.under_traffic(async |_, traffic| traffic.more(in_long_form(60, 10_000)).await)
        .await?;
    let place = format!("applied-directory-{poison}=return");
    // The first page and the first delivery are not counted. Three attempts are.
    let (deaths, held) = survived(&mut flow, &place, 5).await?;
    is_held_alone(&held, &ada)?;
    // A version of the program that survives the event.
    let projector = flow.system.process(Part::Projector)?;
    projector.kill()?;
    set_places(projector, "")?;
    projector.start()?;
    flow.system.serves(Part::Projector).await?;
    replay(&flow.system, &ada).await?;
    let what = "an event that killed the process";
    flow.verdict(&format!("{what} {deaths} times")).await
}
