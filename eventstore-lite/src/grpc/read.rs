//! Reads with a count. They read pages until they have `count` events or reach the end.

use super::answer_sender::{AnswerSender, ReadEnd};
use super::read_request::{ReadAll, ReadStart, ReadStream};
use super::status;
use crate::event::{Direction, Position};
use crate::storage::{AllRead, Storage, StreamPage, StreamRead};
use crate::wire::shared::StreamIdentifier;
use crate::wire::streams::read_resp::{Content, StreamNotFound};

/// How many revisions the first page spans. The real server uses the same number, and it shows where a truncated
/// stream begins.
const FIRST_PAGE: u64 = 32;
/// How many revisions a later page spans.
const PAGE: u64 = 512;

pub(super) async fn stream(
    storage: &Storage,
    request: ReadStream,
    (resolve_links, positions): (bool, bool),
    answers: &AnswerSender,
) -> Result<(), ReadEnd> {
    let mut left = request.count;
    let mut from = match request.from {
        ReadStart::Start => 0,
        ReadStart::At(revision) => revision,
        ReadStart::End => u64::MAX,
    };
    let mut page_size = FIRST_PAGE;
    loop {
        let read = StreamRead {
            stream: request.stream.clone(),
            direction: request.direction,
            from,
            limit: left.min(page_size),
            resolve_links,
        };
        let (events, next, forwards, last) = match storage.read_stream(read).await? {
            StreamPage::Events {
                events,
                next,
                forwards,
                last,
            } => (events, next, forwards, last),
            StreamPage::Tombstoned => return Err(status::stream_deleted(&request.stream).into()),
            StreamPage::Missing if left < request.count => return Ok(()),
            StreamPage::Missing => return not_found(&request, answers).await,
        };
        let is_forwards = request.direction == Direction::Forwards;
        if positions
            && is_forwards
            && events.is_empty()
            && left == request.count
            && forwards != from
        {
            answers.send(Content::FirstStreamPosition(forwards)).await?;
        }
        if !events.is_empty() {
            left -= events.len() as u64;
            page_size = PAGE;
        }
        let events = events.into_iter().map(|event| answers.event(event));
        answers.send_all(events.collect()).await?;
        match next {
            Some(next) if left > 0 => from = next,
            Some(_) | None if positions => {
                return answers.send(Content::LastStreamPosition(last)).await;
            }
            Some(_) | None => return Ok(()),
        }
    }
}

async fn not_found(request: &ReadStream, answers: &AnswerSender) -> Result<(), ReadEnd> {
    let stream_name = request.stream.as_str().to_owned().into();
    let stream_identifier = Some(StreamIdentifier { stream_name });
    answers
        .send(Content::StreamNotFound(StreamNotFound {
            stream_identifier,
        }))
        .await
}

pub(super) async fn all(
    storage: &Storage,
    request: ReadAll,
    resolve_links: bool,
    answers: &AnswerSender,
) -> Result<(), ReadEnd> {
    let from = match (request.from, request.direction) {
        (ReadStart::Start, Direction::Forwards) => Position::START,
        (ReadStart::End, Direction::Backwards) => Position(u64::MAX),
        (ReadStart::Start, Direction::Backwards) | (ReadStart::End, Direction::Forwards) => {
            return Ok(());
        }
        (ReadStart::At(position), _) => check_position(storage, position)?,
    };
    let mut read = AllRead {
        direction: request.direction,
        from,
        limit: usize::try_from(request.count).unwrap_or(usize::MAX),
        filter: request.filter,
        resolve_links,
    };
    let mut page = storage
        .read_all(read.clone())
        .await?
        .map_err(status::invalid)?;
    loop {
        read.from = page.next(&read);
        let is_end = page.is_end;
        let events = page.scanned.into_iter();
        let events: Vec<_> = events.filter_map(|scanned| scanned.event).collect();
        read.limit -= events.len();
        let events = events.into_iter().map(|event| answers.event(event));
        let sent = answers.send_all(events.collect());
        if is_end || read.limit == 0 {
            return sent.await;
        }
        // The next page is read while the client takes this one.
        let (sent, next) = tokio::join!(sent, storage.read_all(read.clone()));
        sent?;
        page = next?.map_err(status::invalid)?;
    }
}

/// Checks a position from a client: it must be a boundary of events, or beyond the end.
pub(super) fn check_position(storage: &Storage, position: Position) -> Result<Position, ReadEnd> {
    let is_beyond = position > storage.committed();
    if is_beyond || position.is_boundary() {
        return Ok(position);
    }
    Err(status::invalid("Trying to read from an invalid position.").into())
}
