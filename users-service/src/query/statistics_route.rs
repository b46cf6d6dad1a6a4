//! The route `GET /statistics`, which counts created, renamed and deleted users by the minute, hour or day.

use super::api::built;
use crate::admission::{Admission, Overload};
use crate::clock::Clock;
use crate::integration::message::{millis_of, rfc3339};
use crate::problem_types;
use crate::read_model::{CurrentGeneration, Statistics, WindowCount, WindowRange, WindowSize};
use crate::scopes;
use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, get, resource};
use serde::Deserialize;
use serde_json::{Value, json};
use web::{InputError, Problem, Query, secured};

/// The most windows of an answer.
const MOST: u64 = 1_000;
/// How many windows an answer has if the request does not say when they begin.
const DEFAULT: u64 = 24;
/// The most requests that read the statistics at once.
const AT_ONCE: usize = 64;
/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;
/// The sizes and their names.
const SIZES: [(&str, WindowSize); 3] = [
    ("minute", WindowSize::Minute),
    ("hour", WindowSize::Hour),
    ("day", WindowSize::Day),
];

/// The statistics.
#[derive(Debug, Clone)]
pub struct StatisticsRoute {
    current: CurrentGeneration,
    clock: Clock,
    places: Admission,
}

impl StatisticsRoute {
    /// The statistics of the generation that readers use.
    #[must_use]
    pub fn new(current: CurrentGeneration, clock: Clock) -> Self {
        Self {
            current,
            clock,
            places: Admission::new("statistics", AT_ONCE),
        }
    }

    pub(crate) fn current(&self) -> &CurrentGeneration {
        &self.current
    }

    /// Adds `GET /statistics`.
    pub fn add_to(&self, config: &mut ServiceConfig) {
        let route = secured(get().to(windows), &[scopes::READ]);
        config
            .app_data(Data::new(self.clone()))
            .service(resource("/statistics").route(route));
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatisticsParameters {
    window: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

async fn windows(
    route: Data<StatisticsRoute>,
    Query(parameters): Query<StatisticsParameters>,
) -> Result<HttpResponse, Problem> {
    let (name, window) = parameters.read(route.clock.now())?;
    let generation = built(&route.current)?;
    let reading = Statistics.windows(&generation, window);
    let counted = match route.places.run(reading).await {
        Ok(Ok(counted)) => counted,
        Err(Overload::Full) => {
            let detail = "too many requests read the statistics";
            return Err(problem_types::overloaded(detail));
        }
        Ok(Err(error)) => return Err(problem(&error)),
        Err(error @ Overload::OutOfTime) => return Err(problem(&error)),
    };
    let data: Vec<_> = counted.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({"window": name, "data": data})))
}

fn shown(window: &WindowCount) -> Value {
    json!({
        "start": rfc3339(window.start),
        "created": window.created,
        "renamed": window.renamed,
        "deleted": window.deleted,
    })
}

fn problem(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "the statistics cannot be read");
    Problem::unavailable("the statistics are temporarily unavailable", RETRY_AFTER)
}

impl StatisticsParameters {
    /// The windows up to `now`, unless the request names others.
    fn read(&self, now: u64) -> Result<(&'static str, WindowRange), Problem> {
        let size = self.size();
        let (from, to) = (
            time("from", self.from.as_deref()),
            time("to", self.to.as_deref()),
        );
        match (size, from, to) {
            (Ok((name, size)), Ok(from), Ok(to)) => {
                let to = to.unwrap_or(now);
                let from = from.unwrap_or_else(|| to.saturating_sub((DEFAULT - 1) * size.millis()));
                let window = WindowRange { size, from, to };
                check(&window).map_err(|error| Problem::invalid_input(vec![error]))?;
                Ok((name, window))
            }
            (size, from, to) => {
                let errors = [size.err(), from.err(), to.err()];
                let errors = errors.into_iter().flatten().collect();
                Err(Problem::invalid_input(errors))
            }
        }
    }

    fn size(&self) -> Result<(&'static str, WindowSize), InputError> {
        let wanted = self.window.as_deref().unwrap_or("hour");
        let found = SIZES.into_iter().find(|(name, _)| *name == wanted);
        let rule = "`window` must be `minute`, `hour` or `day`";
        found.ok_or_else(|| InputError::parameter("window", rule))
    }
}

fn check(window: &WindowRange) -> Result<(), InputError> {
    if window.from > window.to {
        let rule = "`from` must not be later than `to`";
        return Err(InputError::parameter("from", rule));
    }
    if window.count() > MOST {
        let rule = format!("there may be at most {MOST} windows from `from` to `to`");
        return Err(InputError::parameter("from", rule));
    }
    Ok(())
}

fn time(name: &'static str, text: Option<&str>) -> Result<Option<u64>, InputError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let rule = || format!("`{name}` must be a time such as `2026-11-21T02:27:14.123Z`");
    let time = millis_of(text).ok_or_else(|| InputError::parameter(name, rule()));
    time.map(Some)
}
