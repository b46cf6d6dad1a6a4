# Recipes longer than a line or two are scripts. `make` without a target lists the targets.
.DEFAULT_GOAL := help
SHELL := bash

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.* ## ' Makefile | sed -E 's/:.* ## /\t/' | expand -t 14
	@echo 'Variables (README.md lists all): AMQP_URL and EVENTSTORE_URL use existing servers; PROFILE=dev builds fast.'

up: ## build and start everything on this machine, without Docker; wait until it is ready
	@scripts/up

token: ## print an access token for `AUTH=on make up`: SCOPES=users:read,users:write,users:erase,users:admin,uuids:read
	@scripts/token --scopes $(or $(SCOPES),users:read)

rebuild: ## build, then restart the services and eventstore-lite with the new build
	@scripts/build
	@scripts/down users uuids eventstore
	@scripts/up

down: ## stop everything that `make up` started; keep the data
	@scripts/down

logs: ## follow the logs, or those of one part: `make logs users` (uuids, eventstore, rabbitmq)
	@scripts/logs $(filter-out logs,$(MAKECMDGOALS))

reset: ## stop everything and delete its data; asks first, except with FORCE=1
	@scripts/reset

lint: ## check formatting, lints, documents, dependencies (licences, borders), scripts and the compose file
	@scripts/lint

test: lint ## run lints, unit, integration and system tests; install missing tools
	@scripts/test
	@scripts/web-test

conformance: ## run the official Rust, Node and Python clients against eventstore-lite, or the server at EVENTSTORE_URL
	@scripts/conformance

web-test: ## test the web page of eventstore-lite in headless Chromium; screenshots in .run/web
	@scripts/web-test

test-long: ## kill -9 every part under load, KILLS=50 times each, and count losses
	@SYSTEM_TESTS_KILLS=$(or $(KILLS),50) scripts/test -p system-tests --test it kills

test-long-cluster: ## kill -9 the leader of each queue of a RabbitMQ cluster of three, ROUNDS=3 times, and count losses
	@SYSTEM_TESTS_CLUSTER_ROUNDS=$(or $(ROUNDS),3) scripts/test -p system-tests --test it cluster:: -- --nocapture

test-long-store-cluster: ## let the leader of three event stores resign, die, hang …, ROUNDS=10 times each, and count losses
	@SYSTEM_TESTS_STORE_ROUNDS=$(or $(ROUNDS),10) scripts/test -p system-tests --test it store_cluster:: -- --nocapture

test-long-flow: ## faults between publisher, broker and projector as long as they say, KILLS=300 at each place of the code, and count
	@SYSTEM_TESTS_FLOW=long SYSTEM_TESTS_FLOW_KILLS=$(or $(KILLS),300) scripts/test -p system-tests --test it flow:: -- --nocapture --test-threads=1

test-rabbitmq4: ## run the tests of the messaging on RabbitMQ 4, in a chroot with Debian 13; needs root and Debian or Ubuntu
	@scripts/test-rabbitmq4

test-property: ## kill the API and the store, KILLS=50 times each, under random commands, and explain every answer
	@PROPERTY_KILLS=$(or $(KILLS),50) scripts/test -p system-tests --test it property:: -- --nocapture

test-connections: ## open CONNECTIONS=10000 connections to each service, and measure its memory
	@SYSTEM_TESTS_CONNECTIONS=$(or $(CONNECTIONS),10000) scripts/test -p system-tests --test it many_connections -- --nocapture

test-long-store: ## kill -9 eventstore-lite under load, KILLS=300 times, and count losses
	@STORE_KILLS=$(or $(KILLS),300) scripts/test -p eventstore-lite --test it kill:: -- --nocapture

test-long-ids: ## take IDS=100000000 ids through clock steps, kills, outages and restores, and count duplicates
	@scripts/need cc setpriv
	@IDS=$(or $(IDS),100000000) cargo test --release --locked -p uuids-service --test it -- campaign processes seen --nocapture

mutants: ## change the rules of names, claims and ids one by one, and list the changes that no unit test notices
	@scripts/mutants $(ARGS)

test-up: ## test `make up`, the tour of README.md and `make down`, on other ports and in a separate folder
	@scripts/test-up

loadtest: ## run the lifecycle of 123 users under Artillery, against `make up` or TARGET=http://…
	@scripts/loadtest

bench: ## measure throughput and latency of a release build; print the machine, the build and the figures
	@scripts/bench

bench-compare: ## the same services beside the Node/Express design and a bare pump, in one run; prints ratios and losses
	@scripts/bench-compare

bench-flow: ## events through publisher, broker and projector beside a bare pump, lag, rebuild, and lists of up to a million users
	@scripts/bench flow $(ARGS)

bench-ids: ## measure how fast ids are issued in process, over HTTP and over RabbitMQ, compared with the layout's limit
	@scripts/need cc rabbitmq-server setsid
	@cargo bench --locked -p uuids-service --bench ids

bench-store: ## measure eventstore-lite alone, compared with the disk and bare SQLite; EVENTS=10000000 for a large store
	@scripts/bench-store

# In `make logs users` the second word is an argument, not a target.
ifeq ($(firstword $(MAKECMDGOALS)),logs)
users uuids eventstore rabbitmq: ; @:
endif

.PHONY: help up token rebuild down logs reset lint test test-long test-long-cluster test-long-store-cluster test-long-flow test-rabbitmq4 test-property test-connections test-long-store test-long-ids mutants test-up loadtest bench bench-compare bench-flow bench-store bench-ids conformance web-test users uuids eventstore rabbitmq
