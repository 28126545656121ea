"""What `helm test` runs: a prediction goes in as an outside system's, and must come out as an audit record.

    python -m affiant.cli.trial --nats nats://… --nkey-file seed --auditor http://… --token-file token

Ends with 0 when the record is there with its proof, with 1 and the reason otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime

import httpx

from affiant.cli.connection import connect
from affiant.common import ids, wire
from affiant.common.errors import Problem, Unavailable
from affiant.common.events import OUTSIDE, PredictionLogged
from affiant.common.parts import TensorData
from affiant.common.serving import BusAccess
from affiant.common.settings import read_secret

MODEL = "helm-test"


def prediction(event_id: str) -> PredictionLogged:
    """A decision that nobody made, under the name of a model that nobody has."""
    tensor = TensorData(name="asked", datatype="BYTES", shape=[1], data=["does it work?"])
    return PredictionLogged(
        prediction_id=event_id,
        model=MODEL,
        version=None,
        digest="",
        received_at=datetime.now(UTC).isoformat(),
        status="answered",
        inputs=[tensor],
        parameters={"system": "helm test"},
    )


async def publish(access: BusAccess) -> str:
    """Send the prediction and wait until the bus has it; returns its id."""
    event_id = ids.uuid7()
    message = wire.encode(prediction(event_id), owner=OUTSIDE, id=event_id)
    async with connect(access, OUTSIDE) as client:
        await client.jetstream().publish(message.subject, message.body, headers=dict(message.headers), timeout=30)
    return event_id


def await_record(auditor: str, token: str, event_id: str, seconds: float) -> dict[str, object]:
    """The audit record, once it is there. Raises `Unavailable` with what the auditor said last."""
    deadline, said = time.monotonic() + seconds, "nothing"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(
                f"{auditor}/v1/predictions/{event_id}", headers={"Authorization": f"Bearer {token}"}, timeout=10
            )
        except httpx.HTTPError as error:
            said = str(error)
        else:
            if answer.is_success:
                found: dict[str, object] = answer.json()
                return found
            said = f"{answer.status_code} {answer.text[:300]}"
        time.sleep(1)
    raise Unavailable(f"no audit record of {event_id} after {seconds:.0f} s; the auditor said: {said}")


def main(arguments: list[str] | None = None) -> None:
    """Try it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("nats", "nkey-file", "auditor", "token-file"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--ca-file", default="")
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args(arguments)
    access = BusAccess(url=given.nats, nkey_file=given.nkey_file, ca_file=given.ca_file)
    try:
        event_id = asyncio.run(publish(access))
        print(f"published {event_id}")
        await_record(given.auditor, read_secret(given.token_file), event_id, given.seconds)
    except Problem as problem:
        sys.exit(f"{problem.message} {problem.hint}".strip())
    print(f"the audit log has {event_id}")


if __name__ == "__main__":
    main()
