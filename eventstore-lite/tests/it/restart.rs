//! What is written stays, and the log goes on where it ended.

use std::collections::HashSet;

use eventstore_lite::{Config, Server};
use tokio::task::JoinSet;

use crate::support::{
    any, append, connect, event, id_of, new_id, read_all, read_stream, soon, start,
};

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

#[tokio::test]
async fn what_is_acknowledged_while_the_server_stops_is_there() {
    const WRITERS: usize = 64;
    let (db, server) = start().await;
    let client = connect(server.address()).await;
    let (acknowledged, mut some) = tokio::sync::mpsc::unbounded_channel();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (mut client, acknowledged) = (client.clone(), acknowledged.clone());
        writers.spawn(async move {
            loop {
                let id = new_id();
                if append(&mut client, "s", any(), vec![event(&id, "x")])
                    .await
                    .is_err()
                {
                    return;
                }
                acknowledged.send(id).unwrap();
            }
        });
    }
    drop(acknowledged);
    let mut ids = vec![soon("an acknowledgement", some.recv()).await.unwrap()];
    soon("the shutdown", server.shutdown()).await;
    soon("the end of the writers", writers.join_all()).await;
    while let Some(id) = some.recv().await {
        ids.push(id);
    }

    let server = Server::start(Config::new(db.path())).await.unwrap();
    let mut client = connect(server.address()).await;
    let stored: HashSet<_> = read_stream(&mut client, "s")
        .await
        .iter()
        .map(id_of)
        .collect();
    assert!(
        ids.iter().all(|id| stored.contains(id)),
        "an acknowledged event is missing"
    );
}
