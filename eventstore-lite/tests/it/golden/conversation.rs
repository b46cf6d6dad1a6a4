//! Plays the part of the client in a scenario, and records the answers of the server.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::compare::match_answer;
use super::names::Names;
use super::scenario::{Answer, BYTES, Scenario, Step};
use crate::support::dynamic::{JsonCodec, Method};

/// A call that has not ended by then never does.
const END_WITHIN: Duration = Duration::from_secs(20);

/// The maximum size of a message, as in the client library.
const MAX_MESSAGE: usize = 17 * 1024 * 1024;

/// Metadata that comes from the transport, not from the server.
const NOISE: [&str; 7] = [
    "content-length",
    "content-type",
    "date",
    "grpc-accept-encoding",
    "grpc-message",
    "grpc-status",
    "server",
];

/// Runs the steps in order. Returns the answer to each step that has one.
pub(crate) async fn run(channel: &Channel, scenario: &Scenario) -> Vec<Option<Answer>> {
    let mut conversation = Conversation {
        channel: channel.clone(),
        names: Names::default(),
        calls: HashMap::new(),
    };
    let mut answers = Vec::new();
    for step in &scenario.steps {
        let answer = conversation.step(step).await;
        if let (Some(recorded), Some(given)) = (step.answer(), &answer) {
            match_answer(recorded, given, &mut conversation.names);
        }
        answers.push(answer);
    }
    answers
}

struct Conversation {
    channel: Channel,
    names: Names,
    calls: HashMap<String, Call>,
}

impl Conversation {
    async fn step(&mut self, step: &Step) -> Option<Answer> {
        match step {
            Step::Call { method, send, .. } => {
                let mut call = self.open(method, send);
                call.requests = None;
                Some(call.end().await)
            }
            Step::Open {
                stream,
                method,
                send,
            } => {
                let call = self.open(method, send);
                self.calls.insert(stream.clone(), call);
                None
            }
            Step::Send { stream, send } => {
                self.calls[stream].send(send, &self.names);
                None
            }
            Step::Receive {
                stream,
                count,
                within_ms,
                ..
            } => Some(self.call(stream).receive(*count, *within_ms).await),
            Step::Quiet { stream, ms, .. } => {
                Some(self.call(stream).receive(usize::MAX, *ms).await)
            }
            Step::End { stream, .. } => Some(self.call(stream).end().await),
            Step::Cancel { stream } => {
                self.calls.remove(stream).unwrap();
                None
            }
            Step::Pause { ms } => {
                // The recording requires this pause: the time is part of the conversation.
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                None
            }
        }
    }

    fn call(&mut self, stream: &str) -> &mut Call {
        self.calls.get_mut(stream).unwrap()
    }

    /// Starts a call and sends the messages. If the method streams requests, the call can send more.
    fn open(&self, name: &str, send: &[Value]) -> Call {
        let method = Method::named(name);
        let (requests, outgoing) = mpsc::unbounded_channel();
        let (answers, items) = mpsc::unbounded_channel();
        let path = PathAndQuery::try_from(format!("/{name}")).unwrap();
        let talk = talk(
            self.channel.clone(),
            path,
            method.codec(),
            outgoing,
            answers,
        );
        let mut call = Call {
            method,
            requests: Some(requests),
            items,
            _talk: AbortOnDropHandle::new(tokio::spawn(talk)),
        };
        call.send(send, &self.names);
        if !call.method.is_client_streaming() {
            call.requests = None;
        }
        call
    }
}

enum Item {
    Message(Value),
    End(Code, String, BTreeMap<String, String>),
}

struct Call {
    method: Method,
    requests: Option<UnboundedSender<DynamicMessage>>,
    items: UnboundedReceiver<Item>,
    _talk: AbortOnDropHandle<()>,
}

impl Call {
    fn send(&self, messages: &[Value], names: &Names) {
        for message in messages {
            let message = self.method.message(for_the_wire(message, names));
            let requests = self.requests.as_ref().unwrap();
            // If the server has already ended the call, its answer says so.
            let _ = requests.send(message);
        }
    }

    /// Receives `count` messages, or those that arrive within the time. An end counts as one.
    async fn receive(&mut self, count: usize, within_ms: u64) -> Answer {
        let deadline = Instant::now() + Duration::from_millis(within_ms);
        let mut answer = Answer::default();
        while answer.messages.len() < count {
            match timeout_at(deadline, self.items.recv()).await {
                Ok(Some(Item::Message(message))) => answer.messages.push(message),
                Ok(Some(Item::End(code, _, trailers))) => {
                    let end = json!({"code": code_name(code), "trailers": trailers});
                    answer.messages.push(end);
                }
                Ok(None) | Err(_) => break,
            }
        }
        answer
    }

    async fn end(&mut self) -> Answer {
        let deadline = Instant::now() + END_WITHIN;
        let mut answer = Answer::default();
        while let Ok(Some(item)) = timeout_at(deadline, self.items.recv()).await {
            match item {
                Item::Message(message) => answer.messages.push(message),
                Item::End(code, message, trailers) => {
                    answer.code = Some(code_name(code));
                    answer.message = Some(message);
                    answer.trailers = trailers;
                    return answer;
                }
            }
        }
        answer
    }
}

/// One call from its beginning to its end.
async fn talk(
    channel: Channel,
    path: PathAndQuery,
    codec: JsonCodec,
    outgoing: UnboundedReceiver<DynamicMessage>,
    answers: UnboundedSender<Item>,
) {
    let end = match listen(channel, path, codec, outgoing, &answers).await {
        Ok(trailers) => Item::End(Code::Ok, String::new(), trailers),
        Err(status) => {
            let message = status.message().to_owned();
            Item::End(status.code(), message, without_noise(status.metadata()))
        }
    };
    // After a cancellation nobody listens.
    let _ = answers.send(end);
}

async fn listen(
    channel: Channel,
    path: PathAndQuery,
    codec: JsonCodec,
    outgoing: UnboundedReceiver<DynamicMessage>,
    answers: &UnboundedSender<Item>,
) -> Result<BTreeMap<String, String>, Status> {
    let mut client = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
    client.ready().await.unwrap();
    let request = Request::new(UnboundedReceiverStream::new(outgoing));
    let mut messages = client.streaming(request, path, codec).await?.into_inner();
    while let Some(message) = messages.next().await {
        let _ = answers.send(Item::Message(message?));
    }
    let trailers = messages.trailers().await?;
    Ok(trailers.as_ref().map(without_noise).unwrap_or_default())
}

fn without_noise(metadata: &MetadataMap) -> BTreeMap<String, String> {
    let text = |entry: KeyAndValueRef<'_>| match entry {
        KeyAndValueRef::Ascii(key, value) => {
            Some((key.to_string(), value.to_str().ok()?.to_owned()))
        }
        KeyAndValueRef::Binary(key, _) => Some((key.to_string(), "(binary)".to_owned())),
    };
    let entries = metadata.iter().filter_map(text);
    entries
        .filter(|(key, _)| !NOISE.contains(&key.as_str()))
        .collect()
}

/// `FAILED_PRECONDITION` for `FailedPrecondition`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Replaces names by their values, and shorthands by base64.
fn for_the_wire(value: &Value, names: &Names) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                let mut value = for_the_wire(value, names);
                if let Value::String(text) = &mut value
                    && BYTES.contains(&key.as_str())
                {
                    *text = encoded(text);
                }
                (key.clone(), value)
            };
            Value::Object(fields.iter().map(field).collect())
        }
        Value::Array(items) => items.iter().map(|item| for_the_wire(item, names)).collect(),
        Value::String(text) => Value::String(names.fill_in(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn encoded(shorthand: &str) -> String {
    if let Some(text) = shorthand.strip_prefix("utf8:") {
        return BASE64_STANDARD.encode(text);
    }
    match shorthand.strip_prefix("fill:").map(str::parse::<usize>) {
        Some(Ok(count)) => BASE64_STANDARD.encode("x".repeat(count)),
        Some(Err(_)) | None => shorthand.to_owned(),
    }
}
