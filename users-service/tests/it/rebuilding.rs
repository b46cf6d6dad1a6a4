//! Generations of read models: the first one, another one beside it, and what becomes of the earlier one.

use crate::bus::directory::QUEUES;
use crate::bus::{Bus, PACE, ReadModel, Role, TestClock, until_published};
use crate::support::{App, id, spawn_app, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use users_service::integration::consumer::ReaderQueues;
use users_service::privacy::search_secret::SearchSecret;
use users_service::read_model::{
    CurrentGeneration, Directory, GenerationFollower, GenerationState, Projection, Registry,
};

/// A service whose projectors are hosted, as in production.
pub(crate) struct Hosted {
    pub(crate) app: App,
    bus: Bus,
    pub(crate) clock: TestClock,
    _publisher: Role,
}

fn directory() -> Directory {
    Directory::new(SearchSecret::of(&crate::support::master()))
}

impl Hosted {
    async fn new() -> Self {
        Self::of(spawn_app().await).await
    }

    pub(crate) async fn of(app: App) -> Self {
        let bus = Bus::new().await;
        let publisher = bus.publisher(&app, PACE);
        Self {
            app,
            bus,
            clock: TestClock::default(),
            _publisher: publisher,
        }
    }

    fn registry(&self) -> Registry {
        Registry::new(self.app.databases())
    }

    pub(crate) fn host(&self) -> Role {
        let read_model = (self.registry(), directory());
        self.bus.host(&self.app, read_model, self.clock.clock())
    }

    /// The generations with their states.
    async fn generations(&self) -> Vec<(u32, GenerationState)> {
        let all = self.registry().generations("directory").await.unwrap();
        all.iter().map(|one| (one.number, one.state)).collect()
    }

    pub(crate) async fn until_generations(&self, expected: &[(u32, GenerationState)]) {
        until(&format!("{expected:?}"), async || {
            (self.generations().await == expected).then_some(())
        })
        .await;
    }

    /// The usernames that readers see. `None` if nothing is built.
    async fn listed(&self) -> Option<BTreeSet<String>> {
        let projection: Arc<dyn Projection> = Arc::new(directory());
        let follower = GenerationFollower::new(self.registry(), projection);
        follower.look().await.unwrap();
        let generation = CurrentGeneration::get(&follower.current())?;
        let model = ReadModel {
            directory: directory(),
            generation,
        };
        let users = model.users(&self.app).await;
        let username = |names: &users_service::integration::message::ClearNames| {
            names[&users_service::domain::NameField::Username]
                .reveal()
                .clone()
        };
        Some(users.iter().map(|user| username(&user.names)).collect())
    }

    pub(crate) async fn until_listed(&self, expected: &[&str]) {
        let expected: BTreeSet<_> = expected.iter().map(|&name| name.to_owned()).collect();
        until(&format!("{expected:?} are listed"), async || {
            (self.listed().await.as_ref() == Some(&expected)).then_some(())
        })
        .await;
    }

    /// Begins another generation with so many queues.
    pub(crate) async fn rebuild(&self, partitions: u32) {
        let registry = self.registry();
        let now = (self.clock.clock()).now();
        registry.begin(&directory(), partitions, now).await.unwrap();
    }

    async fn queues(&self) -> BTreeSet<String> {
        let all = self.bus.manage("GET", "queues", "", &Value::Null).await;
        let names = all.as_array().unwrap().iter();
        let names = names.map(|queue| queue["name"].as_str().unwrap().to_owned());
        names
            .filter(|name| name.starts_with("users.directory."))
            .collect()
    }
}

use GenerationState::{Building, Current, Retired};

#[tokio::test]
async fn the_first_generation_is_built_before_readers_see_it() {
    let hosted = Hosted::new().await;
    for name in ["ada", "eda", "ida"] {
        hosted.app.created(name).await;
    }
    assert_eq!(hosted.listed().await, None);
    let host = hosted.host();
    until("a generation is current", async || {
        let listed = hosted.listed().await?;
        // Whenever readers see it, it has everybody.
        assert_eq!(listed.len(), 3);
        Some(())
    })
    .await;
    host.ready().await;
    hosted.app.created("uda").await;
    hosted.until_listed(&["ada", "eda", "ida", "uda"]).await;
}

#[tokio::test]
async fn another_generation_takes_over_and_the_earlier_one_is_deleted() {
    let hosted = Hosted::new().await;
    let host = hosted.host();
    let ada = hosted.app.created("ada").await;
    hosted.until_listed(&["ada"]).await;
    hosted.rebuild(2).await;
    hosted
        .until_generations(&[(1, Retired), (2, Current)])
        .await;
    hosted.until_listed(&["ada"]).await;
    host.ready().await;
    hosted
        .app
        .patch(&ada, &json!({"username": "augusta"}))
        .await;
    hosted.app.created("eda").await;
    hosted.until_listed(&["augusta", "eda"]).await;
    assert!(hosted.app.folder.path().join("directory_g1.db").exists());
    hosted.clock.advance(Duration::from_secs(11));
    hosted.until_generations(&[(2, Current)]).await;
    assert!(!hosted.app.folder.path().join("directory_g1.db").exists());
    let second = ReaderQueues {
        generation: 2,
        partitions: 2,
        ..QUEUES
    };
    let expected = second
        .queues()
        .flat_map(|name| [format!("{name}.dead"), name]);
    let expected: BTreeSet<_> = expected.collect();
    until(
        "the queues of the first generation are deleted",
        async || (hosted.queues().await == expected).then_some(()),
    )
    .await;
    hosted.app.delete(&ada).await;
    hosted.until_listed(&["eda"]).await;
}

/// The process is killed in the middle, and another one goes on. Readers see every user at any time.
#[tokio::test]
async fn a_rebuild_that_is_killed_goes_on_and_readers_never_see_a_mixture() {
    let hosted = Hosted::new().await;
    let host = hosted.host();
    let mut expected = BTreeSet::new();
    for number in 0..40 {
        let name = format!("user{number}");
        hosted.app.created(&name).await;
        expected.insert(name);
    }
    let all: Vec<_> = expected.iter().map(String::as_str).collect();
    hosted.until_listed(&all).await;
    hosted.rebuild(1).await;
    let mut host = Some(host);
    for round in 0..200 {
        assert_eq!(hosted.listed().await.as_ref(), Some(&expected), "{round}");
        if round % 3 == 0 {
            host.take().unwrap().kill().await;
            host = Some(hosted.host());
        }
        if hosted.generations().await == [(1, Retired), (2, Current)] {
            break;
        }
    }
    hosted
        .until_generations(&[(1, Retired), (2, Current)])
        .await;
    hosted.until_listed(&all).await;
    assert!(host.is_some());
}

#[tokio::test]
async fn what_an_operator_has_dropped_is_dropped_from_the_next_generation_too() {
    let hosted = Hosted::new().await;
    let ada = crate::holding::unreadable(&hosted.app).await;
    let (user, host) = (id(&ada).parse().unwrap(), hosted.host());
    hosted.until_generations(&[(1, Current)]).await;
    until_published(&hosted.app).await;
    let repair = crate::bus::repair(&hosted.app, &crate::bus::view(&hosted.app).await);
    let decision = crate::parking::decision("a test");
    users_service::projection::holds::drop_event(&repair, user, None, &decision)
        .await
        .unwrap();
    hosted.rebuild(4).await;
    hosted
        .until_generations(&[(1, Retired), (2, Current)])
        .await;
    host.ready().await;
    hosted.until_listed(&["ada"]).await;
    let projection: Arc<dyn Projection> = Arc::new(directory());
    let follower = GenerationFollower::new(hosted.registry(), projection);
    follower.look().await.unwrap();
    let generation = follower.current().get().unwrap();
    assert_eq!(generation.number(), 2);
    let held = users_service::projection::holds::list(&generation).await;
    assert_eq!(held.unwrap().total, 0);
}

#[tokio::test]
async fn a_read_model_that_is_wiped_restores_itself() {
    let hosted = Hosted::new().await;
    let host = hosted.host();
    hosted.app.created("ada").await;
    hosted.until_listed(&["ada"]).await;
    host.stop().await;
    for entry in std::fs::read_dir(hosted.app.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("directory_g1") || name.starts_with("read_models") {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(hosted.listed().await, None);
    let _host = hosted.host();
    hosted.until_listed(&["ada"]).await;
}

#[tokio::test]
async fn two_projectors_build_one_generation() {
    let hosted = Hosted::new().await;
    let hosts = [hosted.host(), hosted.host()];
    for name in ["ada", "eda"] {
        hosted.app.created(name).await;
    }
    hosted.until_listed(&["ada", "eda"]).await;
    hosted.rebuild(3).await;
    hosted
        .until_generations(&[(1, Retired), (2, Current)])
        .await;
    hosted.app.created("ida").await;
    hosted.until_listed(&["ada", "eda", "ida"]).await;
    for host in &hosts {
        host.ready().await;
    }
    assert_ne!(hosted.generations().await, [(2, Building)]);
}
