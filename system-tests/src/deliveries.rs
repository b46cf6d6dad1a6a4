//! The checker of a consumer's deliveries: compares them with the log. It is pure.
//!
//! A repeat is a message that came before: brokers repeat messages, so repeats are counted apart. A violation of the order is a
//! *first* delivery of a revision after a first delivery of a higher one of the same user.

use event_streams::{EventStreams, Position};
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};

/// The prefix of the streams of users.
const PREFIX: &str = "users-";

/// An event of a user, as the log or a message names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventName {
    /// The user.
    pub user: String,
    /// The number of the event among the user's events.
    pub revision: u64,
    /// The id of the event.
    pub id: String,
}

/// What is wrong with the deliveries of one consumer, and the number of repeats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Events of the log that never came.
    pub lost: usize,
    /// Messages whose event the log does not have.
    pub ghosts: usize,
    /// First deliveries after a first delivery of a higher revision.
    pub out_of_order: usize,
    /// Messages that came before. They are allowed.
    pub repeats: usize,
}

impl DeliveryCounts {
    /// Compares deliveries, in their order, with the log.
    #[must_use]
    pub fn of(log: &[EventName], delivered: &[EventName]) -> Self {
        let in_log: HashSet<_> = log.iter().collect();
        let mut came = HashSet::new();
        let mut highest: HashMap<&str, u64> = HashMap::new();
        let mut counts = Self::default();
        for event in delivered {
            if !came.insert(event) {
                counts.repeats += 1;
                continue;
            }
            if !in_log.contains(event) {
                counts.ghosts += 1;
            }
            let highest = highest.entry(&event.user).or_default();
            if event.revision < *highest {
                counts.out_of_order += 1;
            }
            *highest = event.revision.max(*highest);
        }
        counts.lost = in_log.difference(&came).count();
        counts
    }
}

impl Display for DeliveryCounts {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            ghosts,
            out_of_order,
            repeats,
        } = self;
        write!(
            formatter,
            "lost {lost}, ghosts {ghosts}, out of order {out_of_order} (repeats {repeats})"
        )
    }
}

/// All events of users in the log, in its order, and the position of the last one. The store's own marks of deleted streams are
/// no events.
pub async fn user_log(store: &EventStreams) -> anyhow::Result<(Vec<EventName>, Option<Position>)> {
    let mut log = Vec::new();
    let (mut after, mut end) = (None, None);
    loop {
        let page = store.read_all(&[PREFIX], after, 10_000).await?;
        let events = page.events.into_iter();
        let events = events.filter(|event| !event.event_type.starts_with('$'));
        log.extend(events.filter_map(|event| {
            end = Some(event.position);
            Some(EventName {
                user: event.stream.strip_prefix(PREFIX)?.to_owned(),
                revision: event.revision,
                id: event.id.to_string(),
            })
        }));
        if page.end {
            return Ok((log, end));
        }
        after = page.position;
    }
}

#[cfg(test)]
mod tests {
    use super::{DeliveryCounts, EventName};

    fn event(user: &str, revision: u64) -> EventName {
        EventName {
            user: user.to_owned(),
            revision,
            id: format!("{user}/{revision}"),
        }
    }

    fn counts(log: &[EventName], delivered: &[EventName]) -> [usize; 4] {
        let counts = DeliveryCounts::of(log, delivered);
        [
            counts.lost,
            counts.ghosts,
            counts.out_of_order,
            counts.repeats,
        ]
    }

    #[test]
    fn deliveries_in_the_order_of_each_user_are_right_also_if_they_come_again() {
        let log = [event("ada", 0), event("ada", 1), event("eda", 0)];
        let [first, second, other] = log.clone();
        let right = [first.clone(), other, second, first];
        assert_eq!(counts(&log, &right), [0, 0, 0, 1]);
    }

    #[test]
    fn an_event_that_never_comes_is_lost() {
        let log = [event("ada", 0), event("ada", 1)];
        assert_eq!(counts(&log, &log[..1]), [1, 0, 0, 0]);
    }

    #[test]
    fn an_event_that_the_log_does_not_have_is_a_ghost_also_under_a_known_revision() {
        let log = [event("ada", 0)];
        let mut forged = event("ada", 0);
        forged.id = "forged".to_owned();
        assert_eq!(counts(&log, &[event("ada", 0), forged]), [0, 1, 0, 0]);
        let unknown = event("eve", 0);
        assert_eq!(counts(&log, &[event("ada", 0), unknown]), [0, 1, 0, 0]);
    }

    #[test]
    fn only_a_first_delivery_can_be_out_of_order() {
        let log = [event("ada", 0), event("ada", 1), event("ada", 2)];
        let [zero, one, two] = log.clone();
        let late = [zero.clone(), two.clone(), one.clone()];
        assert_eq!(counts(&log, &late), [0, 0, 1, 0]);
        let again = [zero.clone(), one.clone(), two, zero, one];
        assert_eq!(counts(&log, &again), [0, 0, 0, 2]);
    }
}
