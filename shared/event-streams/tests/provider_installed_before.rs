//! A program that installed a TLS provider before its first connection: the vendor's client would be dead from then on.
//! A test program of its own, because a process has one provider.

use event_streams::{ConnectError, EventStreams};
use rustls::crypto::aws_lc_rs::default_provider;

#[tokio::test]
async fn a_program_with_a_provider_of_its_own_is_told() {
    default_provider().install_default().unwrap();
    let refused = EventStreams::connect("esdb://127.0.0.1:1?tls=false").unwrap_err();
    assert_eq!(refused, ConnectError::TlsProvider);
}
