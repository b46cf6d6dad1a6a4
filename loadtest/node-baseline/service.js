// A fast implementation of the Node/Express design with which users-service is compared.
//
// POST / checks the username against an in-memory projection, publishes a command message without confirms, and answers
// 201 before anything is stored. A consumer in the same process receives the message, which the broker forgets on
// delivery, and appends the event to two streams at any revision. The event of a failed append is counted and lost. GET
// /{id} folds the user's stream.
//
// It is faster than the original in two ways that do not change the outcome. It fetches many ids at a time instead of
// one for each POST. It consumes in no-acknowledgement mode, where the original acknowledges each message before
// handling it.
"use strict";

const { setTimeout: pause } = require("node:timers/promises");
const amqplib = require("amqplib");
const express = require("express");
const { ANY, EventStoreDBClient, START, StreamNotFoundError, jsonEvent } = require("@eventstore/db-client");

const QUEUE = "users";
const STREAM = "users";
const PAGE = 1000;
const IDS = 1000;

const { AMQP_URL, EVENTSTORE_URL, UUIDS_URL } = process.env;
// A delay in POST / that the tests plant, to show that the comparison detects a slow baseline.
const plantedDelay = Number(process.env.PLANTED_DELAY_MS ?? 0);

const store = EventStoreDBClient.connectionString(EVENTSTORE_URL);
const usernames = new Set();
const counts = { published: 0, stored: 0, failed: 0, reason: null };

// Ids from the uuids service. The next batch is fetched when half of the last batch is used.
let ids = [];
let fetching = null;

async function fetchIds() {
  const answer = await fetch(`${UUIDS_URL}/?count=${IDS}`);
  if (!answer.ok) throw new Error(`the uuids service answered ${answer.status}`);
  ids = ids.concat((await answer.json()).data);
}

function moreIds() {
  fetching ??= fetchIds().finally(() => {
    fetching = null;
  });
  return fetching;
}

// Follows the shared stream to keep the set of usernames up to date.
function project() {
  const events = store.subscribeToStream(STREAM, { fromRevision: START });
  events.on("data", ({ event }) => {
    if (event?.type === "UserCreated") usernames.add(event.data.username);
  });
  events.on("error", (error) => console.error("the projection ended:", error.message));
}

async function createUser(user) {
  const append = (stream) =>
    store.appendToStream(stream, jsonEvent({ type: "UserCreated", data: user }), { expectedRevision: ANY });
  await Promise.all([append(`users-${user.id}`), append(STREAM)]);
}

async function handle(message) {
  try {
    const { command, data } = JSON.parse(message.content);
    if (command !== "CreateUser") throw new Error(`unknown command ${command}`);
    await createUser(data);
    counts.stored += 1;
  } catch (error) {
    // Only the last reason is kept: logging every failure would slow the process down.
    counts.reason = `${error.name} ${error.type ?? ""} ${error.message}`;
    counts.failed += 1;
  }
}

// Folds the events of the user's stream into the user. Returns null if there are no events.
async function load(id) {
  let user = null;
  let fromRevision = START;
  for (;;) {
    let events = 0;
    for await (const { event } of store.readStream(`users-${id}`, { fromRevision, maxCount: PAGE })) {
      user = { ...user, ...event.data };
      fromRevision = event.revision + 1n;
      events += 1;
    }
    if (events < PAGE) return user;
  }
}

function application(channel) {
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  app.use(express.json());

  app.post("/", async (request, response) => {
    const { username, given_name, family_name } = request.body;
    if (usernames.has(username)) return response.status(409).json({ message: "the username is taken" });
    if (plantedDelay > 0) await pause(plantedDelay);
    while (ids.length === 0) await moreIds();
    const user = { id: ids.shift(), username, given_name, family_name };
    if (ids.length === IDS / 2) moreIds().catch((error) => console.error(error.message));
    channel.sendToQueue(QUEUE, Buffer.from(JSON.stringify({ command: "CreateUser", data: user })));
    counts.published += 1;
    response.status(201).json(user);
  });

  // The bare route, which shows the speed of Express with an empty handler.
  app.post("/bare", (request, response) => response.status(201).json({ id: "0", ...request.body }));

  // The counts of published, stored and failed commands, and the versions of Node and the packages.
  app.get("/counts", (_request, response) => response.json({ ...counts, versions: versions() }));

  app.get("/:id", async (request, response) => {
    try {
      const user = await load(request.params.id);
      if (user !== null) return response.json(user);
    } catch (error) {
      if (!(error instanceof StreamNotFoundError)) throw error;
    }
    response.status(404).json({ message: "no such user" });
  });
  return app;
}

function versions() {
  const { dependencies } = require("./package.json");
  const names = Object.entries(dependencies).map(([name, version]) => `${name} ${version}`);
  return [`node ${process.version}`, ...names].join(", ");
}

async function main() {
  const connection = await amqplib.connect(AMQP_URL, { noDelay: true });
  const channel = await connection.createChannel();
  await channel.assertQueue(QUEUE, { durable: true });
  await channel.consume(QUEUE, handle, { noAck: true });
  await moreIds();
  project();
  const server = application(channel).listen(0, "127.0.0.1", () => {
    const { address, port } = server.address();
    console.log(JSON.stringify({ fields: { message: "listening", address: `${address}:${port}` } }));
  });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
