"""A consumer of the events of users-service at AMQP_URL, as docs/EVENTS.md describes it.

It validates each message against the schemas that the service at USERS_URL serves, and prints a line of JSON for it.
"""

import json
import os
import urllib.error
import urllib.parse
import urllib.request

import pika
from jsonschema import Draft7Validator, FormatChecker

EXCHANGE = "users.events"
QUEUE = "consumer.python.users"

http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
schemas = {}
# The last revision of each user. A real consumer keeps it in the transaction of the data that it derives from the messages.
revisions = {}


def schema(name):
    if name not in schemas:
        try:
            with http.open(f"{os.environ['USERS_URL']}/schemas/{urllib.parse.quote(name)}") as answer:
                schemas[name] = Draft7Validator(json.load(answer), format_checker=FormatChecker())
        except urllib.error.HTTPError:
            schemas[name] = None
    return schemas[name]


def errors_of(name, value):
    validator = schema(name)
    if validator is None:
        return [f"there is no schema {name}"]
    return [f"{name}{error.json_path[1:]} {error.message}" for error in validator.iter_errors(value)]


def parsed(body):
    try:
        return json.loads(body)
    except ValueError:
        return None


def received(method, properties, body):
    headers = properties.headers or {}
    kind = headers.get("cloudEvents:type")
    data = parsed(body)
    errors = errors_of(f"{kind}.headers", headers) + errors_of(f"{kind}", data)
    if properties.message_id != headers.get("cloudEvents:id"):
        errors.append("message-id is not the event's id")
    if method.routing_key != kind:
        errors.append("the routing key is not the type")
    user, revision = headers.get("cloudEvents:subject"), None if errors else int(headers["cloudEvents:sequence"])
    repeated = not errors and revision <= revisions.get(user, -1)
    # A real consumer applies a message here if it is right and new, and puts a wrong one aside.
    if not errors and not repeated:
        revisions[user] = revision
    return {
        "type": kind,
        "user": user,
        "revision": revision,
        "repeated": repeated,
        "headers": headers,
        "data": data,
        "errors": errors,
    }


def main():
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    channel.queue_declare(QUEUE, durable=True, arguments={"x-single-active-consumer": True})
    channel.queue_bind(QUEUE, EXCHANGE, "user.#")
    # One message at a time, so that they are applied in the order of the queue.
    channel.basic_qos(prefetch_count=1)
    print(json.dumps({"ready": True}), flush=True)
    for method, properties, body in channel.consume(QUEUE):
        print(json.dumps(received(method, properties, body)), flush=True)
        channel.basic_ack(method.delivery_tag)


main()
