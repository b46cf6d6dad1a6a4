use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::config::Config;
use crate::persistent::Strategy;
use crate::persistent::handle::Command;
use crate::persistent::settings::{Source, StartFrom};

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

/// A group of `$all`, and the groups that it is one of.
async fn created(folder: &TempDir) -> (Arc<PersistentSubscriptions>, GroupKey) {
    let storage = Arc::new(Storage::open(&Config::new(folder.path())).unwrap());
    let started = PersistentSubscriptions::start(storage, CancellationToken::new()).await;
    let groups = Arc::new(started.unwrap());
    let key = GroupKey {
        source: Source::All,
        group: "group".to_owned(),
    };
    let created = Arc::clone(&groups).create(key.clone(), settings(), Start::Beginning);
    created.await.unwrap();
    (groups, key)
}

#[tokio::test]
async fn a_change_is_finished_when_its_caller_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (groups, key) = created(&folder).await;
    let before = groups.find(&key).await.unwrap();
    let restart = Arc::clone(&groups).restart();
    assert!(futures::poll!(Box::pin(restart)).is_pending());
    while before.info().await.is_ok() {}
    let after = groups.find(&key).await.expect("the group is there again");
    after.info().await.unwrap();
}

#[tokio::test]
async fn who_asks_a_group_at_the_moment_when_it_ends_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let (groups, key) = created(&folder).await;
    let group = groups.find(&key).await.unwrap();
    let place = group.inbox().reserve().await.unwrap();
    let deleted = tokio::spawn(groups.delete(key));
    group.inbox().closed().await;
    let (reply, answer) = oneshot::channel();
    place.send(Command::Info(reply));
    let answered = tokio::time::timeout(Duration::from_mins(1), answer).await;
    answered.expect("not to wait for ever").unwrap_err();
    deleted.await.unwrap().unwrap();
}
