//! A link resolves only to events that the caller may read, in every kind of read.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use eventstore::{
    AppendToStreamOptions, Client, EventData, NakAction, PersistentSubscriptionOptions,
    ReadStreamOptions, ReplayParkedMessagesOptions, ResolvedEvent, StreamPosition,
    SubscribeToPersistentSubscriptionOptions, SubscribeToStreamOptions,
};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::support::soon;
use crate::support::tls::{PASSWORD, Secured};

const LINKS: &str = "links";
const CANARY: &str = "what-only-admins-may-read";

async fn append(client: &Client, stream: &str, event_type: &str, data: &str) {
    let event = EventData::binary(event_type, data.to_owned().into());
    let options = AppendToStreamOptions::default();
    let append = client.append_to_stream(stream, &options, event);
    append.await.unwrap();
}

/// A server with links that a user wrote: to a stream for admins, and to a stream for everybody.
async fn started() -> Secured {
    let secured = Secured::start().await;
    let (admin, user) = (secured.client_of("admin"), secured.client_of("user"));
    append(&admin, "$secret", "happened", CANARY).await;
    append(&user, "open", "happened", "x").await;
    append(&user, LINKS, "$>", "0@$secret").await;
    append(&user, LINKS, "$>", "0@open").await;
    secured
}

/// The stream to which the link resolves.
fn target(event: &ResolvedEvent) -> Option<&str> {
    event.event.as_ref().map(|event| &*event.stream_id)
}

/// The expected targets of the links, for a user and for an admin.
const LEAD: [(&str, [Option<&str>; 2]); 2] = [
    ("user", [None, Some("open")]),
    ("admin", [Some("$secret"), Some("open")]),
];

#[tokio::test]
async fn a_read_resolves_what_the_caller_may_read() {
    let secured = started().await;
    for (name, targets) in LEAD {
        let client = secured.client_of(name);
        let options = ReadStreamOptions::default().resolve_link_tos();
        let mut events = client.read_stream(LINKS, &options).await.unwrap();
        for expected in targets {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!(target(&event), expected, "{name}");
            assert!(event.link.is_some());
        }
    }
}

#[tokio::test]
async fn a_subscription_resolves_what_the_caller_may_read() {
    let secured = started().await;
    for (name, targets) in LEAD {
        let client = secured.client_of(name);
        let options = SubscribeToStreamOptions::default()
            .start_from(StreamPosition::Start)
            .resolve_link_tos();
        let mut subscription = client.subscribe_to_stream(LINKS, &options).await;
        for expected in targets {
            let event = soon("an event", subscription.next()).await.unwrap();
            assert_eq!(target(&event), expected, "{name}");
        }
        // The same for live events.
        append(&client, LINKS, "$>", "0@$secret").await;
        let event = soon("an event", subscription.next()).await.unwrap();
        assert_eq!(target(&event), targets[0], "{name}");
    }
}

#[tokio::test]
async fn a_group_resolves_for_each_client_what_it_may_read_even_for_parked_events() {
    let secured = started().await;
    let operator = secured.client_of("ops");
    for (name, targets) in LEAD {
        let client = secured.client_of(name);
        let options = PersistentSubscriptionOptions::default()
            .start_from(StreamPosition::Start)
            .resolve_link_tos(true);
        let create = operator.create_persistent_subscription(LINKS, name, &options);
        create.await.unwrap();
        let options = SubscribeToPersistentSubscriptionOptions::default();
        let group = client.subscribe_to_persistent_subscription(LINKS, name, &options);
        let mut group = group.await.unwrap();
        for expected in targets {
            let event = soon("an event", group.next()).await.unwrap();
            assert_eq!(target(&event), expected, "{name}");
            let id = [event.get_original_event().id];
            group.nack_ids(id, NakAction::Park, "later").await.unwrap();
        }
        soon("that they are parked", async {
            let options = eventstore::GetPersistentSubscriptionInfoOptions::default();
            loop {
                let info = operator.get_persistent_subscription_info(LINKS, name, &options);
                if info.await.unwrap().stats.parked_message_count == 2 {
                    break;
                }
            }
        })
        .await;
        let options = ReplayParkedMessagesOptions::default();
        let replay = operator.replay_parked_messages(LINKS, name, &options);
        replay.await.unwrap();
        for expected in targets {
            let event = soon("an event", group.next()).await.unwrap();
            assert_eq!(target(&event), expected, "{name}, parked");
        }
    }
}

fn shown(name: &str) -> String {
    let credentials = BASE64_STANDARD.encode(format!("{name}:{PASSWORD}"));
    format!("Authorization: Basic {credentials}\r\n")
}

/// Everything that arrives until `end`.
async fn read_until(source: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(end) {
            assert_ne!(source.read_buf(&mut read).await.unwrap(), 0);
        }
    };
    soon(end, reading).await;
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn the_page_resolves_what_the_caller_may_read() {
    let secured = started().await;
    for (name, sees) in [("user", false), ("admin", true)] {
        let path = format!("GET /web/api/events?stream={LINKS}");
        let page = secured.http(&path, &shown(name)).await;
        assert!(page.contains("0@$secret"), "{page}");
        assert_eq!(page.contains(CANARY), sees, "{page}");
        let path = format!("GET /web/api/tail?stream={LINKS}");
        let mut tail = secured.requested(&path, &shown(name)).await;
        read_until(&mut tail, ": open").await;
        append(&secured.client_of("user"), LINKS, "$>", "0@$secret").await;
        append(&secured.client_of("user"), LINKS, "happened", "the end").await;
        let lines = read_until(&mut tail, "the end").await;
        assert!(lines.contains("0@$secret"), "{lines}");
        assert_eq!(lines.contains(CANARY), sees, "{lines}");
    }
}
