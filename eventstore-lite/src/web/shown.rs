//! Events in the form that the page shows.

use serde_json::{Value, json};

use crate::access::Caller;
use crate::event::{RecordedEvent, ResolvedEvent};

/// The maximum number of bytes of data or metadata that are shown.
const MOST_SHOWN: usize = 64 * 1024;

/// The record, and the target of its link if the caller may read it.
pub(super) fn event(resolved: &ResolvedEvent, caller: Caller) -> Value {
    let record = resolved.link.as_ref().or(resolved.event.as_ref());
    let target = resolved.link.as_ref().and(resolved.event.as_ref());
    let target = target.filter(|_| !caller.hides_target(resolved));
    json!({
        "record": record.map(recorded),
        "target": target.map(recorded),
    })
}

fn recorded(event: &RecordedEvent) -> Value {
    json!({
        "position": event.position.0.to_string(),
        "stream": event.stream.as_str(),
        "revision": event.revision.to_string(),
        "id": event.id,
        "type": event.event_type,
        "created": event.created.to_string(),
        "data": content(&event.data, event.is_json),
        "metadata": content(&event.metadata, true),
    })
}

/// Formats JSON, leaves other text as it is, and describes other bytes by their size.
fn content(bytes: &[u8], may_be_json: bool) -> String {
    if bytes.len() > MOST_SHOWN {
        return format!("{} bytes, too many to show", bytes.len());
    }
    let json = may_be_json.then(|| serde_json::from_slice::<Value>(bytes).ok());
    let pretty = json.flatten().map(|json| format!("{json:#}"));
    let text = || std::str::from_utf8(bytes).map(str::to_owned).ok();
    pretty
        .or_else(text)
        .unwrap_or_else(|| format!("{} bytes that are not text", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::content;

    #[test]
    fn content_is_shown_according_to_its_kind() {
        assert_eq!(
            content(br#"{"b":1,"a":[]}"#, true),
            "{\n  \"b\": 1,\n  \"a\": []\n}"
        );
        assert_eq!(content(b"{not json", true), "{not json");
        assert_eq!(content(b"{}", false), "{}");
        assert_eq!(content(&[0xff, 0], true), "2 bytes that are not text");
        assert_eq!(
            content(&vec![b'x'; 70_000], true),
            "70000 bytes, too many to show"
        );
        assert_eq!(content(b"", true), "");
    }
}
