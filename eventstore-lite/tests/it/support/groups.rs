//! A plain client of persistent subscriptions.

use eventstore_lite::wire::persistent_subscriptions::persistent_subscriptions_client::PersistentSubscriptionsClient;
use eventstore_lite::wire::persistent_subscriptions::read_req::options::{UuidOption, uuid_option};
use eventstore_lite::wire::persistent_subscriptions::read_req::{Ack, Content as Request, Nack};
use eventstore_lite::wire::persistent_subscriptions::read_resp::{Content, ReadEvent};
use eventstore_lite::wire::persistent_subscriptions::{
    CreateReq, DeleteReq, GetInfoReq, ListReq, ReadReq, ReadResp, ReplayParkedReq,
    SubscriptionInfo, create_req, delete_req, get_info_req, list_req, read_req, replay_parked_req,
};
use eventstore_lite::wire::shared::{Empty, Uuid};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{identifier, soon};

/// The name of every group in these tests.
pub(crate) const GROUP: &str = "group";
const ALL: &str = "$all";

/// Settings that write a checkpoint for every acknowledgement at the next tick, and time nothing out.
pub(crate) fn settings() -> create_req::Settings {
    use create_req::settings::{CheckpointAfter, MessageTimeout};
    create_req::Settings {
        max_retry_count: 10,
        min_checkpoint_count: 1,
        max_checkpoint_count: 1000,
        live_buffer_size: 500,
        read_batch_size: 20,
        history_buffer_size: 500,
        message_timeout: Some(MessageTimeout::MessageTimeoutMs(0)),
        checkpoint_after: Some(CheckpointAfter::CheckpointAfterMs(0)),
        consumer_strategy: "RoundRobin".to_owned(),
        ..create_req::Settings::default()
    }
}

/// The groups of one server.
#[derive(Clone)]
pub(crate) struct Groups(PersistentSubscriptionsClient<Channel>);

impl Groups {
    pub(crate) async fn connect(address: impl std::fmt::Display) -> Self {
        let client = PersistentSubscriptionsClient::connect(format!("http://{address}"));
        Self(client.await.unwrap())
    }

    /// Creates a group from the start of a stream, or of `$all`.
    pub(crate) async fn create(&mut self, stream: &str, settings: create_req::Settings) {
        let option = if stream == ALL {
            create_req::options::StreamOption::All(create_req::AllOptions {
                all_option: Some(create_req::all_options::AllOption::Start(Empty {})),
                filter_option: Some(create_req::all_options::FilterOption::NoFilter(Empty {})),
            })
        } else {
            create_req::options::StreamOption::Stream(create_req::StreamOptions {
                stream_identifier: Some(identifier(stream)),
                revision_option: Some(create_req::stream_options::RevisionOption::Start(Empty {})),
            })
        };
        let options = create_req::Options {
            group_name: GROUP.to_owned(),
            settings: Some(settings),
            stream_option: Some(option),
            ..create_req::Options::default()
        };
        let options = Some(options);
        self.0.create(CreateReq { options }).await.unwrap();
    }

    pub(crate) async fn delete(&mut self, stream: &str) {
        let stream = delete_req::options::StreamOption::StreamIdentifier(identifier(stream));
        let options = Some(delete_req::Options {
            group_name: GROUP.to_owned(),
            stream_option: Some(stream),
        });
        self.0.delete(DeleteReq { options }).await.unwrap();
    }

    pub(crate) async fn info(&mut self, stream: &str) -> SubscriptionInfo {
        let option = if stream == ALL {
            get_info_req::options::StreamOption::All(Empty {})
        } else {
            get_info_req::options::StreamOption::StreamIdentifier(identifier(stream))
        };
        let options = Some(get_info_req::Options {
            group_name: GROUP.to_owned(),
            stream_option: Some(option),
        });
        let info = self.0.get_info(GetInfoReq { options }).await.unwrap();
        info.into_inner().subscription_info.unwrap()
    }

    /// Waits until the state of a group satisfies the condition.
    pub(crate) async fn until(
        &mut self,
        stream: &str,
        what: &str,
        stands: impl Fn(&SubscriptionInfo) -> bool,
    ) {
        let waited = async {
            while !stands(&self.info(stream).await) {
                tokio::task::yield_now().await;
            }
        };
        soon(what, waited).await;
    }

    pub(crate) async fn list(&mut self) -> Vec<SubscriptionInfo> {
        let all = list_req::options::ListOption::ListAllSubscriptions(Empty {});
        let options = Some(list_req::Options {
            list_option: Some(all),
        });
        let listed = self.0.list(ListReq { options }).await.unwrap();
        listed.into_inner().subscriptions
    }

    pub(crate) async fn replay(&mut self, stream: &str) {
        let stream = replay_parked_req::options::StreamOption::StreamIdentifier(identifier(stream));
        let options = Some(replay_parked_req::Options {
            group_name: GROUP.to_owned(),
            stream_option: Some(stream),
            stop_at_option: Some(replay_parked_req::options::StopAtOption::NoLimit(Empty {})),
        });
        let replay = self.0.replay_parked(ReplayParkedReq { options });
        replay.await.unwrap();
    }

    pub(crate) async fn join(&mut self, stream: &str) -> Member {
        self.join_with(stream, 100).await
    }

    /// Joins with this buffer size.
    pub(crate) async fn join_with(&mut self, stream: &str, buffer_size: i32) -> Member {
        let (says, said) = mpsc::unbounded_channel();
        let option = if stream == ALL {
            read_req::options::StreamOption::All(Empty {})
        } else {
            read_req::options::StreamOption::StreamIdentifier(identifier(stream))
        };
        let options = read_req::Options {
            group_name: GROUP.to_owned(),
            buffer_size,
            uuid_option: Some(UuidOption {
                content: Some(uuid_option::Content::String(Empty {})),
            }),
            stream_option: Some(option),
        };
        let content = Some(Request::Options(options));
        says.send(ReadReq { content }).unwrap();
        let requests = UnboundedReceiverStream::new(said);
        let answers = self.0.read(requests).await.unwrap().into_inner();
        Member { says, answers }.confirmed().await
    }
}

/// A client that has joined a group.
pub(crate) struct Member {
    says: mpsc::UnboundedSender<ReadReq>,
    answers: Streaming<ReadResp>,
}

impl Member {
    async fn confirmed(mut self) -> Self {
        let first = soon("the confirmation", self.answers.message()).await;
        let content = first.unwrap().unwrap().content;
        assert!(matches!(
            content,
            Some(Content::SubscriptionConfirmation(_))
        ));
        self
    }

    pub(crate) async fn next(&mut self) -> ReadEvent {
        let answer = soon("an event", self.answers.message()).await.unwrap();
        match answer.unwrap().content {
            Some(Content::Event(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<ReadEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await);
        }
        events
    }

    pub(crate) fn ack(&self, events: &[ReadEvent]) {
        let ids = events.iter().map(read_id).collect();
        let id = Vec::new().into();
        self.say(Request::Ack(Ack { id, ids }));
    }

    pub(crate) fn park(&self, events: &[ReadEvent]) {
        let ids = events.iter().map(read_id).collect();
        self.say(Request::Nack(Nack {
            id: Vec::new().into(),
            ids,
            action: read_req::nack::Action::Park.into(),
            reason: "not now".to_owned(),
        }));
    }

    fn say(&self, content: Request) {
        let content = Some(content);
        self.says.send(ReadReq { content }).unwrap();
    }
}

/// The id that a group uses for an event: that of the record that was read.
fn read_id(event: &ReadEvent) -> Uuid {
    let read = event.link.as_ref().or(event.event.as_ref()).unwrap();
    read.id.clone().unwrap()
}

/// The revision of the event; for a link, that of its target.
pub(crate) fn revision(event: &ReadEvent) -> u64 {
    event.event.as_ref().unwrap().stream_revision
}

/// The stream of the record that was read.
pub(crate) fn stream(event: &ReadEvent) -> String {
    let read = event.link.as_ref().or(event.event.as_ref()).unwrap();
    let name = read.stream_identifier.clone().unwrap().stream_name;
    String::from_utf8(name.to_vec()).unwrap()
}
