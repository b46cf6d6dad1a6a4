//! The settings of a persistent subscription: its source, its start, and how it distributes events. Pure.

use serde::{Deserialize, Serialize};
use tokio::time::Duration;

use crate::filter::{Filter, InvalidFilter, Subject};
use crate::stream_name::StreamName;

/// The source of a group's events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Stream(StreamName),
    All,
}

impl Source {
    const ALL: &'static str = "$all";

    /// The source with this name; `$all` is the log.
    pub(crate) fn named(name: &str) -> Self {
        if name == Self::ALL {
            Self::All
        } else {
            Self::Stream(StreamName::stored(name))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Stream(name) => name.as_str(),
            Self::All => Self::ALL,
        }
    }

    /// The stream, or `None` for the log.
    pub(crate) fn stream(&self) -> Option<&StreamName> {
        match self {
            Self::Stream(name) => Some(name),
            Self::All => None,
        }
    }

    /// A place as text: a revision, or a position of the log.
    pub(crate) fn place(&self, place: u64) -> String {
        match self {
            Self::Stream(_) => place.to_string(),
            Self::All => format!("C:{place}/P:{place}"),
        }
    }

    /// Parses a text of [`Source::place`].
    pub(crate) fn parse_place(&self, text: &str) -> Option<u64> {
        match self {
            Self::Stream(_) => text.parse().ok(),
            Self::All => text.strip_prefix("C:")?.split_once("/P:")?.0.parse().ok(),
        }
    }
}

/// The identity of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    pub(crate) source: Source,
    pub(crate) group: String,
}

/// Where a group without a checkpoint begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StartFrom {
    Start,
    /// The first revision or position that it reads.
    At(u64),
    /// The first place that it reads: the end when the group was created. Unlike the real server, this server stores
    /// it, so that a restart before the first checkpoint loses nothing.
    End(u64),
}

impl StartFrom {
    /// The first place to read.
    pub(crate) fn first(self) -> u64 {
        match self {
            Self::Start => 0,
            Self::At(place) | Self::End(place) => place,
        }
    }

    /// As the real server reports it.
    pub(crate) fn text(self, source: &Source) -> String {
        match (self, source) {
            (Self::End(_), Source::Stream(_)) => "-1".to_owned(),
            (Self::End(_), Source::All) => "C:-1/P:-1".to_owned(),
            (Self::Start, _) => source.place(0),
            (Self::At(place), _) => source.place(place),
        }
    }
}

/// How events are distributed among the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Strategy {
    /// To each client in turn.
    RoundRobin,
    /// To one client until it has as many as it takes.
    DispatchToSingle,
    /// All events of one stream to the same client.
    Pinned,
    /// All events with the same `$correlationId` to the same client.
    PinnedByCorrelation,
}

impl Strategy {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "RoundRobin" => Some(Self::RoundRobin),
            "DispatchToSingle" => Some(Self::DispatchToSingle),
            "Pinned" => Some(Self::Pinned),
            "PinnedByCorrelation" => Some(Self::PinnedByCorrelation),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "RoundRobin",
            Self::DispatchToSingle => "DispatchToSingle",
            Self::Pinned => "Pinned",
            Self::PinnedByCorrelation => "PinnedByCorrelation",
        }
    }
}

/// The filter of a group on the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FilterSettings {
    pub(crate) by_event_type: bool,
    pub(crate) regex: String,
    pub(crate) prefixes: Vec<String>,
    /// This many events that the filter leaves out count as one for the checkpoint; at least 1.
    pub(crate) interval: u64,
}

impl FilterSettings {
    pub(crate) fn filter(&self) -> Result<Filter, InvalidFilter> {
        let subject = if self.by_event_type {
            Subject::EventType
        } else {
            Subject::StreamName
        };
        Filter::new(subject, &self.regex, self.prefixes.clone())
    }
}

/// The settings of a group as the client sent them. The real server accepts nearly everything, so senseless values
/// are corrected where they are used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    pub(crate) resolve_link_tos: bool,
    pub(crate) extra_statistics: bool,
    pub(crate) start_from: StartFrom,
    /// In milliseconds; 0 waits for ever.
    pub(crate) message_timeout: i32,
    pub(crate) max_retry_count: i32,
    pub(crate) live_buffer_size: i32,
    pub(crate) history_buffer_size: i32,
    pub(crate) read_batch_size: i32,
    /// In milliseconds.
    pub(crate) check_point_after: i32,
    pub(crate) min_check_point_count: i32,
    pub(crate) max_check_point_count: i32,
    /// 0 means any number.
    pub(crate) max_subscriber_count: i32,
    pub(crate) named_consumer_strategy: Strategy,
    pub(crate) filter: Option<FilterSettings>,
}

impl Settings {
    pub(crate) fn message_timeout(&self) -> Option<Duration> {
        let timeout = u64::try_from(self.message_timeout).ok()?;
        (timeout > 0).then(|| Duration::from_millis(timeout))
    }

    pub(crate) fn check_point_after(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.check_point_after).unwrap_or(0))
    }

    pub(crate) fn most_subscribers(&self) -> usize {
        at_least_one(self.max_subscriber_count).unwrap_or(usize::MAX)
    }

    pub(crate) fn buffer_size(&self) -> usize {
        at_least_one(self.history_buffer_size).unwrap_or(1)
    }

    pub(crate) fn batch_size(&self) -> usize {
        at_least_one(self.read_batch_size).unwrap_or(1)
    }
}

fn at_least_one(count: i32) -> Option<usize> {
    usize::try_from(count).ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for source in [Source::named("s"), Source::All] {
            assert_eq!(source.parse_place(&source.place(64)), Some(64));
        }
        assert_eq!(Source::All.place(64), "C:64/P:64");
        assert_eq!(Source::All.parse_place("64"), None);
    }

    #[test]
    fn a_start_is_reported_as_by_the_real_server() {
        let (stream, all) = (Source::named("s"), Source::All);
        assert_eq!(StartFrom::Start.text(&stream), "0");
        assert_eq!(StartFrom::Start.text(&all), "C:0/P:0");
        assert_eq!(StartFrom::End(7).text(&stream), "-1");
        assert_eq!(StartFrom::End(7).text(&all), "C:-1/P:-1");
    }

    #[test]
    fn every_strategy_is_found_by_its_name() {
        for name in [
            "RoundRobin",
            "DispatchToSingle",
            "Pinned",
            "PinnedByCorrelation",
        ] {
            assert_eq!(Strategy::named(name).unwrap().name(), name);
        }
        assert_eq!(Strategy::named("Nonsense"), None);
    }
}
