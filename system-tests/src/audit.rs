//! The loss counter: compares the acknowledged users with the store and the read model.

use crate::client::{Users, id};
use anyhow::{Context, Result, ensure};
use event_streams::EventStreams;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CREATED: &str = "UserCreated.v1";

/// The ids of lost and repeated users; all lists are empty if nothing was lost.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged, but `GET /{id}` does not answer that user.
    pub not_in_store: Vec<String>,
    /// Acknowledged, but the user's stream does not have exactly one creation.
    pub not_once_in_store: Vec<String>,
    /// Acknowledged, but missing in the list or listed with other content.
    pub not_in_list: Vec<String>,
    /// In the list more than once, acknowledged or not.
    pub repeated_in_list: Vec<String>,
}

impl Findings {
    /// Fails with the ids if anything was found.
    pub fn none(&self) -> Result<()> {
        ensure!(*self == Self::default(), "lost or repeated: {self:?}");
        Ok(())
    }
}

/// The control of [`audit`]: it finds a user that does not exist beside users of whom none is missing.
pub async fn audit_finds_a_planted_loss(
    acknowledged: &[Value],
    users: &Users,
    store: &EventStreams,
) -> Result<()> {
    let mut planted = acknowledged.first().context("a user")?.clone();
    planted["id"] = json!("1");
    let all = [acknowledged, &[planted]].concat();
    let lost = vec!["1".to_owned()];
    let expected = Findings {
        not_in_store: lost.clone(),
        not_once_in_store: lost.clone(),
        not_in_list: lost,
        repeated_in_list: Vec::new(),
    };
    let found = audit(&all, users, store).await?;
    ensure!(found == expected, "{found:?}");
    Ok(())
}

/// Compares the acknowledged users with the current store and read model.
pub async fn audit(
    acknowledged: &[Value],
    users: &Users,
    store: &EventStreams,
) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut listed: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in users.list(50).await? {
        listed.entry(id(&row).to_owned()).or_default().push(row);
    }
    let stored = user_events(store).await?;
    for user in acknowledged {
        if users.get(id(user)).await?.body != *user {
            findings.not_in_store.push(id(user).to_owned());
        }
        let stream = format!("users-{}", id(user));
        let created = |event: &&(String, u64, String)| event.0 == stream && event.2 == CREATED;
        if stored.iter().filter(created).count() != 1 {
            findings.not_once_in_store.push(id(user).to_owned());
        }
        if listed.get(id(user)).and_then(|rows| rows.first()) != Some(user) {
            findings.not_in_list.push(id(user).to_owned());
        }
    }
    listed.retain(|_, rows| rows.len() > 1);
    findings.repeated_in_list = listed.into_keys().collect();
    Ok(findings)
}

/// Stream, revision and type of all stored events about users, in the order of the log.
pub async fn user_events(store: &EventStreams) -> Result<Vec<(String, u64, String)>> {
    let mut stored = Vec::new();
    let mut after = None;
    loop {
        let page = store.read_all(&["user"], after, 10_000).await?;
        let events = page.events.into_iter();
        stored.extend(events.map(|event| (event.stream, event.revision, event.event_type)));
        if page.end {
            return Ok(stored);
        }
        after = page.position;
    }
}
