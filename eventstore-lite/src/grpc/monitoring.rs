//! The service `Monitoring`: sends the figures of `/metrics` repeatedly.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::IntervalStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use super::{permission, status};
use crate::http::AppState;
use crate::wire::monitoring::monitoring_server::Monitoring;
use crate::wire::monitoring::{StatsReq, StatsResp};

/// The minimum time between two answers.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

pub(super) struct MonitoringService {
    pub(super) app: AppState,
    pub(super) shutdown: CancellationToken,
}

#[async_trait]
impl Monitoring for MonitoringService {
    type StatsStream = BoxStream<'static, Result<StatsResp, Status>>;

    /// Sends the figures immediately, and then after each `refresh_time_period_in_ms`, until the caller leaves or the
    /// server stops.
    async fn stats(
        &self,
        request: Request<StatsReq>,
    ) -> Result<Response<Self::StatsStream>, Status> {
        let long_call = permission::long_call(&permission::calls(&request)?)?;
        let period = Duration::from_millis(request.into_inner().refresh_time_period_in_ms);
        let mut ticks = interval(period.max(SHORTEST_PERIOD));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let app = self.app.clone();
        let answers = IntervalStream::new(ticks).then(move |_| {
            let (app, _long_call) = (app.clone(), &long_call);
            async move { Ok(stats(&app.figures().await)) }
        });
        let answers = answers.take_until(self.shutdown.clone().cancelled_owned());
        let end = stream::once(async { Err(status::unavailable()) });
        Ok(Response::new(answers.chain(end).boxed()))
    }
}

/// Each line of the page that is a figure: name before the last space, value after it.
fn stats(page: &str) -> StatsResp {
    let figures = page.lines().filter(|line| !line.starts_with('#'));
    let figures = figures.filter_map(|line| line.rsplit_once(' '));
    let stats = figures.map(|(name, value)| (name.to_owned(), value.to_owned()));
    StatsResp {
        stats: stats.collect(),
    }
}
