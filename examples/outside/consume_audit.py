"""Follow what Affiant records: every prediction, every explanation, every signed checkpoint of the audit log.

    python consume_audit.py --nats nats://127.0.0.1:4222 --user outside --password-file ~/.affiant/secrets/nats/outside

Needs only nats-py. Each stream has a durable consumer that is declared for outside systems; the server remembers
how far it got, so this program resumes where it stopped, after a crash too. A message is acked only after it was
handled: handling must bear that one comes twice (know it by its `id`).
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

# Stream → the durable consumer that an outside system may read.
DURABLES = {"PREDICTIONS": "outside-predictions", "EXPLANATIONS": "outside-explanations", "AUDIT": "outside-audit"}

# Outside systems have an account of their own; in it the JetStream API has this name instead of $JS.API.
API_PREFIX = "AFFIANT.API"


def events_of(message: Msg) -> list[tuple[str, str, dict[str, Any]]]:
    """The id, the type and the data of each CloudEvent in a message.

    In binary form the attributes are headers; in structured form the body is the event; predictions that were made
    at the same moment come as a batch: a JSON array of structured events.
    """
    headers = {name.lower(): value for name, value in (message.headers or {}).items()}
    body = json.loads(message.data)
    if "ce-id" in headers:
        return [(headers["ce-id"], headers.get("ce-type", ""), body)]
    events = body if isinstance(body, list) else [body]
    return [(event["id"], event["type"], event["data"]) for event in events]


def handle(message: Msg) -> None:
    """What your system does with the events of a message. Here: one line each."""
    for event_id, kind, data in events_of(message):
        about = data.get("prediction_id") or data.get("size") or ""
        said = data.get("labels") or (data.get("anchor") or {}).get("sentence") or data.get("root") or ""
        print(
            f"{message.metadata.sequence.stream} {kind} {event_id} {data.get('model', '')} {about} {said}", flush=True
        )


async def follow(client: Client, prefix: str, stream: str, inbox: str, idle: float) -> None:
    """Read one durable consumer until it was idle for `idle` seconds (for ever where that is 0)."""
    subscription = await client.jetstream(prefix=prefix).pull_subscribe_bind(
        DURABLES[stream], stream=stream, inbox_prefix=f"{inbox}.".encode()
    )
    while True:
        try:
            messages = await subscription.fetch(100, timeout=idle or 5)
        except TimeoutError:
            if idle:
                return
            continue
        for message in messages:
            try:
                handle(message)
            except (ValueError, KeyError, TypeError) as error:
                # Nobody can handle it, ever: say so, and go on with the next one.
                print(f"malformed message {message.subject}: {error}", file=sys.stderr)
            await message.ack()


async def consume(arguments: argparse.Namespace, password: str) -> None:
    """Follow all three streams at once."""
    inbox = f"_INBOX_{arguments.user}"  # a user may read its own answers only
    client = await nats.connect(
        arguments.nats,
        user=arguments.user,
        password=password,
        inbox_prefix=inbox.encode(),
        max_reconnect_attempts=-1,  # the server may restart; by default the client gives up after two minutes
    )
    try:
        prefix, idle = arguments.api_prefix, arguments.idle
        await asyncio.gather(*(follow(client, prefix, stream, inbox, idle) for stream in DURABLES))
    finally:
        # Acks are on their way: they must reach the server before the connection is closed.
        await client.flush()
        await client.close()


def main() -> None:
    """Read the command line and follow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", default="nats://127.0.0.1:4222")
    parser.add_argument("--user", default="outside")
    parser.add_argument("--password-file", required=True)
    parser.add_argument("--api-prefix", default=API_PREFIX)
    parser.add_argument("--idle", type=float, default=0, help="end after so many seconds without a message")
    arguments = parser.parse_args()
    try:
        password = Path(arguments.password_file).expanduser().read_text().strip()
        asyncio.run(consume(arguments, password))
    except KeyboardInterrupt:
        pass  # the usual end
    except (OSError, nats.errors.Error) as error:
        sys.exit(f"cannot follow: {error or type(error).__name__}")


if __name__ == "__main__":
    main()
