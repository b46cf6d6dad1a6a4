// Sends commands to users-service as a client of the original service does: it asserts the queue `users` with
// {durable: true}. Each argument is the text of one message. A message is sent after the reply to the one before, and the
// replies are printed, one on each line.
"use strict";

const { once, EventEmitter } = require("node:events");
const { randomUUID } = require("node:crypto");
const amqplib = require("amqplib");

const QUEUE = "users";
// RabbitMQ's pseudo-queue, which sends a reply to the channel of its request.
const REPLY_TO = "amq.rabbitmq.reply-to";

async function main(messages) {
  const connection = await amqplib.connect(process.env.AMQP_URL);
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(QUEUE, { durable: true });
  const replies = new EventEmitter();
  const receive = (reply) => replies.emit(reply.properties.correlationId, reply.content.toString());
  await channel.consume(REPLY_TO, receive, { noAck: true });
  for (const message of messages) {
    const id = randomUUID();
    const reply = once(replies, id);
    const properties = { persistent: true, messageId: id, correlationId: id, replyTo: REPLY_TO };
    channel.sendToQueue(QUEUE, Buffer.from(message), properties);
    await channel.waitForConfirms();
    console.log((await reply)[0]);
  }
  await connection.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
