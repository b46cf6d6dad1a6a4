//! Catch-up subscriptions: they page from disk after their position, and whenever there may be more, again.
//! So nothing is missed or sent twice, and a slow client needs no memory here. They end only with an error.

use std::convert::Infallible;

use uuid::Uuid;

use super::outlet::{Ended, Outlet};
use super::read::known;
use super::read_request::{Begin, Filtered};
use super::status;
use crate::checkpoints::Checkpoints;
use crate::event::{Direction, Position};
use crate::storage::{AllRead, Storage, StreamFollow};
use crate::stream_name::StreamName;
use crate::wire::streams::read_resp::{CaughtUp, Checkpoint, Content, SubscriptionConfirmation};

pub(super) async fn stream(
    storage: &Storage,
    (stream, from): (StreamName, Begin<u64>),
    resolve_links: bool,
    outlet: &Outlet,
) -> Result<Infallible, Ended> {
    let mut head = storage.head_of(&stream);
    let last = storage.end_of(stream.clone()).await?;
    let last = last.map_err(|_| status::stream_deleted(&stream))?;
    let mut from = match from {
        Begin::Start => 0,
        Begin::At(revision) => revision.saturating_add(1),
        Begin::End => last.map_or(0, |last| last + 1),
    };
    outlet.send(confirmation()).await?;
    let mut caught_up = false;
    loop {
        head.mark_unchanged();
        let follow = StreamFollow {
            stream: stream.clone(),
            from,
            resolve_links,
            only_visible: !caught_up,
            limit: StreamFollow::MOST,
        };
        let followed = storage.follow_stream(follow).await?;
        from = followed.next;
        for event in followed.events {
            outlet.event(event).await?;
        }
        if followed.tombstoned {
            return Err(status::stream_deleted(&stream).into());
        }
        if followed.is_end {
            if !caught_up {
                caught_up = true;
                outlet.send(Content::CaughtUp(CaughtUp {})).await?;
            }
            head.changed().await.map_err(|_| status::unavailable())?;
        }
    }
}

pub(super) async fn all(
    storage: &Storage,
    (from, filter): (Begin<Position>, Option<Filtered>),
    resolve_links: bool,
    outlet: &Outlet,
) -> Result<Infallible, Ended> {
    let mut head = storage.head();
    let start = match from {
        Begin::Start => Position::START,
        Begin::At(position) => known(storage, position)?,
        Begin::End => *head.borrow(),
    };
    outlet.send(confirmation()).await?;
    let mut checkpoints = filter
        .as_ref()
        .map(|filter| Checkpoints::new(filter.interval, start));
    let mut read = AllRead {
        direction: Direction::Forwards,
        from: start.following(),
        limit: usize::MAX,
        filter: filter.map(|filter| filter.filter),
        resolve_links,
    };
    let mut caught_up = false;
    loop {
        head.mark_unchanged();
        let page = storage
            .read_all(read.clone())
            .await?
            .map_err(status::invalid)?;
        read.from = page.next(&read);
        for scanned in page.scanned {
            let before = |due: &mut Checkpoints| due.before(scanned.position);
            while let Some(due) = checkpoints.as_mut().and_then(before) {
                checkpoint(Some(due), outlet).await?;
            }
            if let Some(event) = scanned.event {
                outlet.event(event).await?;
            }
            let due = checkpoints.as_mut();
            let due = due.and_then(|due| due.at(scanned.position));
            checkpoint(due, outlet).await?;
        }
        if page.is_end {
            if !caught_up {
                caught_up = true;
                let due = checkpoints.as_mut().and_then(Checkpoints::at_end);
                checkpoint(due, outlet).await?;
                outlet.send(Content::CaughtUp(CaughtUp {})).await?;
            }
            head.changed().await.map_err(|_| status::unavailable())?;
        }
    }
}

fn confirmation() -> Content {
    let subscription_id = Uuid::new_v4().to_string();
    Content::Confirmation(SubscriptionConfirmation { subscription_id })
}

async fn checkpoint(position: Option<Position>, outlet: &Outlet) -> Result<(), Ended> {
    let Some(Position(position)) = position else {
        return Ok(());
    };
    let checkpoint = Checkpoint {
        commit_position: position,
        prepare_position: position,
    };
    outlet.send(Content::Checkpoint(checkpoint)).await
}
