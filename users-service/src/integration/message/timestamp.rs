//! The time format of CloudEvents.

use std::num::NonZero;
use time::OffsetDateTime;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};
use time::format_description::well_known::{Iso8601, Rfc3339};

/// Three decimal digits of the second, also if they are zero.
const MILLISECONDS: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: NonZero::new(3),
    })
    .encode();

/// The last millisecond of the year 9999, because RFC 3339 has no later years.
const LATEST: u64 = 253_402_300_799_999;

/// Formats milliseconds since the Unix epoch as `2026-11-21T02:27:14.123Z`.
pub(crate) fn rfc3339(millis: u64) -> String {
    let nanos = i128::from(millis.min(LATEST)) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .expect("every time up to the year 9999 is valid")
        .format(&Iso8601::<MILLISECONDS>)
        .expect("every year up to 9999 has four digits")
}

/// The milliseconds since the Unix epoch of a time in the format of RFC 3339. `None` if it is malformed, or before 1970.
pub(crate) fn millis_of(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(millis), text);
            assert_eq!(millis_of(text), Some(millis.min(LATEST)));
        }
        for malformed in [
            "",
            "yesterday",
            "1969-12-31T23:59:59.999Z",
            "2026-02-30T00:00:00Z",
        ] {
            assert_eq!(millis_of(malformed), None, "{malformed}");
        }
        assert_eq!(millis_of("1970-01-01T01:00:00.0019+01:00"), Some(1));
    }
}
