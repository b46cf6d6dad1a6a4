//! Catch-up subscriptions. They read pages after their position, and continue whenever there may be new events. So
//! nothing is missed or sent twice, and a slow client needs no memory here. A subscription ends only with an error.

use std::convert::Infallible;

use uuid::Uuid;

use super::answer_sender::{AnswerSender, ReadEnd};
use super::read::check_position;
use super::read_request::{ReadStart, SubscriptionFilter};
use super::status;
use crate::checkpoints::Checkpoints;
use crate::event::{Direction, Position};
use crate::storage::{AllRead, ScannedPosition, Storage, StreamFollow};
use crate::stream_name::StreamName;
use crate::wire::streams::read_resp::{CaughtUp, Checkpoint, Content, SubscriptionConfirmation};

/// A page is sent early when it has this many contents because of checkpoints.
const MOST_TOGETHER: usize = 256;

pub(super) async fn stream(
    storage: &Storage,
    (stream, from): (StreamName, ReadStart<u64>),
    resolve_links: bool,
    answers: &AnswerSender,
) -> Result<Infallible, ReadEnd> {
    let mut head = storage.head_of(&stream);
    let last = storage.last_revision(stream.clone()).await?;
    let last = last.map_err(|_| status::stream_deleted(&stream))?;
    let mut from = match from {
        ReadStart::Start => 0,
        ReadStart::At(revision) => revision.saturating_add(1),
        ReadStart::End => last.map_or(0, |last| last + 1),
    };
    answers.send(confirmation()).await?;
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
        let events = followed.events.into_iter();
        let events = events.map(|event| answers.event(event));
        answers.send_all(events.collect()).await?;
        if followed.tombstoned {
            return Err(status::stream_deleted(&stream).into());
        }
        if followed.is_end {
            if !caught_up {
                caught_up = true;
                answers.send(Content::CaughtUp(CaughtUp {})).await?;
            }
            head.changed().await.map_err(|_| status::unavailable())?;
        }
    }
}

pub(super) async fn all(
    storage: &Storage,
    (from, filter): (ReadStart<Position>, Option<SubscriptionFilter>),
    resolve_links: bool,
    answers: &AnswerSender,
) -> Result<Infallible, ReadEnd> {
    let mut head = storage.head();
    let start = match from {
        ReadStart::Start => Position::START,
        ReadStart::At(position) => check_position(storage, position)?,
        ReadStart::End => storage.committed(),
    };
    answers.send(confirmation()).await?;
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
        let mut contents = scanned(page.scanned, checkpoints.as_mut(), answers).await?;
        if page.is_end && !caught_up {
            caught_up = true;
            let due = checkpoints.as_mut().and_then(Checkpoints::at_end);
            contents.extend(due.map(checkpoint));
            contents.push(Content::CaughtUp(CaughtUp {}));
        }
        answers.send_all(contents).await?;
        if page.is_end {
            head.changed().await.map_err(|_| status::unavailable())?;
        }
    }
}

fn confirmation() -> Content {
    let subscription_id = Uuid::new_v4().to_string();
    Content::Confirmation(SubscriptionConfirmation { subscription_id })
}

/// Converts a page to events and the checkpoints between them. If there are many checkpoints, a part is sent at once,
/// and only the rest is returned.
async fn scanned(
    page: Vec<ScannedPosition>,
    mut checkpoints: Option<&mut Checkpoints>,
    answers: &AnswerSender,
) -> Result<Vec<Content>, ReadEnd> {
    let mut contents = Vec::new();
    for ScannedPosition { position, event } in page {
        while let Some(due) = checkpoints.as_mut().and_then(|due| due.before(position)) {
            contents.push(checkpoint(due));
            if contents.len() >= MOST_TOGETHER {
                answers.send_all(std::mem::take(&mut contents)).await?;
            }
        }
        contents.extend(event.map(|event| answers.event(event)));
        let due = checkpoints.as_mut().and_then(|due| due.at(position));
        contents.extend(due.map(checkpoint));
    }
    Ok(contents)
}

fn checkpoint(Position(position): Position) -> Content {
    Content::Checkpoint(Checkpoint {
        commit_position: position,
        prepare_position: position,
    })
}
