//! Calls with messages of raw bytes.

use bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// The status of a call, or OK once it has an answer.
pub(super) async fn call(channel: Channel, path: String, messages: Vec<Vec<u8>>) -> Status {
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let request = Request::new(tokio_stream::iter(messages));
    let path = path.parse().unwrap();
    let first = async {
        let mut answers = client.streaming(request, path, Plain).await?.into_inner();
        answers.message().await
    };
    match first.await {
        Ok(_) => Status::ok(""),
        Err(status) => status,
    }
}

struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, wire: &mut EncodeBuf<'_>) -> Result<(), Status> {
        wire.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, wire: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(wire.copy_to_bytes(wire.remaining())))
    }
}
