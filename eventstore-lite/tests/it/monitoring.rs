//! The service `Monitoring`, which sends figures repeatedly.

use eventstore_lite::wire::monitoring::StatsReq;
use eventstore_lite::wire::monitoring::monitoring_client::MonitoringClient;
use tonic::Code;

use crate::support::{any, append, connect, event, new_id, soon, start};

const WRITTEN: &str = "eventstore_io_events{activity=\"written\"}";

#[tokio::test]
async fn figures_come_until_the_server_stops() {
    let (_db, server) = start().await;
    let mut monitoring = MonitoringClient::connect(format!("http://{}", server.address()))
        .await
        .unwrap();
    let often = StatsReq {
        use_metadata: false,
        refresh_time_period_in_ms: 0,
    };
    let mut answers = monitoring.stats(often).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert_eq!(first.stats[WRITTEN], "0");

    let mut client = connect(server.address()).await;
    append(&mut client, "s", any(), vec![event(&new_id(), b"{}")])
        .await
        .unwrap();
    soon("the figure", async {
        loop {
            let next = answers.message().await.unwrap().unwrap();
            if next.stats[WRITTEN] == "1" {
                break;
            }
        }
    })
    .await;

    let stopping = tokio::spawn(server.shutdown());
    let end = soon("the end", async {
        loop {
            if let Err(status) = answers.message().await {
                break status;
            }
        }
    })
    .await;
    assert_eq!(end.code(), Code::Unavailable);
    stopping.await.unwrap();
}
