//! A gRPC client for all methods of the `.proto` files in the package of the `eventstore` crate, with messages as
//! canonical protobuf JSON.

use std::sync::LazyLock;

use prost_reflect::prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ServiceDescriptor,
};
use serde_json::Value;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

const FILES: [&str; 8] = [
    "gossip.proto",
    "monitoring.proto",
    "operations.proto",
    "persistent.proto",
    "projections.proto",
    "serverfeatures.proto",
    "streams.proto",
    "users.proto",
];

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let files = protox::compile(FILES, [eventstore_lite::wire::PROTOS]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
});

/// The types of a method.
pub(crate) struct Method(MethodDescriptor);

/// All methods of all services.
pub(crate) fn methods() -> impl Iterator<Item = Method> {
    let methods = |service: ServiceDescriptor| service.methods().collect::<Vec<_>>();
    POOL.services().flat_map(methods).map(Method)
}

impl Method {
    /// The method named `package.Service/Method`.
    pub(crate) fn named(name: &str) -> Self {
        methods()
            .find(|method| method.path() == format!("/{name}"))
            .unwrap()
    }

    /// `/package.Service/Method`.
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.0.parent_service().full_name(), self.0.name())
    }

    pub(crate) fn input(&self) -> MessageDescriptor {
        self.0.input()
    }

    pub(crate) fn is_client_streaming(&self) -> bool {
        self.0.is_client_streaming()
    }

    pub(crate) fn message(&self, json: Value) -> DynamicMessage {
        DynamicMessage::deserialize(self.input(), json).unwrap()
    }

    pub(crate) fn codec(&self) -> JsonCodec {
        JsonCodec(self.0.output())
    }
}

/// Sends dynamic messages; receives their JSON.
pub(crate) struct JsonCodec(MessageDescriptor);

pub(crate) struct ToWire;

pub(crate) struct FromWire(MessageDescriptor);

impl Codec for JsonCodec {
    type Encode = DynamicMessage;
    type Decode = Value;
    type Encoder = ToWire;
    type Decoder = FromWire;

    fn encoder(&mut self) -> ToWire {
        ToWire
    }

    fn decoder(&mut self) -> FromWire {
        FromWire(self.0.clone())
    }
}

impl Encoder for ToWire {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, wire: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(wire).unwrap();
        Ok(())
    }
}

impl Decoder for FromWire {
    type Item = Value;
    type Error = Status;

    fn decode(&mut self, wire: &mut DecodeBuf<'_>) -> Result<Option<Value>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), wire).unwrap();
        Ok(Some(serde_json::to_value(&message).unwrap()))
    }
}
