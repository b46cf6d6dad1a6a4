//! The header `Prefer` (RFC 7240).

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

const PREFER: &str = "prefer";
const RESPOND_ASYNC: &str = "respond-async";

/// Says in an answer that the preference was applied.
pub(super) const APPLIED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("preference-applied"),
    HeaderValue::from_static(RESPOND_ASYNC),
);

/// Whether the client prefers an answer before the command is executed.
pub(super) fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER);
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(preferences).any(|one| is_async(&one))
}

/// The preferences of one header, which are separated by commas outside of quoted strings.
fn preferences(header: &str) -> Vec<String> {
    let (mut preferences, mut preference) = (Vec::new(), String::new());
    let (mut quoted, mut escaped) = (false, false);
    for character in header.chars() {
        if character == ',' && !quoted {
            preferences.push(std::mem::take(&mut preference));
        } else {
            quoted ^= character == '"' && !escaped;
            escaped = character == '\\' && quoted && !escaped;
            preference.push(character);
        }
    }
    preferences.push(preference);
    preferences
}

/// A preference without a value may have an empty one, and parameters, which mean nothing here.
fn is_async(preference: &str) -> bool {
    let preference = preference.split(';').next().unwrap_or_default();
    let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
    name.trim().eq_ignore_ascii_case(RESPOND_ASYNC) && matches!(value.trim(), "" | "\"\"")
}

#[cfg(test)]
mod tests {
    use super::prefers_async;
    use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

    fn asks(headers: &[&str]) -> bool {
        let mut map = HeaderMap::new();
        for header in headers {
            let name = HeaderName::from_static("prefer");
            map.append(name, HeaderValue::from_str(header).unwrap());
        }
        prefers_async(&map)
    }

    #[test]
    fn the_preference_is_found_as_rfc_7240_allows_it() {
        for header in [
            "respond-async",
            "Respond-Async",
            " respond-async ; x=1",
            "respond-async=\"\"",
            "wait=10, respond-async",
            "note=\"a, b\\\", c\", respond-async",
        ] {
            assert!(asks(&[header]), "{header}");
        }
        assert!(asks(&["return=minimal", "respond-async, wait=10"]));
    }

    #[test]
    fn other_preferences_are_ignored() {
        assert!(!asks(&[]));
        for header in [
            "",
            ",",
            "respond-sync",
            "respond-async=no",
            "wait=10; respond-async",
            "note=\"x, respond-async, y\"",
        ] {
            assert!(!asks(&[header]), "{header}");
        }
    }
}
