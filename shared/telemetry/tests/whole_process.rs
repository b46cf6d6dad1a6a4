//! Logging of a whole process. The process that is tested is this one, started again.

use std::process::Command;

/// Set in the process that is tested.
const LOGS: &str = "TELEMETRY_TEST_LOGS";

/// As sqlx asks before it logs a statement.
#[test]
fn a_question_whether_another_crate_would_log_loses_no_line() {
    if std::env::var_os(LOGS).is_some() {
        telemetry::init("users-service").unwrap();
        assert!(!log::log_enabled!(target: "sqlx::query", log::Level::Info));
        tracing::info!(target: "web", "kept");
        return;
    }
    let test = "a_question_whether_another_crate_would_log_loses_no_line";
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env(LOGS, "");
    let output = again.env_remove("RUST_LOG").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("kept"), "{printed}");
}
