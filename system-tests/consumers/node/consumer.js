// A consumer of the events of users-service at AMQP_URL, as docs/EVENTS.md describes it. It validates each message against the
// schemas that the service at USERS_URL serves, and prints a line of JSON for it.
"use strict";

const Ajv = require("ajv").default;
const addFormats = require("ajv-formats").default;
const amqplib = require("amqplib");

const EXCHANGE = "users.events";
const QUEUE = "consumer.node.users";

const ajv = addFormats(new Ajv({ allErrors: true }));
const schemas = new Map();
// The last revision of each user. A real consumer keeps it in the transaction of the data that it derives from the messages.
const revisions = new Map();

async function schema(name) {
  if (!schemas.has(name)) {
    const answer = await fetch(`${process.env.USERS_URL}/schemas/${encodeURIComponent(name)}`);
    schemas.set(name, answer.ok ? ajv.compile(await answer.json()) : undefined);
  }
  return schemas.get(name);
}

async function errorsOf(name, value) {
  const validate = await schema(name);
  if (!validate) return [`there is no schema ${name}`];
  validate(value);
  return (validate.errors ?? []).map((error) => `${name}${error.instancePath} ${error.message}`);
}

function parsed(content) {
  try {
    return JSON.parse(content.toString());
  } catch {
    return null;
  }
}

async function received({ content, fields, properties }) {
  const { headers = {}, messageId } = properties;
  const type = headers["cloudEvents:type"];
  const data = parsed(content);
  const errors = [...(await errorsOf(`${type}.headers`, headers)), ...(await errorsOf(type, data))];
  if (messageId !== headers["cloudEvents:id"]) errors.push("message-id is not the event's id");
  if (fields.routingKey !== type) errors.push("the routing key is not the type");
  const [user, revision] = [headers["cloudEvents:subject"], Number(headers["cloudEvents:sequence"])];
  const repeated = revision <= (revisions.get(user) ?? -1);
  // A real consumer applies a message here if it is right and new, and puts a wrong one aside.
  if (errors.length === 0 && !repeated) revisions.set(user, revision);
  return { type, user, revision, repeated, headers, data, errors };
}

async function main() {
  const connection = await amqplib.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertExchange(EXCHANGE, "topic", { durable: true });
  await channel.assertQueue(QUEUE, { durable: true, arguments: { "x-single-active-consumer": true } });
  await channel.bindQueue(QUEUE, EXCHANGE, "user.#");
  // One message at a time, so that they are applied in the order of the queue.
  await channel.prefetch(1);
  await channel.consume(QUEUE, async (message) => {
    console.log(JSON.stringify(await received(message)));
    channel.ack(message);
  });
  console.log(JSON.stringify({ ready: true }));
}

process.on("unhandledRejection", (error) => {
  console.error(error);
  process.exit(1);
});
main();
