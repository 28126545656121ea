"""Cosignatures: asked for from witnesses over HTTP, or brought by whoever holds a key of his own.

A cosignature says that its maker saw a log that only grew. One log cannot then show different histories to different
people without one of them noticing (C2SP tlog-witness, tlog-cosignature).
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from functools import partial

import httpx
import structlog

from affiant.auditor.actions.checkpoints import reader
from affiant.auditor.actions.look import Lookup
from affiant.auditor.actions.writer import Writer
from affiant.auditor.domain.views import Cosigned
from affiant.auditor.log import proofs
from affiant.auditor.log.cosignature import Cosigner, cosigner
from affiant.auditor.settings import AuditorSettings
from affiant.auditor.store import checkpoints, cosignatures
from affiant.auditor.store.checkpoints import Signed
from affiant.auditor.store.database import Connection, StoreAway
from affiant.common import ids
from affiant.common.errors import NotFound, Problem, Unavailable

log = structlog.get_logger(__name__)

MOST_COSIGNERS = 32
"""Of one checkpoint: it is fetched often."""
SECONDS = 20.0
SIZE_TYPE = "text/x.tlog.size"


class Cosigners:
    """Keeps cosignatures; asks the witnesses of the settings for theirs."""

    def __init__(
        self,
        lookup: Lookup,
        writer: Writer,
        settings: AuditorSettings,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._lookup = lookup
        self._writer = writer
        self._settings = settings
        self._known = [_cosigner(key) for key in settings.cosigner_keys]
        self._http = httpx.AsyncClient(timeout=SECONDS, transport=transport)
        self._sizes: dict[str, int] = {}

    async def take(self, size: int, line: str, verifier_key: str) -> Cosigned:
        """Keep the cosignature `line` of the checkpoint over `size` entries, by the holder of `verifier_key`.

        Whether to trust that key is the verifier's affair. Raises `Problem` where it is no such cosignature.
        """
        maker = _cosigner(verifier_key)
        if any(known.name == maker.name and known != maker for known in self._known):
            raise Problem(f"{maker.name} is known here by another key", status=409)
        try:
            await self._writer.write(partial(_take, size=size, line=line.rstrip("\n"), maker=maker, key=verifier_key))
        except StoreAway as error:
            raise Unavailable(f"nothing can be written now: {error}", hint="try again in a moment") from error
        return Cosigned(size, maker.name)

    async def run(self) -> None:
        """Have every new checkpoint cosigned by the witnesses of the settings, until cancelled."""
        while self._settings.cosigner_urls:
            for url in self._settings.cosigner_urls:
                try:
                    await self.ask(url)
                except (httpx.HTTPError, Problem, StoreAway) as error:
                    log.warning("a witness did not cosign", witness=url, reason=str(error) or repr(error))
            await asyncio.sleep(self._settings.checkpoint_interval_seconds)
        # Without witnesses there is nothing to do, and this task must not end: the others would be taken down.
        await asyncio.Event().wait()

    async def ask(self, url: str) -> int:
        """Have the newest checkpoint cosigned by the witness at `url` (its submission prefix). Returns its size.

        Raises `Problem` where the witness refuses or answers with nothing of a known key, `httpx.HTTPError`.
        """
        signed = await self._lookup.ask(checkpoints.last)
        if signed is None or self._sizes.get(url) == signed.size:
            return 0 if signed is None else signed.size
        answer = await self._add(url, signed, self._sizes.get(url, 0))
        if answer.status_code == 409 and answer.headers.get("content-type") == SIZE_TYPE:
            # The witness remembers better than this process how far it has come.
            answer = await self._add(url, signed, _size(answer.text))
        if answer.status_code != 200:
            raise Problem(f"it answered {answer.status_code}: {answer.text[:200]}")
        found = [(line, one) for line in answer.text.splitlines() for one in self._known if _opens(one, line, signed)]
        if not found:
            raise Problem("it answered with no cosignature of a key in AFFIANT_AUDITOR_COSIGNER_KEYS")
        for line, one in found:
            await self._writer.write(partial(_take, size=signed.size, line=line, maker=one, key=_written(one)))
        self._sizes[url] = signed.size
        return signed.size

    async def _add(self, url: str, signed: Signed, old: int) -> httpx.Response:
        """C2SP tlog-witness: the size it knows, the proof from there, an empty line, the checkpoint."""
        if old > signed.size:
            raise Problem(f"it has seen {old} entries, this log has {signed.size}: it was rolled back")
        path = await self._lookup.ask(partial(_path, first=old, second=signed.size))
        lines = [f"old {old}", *[b64encode(step).decode() for step in path], "", signed.note]
        return await self._http.post(f"{url.rstrip('/')}/add-checkpoint", content="\n".join(lines))


def _cosigner(verifier_key: str) -> Cosigner:
    try:
        return cosigner(verifier_key)
    except ValueError as error:
        raise Problem(f"not a cosigner's key: {error}", status=422, hint="https://c2sp.org/tlog-cosignature") from error


def _written(one: Cosigner) -> str:
    return f"{one.name}+{one.key_id.hex()}+{b64encode(bytes([4]) + one.public).decode()}"


def _opens(one: Cosigner, line: str, signed: Signed) -> bool:
    return one.cosigned(line, _text(signed))


def _text(signed: Signed) -> str:
    return signed.note.rpartition("\n\n")[0] + "\n"


def _size(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise Problem(f"it answered with no size: {text[:40]!r}") from error


def _path(connection: Connection, first: int, second: int) -> list[bytes]:
    return proofs.consistency(first, second, reader(connection)) if 0 < first < second else []


def _take(connection: Connection, size: int, line: str, maker: Cosigner, key: str) -> None:
    signed = checkpoints.at(connection, size)
    if signed is None:
        raise NotFound(f"there is no checkpoint over {size} entries", hint="GET /checkpoint is the newest")
    if not _opens(maker, line, signed):
        raise Problem(f"this is not {maker.name}'s cosignature of the checkpoint over {size} entries", status=422)
    if len(cosignatures.of(connection, size)) >= MOST_COSIGNERS:
        raise Problem(f"a checkpoint has at most {MOST_COSIGNERS} cosignatures", status=409)
    cosignatures.add(connection, size, maker.name, line, key.strip(), ids.now())
