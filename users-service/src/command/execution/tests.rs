//! Two processes execute one command. The store is real; the second process is played by the test.

use super::{Execution, Ownership, Ran};
use crate::command::command_memory::{Acceptance, CommandMemory};
use crate::command::envelope::{Command, Envelope};
use crate::command::error::CommandError;
use crate::command::plan::Plan;
use crate::command::stores::Stores;
use crate::database::Databases;
use crate::domain::{Changes, FamilyName, GivenName, Profile, UserError, UserId, Username};
use crate::privacy::pseudonym::UsernameSecret;
use crate::privacy::subject_keys::SubjectKeys;
use crate::stored_event::{AcceptedCommand, CommandEvent, NoEvent};
use event_streams::EventStreams;
use eventstore_lite::{Config, Server};
use tempfile::TempDir;

const USER: UserId = UserId::new(1);

struct World {
    stores: Stores,
    secret: UsernameSecret,
    _server: Server,
    _folder: TempDir,
}

impl World {
    /// A store with one user.
    async fn with_ada() -> Self {
        let folder = TempDir::new().unwrap();
        let server = Server::start(Config::new(folder.path().join("store"))).await;
        let server = server.unwrap();
        let master = "0c".repeat(32).parse().unwrap();
        let keys = SubjectKeys::open(&Databases::Folder(folder.path().to_owned()), master).await;
        let events = EventStreams::connect(&server.url()).unwrap();
        let world = Self {
            stores: Stores::new(events, keys.unwrap()),
            secret: "0d".repeat(32).parse().unwrap(),
            _server: server,
            _folder: folder,
        };
        let create = Envelope::new(Command::Create(Profile {
            username: Username::parse("ada").unwrap(),
            given_name: GivenName::parse("Ada").unwrap(),
            family_name: FamilyName::parse("Lovelace").unwrap(),
        }));
        assert_eq!(world.run(&create, None).await.unwrap(), Ran::Committed(0));
        world
    }

    async fn run(
        &self,
        envelope: &Envelope,
        ownership: Option<Ownership<'_>>,
    ) -> Result<Ran, CommandError> {
        let mut execution = Execution::new(&self.stores, USER, envelope);
        if let Some(ownership) = ownership {
            execution = execution.owned(ownership, None);
        }
        let plan = Plan::of(&envelope.command, &self.secret);
        execution.run(plan).await
    }

    async fn given_name(&self) -> String {
        let history = self.stores.histories.read(USER).await.unwrap();
        let key = self.stores.keys.find(history.key().unwrap()).await.unwrap();
        let crate::privacy::subject_keys::Lookup::Found(key) = key else {
            panic!("the key is gone");
        };
        let crate::domain::UserState::Active(user) = history.open(&key).unwrap() else {
            panic!("the user is gone");
        };
        user.profile.given_name.personal().reveal().clone()
    }

    /// The memory of a command that was accepted after the user's first event.
    async fn memory(&self, envelope: &Envelope) -> CommandMemory {
        let memory = CommandMemory::new(self.stores.events.clone(), "command-00".to_owned());
        let accepted = AcceptedCommand {
            command: envelope.id,
            user: USER,
            body: None,
            revision: Some(0),
        };
        let acceptance = memory
            .accept(accepted, None, &envelope.origin())
            .await
            .unwrap();
        assert!(matches!(acceptance, Acceptance::New(0)));
        memory
    }
}

fn patch(given_name: &str) -> Envelope {
    let given_name = GivenName::parse(given_name).ok();
    let changes = Changes {
        given_name,
        ..Changes::default()
    };
    Envelope::new(Command::Patch(USER, changes))
}

fn owned_at(memory: &CommandMemory, head: u64) -> Ownership<'_> {
    let after = Some(0);
    Ownership {
        memory,
        head,
        after,
    }
}

#[tokio::test]
async fn an_owner_finds_the_event_that_the_former_owner_stored_and_does_not_store_it_again() {
    let world = World::with_ada().await;
    let command = patch("Augusta");
    let memory = world.memory(&command).await;
    let former = world.run(&command, Some(owned_at(&memory, 0))).await;
    assert_eq!(former.unwrap(), Ran::Committed(1));
    world.run(&patch("A."), None).await.unwrap();
    let resumed = CommandEvent::Resumed(USER);
    let head = memory.append(0, resumed).await.unwrap().unwrap();
    let owner = world.run(&command, Some(owned_at(&memory, head))).await;
    assert_eq!(owner.unwrap(), Ran::Committed(1));
    assert_eq!(world.given_name().await, "A.");
}

/// A process that died between two appends would leave a command of which nobody could say whether it was executed.
#[tokio::test]
async fn a_command_and_its_certain_outcome_are_accepted_in_one_append() {
    let world = World::with_ada().await;
    let envelope = Envelope::new(Command::Delete(USER));
    let memory = CommandMemory::new(world.stores.events.clone(), "command-01".to_owned());
    let accepted = AcceptedCommand {
        command: envelope.id,
        user: USER,
        body: None,
        revision: None,
    };
    let reason = NoEvent::Refused(UserError::Erased);
    let origin = envelope.origin();
    let accepting = memory.accept(accepted, Some(reason), &origin);
    assert!(matches!(accepting.await.unwrap(), Acceptance::New(1)));
    let known = memory.read().await.unwrap().unwrap();
    assert_eq!((known.done, known.head), (Some(reason), 1));
}

#[tokio::test]
async fn a_former_owner_stops_when_it_reads_the_user_again() {
    let world = World::with_ada().await;
    let command = patch("Augusta");
    let memory = world.memory(&command).await;
    memory.append(0, CommandEvent::Resumed(USER)).await.unwrap();
    let former = world.run(&command, Some(owned_at(&memory, 0))).await;
    assert!(matches!(former, Err(CommandError::Superseded)));
    assert_eq!(world.given_name().await, "Ada");
}
