//! A server that answers appends from memory and stores nothing. Beside it, the store's figures show what storing costs: both
//! answer the same calls of the same client.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::append_req::Content;
use eventstore_lite::wire::streams::append_resp::success::{CurrentRevisionOption, PositionOption};
use eventstore_lite::wire::streams::append_resp::{Result as Answer, Success};
use eventstore_lite::wire::streams::streams_server::{Streams, StreamsServer};
use eventstore_lite::wire::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq,
    ReadResp, TombstoneReq, TombstoneResp,
};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::{Empty as NoAnswers, StreamExt as _};
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic::{Request, Response, Status, Streaming, async_trait};

/// The number of events in each stream.
#[derive(Debug, Default)]
struct FromMemory(Mutex<HashMap<Bytes, u64>>);

/// Serves on a free port, and prints its address as the store does.
#[expect(clippy::print_stdout, reason = "the bench reads the address")]
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({"fields": {"address": listener.local_addr()?}}));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let incoming = incoming.map(|stream| stream.map(Acknowledging));
    let service = StreamsServer::new(FromMemory::default());
    Ok(Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming)
        .await?)
}

/// A connection that acknowledges what it reads at once, as the store's do. Otherwise the client would wait 40 ms before it
/// sends the rest of a request, and the comparison would flatter the store.
struct Acknowledging(TcpStream);

impl AsyncRead for Acknowledging {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        #[cfg(target_os = "linux")]
        if read.is_ready() {
            SockRef::from(&self.0).set_tcp_quickack(true)?;
        }
        read
    }
}

impl AsyncWrite for Acknowledging {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Connected for Acknowledging {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.0.connect_info()
    }
}

#[async_trait]
impl Streams for FromMemory {
    type ReadStream = NoAnswers<Result<ReadResp, Status>>;
    type BatchAppendStream = NoAnswers<Result<BatchAppendResp, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<AppendReq>>,
    ) -> Result<Response<AppendResp>, Status> {
        let mut messages = request.into_inner();
        let (mut stream, mut events) = (Bytes::new(), 0);
        while let Some(message) = messages.message().await? {
            match message.content {
                Some(Content::Options(options)) => {
                    stream = options.stream_identifier.unwrap_or_default().stream_name;
                }
                Some(Content::ProposedMessage(_)) => events += 1,
                None => {}
            }
        }
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let length = streams.entry(stream).or_default();
        *length += events;
        let success = Success {
            current_revision_option: Some(CurrentRevisionOption::CurrentRevision(*length - 1)),
            position_option: Some(PositionOption::NoPosition(Empty {})),
        };
        Ok(Response::new(AppendResp {
            result: Some(Answer::Success(success)),
        }))
    }

    async fn read(&self, _: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        Err(nothing_but_appends())
    }

    async fn batch_append(
        &self,
        _: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        Err(nothing_but_appends())
    }

    async fn delete(&self, _: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        Err(nothing_but_appends())
    }

    async fn tombstone(&self, _: Request<TombstoneReq>) -> Result<Response<TombstoneResp>, Status> {
        Err(nothing_but_appends())
    }
}

fn nothing_but_appends() -> Status {
    Status::unimplemented("this server answers appends only")
}
