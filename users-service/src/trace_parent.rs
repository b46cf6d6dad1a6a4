//! The header `traceparent` (W3C Trace Context) of requests and messages.

use uuid::Uuid;

/// The name of the header.
pub(crate) const TRACE_PARENT: &str = "traceparent";

/// The second part of `version-trace-parent-flags`: 32 hexadecimal digits in lower case, not all of them 0.
pub(crate) fn trace_id(parent: &str) -> Option<Uuid> {
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

/// The header of an event that belongs to this trace. Its span is the event: the last 8 bytes of the event's id, so that the same
/// event always has the same span. It is not marked as sampled, because nobody knows whether somebody recorded the trace.
/// `None` if one of the two would have only zeros, which the format forbids.
pub(crate) fn of_event(trace: Uuid, event: Uuid) -> Option<String> {
    let (_, span) = event.as_u64_pair();
    let is_valid = !trace.is_nil() && span != 0;
    is_valid.then(|| format!("00-{}-{span:016x}-00", trace.simple()))
}

fn is_hex(text: &str, length: usize) -> bool {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == length && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::{of_event, trace_id};
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

    #[test]
    fn an_event_is_a_span_of_its_trace() {
        let trace = Uuid::from_u128(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        let event = Uuid::from_u128(0x7d44_4840_9dc0_41d1_0245_5ffd_ce74_fad2);
        let parent = of_event(trace, event).unwrap();
        let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-02455ffdce74fad2-00";
        assert_eq!(parent, expected);
        assert_eq!(trace_id(&parent), Some(trace));
        assert_eq!(of_event(Uuid::nil(), event), None);
        assert_eq!(of_event(trace, Uuid::from_u128(1 << 64)), None);
    }
}
