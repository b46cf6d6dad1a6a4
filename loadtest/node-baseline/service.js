// The Node/Express design that users-service is compared with, as fast as this design can be.
//
// POST / checks the username against an in-memory projection, publishes a command message without confirms, and answers 201
// before anything is stored. A consumer in the same process takes the message, which the broker forgets on delivery, and
// appends the event to two streams at any revision. A failed append is noted and lost. GET /{id} folds the user's stream.
//
// Faster than the original where the outcome is the same: ids are fetched many at a time instead of one for each POST, and
// the broker is told once that deliveries need no acknowledgement, instead of an acknowledgement before each is handled.
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
// Slows POST / down on purpose, so that the measurement can show that it notices.
const planted = Number(process.env.PLANTED_DELAY_MS ?? 0);

const store = EventStoreDBClient.connectionString(EVENTSTORE_URL);
const usernames = new Set();
const counts = { published: 0, stored: 0, failed: 0, reason: null };

// Ids from the uuids service. The next ones are fetched while half of the last ones are still there.
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

// The projection of usernames, which follows the shared stream.
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
    // The last reason is enough: a line for each would slow the process down.
    counts.reason = `${error.name} ${error.type ?? ""} ${error.message}`;
    counts.failed += 1;
  }
}

// The user as the events of the user's stream make it; null if there is none.
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
    if (planted > 0) await pause(planted);
    while (ids.length === 0) await moreIds();
    const user = { id: ids.shift(), username, given_name, family_name };
    if (ids.length === IDS / 2) moreIds().catch((error) => console.error(error.message));
    channel.sendToQueue(QUEUE, Buffer.from(JSON.stringify({ command: "CreateUser", data: user })));
    counts.published += 1;
    response.status(201).json(user);
  });

  // The bare route: what Express does when the handler does nothing.
  app.post("/bare", (request, response) => response.status(201).json({ id: "0", ...request.body }));

  // What became of the commands, and what the service is made of.
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
