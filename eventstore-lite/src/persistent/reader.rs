//! Reads the source of a group, batch by batch.

use std::sync::Arc;

use super::settings::{GroupKey, Settings, Source};
use crate::event::{Direction, Position, ResolvedEvent, TOMBSTONE_REVISION};
use crate::filter::{Filter, InvalidFilter, belongs_to_group_of_all};
use crate::storage::{AllRead, Storage, StorageFailed, StreamFollow};

/// Why a batch could not be read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum ReadFailed {
    #[error(transparent)]
    Storage(#[from] StorageFailed),
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
}

/// Events, each with its place.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<(u64, ResolvedEvent)>,
    /// The events that the filter left out after the last event here: the place of the last one, and their number.
    pub(super) filtered_out: Option<(u64, u64)>,
    /// Whether the end was reached.
    pub(super) is_end: bool,
}

#[derive(Debug)]
pub(super) struct Reader {
    key: GroupKey,
    filter: Option<Arc<Filter>>,
    resolve_links: bool,
    /// The next place to read.
    next: u64,
    /// Whether it has reached the end and has missed nothing since. Then it also reads events that metadata hides.
    caught_up: bool,
    /// Whether it has read a tombstone, after which nothing follows.
    ended: bool,
}

impl Reader {
    pub(super) fn new(
        key: GroupKey,
        settings: &Settings,
        checkpoint: Option<u64>,
    ) -> Result<Self, InvalidFilter> {
        let filter = settings
            .filter
            .as_ref()
            .map(super::settings::FilterSettings::filter);
        Ok(Self {
            key,
            filter: filter.transpose()?.map(Arc::new),
            resolve_links: settings.resolve_link_tos,
            next: checkpoint.map_or(settings.start_from.first(), |place| place.saturating_add(1)),
            caught_up: false,
            ended: false,
        })
    }

    /// Whether it has reached the end, so that further events are new.
    pub(super) fn is_live(&self) -> bool {
        self.caught_up
    }

    /// Notes that the group cannot keep up. Later events are read as history.
    pub(super) fn fall_behind(&mut self) {
        self.caught_up = false;
    }

    pub(super) async fn page(
        &mut self,
        storage: &Storage,
        limit: usize,
    ) -> Result<Batch, ReadFailed> {
        if self.ended {
            return Ok(Batch {
                is_end: true,
                ..Batch::default()
            });
        }
        let page = match self.key.source.clone() {
            Source::Stream(stream) => {
                let follow = StreamFollow {
                    stream,
                    from: self.next,
                    resolve_links: self.resolve_links,
                    only_visible: !self.caught_up,
                    limit,
                };
                self.stream_page(storage, follow).await?
            }
            Source::All => self.all_page(storage, limit).await?,
        };
        self.caught_up |= page.is_end;
        Ok(page)
    }

    async fn stream_page(
        &mut self,
        storage: &Storage,
        follow: StreamFollow,
    ) -> Result<Batch, ReadFailed> {
        // A group gets no events of a stream that was tombstoned before. A live group gets the tombstone.
        if !self.caught_up && storage.last_revision(follow.stream.clone()).await?.is_err() {
            self.ended = true;
            return Ok(Batch {
                is_end: true,
                ..Batch::default()
            });
        }
        let followed = storage.follow_stream(follow).await?;
        self.next = followed.next;
        self.ended = followed.tombstoned;
        let place = |event: &ResolvedEvent| {
            let read = event.link.as_ref().or(event.event.as_ref());
            read.map_or(TOMBSTONE_REVISION, |read| read.revision)
        };
        let events = followed.events.into_iter();
        Ok(Batch {
            events: events.map(|event| (place(&event), event)).collect(),
            filtered_out: None,
            is_end: followed.is_end,
        })
    }

    async fn all_page(&mut self, storage: &Storage, limit: usize) -> Result<Batch, ReadFailed> {
        let read = AllRead {
            direction: Direction::Forwards,
            from: Position(self.next),
            limit,
            filter: self.filter.clone(),
            resolve_links: self.resolve_links,
        };
        let read_page = storage.read_all(read.clone()).await??;
        self.next = read_page.next(&read).0;
        let mut scanned_to = read.from;
        let mut page = Batch {
            is_end: read_page.is_end,
            ..Batch::default()
        };
        for scanned in read_page.scanned {
            let Position(place) = scanned.position;
            let places = scanned.position.places_after(scanned_to).max(1);
            scanned_to = scanned.position;
            let is_filtered = scanned.event.is_none();
            if let Some(event) = scanned.event.filter(is_shown) {
                page.events.push((place, event));
                page.filtered_out = None;
            } else {
                let count = page.filtered_out.map_or(0, |(_, count)| count);
                let places = if is_filtered { places } else { 0 };
                page.filtered_out = Some((place, count + places));
            }
        }
        Ok(page)
    }
}

fn is_shown(event: &ResolvedEvent) -> bool {
    let read = event.link.as_ref().or(event.event.as_ref());
    read.is_some_and(|read| !belongs_to_group_of_all(read.stream.as_str()))
}
