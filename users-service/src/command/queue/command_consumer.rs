//! Consumes the queue of commands. Commands run at the same time, as many as the queue delivers without an acknowledgement.

use super::attempting::Attempting;
use super::attempts::Attempts;
use super::command_end::CommandEnd;
use super::command_message::{Intake, Received};
use super::lanes::Lanes;
use super::not_a_command::Unacceptable;
use super::queue_health::QueueHealth;
use super::reply_address::is_foreign;
use super::unreadable_users::UnreadableUsers;
use super::{COMMANDS, topology};
use crate::command::command_answer::CommandAnswer;
use crate::command::envelope::Envelope;
use crate::command::error::CommandError;
use crate::command::handler::CommandHandler;
use crate::command::problems::unavailable;
use crate::domain::UserId;
use crate::integration::consumer::{dead_letter, keep_declared};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jittered_backoff::Backoff;
use messaging::{Broker, Consumer, Delivery, Incoming, Publisher, QueueKind, Replies, Topology};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many commands run or wait in one process.
const PREFETCH: u16 = 64;
/// How long commands wait for a user who cannot be read. An update of all processes may take so long.
const UNREADABLE_FOR: Duration = Duration::from_mins(10);
/// The media type of a reply.
const JSON: &str = "application/json";

/// Consumes the queue of commands.
#[derive(Debug)]
pub struct CommandConsumer {
    attempting: Attempting,
    broker: Broker,
    intake: Intake,
    topology: Topology,
    unreadable_for: Duration,
}

impl CommandConsumer {
    /// A consumer that executes commands with this handler. Any number may run. `kind` is the kind of the queue: all
    /// processes must agree on it.
    #[must_use]
    pub fn new(
        handler: CommandHandler,
        broker: Broker,
        (intake, attempts): (Intake, Attempts),
        kind: QueueKind,
    ) -> Self {
        let topology = topology(kind);
        Self {
            attempting: Attempting::new(handler, attempts),
            broker,
            intake,
            topology,
            unreadable_for: UNREADABLE_FOR,
        }
    }

    /// Sets how long commands wait for a user who cannot be read, because an event is unknown or malformed, or a key is lost. The
    /// default is ten minutes.
    #[must_use]
    pub fn giving_up_after(self, unreadable_for: Duration) -> Self {
        Self {
            unreadable_for,
            ..self
        }
    }

    /// Runs until `shutdown`. `state` holds the reason if the queue is not consumed, or commands wait.
    ///
    /// # Errors
    /// None. The consumer retries everything that fails.
    pub async fn run(
        &self,
        state: &watch::Sender<Result<(), String>>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let work = Work {
            consumer: self,
            dead_letters: Publisher::new(self.broker.clone(), self.topology.clone()),
            replies: Replies::new(self.broker.clone()),
            health: QueueHealth::new(state),
            unreadable: UnreadableUsers::default(),
        };
        let declared = keep_declared(&self.broker, &self.topology, || {});
        let declared = shutdown.run_until_cancelled(declared);
        tokio::join!(self.consume(&work, shutdown), declared);
        Ok(())
    }

    async fn consume(&self, work: &Work<'_>, shutdown: &CancellationToken) {
        let (broker, topology) = (self.broker.clone(), self.topology.clone());
        let mut consumer = Consumer::new(broker, topology, COMMANDS.to_owned(), PREFETCH);
        while !shutdown.is_cancelled() {
            work.session(&mut consumer, &shutdown.child_token()).await;
        }
        consumer.close().await;
    }
}

/// What the commands of one run share.
struct Work<'a> {
    consumer: &'a CommandConsumer,
    dead_letters: Publisher,
    replies: Replies,
    health: QueueHealth<'a>,
    unreadable: UnreadableUsers,
}

impl Work<'_> {
    /// Serves messages until the queue is lost, or `over`. Then all messages that are not acknowledged are delivered again. It
    /// ends between attempts, and never interrupts one, because that would count as an attempt that killed the process.
    async fn session(&self, consumer: &mut Consumer, over: &CancellationToken) {
        let mut lanes = Lanes::default();
        let mut served = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = over.cancelled() => break,
                Some(user) = served.next() => {
                    let next = lanes.leave(user);
                    served.extend(next.map(|next| self.serve(next, over)));
                }
                incoming = consumer.next(PREFETCH.into()) => match incoming {
                    Incoming::Opened { .. } => self.health.opened(),
                    Incoming::Closed(error) => {
                        self.health.closed(error.to_string());
                        break;
                    }
                    Incoming::Batch(batch) => {
                        for delivery in batch.deliveries {
                            let received = self.consumer.intake.receive(delivery);
                            let first = lanes.enter(received.user(), received);
                            served.extend(first.map(|first| self.serve(first, over)));
                        }
                    }
                }
            }
        }
        over.cancel();
        while served.next().await.is_some() {}
    }

    /// Serves a message until it is settled, or `over`. Returns the user that it names.
    async fn serve(&self, received: Received, over: &CancellationToken) -> Option<UserId> {
        let user = received.user();
        if let Some(settled) = self.settle(&received, over).await {
            self.finish(received.delivery, &settled.answer).await;
        }
        user
    }

    async fn settle(&self, received: &Received, over: &CancellationToken) -> Option<CommandEnd> {
        let delivery = &received.delivery;
        let settled = match &received.request {
            Ok(envelope) => self.execute(envelope, delivery, over).await?,
            Err(Unacceptable::Invalid(problem)) => {
                CommandEnd::answered(CommandAnswer::refused(None, problem))
            }
            Err(Unacceptable::NotACommand(reason)) => {
                CommandEnd::dead(None, reason.to_string(), &reason.problem())
            }
        };
        if let Some(reason) = &settled.dead {
            self.dead_letter(delivery, reason, over).await?;
        }
        Some(settled)
    }

    /// Replies and acknowledges.
    async fn finish(&self, delivery: Delivery, answer: &CommandAnswer) {
        if delivery.reply_to().is_some_and(is_foreign) {
            let answer = answer.json().to_string();
            let sent = self.replies.send(&delivery, JSON, answer.as_bytes()).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "a reply was lost");
            }
        }
        delivery.ack().await;
    }

    /// Executes the command until it has an outcome. What passes by itself is retried for ever. Returns `None` if it is `over`
    /// before.
    async fn execute(
        &self,
        envelope: &Envelope,
        delivery: &Delivery,
        over: &CancellationToken,
    ) -> Option<CommandEnd> {
        let (attempting, user) = (&self.consumer.attempting, envelope.user());
        let mut backoff = Backoff::default();
        let mut unreadable_since = None;
        let mut _waiting = None;
        loop {
            let error = match attempting.attempt(envelope, delivery, over).await? {
                Ok(settled) => {
                    self.unreadable.forget(user);
                    return Some(settled);
                }
                Err(error) => error,
            };
            if let Some(CommandError::Unreadable(reason)) = error.downcast_ref() {
                let since = unreadable_since.get_or_insert_with(|| self.unreadable.since(user));
                if since.elapsed() >= self.consumer.unreadable_for {
                    return Some(CommandEnd::dead(user, reason.to_string(), &unavailable()));
                }
            }
            _waiting = Some(self.health.waits(format!("{error:#}")));
            over.run_until_cancelled(backoff.pause()).await?;
        }
    }

    /// Moves the message to the dead-letter queue, and returns when it is there. `None` if it is `over` before.
    async fn dead_letter(
        &self,
        delivery: &Delivery,
        reason: &str,
        over: &CancellationToken,
    ) -> Option<()> {
        tracing::warn!(
            queue = COMMANDS,
            reason,
            "a message goes to the dead-letter queue"
        );
        let mut backoff = Backoff::default();
        let mut _waiting = None;
        loop {
            match dead_letter(&self.dead_letters, ("", COMMANDS), delivery, reason).await {
                Ok(()) => break,
                Err(error) => _waiting = Some(self.health.waits(error.to_string())),
            }
            over.run_until_cancelled(backoff.pause()).await?;
        }
        if delivery.redelivered {
            self.consumer.attempting.forget(delivery).await;
        }
        Some(())
    }
}
