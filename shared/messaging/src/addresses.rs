//! The addresses of one broker: an AMQP URL, or those of a cluster's nodes, separated by commas.

use crate::error::InvalidUrl;
use lapin::uri::AMQPUri;
use url::{Host, Url};

/// The heartbeat interval in seconds. A peer that is silent for two intervals counts as dead.
const HEARTBEAT: u16 = 10;
/// The query parameters that the AMQP parser knows. It ignores all others, so a misspelled parameter would have no effect.
const PARAMETERS: [&str; 5] = [
    "auth_mechanism",
    "channel_max",
    "connection_timeout",
    "frame_max",
    "heartbeat",
];

/// Parses the list. All addresses must name the same virtual host, because they are nodes of one cluster.
pub(crate) fn parse(urls: &str) -> Result<Vec<AMQPUri>, InvalidUrl> {
    let urls: Vec<_> = urls.split(',').map(str::trim).collect();
    let mut addresses: Vec<AMQPUri> = Vec::with_capacity(urls.len());
    for (index, url) in urls.iter().enumerate() {
        let mut address = parse_one(url).map_err(|error| in_list(error, index, urls.len()))?;
        address.query.heartbeat.get_or_insert(HEARTBEAT);
        if addresses.iter().any(|other| other.vhost != address.vhost) {
            let error = InvalidUrl("its virtual host is another than that of the first".to_owned());
            return Err(in_list(error, index, urls.len()));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// Says which address of a list is wrong.
fn in_list(InvalidUrl(reason): InvalidUrl, index: usize, count: usize) -> InvalidUrl {
    if count == 1 {
        return InvalidUrl(reason);
    }
    let number = index + 1;
    InvalidUrl(format!(
        "address {number} of {count}: {reason} (a comma separates addresses; within a password it is written %2C)"
    ))
}

/// Parses the URL and refuses unknown parameters. The AMQP parser drops an IPv6 address and would connect to localhost,
/// so the address is percent-encoded as a host name, which also survives when the URL is parsed again.
fn parse_one(url: &str) -> Result<AMQPUri, InvalidUrl> {
    if url.is_empty() {
        return Err(InvalidUrl("it is empty".to_owned()));
    }
    let parsed = Url::parse(url).map_err(|error| InvalidUrl(error.to_string()))?;
    if parsed.cannot_be_a_base() {
        return Err(InvalidUrl("it has no host".to_owned()));
    }
    if let Some((name, _)) = parsed
        .query_pairs()
        .find(|(name, _)| !PARAMETERS.contains(&&**name))
    {
        return Err(InvalidUrl(format!("its parameter {name:?} is unknown")));
    }
    let mut uri: AMQPUri = url.parse().map_err(InvalidUrl)?;
    if let Some(Host::Ipv6(address)) = parsed.host() {
        uri.authority.host = address.to_string().replace(':', "%3A");
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::{AMQPUri, parse};
    use std::net::ToSocketAddrs;

    #[test]
    fn an_invalid_url_is_refused_without_repeating_its_password() {
        for url in [
            "http://me:secret@localhost",
            "amqp:me:secret@localhost",
            "amqp://me:secret@[2001:db8::1%25eth0]:5672",
            "amqp://me:secret@2001:db8::1:5672",
            "amqp://me:secret@:5672",
            "",
        ] {
            let refusal = parse(url).unwrap_err();
            assert!(
                !format!("{refusal} {refusal:?}").contains("secret"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn a_bad_list_is_refused_and_the_wrong_address_is_named_by_its_number() {
        for (urls, reason) in [
            ("amqp://me:secret@one/v,", "address 2 of 2: it is empty"),
            (",amqp://me:secret@one/v", "address 1 of 2: it is empty"),
            (
                "amqp://me:secret@one/v,http://me:secret@two/v",
                "address 2 of 2",
            ),
            ("amqp://me:sec,ret@one/v", "%2C"),
            (
                "amqp://me:secret@one/v,amqp://me:secret@two/w",
                "virtual host",
            ),
        ] {
            let refusal = parse(urls).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{urls}: {refusal}");
            assert!(!refusal.contains("sec"), "{refusal}");
        }
    }

    /// The addresses to which a connection goes.
    fn targets(urls: &str) -> Vec<String> {
        let parsed = parse(urls).unwrap().into_iter();
        let target = |uri: AMQPUri| {
            let uri: AMQPUri = uri.to_string().parse().unwrap();
            let target = (uri.authority.host.as_str(), uri.authority.port);
            let address = target.to_socket_addrs().unwrap().next();
            address.unwrap().to_string()
        };
        parsed.map(target).collect()
    }

    #[test]
    fn a_connection_goes_to_the_address_of_the_url() {
        for (url, address) in [
            (
                "amqp://me:secret@[2001:db8::1]:5672/%2f",
                "[2001:db8::1]:5672",
            ),
            ("amqps://me:secret@[2001:db8::1]", "[2001:db8::1]:5671"),
            ("amqp://[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.7]:1"),
            ("amqp://me:secret@192.0.2.7:5672/%2f", "192.0.2.7:5672"),
        ] {
            assert_eq!(targets(url), [address], "{url}");
        }
        let cluster = "amqp://me:se%2Ccret@192.0.2.1/v, amqp://me:se%2Ccret@192.0.2.2:1/v";
        assert_eq!(targets(cluster), ["192.0.2.1:5672", "192.0.2.2:1"]);
    }

    #[test]
    fn an_unknown_parameter_in_the_url_is_refused_and_named() {
        let known = "amqp://localhost?heartbeat=5&frame_max=8192&channel_max=9&connection_timeout=1000&auth_mechanism=plain";
        assert!(parse(known).is_ok());
        let refused = parse("amqp://localhost?heartbeat=5&heartbeats=6").unwrap_err();
        assert!(refused.to_string().contains("\"heartbeats\""), "{refused}");
    }
}
