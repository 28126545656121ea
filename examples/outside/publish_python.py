"""Publish a prediction that was made elsewhere, so that Affiant records it like its own.

    python publish_python.py --nats nats://127.0.0.1:4222 --user outside --password-file ~/.affiant/secrets/nats/outside

Needs only nats-py. What is sent is a CloudEvent in structured form: one JSON document. Its `data` follows
docs/contracts/schemas/affiant.outside.prediction_logged.v1.json.
"""

import argparse
import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats

TYPE = "affiant.outside.prediction_logged.v1"


def prediction(model: str, prediction_id: str) -> dict[str, Any]:
    """One decision as your system made it: what went in, what came out."""
    return {
        "prediction_id": prediction_id,
        "model": model,  # lower-case letters, digits and dashes
        "version": None,  # your own numbering goes into "parameters": only registered models have versions here
        "digest": "",  # sha256:<hex> of the model's file, where you know it
        "received_at": datetime.now(UTC).isoformat(),
        "status": "answered",  # or "failed", with "error"
        # Tensors as in the Open Inference Protocol: `data` is flat, its length the product of `shape`.
        "inputs": [
            {"name": "income", "datatype": "FP64", "shape": [1, 1], "data": [31.5]},
            {"name": "purpose", "datatype": "BYTES", "shape": [1, 1], "data": ["car"]},
        ],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["denied"]},
            {"name": "probabilities", "datatype": "FP64", "shape": [1, 2], "data": [0.27, 0.73]},
        ],
        # What no model may see but an auditor must: attributes protected by law.
        "context": [{"name": "sex", "datatype": "BYTES", "shape": [1, 1], "data": ["f"]}],
        "labels": ["denied"],  # one entry for each row
        "scores": [0.27],  # the probability of the favourable decision
        "adverse": [True],
        "parameters": {"system": "core-banking", "model_version": "2026.11"},
    }


async def publish(arguments: argparse.Namespace, password: str) -> None:
    """Send one event and wait until the bus has it on its disk."""
    event_id = arguments.id or str(uuid.uuid4())
    event = {
        "specversion": "1.0",
        # The id is what a duplicate is known by: the same decision must always have the same one.
        "id": event_id,
        "source": "urn:example:core-banking",
        "type": TYPE,
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": prediction(arguments.model, event_id),
    }
    client = await nats.connect(
        arguments.nats,
        user=arguments.user,
        password=password,
        # A user may read its own answers only.
        inbox_prefix=f"_INBOX_{arguments.user}".encode(),
        max_reconnect_attempts=3,  # by default the client tries for two minutes before it says that nobody is there
    )
    try:
        acked = await client.jetstream().publish(
            f"{TYPE}.{arguments.model}",
            json.dumps(event).encode(),
            headers={"content-type": "application/cloudevents+json", "Nats-Msg-Id": event_id},
            timeout=10,
        )
    finally:
        await client.close()
    # Only now is it safe: without this answer, send it again with the same id.
    print(
        json.dumps({"id": event_id, "stream": acked.stream, "sequence": acked.seq, "duplicate": bool(acked.duplicate)})
    )


def main() -> None:
    """Read the command line and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", default="nats://127.0.0.1:4222")
    parser.add_argument("--user", default="outside")
    parser.add_argument("--password-file", required=True)
    parser.add_argument("--model", default="scorecard")
    parser.add_argument("--id", help="send a decision again: the same id")
    arguments = parser.parse_args()
    try:
        password = Path(arguments.password_file).expanduser().read_text().strip()
        asyncio.run(publish(arguments, password))
    except (OSError, nats.errors.Error) as error:
        sys.exit(f"not published: {error or type(error).__name__}")


if __name__ == "__main__":
    main()
