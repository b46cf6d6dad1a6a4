# syntax=docker/dockerfile:1
# One image with both services; docker-compose.yml says which one a container runs, and in which role.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p uuids-service -p users-service \
    && install -D -t /out target/release/uuids-service target/release/users-service

FROM debian:bookworm-slim
# The folders belong to the image, so that new volumes over them belong to its user.
RUN useradd --system --uid 10001 --no-create-home services \
    && install -d -o services -m 700 /data /secrets /uuids-secret /broker-secret /auth-secret
COPY --from=build /out/ /usr/local/bin/
COPY scripts/secrets /usr/local/bin/make-secrets
COPY scripts/broker-definitions /usr/local/bin/broker-definitions
COPY deploy/rabbitmq/definitions.json /usr/local/share/broker-definitions.json
USER services
