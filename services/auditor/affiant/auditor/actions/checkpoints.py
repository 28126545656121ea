"""Signing checkpoints: what the log swears to, at an interval, for everybody to keep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from affiant.auditor.actions import metrics, witness
from affiant.auditor.actions.bucket import Bucket
from affiant.auditor.actions.writer import Writer
from affiant.auditor.log import checkpoint, keys, proofs, tiles
from affiant.auditor.settings import AuditorSettings
from affiant.auditor.store import checkpoints, entries, facts, outbox
from affiant.auditor.store.database import Connection, Standby, StoreAway
from affiant.common import ids, wire
from affiant.common.errors import Problem, Unavailable
from affiant.common.events import CheckpointSigned

log = structlog.get_logger(__name__)

KEY_FILE = "log.key"
VERIFIER_KEY_FILE = "log.vkey"
WITNESS_BATCH = 100


class Checkpoints:
    """Signs the log's head when it has grown; publishes it through the outbox and writes it to the witness folder."""

    def __init__(self, writer: Writer, settings: AuditorSettings, wake: Callable[[], None] = lambda: None) -> None:
        self.fault = ""
        self.unwitnessed = ""
        self._signing = asyncio.Lock()
        self._writer = writer
        self._settings = settings
        self._witness = Path(settings.witness_dir) if settings.witness_dir else None
        self._bucket = Bucket(settings) if settings.witness_url else None
        self._wake = wake
        self._made: checkpoint.Signer | None = None

    async def open(self) -> None:
        """Read the signing key (or make it at the first start) and hold the log against what was sworn before.

        Raises `Problem` when the key is gone, or when the log goes by another name now.
        """
        self._made = await self._writer.write(partial(_signer, settings=self._settings))
        await self.hold()

    async def follow(self) -> None:
        """Know the key of a log that another process writes, once that has given it a name."""
        self._made = await self._writer.read(partial(_known_signer, settings=self._settings))

    async def hold(self) -> str:
        """Hold the log against the newest checkpoints, the store's and the witness's; why it contradicts one, if so.

        From then on nothing is signed until a new start.
        """
        sworn = await asyncio.to_thread(self._sworn_elsewhere)
        found = await self._writer.read(partial(_contradiction, elsewhere=sworn))
        if found and not self.fault:
            self.fault = found
            log.error("this log contradicts its own checkpoints; signing nothing", reason=found)
        return self.fault

    def vouches(self, signed: checkpoints.Signed) -> bool:
        """Whether a stored checkpoint is one that this log's key signed."""
        said = checkpoint.Checkpoint(self._signer.origin, signed.size, signed.root).text()
        return signed.note.startswith(said + "\n") and self._signer.has_signed(signed.note)

    @property
    def verifier_key(self) -> str:
        """The public key, as C2SP signed-note writes it."""
        return self._signer.verifier_key

    @property
    def _signer(self) -> checkpoint.Signer:
        if self._made is None:
            raise Unavailable("the log has no key yet", hint="try again in a moment; GET /readyz says why")
        return self._made

    def _sworn_elsewhere(self) -> str:
        return witness.newest(self._witness) if self._witness else ""

    async def run(self) -> None:
        """Sign at the set interval, until cancelled."""
        while True:
            try:
                await self.sign()
            except StoreAway as reason:
                log.warning("no checkpoint now", reason=str(reason))
            await asyncio.sleep(self._settings.checkpoint_interval_seconds)

    async def sign(self) -> checkpoints.Signed | None:
        """The checkpoint over every entry there is, signed now unless it was already; None for an empty log.

        Nothing is signed that contradicts an older checkpoint (C2SP tlog-checkpoint forbids it), nor by an auditor that
        stands by: then the last good one is answered.
        """
        # Held again each time: what is altered while the auditor runs must not be signed over.
        if await self.hold():
            return await self._writer.read(checkpoints.last)
        async with self._signing:
            try:
                signed = await self._writer.write(partial(_sign, signer=self._signer))
            except Standby:
                return await self._writer.read(checkpoints.last)
            self._wake()
            if self._witness is not None or self._bucket is not None:
                await self._to_witnesses()
        return signed

    async def _to_witnesses(self) -> None:
        """Write what is not there yet; while that fails the auditor is not ready, and tries again."""
        signed = await self._writer.write(lambda connection: checkpoints.unwitnessed(connection, WITNESS_BATCH))
        if not signed:
            return
        try:
            if self._witness is not None:
                await asyncio.to_thread(witness.append, self._witness, signed)
            if self._bucket is not None:
                await self._bucket.append(signed)
        except OSError as error:
            self._note_unwitnessed(str(self._witness), error.strerror or str(error))
            return
        except httpx.HTTPError as error:
            self._note_unwitnessed(self._settings.witness_url, str(error) or type(error).__name__)
            return
        self.unwitnessed = ""
        await self._writer.write(lambda connection: checkpoints.mark_witnessed(connection, signed[-1].size))

    def _note_unwitnessed(self, place: str, why: str) -> None:
        self.unwitnessed = f"checkpoints cannot be written to {place}: {why}"
        log.warning("no witness for a checkpoint", place=place, reason=why)


def head(connection: Connection) -> tuple[int, bytes]:
    """The log's size and root."""
    size = facts.number(connection, facts.SIZE)
    return size, root_at(connection, size)


def root_at(connection: Connection, size: int) -> bytes:
    """The root over the first `size` entries. Raises `tiles.Torn` or `LookupError` when the tiles do not reach."""
    return proofs.root(size, reader(connection))


def reader(connection: Connection) -> tiles.ReadNode:
    """Reads the tree's nodes, each tile once."""
    return tiles.nodes(lru_cache(maxsize=64)(partial(entries.tile, connection)))


def _sign(connection: Connection, signer: checkpoint.Signer) -> checkpoints.Signed | None:
    size, root = head(connection)
    metrics.log_size.set(size)
    last = checkpoints.last(connection)
    if size == 0 or (last is not None and last.size == size):
        return last
    signed = checkpoints.Signed(size, root, signer.sign(size, root), ids.now())
    checkpoints.add(connection, signed)
    event = CheckpointSigned(
        origin=signer.origin, size=size, root=root.hex(), note=signed.note, signed_at=signed.signed_at
    )
    outbox.put(connection, wire.encode(event, owner="auditor"))
    return signed


def _signer(connection: Connection, settings: AuditorSettings) -> checkpoint.Signer:
    """The signer of this log. Origin and key are written down once: a log cannot change its name."""
    signer = _made_signer(connection, settings)
    facts.put(connection, facts.ORIGIN, signer.origin)
    facts.put(connection, facts.VERIFIER_KEY, signer.verifier_key)
    return signer


def _known_signer(connection: Connection, settings: AuditorSettings) -> checkpoint.Signer | None:
    """The signer of a log that has a name already."""
    return _made_signer(connection, settings) if facts.text(connection, facts.ORIGIN) else None


def _made_signer(connection: Connection, settings: AuditorSettings) -> checkpoint.Signer:
    folder = Path(settings.data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    known = facts.text(connection, facts.ORIGIN)
    key = _key(settings, is_new=not known)
    public = key.public_key().public_bytes_raw()
    origin = settings.log_origin or known or f"affiant.local/{sha256(public).hexdigest()[:8]}"
    if known and origin != known:
        raise Problem(f"this log is {known}, not {origin}", status=500, hint="unset AFFIANT_AUDITOR_LOG_ORIGIN")
    signer = checkpoint.Signer(origin, key)
    signed_with = facts.text(connection, facts.VERIFIER_KEY)
    if signed_with and signed_with != signer.verifier_key:
        raise Problem(
            "this log is signed with another key", status=500, hint=f"give every auditor the key {signed_with}"
        )
    (folder / VERIFIER_KEY_FILE).write_text(signer.verifier_key + "\n", encoding="utf-8")
    return signer


def _key(settings: AuditorSettings, *, is_new: bool) -> Ed25519PrivateKey:
    path = Path(settings.signing_key_file or Path(settings.data_dir) / KEY_FILE)
    if path.exists():
        return keys.read_key(path)
    if settings.signing_key_file:
        make = f"openssl genpkey -algorithm ed25519 -out {path.name}"
        raise Problem(
            f"there is no signing key {path}", status=500, hint=f"make one, for every auditor the same: {make}"
        )
    if not is_new:
        # A new key would sign the old log under a name that nobody trusts.
        hint = "restore it from your back-up; several auditors share one by AFFIANT_AUDITOR_SIGNING_KEY_FILE"
        raise Problem(f"the log's signing key {path} is gone", status=500, hint=hint)
    return keys.make_key(path)


def _contradiction(connection: Connection, elsewhere: str) -> str:
    """Why the log cannot be the one that was sworn to before; empty when it can."""
    last = checkpoints.last(connection)
    sworn = [(last.size, last.root, "the store's own checkpoint")] if last else []
    try:
        if elsewhere:
            witnessed = checkpoint.parse(elsewhere)
            sworn.append((witnessed.size, witnessed.root, "the witness folder's checkpoint"))
        size = facts.number(connection, facts.SIZE)
        for sworn_size, root, where in sworn:
            if sworn_size > size:
                return f"{where} is over {sworn_size} entries, the log has {size}: it was rolled back"
            if root_at(connection, sworn_size) != root:
                return f"{where} over {sworn_size} entries has another root: the log was rewritten"
    except (ValueError, LookupError, tiles.Torn) as error:
        return f"the log cannot be held against its checkpoints: {error}"
    return ""
