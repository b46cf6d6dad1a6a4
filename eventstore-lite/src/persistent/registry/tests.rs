use super::*;
use crate::config::Config;
use crate::persistent::Strategy;

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

#[tokio::test]
async fn a_change_is_finished_when_its_caller_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(Storage::open(&Config::new(folder.path())).unwrap());
    let started = PersistentSubscriptions::start(storage, CancellationToken::new()).await;
    let groups = Arc::new(started.unwrap());
    let key = GroupKey {
        source: Source::All,
        group: "group".to_owned(),
    };
    let created = Arc::clone(&groups).create(key.clone(), settings(), Start::Beginning);
    created.await.unwrap();

    let before = groups.find(&key).await.unwrap();
    let restart = Arc::clone(&groups).restart();
    assert!(futures::poll!(Box::pin(restart)).is_pending());
    while before.info().await.is_ok() {}
    let after = groups.find(&key).await.expect("the group is there again");
    after.info().await.unwrap();
}
