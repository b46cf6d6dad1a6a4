//! The header `traceparent` (W3C Trace Context) of a request or a message.

use uuid::Uuid;

/// The name of the header.
pub(super) const TRACE_PARENT: &str = "traceparent";

/// The second part of `version-trace-parent-flags`: 32 hexadecimal digits in lower case, not all of them 0.
pub(super) fn trace_id(parent: &str) -> Option<Uuid> {
    let mut parts = parent.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    if !is_hex(version, 2) || version == "ff" || !is_hex(trace, 32) {
        return None;
    }
    if !is_hex(parts.next()?, 16) || !is_hex(parts.next()?, 2) {
        return None;
    }
    Uuid::try_parse(trace).ok().filter(|trace| !trace.is_nil())
}

fn is_hex(text: &str, length: usize) -> bool {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == length && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::trace_id;
    use uuid::Uuid;

    #[test]
    fn only_a_valid_traceparent_names_a_conversation() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let valid = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(trace_id(&valid), Uuid::try_parse(trace).ok());
        for invalid in [
            String::new(),
            "ada".to_owned(),
            trace.to_owned(),
            format!("00-{trace}"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            valid.to_uppercase(),
            format!("00-{trace}-00f067aa0ba902b7-zz"),
        ] {
            assert_eq!(trace_id(&invalid), None, "{invalid}");
        }
    }
}
