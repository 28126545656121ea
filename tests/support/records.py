"""The records that a stream holds."""

from __future__ import annotations

from nats.aio.client import Client

from affiant.common import wire
from affiant.common.events import PredictionLogged, ReplicaEnded


async def stored(client: Client) -> list[PredictionLogged]:
    """Every record in the stream PREDICTIONS, whether it came alone or with others."""
    js = client.jetstream()
    records = []
    for sequence in range(1, (await js.stream_info("PREDICTIONS")).state.messages + 1):
        message = await js.get_msg("PREDICTIONS", sequence)
        for single in wire.unbatched(message.data or b"", message.headers):
            event = wire.decode(message.subject or "", single.body, single.headers).event
            if isinstance(event, ReplicaEnded):
                continue
            assert isinstance(event, PredictionLogged)
            records.append(event)
    return records
