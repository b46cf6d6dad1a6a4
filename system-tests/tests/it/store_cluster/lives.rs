//! Users who live while something fails: each is created, changed, renamed, and every other one is deleted. Each command is
//! repeated under its key until it is answered.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::client::{id, user};
use system_tests::{Answer, Users, unique, wait};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How many users live at one time.
const AT_ONCE: usize = 2;

/// A life whose commands were all acknowledged.
#[derive(Debug)]
pub(crate) struct Life {
    /// The user after the last change.
    pub(crate) user: Value,
    pub(crate) is_deleted: bool,
}

/// Lives, one after the other in each task.
pub(crate) struct Lives {
    over: watch::Sender<bool>,
    tasks: JoinSet<Result<Vec<Life>>>,
}

impl Lives {
    pub(crate) fn begin(users: &Users) -> Self {
        let over = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (users, is_over) = (users.clone(), over.subscribe());
            tasks.spawn(async move {
                let mut lives = Vec::new();
                while lives.len() < 2 || !*is_over.borrow() {
                    lives.push(live(&users, lives.len() % 2 == 1).await?);
                }
                Ok(lives)
            });
        }
        Self { over, tasks }
    }

    /// Waits for the last commands.
    pub(crate) async fn end(mut self) -> Result<Vec<Life>> {
        self.over.send_replace(true);
        let mut lives = Vec::new();
        while let Some(task) = self.tasks.join_next().await {
            lives.extend(task??);
        }
        Ok(lives)
    }
}

async fn live(users: &Users, is_deleted: bool) -> Result<Life> {
    let created = command(users, Method::POST, "/", Some(&user(&unique("life")))).await?;
    let mut user = created.expect(201)?.body;
    let path = format!("/{}", id(&user));
    for (name, value) in [
        ("given_name", "Changed".to_owned()),
        ("username", unique("renamed")),
    ] {
        let change = json!({name: value});
        let changed = command(users, Method::PATCH, &path, Some(&change)).await?;
        changed.expect(204)?;
        user[name] = json!(value);
    }
    if is_deleted {
        let deleted = command(users, Method::DELETE, &path, None).await?;
        deleted.expect(204)?;
    }
    Ok(Life { user, is_deleted })
}

/// Sends the command under one key until the service answers it.
async fn command(
    users: &Users,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Answer> {
    let key = unique("key");
    wait::until("a command is answered", || async {
        let request = users.request(method.clone(), path);
        let mut request = request.header("Idempotency-Key", &key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = Answer::to(request).await?;
        ensure!(answer.status < 500, "{answer:?}");
        Ok(answer)
    })
    .await
}
