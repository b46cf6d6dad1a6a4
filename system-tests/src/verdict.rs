//! What is wrong after a fault, over the whole path from a command to every consumer. It is pure.
//!
//! Invariant: each count has a planted fault that it must report, see [`Evidence::check_with_planted_faults`].

use crate::applications::ApplicationCounts;
use crate::client::{Answer, id};
use crate::deliveries::{DeliveryCounts, EventName};
use crate::traffic::{ExpectedUsers, ReadCounts};
use anyhow::{Context as _, Result, ensure};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

/// All that the checkers look at, except the notes beside the rows.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The events of users in the log.
    pub log: Vec<EventName>,
    /// The deliveries to the other team, in their order.
    pub delivered: Vec<EventName>,
    /// What was acknowledged.
    pub expected: ExpectedUsers,
    /// The whole list.
    pub listed: Vec<Value>,
    /// What readers saw of their own writes.
    pub reads: ReadCounts,
}

/// What is wrong with the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListCounts {
    /// Users who are missing.
    pub lost: usize,
    /// Users who must not be there.
    pub ghosts: usize,
    /// Users who are there more than once.
    pub repeated: usize,
    /// Users with other data than acknowledged.
    pub wrong: usize,
}

/// All counts of a test.
#[derive(Debug, Clone, Copy)]
pub struct FlowCounts {
    /// The deliveries to the other team.
    pub deliveries: DeliveryCounts,
    /// The applications to the rows of the list.
    pub applications: ApplicationCounts,
    /// The list.
    pub list: ListCounts,
    /// What readers saw of their own writes.
    pub reads: ReadCounts,
}

impl ListCounts {
    /// Compares the list with what was acknowledged.
    #[must_use]
    pub fn of(expected: &ExpectedUsers, listed: &[Value]) -> Self {
        let mut rows: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for row in listed {
            rows.entry(id(row)).or_default().push(row);
        }
        let mut counts = Self::default();
        for (user, rows) in &rows {
            match expected.get(*user) {
                None | Some(None) => counts.ghosts += 1,
                Some(Some(expected)) if rows[0] != expected => counts.wrong += 1,
                Some(Some(_)) => {}
            }
            counts.repeated += usize::from(rows.len() > 1);
        }
        let alive = expected.iter().filter(|(_, user)| user.is_some());
        let alive: BTreeSet<_> = alive.map(|(user, _)| user.as_str()).collect();
        let listed: BTreeSet<_> = rows.into_keys().collect();
        counts.lost = alive.difference(&listed).count();
        counts
    }
}

impl Evidence {
    /// All counts.
    #[must_use]
    pub fn judged(&self, applications: ApplicationCounts) -> FlowCounts {
        FlowCounts {
            deliveries: DeliveryCounts::of(&self.log, &self.delivered),
            applications,
            list: ListCounts::of(&self.expected, &self.listed),
            reads: self.reads,
        }
    }

    /// The control: plants one fault of each kind in a copy, and checks that each is counted, once.
    pub fn check_with_planted_faults(&self) -> Result<()> {
        self.check_deliveries()?;
        self.check_list()?;
        let stale = self.planted_stale_read()?;
        self.find(
            "a stale read",
            |it| it.reads.stale,
            |it| it.reads.stale += stale,
        )
    }

    fn check_deliveries(&self) -> Result<()> {
        let last = self.delivered.last().context("a delivery")?.clone();
        let forged = EventName {
            id: "forged".to_owned(),
            ..last.clone()
        };
        let early = EventName {
            revision: u64::MAX,
            ..last.clone()
        };
        self.find(
            "a lost message",
            |it| it.deliveries.lost,
            |it| {
                it.delivered.retain(|event| *event != last);
            },
        )?;
        self.find(
            "a forged message",
            |it| it.deliveries.ghosts,
            |it| {
                it.delivered.push(forged);
            },
        )?;
        self.find(
            "a wrong order",
            |it| it.deliveries.out_of_order,
            |it| {
                it.delivered.retain(|event| *event != last);
                it.delivered.extend([early, last]);
            },
        )
    }

    fn check_list(&self) -> Result<()> {
        let first = self.listed.first().context("a row")?.clone();
        self.find(
            "a lost user",
            |it| it.list.lost,
            |it| {
                it.listed.retain(|row| *row != first);
            },
        )?;
        self.find(
            "an unknown user",
            |it| it.list.ghosts,
            |it| {
                it.listed.push(json!({"id": "1"}));
            },
        )?;
        self.find(
            "a repeated user",
            |it| it.list.repeated,
            |it| {
                it.listed.push(first.clone());
            },
        )?;
        self.find(
            "other data",
            |it| it.list.wrong,
            |it| {
                it.listed[0]["given_name"] = json!("Somebody Else");
            },
        )
    }

    /// Plants a fault in a copy, and checks that it is counted, once.
    fn find(
        &self,
        what: &str,
        count: impl Fn(&FlowCounts) -> usize,
        plant: impl FnOnce(&mut Self),
    ) -> Result<()> {
        let mut copy = self.clone();
        plant(&mut copy);
        let none = ApplicationCounts::default();
        let (before, after) = (count(&self.judged(none)), count(&copy.judged(none)));
        ensure!(
            after == before + 1,
            "{what}: {before}, and {after} when planted"
        );
        Ok(())
    }

    /// How many stale reads are counted if a page shows the former name of a user.
    fn planted_stale_read(&self) -> Result<usize> {
        let row = self.listed.first().context("a row")?;
        let mut former = row.clone();
        former["given_name"] = json!("Former");
        let page = Answer {
            status: 200,
            content_type: String::new(),
            location: None,
            headers: HeaderMap::new(),
            body: json!({"data": [former]}),
        };
        let mut counts = ReadCounts::default();
        counts.count(&page, id(row), Some(row))?;
        Ok(counts.stale)
    }
}

impl FlowCounts {
    /// Fails with the counts unless all are zero, except those of repeats and of reads that were put off.
    pub fn all_zero(&self) -> Result<()> {
        let deliveries = DeliveryCounts {
            repeats: 0,
            ..self.deliveries
        };
        let right = deliveries == DeliveryCounts::default()
            && self.applications == ApplicationCounts::default()
            && self.list == ListCounts::default()
            && self.reads.stale == 0;
        ensure!(right, "{self}");
        Ok(())
    }
}

impl Display for FlowCounts {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let ListCounts {
            lost,
            ghosts,
            repeated,
            wrong,
        } = self.list;
        let ReadCounts {
            fresh,
            later,
            stale,
        } = self.reads;
        write!(
            formatter,
            "another team's queue: {}; the list: lost {lost}, ghosts {ghosts}, repeated {repeated}, wrong {wrong}, {}; \
             reads of own writes: stale {stale} (fresh {fresh}, put off {later})",
            self.deliveries, self.applications
        )
    }
}
