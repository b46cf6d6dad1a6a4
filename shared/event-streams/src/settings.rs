//! The connection string: what the wrapper needs is added where the operator said nothing.

use eventstore::ClientSettings;

use crate::error::ConnectError;

/// What is added to a connection string that does not say otherwise.
///
/// The client sleeps `discoveryInterval` before its very first call (500 ms by default); the waits between attempts are
/// the supervisor's. And a read must see what was just appended, so it goes to the leader.
const DEFAULTS: [(&str, &str); 2] = [("discoveryInterval", "1"), ("nodePreference", "leader")];

/// A client that may try only once never connects.
const FEWEST_ATTEMPTS: usize = 2;

pub(crate) fn parse(url: &str) -> Result<ClientSettings, ConnectError> {
    let settings: ClientSettings = with_defaults(url)
        .parse()
        .map_err(|_| ConnectError::InvalidUrl("expected esdb://host:port?tls=false".to_owned()))?;
    if settings.max_discover_attempts() < FEWEST_ATTEMPTS {
        return Err(ConnectError::InvalidUrl(format!(
            "maxDiscoverAttempts must be at least {FEWEST_ATTEMPTS}"
        )));
    }
    readable(settings.tls_ca_file())?;
    if let Some((certificate, key)) = settings.user_certificate() {
        readable(Some(certificate))?;
        readable(Some(key))?;
    }
    Ok(settings)
}

fn with_defaults(url: &str) -> String {
    let lower = url.to_lowercase();
    let mut url = url.to_owned();
    for (name, value) in DEFAULTS {
        if !lower.contains(&format!("{}=", name.to_lowercase())) {
            let separator = if url.contains('?') { '&' } else { '?' };
            url = format!("{url}{separator}{name}={value}");
        }
    }
    url
}

/// The client panics over a certificate file that it cannot read.
fn readable(file: Option<&String>) -> Result<(), ConnectError> {
    let Some(file) = file else { return Ok(()) };
    std::fs::metadata(file)
        .map(|_| ())
        .map_err(|error| ConnectError::InvalidUrl(format!("{file}: {error}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use eventstore::NodePreference;

    use super::*;

    #[test]
    fn the_first_call_does_not_sleep_and_reads_go_to_the_leader() {
        let settings = parse("esdb://127.0.0.1:2113?tls=false").unwrap();
        assert_eq!(settings.discovery_interval(), Duration::from_millis(1));
        assert_eq!(settings.node_preference(), NodePreference::Leader);
        assert!(!settings.is_secure_mode_enabled());
    }

    #[test]
    fn what_the_operator_says_stands() {
        let settings =
            parse("esdb://a:1,b:2,c:3?discoveryinterval=70&NodePreference=follower").unwrap();
        assert_eq!(settings.discovery_interval(), Duration::from_millis(70));
        assert_eq!(settings.node_preference(), NodePreference::Follower);
        assert_eq!(settings.hosts().len(), 3);
    }

    #[test]
    fn what_can_never_connect_is_refused() {
        for url in [
            "",
            "http://127.0.0.1:2113",
            "esdb://127.0.0.1:2113?tls=maybe",
            "esdb://127.0.0.1:2113?maxDiscoverAttempts=1",
            "esdb://127.0.0.1:2113?tlsCaFile=/nowhere/ca.pem",
        ] {
            assert!(
                matches!(parse(url), Err(ConnectError::InvalidUrl(_))),
                "{url}"
            );
        }
    }

    #[test]
    fn an_error_does_not_repeat_the_password() {
        let error = parse("esdb://admin:secret@127.0.0.1:x?tls=false").unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
