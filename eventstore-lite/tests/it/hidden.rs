//! Events that are hidden when somebody subscribes are never shown to that subscriber.

use std::path::Path;

use eventstore_lite::wire::persistent_subscriptions::SubscriptionInfo;
use eventstore_lite::wire::streams::ReadResp;
use eventstore_lite::wire::streams::read_req::options::{
    StreamOption, StreamOptions, stream_options,
};
use eventstore_lite::wire::streams::read_resp::{Content, ReadEvent};
use eventstore_lite::{Config, Server};
use tonic::Streaming;

use crate::support::groups::{Groups, revision, settings};
use crate::support::{
    Client, any, append, connect, delete_stream, event, for_ever, from_start, identifier, new_id,
    open, read_request, read_stream, soon,
};

/// A way to hide some of the first five events of a stream.
#[derive(Clone, Copy, Debug)]
enum Hidden {
    Deleted,
    TruncatedBefore4,
    TruncatedBeyondTheEnd,
    AllButTwo,
    TooOld,
}

const WAYS: [Hidden; 5] = [
    Hidden::Deleted,
    Hidden::TruncatedBefore4,
    Hidden::TruncatedBeyondTheEnd,
    Hidden::AllButTwo,
    Hidden::TooOld,
];
const EVENTS: u64 = 5;

impl Hidden {
    fn stream(self) -> String {
        format!("cat-{self:?}")
    }

    fn stay(self) -> &'static [u64] {
        match self {
            Self::Deleted | Self::TruncatedBeyondTheEnd | Self::TooOld => &[],
            Self::TruncatedBefore4 => &[4],
            Self::AllButTwo => &[3, 4],
        }
    }

    async fn hide(self, client: &mut Client) {
        let stream = self.stream();
        match self {
            Self::Deleted => delete_stream(client, &stream).await,
            Self::TruncatedBefore4 => describe(client, &stream, r#"{"$tb":4}"#).await,
            Self::TruncatedBeyondTheEnd => describe(client, &stream, r#"{"$tb":9}"#).await,
            Self::AllButTwo => describe(client, &stream, r#"{"$maxCount":2}"#).await,
            Self::TooOld => describe(client, &stream, r#"{"$maxAge":1}"#).await,
        }
        soon("that it is hidden", async {
            while read_stream(client, &stream).await.len() > self.stay().len() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Writes one more event, which stays visible: it would soon be too old like the others, so these are truncated instead.
    async fn write_another(self, client: &mut Client) {
        let stream = self.stream();
        if matches!(self, Self::TooOld) {
            describe(client, &stream, &format!(r#"{{"$tb":{EVENTS}}}"#)).await;
        }
        write(client, &stream, 1).await;
    }
}

/// Writes metadata of a stream.
async fn describe(client: &mut Client, stream: &str, metadata: &str) {
    let mut described = event(&new_id(), metadata);
    for (key, value) in [("type", "$metadata"), ("content-type", "application/json")] {
        described.metadata.insert(key.to_owned(), value.to_owned());
    }
    let metastream = format!("$${stream}");
    append(client, &metastream, any(), vec![described])
        .await
        .unwrap();
}

async fn write(client: &mut Client, stream: &str, count: u64) {
    let events = (0..count).map(|number| event(&new_id(), number.to_string()));
    append(client, stream, any(), events.collect())
        .await
        .unwrap();
}

async fn started(db: &Path) -> Server {
    let mut config = Config::new(db);
    config.system_projections = true;
    Server::start(config).await.unwrap()
}

fn after(stream: &str, revision: u64) -> StreamOption {
    StreamOption::Stream(StreamOptions {
        stream_identifier: Some(identifier(stream)),
        revision_option: Some(stream_options::RevisionOption::Revision(revision)),
    })
}

async fn subscribe(client: &mut Client, from: StreamOption) -> Streaming<ReadResp> {
    let mut request = read_request(from, for_ever());
    request.resolve_links = true;
    open(client, request).await.unwrap()
}

/// The events that arrive until the subscription has caught up.
async fn history(answers: &mut Streaming<ReadResp>) -> Vec<ReadEvent> {
    let mut events = Vec::new();
    loop {
        let answer = soon("the history", answers.message()).await.unwrap();
        let content = answer.unwrap().content.unwrap();
        if matches!(content, Content::CaughtUp(_)) {
            return events;
        }
        if let Content::Event(event) = content {
            events.push(event);
        }
    }
}

async fn next(answers: &mut Streaming<ReadResp>) -> ReadEvent {
    let answer = soon("an event", answers.message()).await.unwrap();
    match answer.unwrap().content {
        Some(Content::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

fn revisions(events: &[ReadEvent]) -> Vec<u64> {
    let revision = |event: &ReadEvent| event.event.as_ref().unwrap().stream_revision;
    events.iter().map(revision).collect()
}

/// Subscribes in every way to streams with hidden events, writes one more event, and checks what arrives.
async fn nothing_hidden_comes(client: &mut Client, groups: &mut Groups) {
    for way in WAYS {
        let stream = way.stream();
        let mut subscriptions = Vec::new();
        for from in [from_start(&stream), after(&stream, 1)] {
            let mut answers = subscribe(client, from).await;
            let history = history(&mut answers).await;
            assert_eq!(revisions(&history), way.stay(), "{way:?}");
            subscriptions.push(answers);
        }
        groups.create(&stream, settings()).await;
        let mut member = groups.join(&stream).await;
        let history = member.take(way.stay().len()).await;
        let history: Vec<u64> = history.iter().map(revision).collect();
        assert_eq!(history, way.stay(), "a group, {way:?}");
        groups
            .until(&stream, "the end", |i| i.status == "Live")
            .await;
        way.write_another(client).await;
        for mut answers in subscriptions {
            assert_eq!(revisions(&[next(&mut answers).await]), [EVENTS], "{way:?}");
        }
        assert_eq!(revision(&member.next().await), EVENTS, "a group, {way:?}");
    }
}

async fn hide_all(client: &mut Client) {
    for way in WAYS {
        write(client, &way.stream(), EVENTS).await;
        way.hide(client).await;
    }
}

#[tokio::test]
async fn hidden_events_are_shown_to_no_later_subscriber() {
    let db = tempfile::tempdir().unwrap();
    let server = started(db.path()).await;
    let mut client = connect(server.address()).await;
    let mut groups = Groups::connect(server.address()).await;
    hide_all(&mut client).await;
    nothing_hidden_comes(&mut client, &mut groups).await;
    server.shutdown().await;
}

#[tokio::test]
async fn hidden_events_are_shown_to_no_subscriber_after_a_restart() {
    let db = tempfile::tempdir().unwrap();
    let server = started(db.path()).await;
    hide_all(&mut connect(server.address()).await).await;
    server.shutdown().await;
    let server = started(db.path()).await;
    let mut client = connect(server.address()).await;
    let mut groups = Groups::connect(server.address()).await;
    nothing_hidden_comes(&mut client, &mut groups).await;
    server.shutdown().await;
}

/// The revisions of the events of this stream to which links resolve.
fn of_target(events: &[ReadEvent], stream: &str) -> Vec<u64> {
    let events = events.iter().filter_map(|event| event.event.as_ref());
    let of_stream = events.filter(|event| event.stream_identifier == Some(identifier(stream)));
    of_stream.map(|event| event.stream_revision).collect()
}

#[tokio::test]
async fn links_of_a_system_stream_do_not_resolve_to_hidden_events() {
    let db = tempfile::tempdir().unwrap();
    let server = started(db.path()).await;
    let mut client = connect(server.address()).await;
    let stream = Hidden::Deleted.stream();
    write(&mut client, &stream, EVENTS).await;
    Hidden::Deleted.hide(&mut client).await;
    for _ in 0..2 {
        let mut answers = subscribe(&mut client, from_start("$ce-cat")).await;
        let history = history(&mut answers).await;
        assert_eq!(history.len(), 6, "with the deletion");
        assert!(of_target(&history, &stream).is_empty());
    }
    let mut answers = subscribe(&mut client, from_start("$ce-cat")).await;
    history(&mut answers).await;
    write(&mut client, &stream, 1).await;
    assert_eq!(of_target(&[next(&mut answers).await], &stream), [EVENTS]);
    // The system stream itself can be deleted too.
    delete_stream(&mut client, "$ce-cat").await;
    let mut answers = subscribe(&mut client, from_start("$ce-cat")).await;
    assert!(history(&mut answers).await.is_empty());
    write(&mut client, &stream, 1).await;
    assert_eq!(
        of_target(&[next(&mut answers).await], &stream),
        [EVENTS + 1]
    );
    server.shutdown().await;
}

#[tokio::test]
async fn events_that_a_group_has_read_are_not_sent_to_a_client_that_joins_after_they_were_hidden() {
    let db = tempfile::tempdir().unwrap();
    let server = started(db.path()).await;
    let mut client = connect(server.address()).await;
    let mut groups = Groups::connect(server.address()).await;
    for way in WAYS {
        let stream = way.stream();
        write(&mut client, &stream, EVENTS).await;
        groups.create(&stream, settings()).await;
        let has_read_all = |info: &SubscriptionInfo| info.read_buffer_count == 5;
        groups
            .until(&stream, "that it has read", has_read_all)
            .await;
        // One event is in flight when its client leaves, so it is retried.
        let member = groups.join_with(&stream, 1).await;
        let in_flight = |info: &SubscriptionInfo| info.total_in_flight_messages == 1;
        groups.until(&stream, "one in flight", in_flight).await;
        drop(member);
        let comes_again = |info: &SubscriptionInfo| info.retry_buffer_count == 1;
        groups
            .until(&stream, "one to come again", comes_again)
            .await;
        way.hide(&mut client).await;
        let mut member = groups.join(&stream).await;
        way.write_another(&mut client).await;
        let given = member.take(way.stay().len() + 1).await;
        let given: Vec<u64> = given.iter().map(revision).collect();
        assert_eq!(given, [way.stay(), &[EVENTS]].concat(), "{way:?}");
    }
    server.shutdown().await;
}
