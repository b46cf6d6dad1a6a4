//! What is written stays, and the log goes on where it ended.

use eventstore_lite::{Config, Server};

use crate::support::{any, append, connect, event, new_id, read_all, read_stream, start};

#[tokio::test]
async fn after_a_restart_everything_is_there_and_positions_go_on() {
    let (db, server) = start().await;
    let mut client = connect(server.address()).await;
    let first = append(&mut client, "s", any(), vec![event(&new_id(), "one")])
        .await
        .unwrap();
    let empty = append(&mut client, "s", any(), vec![]).await.unwrap();
    let before = read_all(&mut client).await;
    server.shutdown().await;

    let server = Server::start(Config::new(db.path())).await.unwrap();
    let mut client = connect(server.address()).await;
    assert_eq!(read_all(&mut client).await, before);
    let next = append(&mut client, "s", any(), vec![event(&new_id(), "two")])
        .await
        .unwrap();
    assert_eq!(next.revision, Some(1));
    assert!(first.position < empty.position && empty.position < next.position);
}

#[tokio::test]
async fn a_retry_after_a_restart_is_recognised() {
    let (db, server) = start().await;
    let retried = event(&new_id(), "once");
    let mut client = connect(server.address()).await;
    let first = append(&mut client, "s", any(), vec![retried.clone()])
        .await
        .unwrap();
    server.shutdown().await;

    let server = Server::start(Config::new(db.path())).await.unwrap();
    let mut client = connect(server.address()).await;
    let second = append(&mut client, "s", any(), vec![retried])
        .await
        .unwrap();
    assert_eq!(first, second);
    assert_eq!(read_stream(&mut client, "s").await.len(), 1);
}

#[tokio::test]
async fn a_database_in_use_is_refused_until_its_server_has_stopped() {
    let (db, server) = start().await;
    let refused = Server::start(Config::new(db.path())).await.err().unwrap();
    assert!(refused.to_string().contains("in use"), "{refused}");
    server.shutdown().await;
    Server::start(Config::new(db.path())).await.unwrap();
}
