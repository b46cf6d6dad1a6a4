//! RabbitMQ: topology, confirmed and mandatory publishing, consuming, RPC, reconnection.
