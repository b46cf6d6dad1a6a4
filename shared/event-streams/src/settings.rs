//! The settings in a connection string, which the vendor's crate parses. This crate adds its own default node
//! preference.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eventstore::{ClientSettings, NodePreference};
use percent_encoding::percent_decode;
use rustls::ClientConfig;
use serde::Deserialize;

use crate::error::ConnectError;
use crate::headers::Headers;
use crate::node::Node;
use crate::tls;

/// By default calls go to the leader, so that a read sees what was just appended.
const DEFAULT_PREFERENCE: (&str, &str) = ("nodePreference", "leader");

/// The vendor's crate parses `-1` (never) to this duration.
const NEVER: Duration = Duration::from_millis(u64::MAX);

/// The settings of a connection string.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The node to connect to, or the seeds of the discovery.
    pub(crate) nodes: Vec<Node>,
    /// Whether to ask the nodes for the members of the cluster before connecting.
    pub(crate) discover: bool,
    pub(crate) preference: NodePreference,
    pub(crate) gossip_timeout: Duration,
    pub(crate) keep_alive: Option<KeepAlive>,
    /// The time limit of one attempt of a call, if the connection string sets it.
    pub(crate) deadline: Option<Duration>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) headers: Headers,
}

/// The interval of the HTTP/2 pings, and the time limit of their answers, that detect a dead connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeepAlive {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// Settings that the vendor's type exposes only in its serialized form.
#[derive(Deserialize)]
struct SerializedSettings {
    default_user_name: Option<Credentials>,
    keep_alive_interval: u64,
    keep_alive_timeout: u64,
    default_deadline: Option<u64>,
    connection_name: Option<String>,
}

#[derive(Deserialize)]
struct Credentials {
    login: Vec<u8>,
    password: Vec<u8>,
}

/// # Errors
///
/// [`ConnectError::InvalidUrl`] with the reason, which does not repeat the credentials.
pub(crate) fn parse(url: &str) -> Result<Settings, ConnectError> {
    let parsed: ClientSettings = with_preference(url)
        .parse()
        .map_err(|_| invalid("expected esdb://host:port?tls=false"))?;
    let serialized =
        serde_json::to_value(&parsed).and_then(serde_json::from_value::<SerializedSettings>);
    let serialized = serialized.map_err(|_| invalid("its settings cannot be read"))?;
    let nodes = parsed
        .hosts()
        .iter()
        .map(|host| Node::new(&host.host, host.port));
    let nodes: Vec<_> = nodes
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("a host is empty, or a port is too large"))?;
    Ok(Settings {
        discover: parsed.is_dns_discovery_enabled() || nodes.len() > 1,
        nodes,
        preference: parsed.node_preference(),
        gossip_timeout: parsed.gossip_timeout(),
        keep_alive: keep_alive(&serialized),
        deadline: serialized.default_deadline.and_then(finite),
        tls: tls(&parsed)?.map(Arc::new),
        headers: headers(&serialized, parsed.node_preference())?,
    })
}

fn invalid(why: impl Into<String>) -> ConnectError {
    ConnectError::InvalidUrl(why.into())
}

fn with_preference(url: &str) -> String {
    let (name, value) = DEFAULT_PREFERENCE;
    if url
        .to_lowercase()
        .contains(&format!("{}=", name.to_lowercase()))
    {
        return url.to_owned();
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={value}")
}

fn finite(milliseconds: u64) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds)).filter(|time| *time < NEVER)
}

fn keep_alive(serialized: &SerializedSettings) -> Option<KeepAlive> {
    Some(KeepAlive {
        interval: finite(serialized.keep_alive_interval)?,
        timeout: finite(serialized.keep_alive_timeout)?,
    })
}

fn tls(parsed: &ClientSettings) -> Result<Option<ClientConfig>, ConnectError> {
    if !parsed.is_secure_mode_enabled() {
        return Ok(None);
    }
    let user = parsed.user_certificate();
    let options = tls::Options {
        verify: parsed.is_tls_certificate_verification_enabled(),
        authorities: parsed.tls_ca_file().map(Path::new),
        user: user.map(|(certificate, key)| (Path::new(certificate), Path::new(key))),
    };
    tls::client(&options).map(Some).map_err(invalid)
}

/// Decodes the name and the password, which the vendor's parser leaves percent-encoded.
fn headers(
    serialized: &SerializedSettings,
    preference: NodePreference,
) -> Result<Headers, ConnectError> {
    let decoded = |text: &[u8]| percent_decode(text).decode_utf8_lossy().into_owned();
    let credentials = serialized.default_user_name.as_ref();
    let credentials = credentials.map(|user| (decoded(&user.login), decoded(&user.password)));
    Headers::new(
        credentials
            .as_ref()
            .map(|(name, password)| (name.as_str(), password.as_str())),
        serialized.connection_name.as_deref(),
        preference == NodePreference::Leader,
    )
    .map_err(|_| invalid("connectionName contains a character that is not allowed in a header"))
}

#[cfg(test)]
mod tests {
    use tonic::service::Interceptor as _;

    use super::*;

    fn sent(url: &str, header: &str) -> Option<String> {
        let mut headers = parse(url).unwrap().headers;
        let request = headers.call(tonic::Request::new(())).unwrap();
        let value = request.metadata().get(header)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn calls_go_to_the_leader_unless_the_connection_string_says_otherwise() {
        let settings = parse("esdb://127.0.0.1:2113?tls=false").unwrap();
        assert_eq!(settings.preference, NodePreference::Leader);
        assert!(!settings.discover && settings.tls.is_none());
        let leader = sent("esdb://a?tls=false", "requires-leader");
        assert_eq!(leader.as_deref(), Some("true"));
        let follower = "esdb://a?tls=false&NodePreference=follower";
        assert_eq!(
            parse(follower).unwrap().preference,
            NodePreference::Follower
        );
        let leader = sent(follower, "requires-leader");
        assert_eq!(leader.as_deref(), Some("false"));
    }

    #[test]
    fn several_hosts_or_the_discover_scheme_enable_discovery() {
        let several = parse("esdb://a:1,b:2,c?tls=false").unwrap();
        assert!(several.discover);
        let names: Vec<_> = several.nodes.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a:1", "b:2", "c:2113"]);
        assert!(parse("esdb+discover://a?tls=false").unwrap().discover);
    }

    #[test]
    fn a_host_can_be_an_ipv6_address() {
        let settings = parse("esdb://[2001:db8::1]:2113?tls=false").unwrap();
        let node = settings.nodes.first().unwrap();
        assert_eq!((node.host.as_str(), node.port), ("2001:db8::1", 2113));
        assert_eq!(node.to_string(), "[2001:db8::1]:2113");
    }

    #[test]
    fn every_call_carries_the_decoded_name_and_password_and_the_connection_name() {
        let url = "esdb://ad%40min:s%3Acret%25@a?tls=false&connectionName=users";
        let basic = sent(url, "authorization").unwrap();
        assert_eq!(basic, "Basic YWRAbWluOnM6Y3JldCU=");
        assert_eq!(sent(url, "connection-name").as_deref(), Some("users"));
        assert_eq!(sent("esdb://a?tls=false", "authorization"), None);
    }

    #[test]
    fn keep_alive_and_deadline_come_from_the_connection_string() {
        let seconds = Duration::from_secs;
        let by_default = parse("esdb://a?tls=false").unwrap();
        let pings = |interval, timeout| Some(KeepAlive { interval, timeout });
        assert_eq!(by_default.keep_alive, pings(seconds(10), seconds(10)));
        assert_eq!(by_default.deadline, None);
        let url =
            "esdb://a?tls=false&keepAliveInterval=20000&keepAliveTimeout=15000&defaultDeadline=700";
        let set = parse(url).unwrap();
        assert_eq!(set.keep_alive, pings(seconds(20), seconds(15)));
        assert_eq!(set.deadline, Some(Duration::from_millis(700)));
        let never = parse("esdb://a?tls=false&keepAliveInterval=-1&defaultDeadline=-1").unwrap();
        assert_eq!((never.keep_alive, never.deadline), (None, None));
    }

    #[test]
    fn an_unusable_connection_string_is_refused() {
        for url in [
            "",
            "http://127.0.0.1:2113",
            "esdb://127.0.0.1:2113?tls=maybe",
            "esdb://127.0.0.1:2113?tlsCaFile=/nowhere/ca.pem",
            "esdb://a?tls=false&connectionName=%0A",
        ] {
            let refused = parse(url);
            assert!(matches!(refused, Err(ConnectError::InvalidUrl(_))), "{url}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_the_password() {
        let error = parse("esdb://admin:secret@127.0.0.1:x?tls=false").unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
