//! problem+json, health, readiness and graceful shutdown for actix-web services.
