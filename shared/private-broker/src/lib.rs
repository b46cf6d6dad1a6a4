//! Starts a private RabbitMQ node for tests, on free ports, in a folder of its own.
