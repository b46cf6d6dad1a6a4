//! The process's TLS provider, which the vendor's client wants to install itself. Each case needs a process of its own:
//! this test program, started again for one test.

use std::process::Command;

use event_streams::{ConnectError, EventStreams};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;

const URL: &str = "esdb://127.0.0.1:1?tls=false";

#[test]
fn a_program_with_a_provider_of_its_own_is_told() {
    run_alone("tls::provider_first");
}

#[test]
fn a_program_may_bring_a_provider_after_the_first_connection() {
    run_alone("tls::provider_second");
}

#[tokio::test]
#[ignore = "needs a process of its own"]
async fn provider_first() {
    default_provider().install_default().unwrap();
    let refused = EventStreams::connect(URL).unwrap_err();
    assert_eq!(refused, ConnectError::TlsProvider);
}

#[tokio::test]
#[ignore = "needs a process of its own"]
async fn provider_second() {
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

fn run_alone(test: &str) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", test, "--ignored"])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && report.contains("1 passed"),
        "{report}"
    );
}
