//! A program that brings its TLS provider after the first connection, which has installed one by then. A test program of
//! its own, because a process has one provider.

use event_streams::EventStreams;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;

const URL: &str = "esdb://127.0.0.1:1?tls=false";

#[tokio::test]
async fn a_program_may_bring_a_provider_after_the_first_connection() {
    let streams = EventStreams::connect(URL).unwrap();
    assert!(CryptoProvider::get_default().is_some(), "not at once");
    assert!(default_provider().install_default().is_err());
    EventStreams::connect(URL).unwrap();
    let reason = streams.check().await.unwrap_err().reason;
    assert!(
        reason.contains("connect"),
        "not refused by the network: {reason}"
    );
}
