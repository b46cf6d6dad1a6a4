//! Which queues a reply may go to.

use super::COMMANDS;
use crate::ids;

/// The names of our queues and exchanges, and the beginnings of the others, which continue with a dot.
const OURS: [&str; 2] = [COMMANDS, ids::QUEUE];

/// Whether a reply may go to this queue. A reply in a queue of ours would be taken for a message that belongs there.
pub(super) fn is_foreign(queue: &str) -> bool {
    let is_ours = |ours: &str| {
        let rest = queue.strip_prefix(ours);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    !OURS.into_iter().any(is_ours)
}

#[cfg(test)]
mod tests {
    use super::is_foreign;
    use crate::command::queue::topology as commands;
    use crate::integration::consumer::ReaderQueues;
    use messaging::QueueKind;

    #[test]
    fn no_reply_goes_to_a_queue_of_ours() {
        let directory = ReaderQueues {
            read_model: "directory",
            generation: 1,
            partitions: 4,
        };
        for topology in [commands(QueueKind::Plain), directory.topology()] {
            for queue in topology.queues {
                assert!(!is_foreign(&queue.name), "{}", queue.name);
            }
            for exchange in topology.exchanges {
                assert!(!is_foreign(&exchange.name), "{}", exchange.name);
            }
        }
        assert!(!is_foreign("uuids"));
        for foreign in [
            "amq.rabbitmq.reply-to.g1h2",
            "users-of-billing",
            "replies",
            "uuid",
        ] {
            assert!(is_foreign(foreign), "{foreign}");
        }
    }
}
