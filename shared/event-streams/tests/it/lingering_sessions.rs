//! A server that, like the real one, keeps an append session open after the client has closed its side.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use event_streams::{AppendError, Expected};
use eventstore_lite::wire::google::rpc;
use eventstore_lite::wire::server_features::server_features_server::{
    ServerFeatures, ServerFeaturesServer,
};
use eventstore_lite::wire::server_features::{SupportedMethod, SupportedMethods};
use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::streams_server::{Streams, StreamsServer};
use eventstore_lite::wire::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq,
    ReadResp, TombstoneReq, TombstoneResp, batch_append_resp,
};
use futures::stream::{self, Stream, StreamExt};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::support::{connect_to, event, soon};

/// What servers allow by default.
const CALLS_OF_A_CONNECTION: usize = 100;

#[tokio::test]
async fn sessions_that_the_server_does_not_end_do_not_use_up_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let refusing = Refusing::default();
    let server = Server::builder()
        .add_service(ServerFeaturesServer::new(refusing.clone()))
        .add_service(StreamsServer::new(refusing.clone()))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);

    let streams = connect_to(address);
    let appends = CALLS_OF_A_CONNECTION + 20;
    for _ in 0..appends {
        let refused = streams.append("s", Expected::NoStream, vec![event("A.v1")]);
        assert_eq!(
            soon(refused).await,
            Err(AppendError::Conflict { actual: None })
        );
    }
    let sessions = refusing.sessions.lock().unwrap();
    assert_eq!(sessions.values().sum::<usize>(), appends);
    assert!(
        sessions
            .values()
            .all(|opened| *opened < CALLS_OF_A_CONNECTION)
    );
}

/// Refuses every append as a conflict; every stream is empty. Counts the sessions of each connection.
#[derive(Clone, Default)]
struct Refusing {
    sessions: Arc<Mutex<HashMap<SocketAddr, usize>>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ServerFeatures for Refusing {
    async fn get_supported_methods(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<SupportedMethods>, Status> {
        let batch_append = SupportedMethod {
            method_name: "batchappend".to_owned(),
            service_name: "event_store.client.streams.streams".to_owned(),
            features: Vec::new(),
        };
        Ok(Response::new(SupportedMethods {
            methods: vec![batch_append],
            event_store_server_version: "24.6.0".to_owned(),
        }))
    }
}

#[tonic::async_trait]
impl Streams for Refusing {
    type ReadStream = Answers<ReadResp>;
    type BatchAppendStream = Answers<BatchAppendResp>;

    async fn read(&self, _: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        let connection = request.remote_addr().unwrap();
        let mut sessions = self.sessions.lock().unwrap();
        *sessions.entry(connection).or_default() += 1;
        drop(sessions);
        let answers = request.into_inner().map(|append| append.map(refuse));
        Ok(Response::new(answers.chain(stream::pending()).boxed()))
    }

    async fn append(
        &self,
        _: Request<Streaming<AppendReq>>,
    ) -> Result<Response<AppendResp>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete(&self, _: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn tombstone(&self, _: Request<TombstoneReq>) -> Result<Response<TombstoneResp>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn refuse(append: BatchAppendReq) -> BatchAppendResp {
    let conflict = rpc::Status {
        code: rpc::Code::AlreadyExists.into(),
        message: "WrongExpectedVersion".to_owned(),
        details: None,
    };
    BatchAppendResp {
        correlation_id: append.correlation_id,
        stream_identifier: append.options.and_then(|options| options.stream_identifier),
        result: Some(batch_append_resp::Result::Error(conflict)),
        expected_stream_position: None,
    }
}
