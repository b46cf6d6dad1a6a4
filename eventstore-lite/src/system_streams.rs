//! The streams of the real server's standard projections: which of them link to an event. Pure.
//!
//! - `$streams` links to the first event of every stream,
//! - `$ce-<category>` links to the events of all streams whose names begin with `<category>-`, and to their deletions,
//! - `$category-<category>` has a link to each of these streams,
//! - `$et-<type>` links to the events of a type; deletions of streams have the type `$deleted`,
//! - `$bc-<id>` links to the events with this `$correlationId` in their metadata.

use serde::Deserialize;
use serde_json::Value;

use crate::event::{LINK, METADATA, STREAM_DELETED};
use crate::retention::Retention;
use crate::stream_name::StreamName;

const STREAMS: &str = "$streams";
const BY_CATEGORY: &str = "$ce-";
const OF_CATEGORY: &str = "$category-";
const BY_TYPE: &str = "$et-";
const BY_CORRELATION: &str = "$bc-";
/// The event type under which deletions of streams are indexed.
const DELETED: &str = "$deleted";

/// Whether a stream of this name may have links of an index.
pub(crate) fn is_index(name: &str) -> bool {
    let prefixes = [BY_CATEGORY, OF_CATEGORY, BY_TYPE, BY_CORRELATION];
    name == STREAMS || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// The parts of an event that indexes use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexedEvent<'a> {
    pub(crate) stream: &'a StreamName,
    pub(crate) revision: u64,
    pub(crate) event_type: &'a str,
    pub(crate) data: &'a [u8],
    pub(crate) metadata: &'a [u8],
}

/// A link to be written. It points to the event's revision in `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The system stream that gets the link.
    pub(crate) stream: StreamName,
    pub(crate) target: StreamName,
}

/// The system stream with all events of the streams whose names begin with `prefix`, if there is one.
pub(crate) fn of_category(prefix: &str) -> Option<StreamName> {
    category(prefix).map(|category| name(BY_CATEGORY, category))
}

/// The prefix of the system streams that have all events whose types begin with `prefix`, if there are such streams.
/// Not all types that begin with `$` are indexed under their own name.
pub(crate) fn of_types(prefix: &str) -> Option<StreamName> {
    (!prefix.starts_with('$')).then(|| name(BY_TYPE, prefix))
}

/// A name that is too long is cut.
fn name(prefix: &str, key: &str) -> StreamName {
    let name = format!("{prefix}{key}");
    StreamName::stored(&name[..name.floor_char_boundary(StreamName::LONGEST)])
}

/// All links to an event, each in a different stream.
pub(crate) fn links(event: &IndexedEvent<'_>) -> Vec<Link> {
    let deleted = event.deletes();
    let owner = deleted.as_ref().unwrap_or(event.stream);
    let is_link = event.event_type == LINK;
    let mut links = Vec::with_capacity(3);
    let mut add = |prefix: &str, key: &str, target: &StreamName| {
        links.push(Link {
            stream: name(prefix, key),
            target: target.clone(),
        });
    };
    if event.revision == 0 {
        add(STREAMS, "", event.stream);
    }
    if let Some(category) = category(event.stream.as_str()).filter(|_| event.revision == 0) {
        add(OF_CATEGORY, category, event.stream);
    }
    if let Some(category) = category(owner.as_str()) {
        add(BY_CATEGORY, category, event.stream);
    }
    if !is_link {
        let event_type = deleted.as_ref().map_or(event.event_type, |_| DELETED);
        add(BY_TYPE, event_type, owner);
    }
    if let Some(id) = correlation(event.metadata).filter(|_| !is_link) {
        add(BY_CORRELATION, &id, event.stream);
    }
    links
}

impl IndexedEvent<'_> {
    /// The stream that this event deletes, softly or for good.
    fn deletes(&self) -> Option<StreamName> {
        match self.stream.original() {
            Some(original) => {
                let deletes =
                    self.event_type == METADATA && Retention::parse(self.data).is_soft_deleted();
                deletes.then_some(original)
            }
            None => (self.event_type == STREAM_DELETED).then(|| self.stream.clone()),
        }
    }
}

/// The text before the first `-`, if it is not empty. System streams have no category.
fn category(stream: &str) -> Option<&str> {
    let (category, _) = stream.split_once('-')?;
    (!category.is_empty() && !category.starts_with('$')).then_some(category)
}

#[derive(Deserialize)]
struct Correlated {
    #[serde(rename = "$correlationId")]
    id: Option<Value>,
}

fn correlation(metadata: &[u8]) -> Option<String> {
    match serde_json::from_slice::<Correlated>(metadata).ok()?.id? {
        Value::String(id) => Some(id),
        Value::Number(id) => Some(id.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::soft_delete;

    fn linked(stream: &str, revision: u64, event_type: &str, data: &[u8]) -> Vec<String> {
        correlated(stream, revision, event_type, (data, b""))
    }

    /// Each link as `system stream: target stream`.
    fn correlated(
        stream: &str,
        revision: u64,
        event_type: &str,
        (data, metadata): (&[u8], &[u8]),
    ) -> Vec<String> {
        let event = IndexedEvent {
            stream: &StreamName::stored(stream),
            revision,
            event_type,
            data,
            metadata,
        };
        let text = |link: Link| format!("{}: {}", link.stream.as_str(), link.target.as_str());
        links(&event).into_iter().map(text).collect()
    }

    #[test]
    fn the_first_event_of_a_stream_also_indexes_the_stream() {
        let first = linked("cat-1-x", 0, "apple", b"{}");
        let (streams, category) = ("$streams: cat-1-x", "$category-cat: cat-1-x");
        let (event, by_type) = ("$ce-cat: cat-1-x", "$et-apple: cat-1-x");
        assert_eq!(first, [streams, category, event, by_type]);
        assert_eq!(linked("cat-1-x", 1, "apple", b"{}"), [event, by_type]);
    }

    #[test]
    fn a_name_without_a_category_has_none() {
        for name in ["plain", "-x", "$sys-x", "$$cat-1"] {
            let by_type = format!("$et-apple: {name}");
            assert_eq!(linked(name, 1, "apple", b"{}"), [by_type]);
        }
    }

    #[test]
    fn deletions_stay_in_the_category_of_the_stream() {
        let (soft, hard) = ("$ce-cat: $$cat-1", "$ce-cat: cat-1");
        let by_type = "$et-$deleted: cat-1";
        assert_eq!(
            linked("$$cat-1", 3, METADATA, &soft_delete()),
            [soft, by_type]
        );
        assert_eq!(linked("cat-1", 7, STREAM_DELETED, b""), [hard, by_type]);
        let other = linked("$$cat-1", 3, METADATA, br#"{"$tb":3}"#);
        assert_eq!(other, ["$et-$metadata: $$cat-1"]);
    }

    #[test]
    fn links_are_indexed_only_by_category() {
        let link = correlated("cat-1", 1, LINK, (b"0@s", br#"{"$correlationId":"c"}"#));
        assert_eq!(link, ["$ce-cat: cat-1"]);
    }

    #[test]
    fn a_correlation_is_a_text_or_a_number() {
        let by = |metadata: &str| {
            let links = correlated("s", 1, "t", (b"", metadata.as_bytes()));
            links.get(1).cloned()
        };
        let found = by(r#"{"a":{},"$correlationId":"one"}"#);
        assert_eq!(found.as_deref(), Some("$bc-one: s"));
        let found = by(r#"{"$correlationId":5}"#);
        assert_eq!(found.as_deref(), Some("$bc-5: s"));
        for none in [r#"{"$correlationId":null}"#, r#"{"a":1}"#, "nonsense", ""] {
            assert_eq!(by(none), None, "{none}");
        }
    }

    #[test]
    fn a_name_that_would_be_too_long_is_cut_between_characters() {
        let long = linked("s", 1, &"é".repeat(2_500), b"");
        assert_eq!(long, [format!("$et-{}: s", "é".repeat(2_046))]);
        let odd = linked("s", 1, &format!("x{}", "é".repeat(2_500)), b"");
        assert_eq!(odd, [format!("$et-x{}: s", "é".repeat(2_045))]);
    }

    #[test]
    fn a_prefix_of_names_or_types_has_system_streams() {
        let covering = |prefix: &str| of_category(prefix).map(|name| name.as_str().to_owned());
        assert_eq!(covering("cat-"), Some("$ce-cat".to_owned()));
        assert_eq!(covering("cat-1-x"), Some("$ce-cat".to_owned()));
        for prefix in ["cat", "", "-x", "$$cat-1"] {
            assert_eq!(covering(prefix), None, "{prefix}");
        }
        assert_eq!(of_types("app").unwrap().as_str(), "$et-app");
        assert_eq!(of_types("$meta"), None);
    }
}
