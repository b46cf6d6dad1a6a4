//! Structured logs without personal data: one JSON object per line on stdout.
//!
//! `RUST_LOG` sets the level of our own crates, up to `trace`. Every other crate has a fixed ceiling that `RUST_LOG` can
//! lower but not raise. Below WARN, the HTTP, gRPC, AMQP and SQL crates print whole messages, headers, URLs with their
//! query, and SQL statements. We checked this in their sources. From WARN up only `lapin` prints such data: it warns with
//! the payload of each returned message. `lapin` is therefore silent. It also logs as errors what `messaging` expects,
//! such as a queue that is not declared yet; `messaging` logs the errors that matter. `actix_http` is silent too: it logs
//! any garbage on the port as an error, and `web` logs that at DEBUG.
//!
//! Invariant: no foreign crate logs below its ceiling, whatever `RUST_LOG` says.

use anyhow::Context as _;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter,
    filter::{FilterFn, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// The shared crates that log. [`init`] adds the service's own crate.
const SHARED: [&str; 4] = ["event_streams", "messaging", "telemetry", "web"];

/// Ceilings of crates that would print payloads or false alarms even at [`OTHERS`].
const STRICTER: [(&str, LevelFilter); 2] = [
    ("lapin", LevelFilter::OFF),
    ("actix_http", LevelFilter::OFF),
];

/// The ceiling of every crate that is neither ours nor in [`STRICTER`].
const OTHERS: LevelFilter = LevelFilter::WARN;

/// Starts logging for the whole process; `service` is the name of its package (`users-service`).
///
/// # Errors
/// If `RUST_LOG` cannot be parsed, or logging has already started.
pub fn init(service: &str) -> anyhow::Result<()> {
    let requested = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .context("RUST_LOG")?;
    json_lines(service, requested, std::io::stdout)
        .try_init()
        .context("logging has already started")
}

fn json_lines<W>(service: &str, requested: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().json().with_writer(writer);
    // These filter for all layers. A filter of one layer remembers the answer to a crate that only asks whether a line would be
    // logged, as sqlx does, and then loses the next line of that thread.
    tracing_subscriber::registry()
        .with(requested)
        .with(ceilings(service.replace('-', "_")))
        .with(lines)
}

fn ceilings(own: String) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |line| *line.level() <= ceiling(&own, line.target()))
}

fn ceiling(own: &str, target: &str) -> LevelFilter {
    let name = target.split("::").next().unwrap_or(target);
    if name == own || SHARED.contains(&name) {
        return LevelFilter::TRACE;
    }
    STRICTER
        .iter()
        .find(|(stricter, _)| *stricter == name)
        .map_or(OTHERS, |(_, ceiling)| *ceiling)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The output that `log` produces with `RUST_LOG=trace`.
    fn logged(log: impl FnOnce()) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let subscriber = json_lines("users-service", EnvFilter::new("trace"), {
            let lines = Arc::clone(&lines);
            move || Lines(Arc::clone(&lines))
        });
        tracing::subscriber::with_default(subscriber, log);
        let lines = lines.lock().unwrap();
        String::from_utf8(lines.clone()).unwrap()
    }

    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn our_own_crates_log_at_the_requested_level() {
        let text = logged(|| {
            tracing::trace!(target: "users_service::command", "a");
            tracing::trace!(target: "event_streams", "b");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn other_crates_are_silent_below_warn_at_every_requested_level() {
        let text = logged(|| {
            tracing::error!(target: "actix_http::h1", "ada");
            tracing::info!(target: "users_service_in_name_only", "ada");
            tracing::debug!(target: "sqlx::query", "ada");
            tracing::info_span!(target: "h2", "frame", payload = "ada").in_scope(|| {
                tracing::warn!(target: "hyper", "kept");
            });
        });
        assert!(text.contains("kept") && !text.contains("ada"), "{text}");
    }

    #[test]
    fn a_returned_message_is_not_printed() {
        let text = logged(|| tracing::warn!(target: "lapin::returned_messages", "ada"));
        assert_eq!(text, "");
    }

    #[test]
    fn a_line_is_a_json_object_with_its_fields() {
        let text = logged(|| tracing::info!(target: "web", address = "127.0.0.1:7", "listening"));
        assert!(
            text.contains(r#""fields":{"message":"listening","address":"127.0.0.1:7"}"#),
            "{text}"
        );
    }
}
