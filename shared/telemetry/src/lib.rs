//! Structured logs that carry no personal data: one JSON object a line on stdout.
//!
//! `RUST_LOG` sets the level of our own crates, up to `trace`. Everybody else has a fixed ceiling that `RUST_LOG`
//! can lower but not raise: below WARN, HTTP, gRPC, AMQP and SQL crates print whole messages, headers, addresses
//! with their query, and statements (read in their sources; no line from WARN up prints any of these, but for
//! `lapin`'s, which warns with the payload of each returned message). `lapin` is silent altogether: it also calls an
//! error what `messaging` expects, such as a queue that is not declared yet, and `messaging` logs what matters. So is
//! `actix_http`: it calls an error whatever a stranger sends to the port, and `web` logs that at DEBUG.
//!
//! Invariant: no line of a crate that is not ours is below its ceiling, whatever `RUST_LOG` says.

use anyhow::Context as _;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, FilterFn, filter_fn},
    fmt::MakeWriter,
    layer::{Filter, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// The shared crates that log; a service's own crate is added by its name.
const SHARED: [&str; 4] = ["event_streams", "messaging", "telemetry", "web"];

/// Ceilings of the crates that would print payloads, or cry wolf, even at [`OTHERS`].
const STRICTER: [(&str, LevelFilter); 2] = [
    ("lapin", LevelFilter::OFF),
    ("actix_http", LevelFilter::OFF),
];

/// The ceiling of every crate that is neither ours nor in [`STRICTER`].
const OTHERS: LevelFilter = LevelFilter::WARN;

/// Begins logging for the whole process; `service` is its package's name (`users-service`).
///
/// # Errors
/// When `RUST_LOG` cannot be parsed, or logging has begun already.
pub fn init(service: &str) -> anyhow::Result<()> {
    let asked = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .context("RUST_LOG")?;
    json_lines(service, asked, std::io::stdout)
        .try_init()
        .context("logging has begun already")
}

fn json_lines<W>(service: &str, asked: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::registry().with(
        tracing_subscriber::fmt::layer()
            .json()
            .with_writer(writer)
            .with_filter(capped(service, asked)),
    )
}

fn capped<S>(service: &str, asked: EnvFilter) -> impl Filter<S> + 'static
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    asked.and(ceilings(service.replace('-', "_")))
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

    /// What is logged while `log` runs with everything asked for.
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
    fn our_own_crates_log_as_low_as_is_asked() {
        let text = logged(|| {
            tracing::trace!(target: "users_service::command", "a");
            tracing::trace!(target: "event_streams", "b");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn other_crates_are_silent_below_warn_whatever_is_asked() {
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
