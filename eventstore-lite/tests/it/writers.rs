//! Many concurrent writers whose changes share transactions.

use std::collections::HashSet;

use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::append_req::options::ExpectedStreamRevision;
use tokio::task::JoinSet;

use crate::support::{
    Appended, Client, any, append, connect, event, id_of, new_id, read_all, read_stream, start,
};

const WRITERS: u64 = 32;
const EACH: u64 = 40;

#[tokio::test]
async fn concurrent_writers_lose_nothing_and_share_no_position() {
    let (_db, server) = start().await;
    let client = connect(server.address()).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(client.clone(), writer));
    }
    let positions: Vec<_> = writers.join_all().await.concat();
    let distinct: HashSet<_> = positions.iter().collect();
    assert_eq!(distinct.len(), usize::try_from(2 * WRITERS * EACH).unwrap());

    let mut client = client;
    let log: Vec<_> = read_all(&mut client)
        .await
        .iter()
        .map(|event| event.commit_position)
        .collect();
    assert!(log.is_sorted_by(|a, b| a < b));
    assert_eq!(log.iter().collect::<HashSet<_>>(), distinct);
    let shared = read_stream(&mut client, "shared").await;
    let revisions: Vec<_> = shared.iter().map(|event| event.stream_revision).collect();
    assert_eq!(revisions, (0..WRITERS * EACH).collect::<Vec<_>>());
}

/// Writes to its own stream with exact revisions and, in between, to a stream that all writers share.
async fn write(mut client: Client, writer: u64) -> Vec<u64> {
    let mut positions = Vec::new();
    let own_stream = format!("own-{writer}");
    for revision in 0..EACH {
        let expected = match revision.checked_sub(1) {
            None => ExpectedStreamRevision::NoStream(Empty {}),
            Some(last) => ExpectedStreamRevision::Revision(last),
        };
        let own = append(
            &mut client,
            &own_stream,
            expected,
            vec![event(&new_id(), "own")],
        );
        let Appended {
            revision: written,
            position,
        } = own.await.unwrap();
        assert_eq!(written, Some(revision));
        positions.push(position);
        let shared = append(
            &mut client,
            "shared",
            any(),
            vec![event(&new_id(), "shared")],
        );
        positions.push(shared.await.unwrap().position);
    }
    positions
}

#[tokio::test]
async fn one_of_several_writers_of_the_same_revision_wins() {
    let (_db, server) = start().await;
    let client = connect(server.address()).await;
    let mut rivals = JoinSet::new();
    for _ in 0..WRITERS {
        let mut client = client.clone();
        rivals.spawn(async move {
            let (id, nothing) = (new_id(), ExpectedStreamRevision::NoStream(Empty {}));
            let won = append(&mut client, "prize", nothing, vec![event(&id, "mine")]).await;
            won.is_ok().then_some(id)
        });
    }
    let winners: Vec<_> = rivals.join_all().await.into_iter().flatten().collect();
    let stored = read_stream(&mut client.clone(), "prize").await;
    assert_eq!(winners, stored.iter().map(id_of).collect::<Vec<_>>());
    assert_eq!(winners.len(), 1);
}
