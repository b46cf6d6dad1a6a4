use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::config::Config;
use crate::persistent::Strategy;
use crate::persistent::group::Peer;
use crate::persistent::handle::GroupCommand;
use crate::persistent::settings::{FilterSettings, Source, StartFrom};

fn settings() -> Settings {
    Settings {
        resolve_link_tos: false,
        extra_statistics: false,
        start_from: StartFrom::Start,
        message_timeout: 0,
        max_retry_count: 10,
        live_buffer_size: 10,
        history_buffer_size: 10,
        read_batch_size: 1,
        check_point_after: 0,
        min_check_point_count: 1,
        max_check_point_count: 10,
        max_subscriber_count: 0,
        named_consumer_strategy: Strategy::RoundRobin,
        filter: None,
    }
}

/// Creates a group on `$all`.
async fn created(folder: &TempDir) -> (Arc<PersistentSubscriptions>, GroupKey) {
    created_with(folder, settings()).await
}

async fn created_with(
    folder: &TempDir,
    settings: Settings,
) -> (Arc<PersistentSubscriptions>, GroupKey) {
    let storage = Arc::new(Storage::open(&Config::new(folder.path())).unwrap());
    let started = PersistentSubscriptions::start(storage, CancellationToken::new()).await;
    let groups = Arc::new(started.unwrap());
    let key = GroupKey {
        source: Source::All,
        group: "group".to_owned(),
    };
    let created = Arc::clone(&groups).create(key.clone(), settings, StartPosition::Beginning);
    created.await.unwrap();
    (groups, key)
}

#[tokio::test]
async fn a_change_is_finished_even_if_its_caller_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (groups, key) = created(&folder).await;
    let before = groups.find(&key).await.unwrap();
    let restart = Arc::clone(&groups).restart();
    assert!(futures::poll!(Box::pin(restart)).is_pending());
    while before.info().await.is_ok() {}
    let after = groups.find(&key).await.expect("the group runs again");
    after.info().await.unwrap();
}

#[tokio::test]
async fn a_question_that_arrives_while_a_group_ends_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (groups, key) = created(&folder).await;
    let group = groups.find(&key).await.unwrap();
    let place = group.inbox().reserve().await.unwrap();
    let deleted = tokio::spawn(groups.delete(key));
    group.inbox().closed().await;
    let (reply, answer) = oneshot::channel();
    place.send(GroupCommand::Info(reply));
    let answered = tokio::time::timeout(Duration::from_mins(1), answer).await;
    answered
        .expect("the question is answered, not left waiting")
        .unwrap_err();
    deleted.await.unwrap().unwrap();
}

/// Entries that this version cannot use: one has an invalid filter, the other an unknown strategy.
const OF_ANOTHER_VERSION: [&str; 2] = [
    r#"{"stream":"$all","group":"filtered","resolveLinkTos":false,"extraStatistics":false,"startFrom":"Start","messageTimeout":0,"maxRetryCount":10,"liveBufferSize":10,"historyBufferSize":10,"readBatchSize":1,"checkPointAfter":0,"minCheckPointCount":1,"maxCheckPointCount":10,"maxSubscriberCount":0,"namedConsumerStrategy":"RoundRobin","filter":{"byEventType":true,"regex":"(","prefixes":[],"interval":1}}"#,
    r#"{"stream":"s","group":"newer","namedConsumerStrategy":"Cleverest"}"#,
];

/// The groups of a server whose stored configuration has this text.
async fn groups_with_configuration(folder: &TempDir, text: &str) -> Arc<PersistentSubscriptions> {
    let storage = Arc::new(Storage::open(&Config::new(folder.path())).unwrap());
    let event = crate::event::NewEvent {
        id: uuid::Uuid::new_v4(),
        event_type: "$PersistentConfig".to_owned(),
        is_json: true,
        data: text.to_owned().into(),
        metadata: "".into(),
    };
    let stream = stored_events::configuration_stream();
    journal::append(&storage, stream, vec![event])
        .await
        .unwrap();
    let started = PersistentSubscriptions::start(storage, CancellationToken::new()).await;
    Arc::new(started.unwrap())
}

async fn configuration(groups: &PersistentSubscriptions) -> String {
    let stream = stored_events::configuration_stream();
    let last = journal::last_event(&groups.storage, stream).await.unwrap();
    let data = last.unwrap().event.unwrap().data;
    String::from_utf8(data.to_vec()).unwrap()
}

fn named(group: &str) -> GroupKey {
    GroupKey {
        source: Source::All,
        group: group.to_owned(),
    }
}

#[tokio::test]
async fn a_group_that_cannot_start_stays_configured_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let entries = OF_ANOTHER_VERSION.join(",");
    let groups = groups_with_configuration(
        &folder,
        &format!(r#"{{"version":"2","entries":[{entries}]}}"#),
    )
    .await;
    let change = Arc::clone(&groups).create(named("group"), settings(), StartPosition::Beginning);
    change.await.unwrap();
    let kept = configuration(&groups).await;
    for entry in OF_ANOTHER_VERSION {
        assert!(kept.contains(entry), "{entry} is not in {kept}");
    }
    Arc::clone(&groups).restart().await.unwrap();
    let again = Arc::clone(&groups).create(named("filtered"), settings(), StartPosition::Beginning);
    assert_eq!(again.await, Err(GroupError::Exists));
    Arc::clone(&groups).delete(named("filtered")).await.unwrap();
    let kept = configuration(&groups).await;
    assert!(!kept.contains("filtered") && kept.contains(OF_ANOTHER_VERSION[1]));
    assert!(groups.find(&named("group")).await.is_some());
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_not_overwritten() {
    for text in ["{", r#"{"version":"3","entries":{}}"#] {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups_with_configuration(&folder, text).await;
        let change =
            Arc::clone(&groups).create(named("group"), settings(), StartPosition::Beginning);
        assert!(matches!(change.await, Err(GroupError::Failed(_))));
        let change = Arc::clone(&groups).delete(named("group"));
        assert!(matches!(change.await, Err(GroupError::Failed(_))));
        assert_eq!(configuration(&groups).await, text);
    }
}

/// How many checkpoints a group with these settings writes in one minute. A client acknowledges everything it
/// receives, and nobody else writes.
async fn checkpoints_of_an_idle_minute(filter: Option<FilterSettings>) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        filter,
        ..settings()
    };
    let (groups, key) = created_with(&folder, settings).await;
    let group = groups.find(&key).await.unwrap();
    let joined = group.connect(Peer::default(), 100).await.unwrap();
    let mut joined = joined.unwrap();
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        while let Ok(message) = joined.events.try_recv() {
            group.ack(vec![message.id()]).await.unwrap();
        }
        group.info().await.unwrap();
    }
    let stream = stored_events::checkpoint_stream(&key);
    let last = groups.storage.last_revision(stream).await.unwrap().unwrap();
    last.map_or(0, |last| last + 1)
}

#[tokio::test(start_paused = true)]
async fn an_idle_group_of_all_checkpoints_what_was_acknowledged_and_then_rests() {
    let written = checkpoints_of_an_idle_minute(None).await;
    // The first events may have been acknowledged in two steps.
    assert!((1..=2).contains(&written), "{written} checkpoints");
}

#[tokio::test(start_paused = true)]
async fn an_idle_group_that_filters_out_its_own_checkpoints_rests() {
    let filter = FilterSettings {
        by_event_type: false,
        regex: String::new(),
        prefixes: vec!["orders".to_owned()],
        interval: 1,
    };
    let written = checkpoints_of_an_idle_minute(Some(filter)).await;
    assert_eq!(written, 1, "one checkpoint, for the events of its creation");
}
