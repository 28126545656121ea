"""Proving that an entry is in the log."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial

import structlog

from affiant.auditor.actions import sworn
from affiant.auditor.actions.checkpoints import Checkpoints, reader
from affiant.auditor.actions.look import Lookup, data_of
from affiant.auditor.actions.sworn import ADVICE, altered, leaf_of
from affiant.auditor.domain.views import ConsistencyProof, EntryProof, PredictionView, Proof
from affiant.auditor.log import proofs
from affiant.auditor.log.hashing import leaf_hash
from affiant.auditor.store import checkpoints, cosignatures, entries, facts
from affiant.auditor.store.database import Connection, StoreAway
from affiant.common.errors import NotFound, Problem, Unavailable

log = structlog.get_logger(__name__)


class Prover:
    """Makes proofs against signed checkpoints."""

    def __init__(self, lookup: Lookup, signing: Checkpoints) -> None:
        self._lookup = lookup
        self._signing = signing

    async def checkpoint(self, *, cosigned: bool = False) -> str:
        """The newest checkpoint as a signed note, with its cosignatures; with `cosigned` the newest that has any.

        It is signed now where there is none. Raises `NotFound` while the log is empty, or nothing was cosigned.
        """
        if cosigned:
            signed = await self._lookup.ask(cosignatures.newest)
            if signed is None:
                raise NotFound("nobody has cosigned a checkpoint yet", hint="affiant cosign --help")
        else:
            signed = await self._lookup.ask(checkpoints.last) or await self._sign()
        if signed is None:
            raise NotFound("the log is empty: there is nothing to sign yet")
        lines = await self._lookup.ask(partial(cosignatures.of, size=signed.size))
        return signed.note + "".join(f"{line}\n" for line in lines)

    async def prediction(self, prediction_id: str) -> PredictionView:
        """Everything known of one prediction, with its proof."""
        found = await self._lookup.prediction(prediction_id)
        entry = found.entry
        return PredictionView(
            record=data_of(entry),
            source=entry.source,
            event_id=entry.event_id,
            audited_at=entry.audited_at,
            index=entry.idx,
            leaf_hash=leaf_hash(leaf_of(entry)).hex(),
            explanations=found.explanations,
            lineage=found.lineage,
            outcomes=found.outcomes,
            overrides=found.overrides,
            proof=await self._prove(entry),
            erased=found.erased,
        )

    async def proof(self, prediction_id: str) -> Proof:
        """The inclusion proof of a prediction."""
        return await self._prove((await self._lookup.prediction(prediction_id)).entry)

    async def entry(self, index: int, size: int) -> EntryProof:
        """One entry of the log with its proof in the log of `size` entries. Raises `NotFound`; altered ones too."""
        return await self._lookup.ask(lambda connection: _entry(connection, index, size))

    async def prove_all(self, indexes: Sequence[int]) -> list[Proof]:
        """Inclusion proofs of these entries, all of them against one checkpoint. Raises `Problem` where one is gone."""
        if not indexes:
            return []
        signed = await self._covering(max(indexes))
        return await self._lookup.ask(
            lambda connection: [self._proof(connection, entry, signed) for entry in _whole(connection, indexes)]
        )

    async def consistency(self, first: int, second: int | None) -> ConsistencyProof:
        """The proof that the log of `first` entries is the beginning of that of `second`; of all, where none is given.

        Raises `Problem` for sizes that no consistency proof can be about.
        """
        return await self._lookup.ask(lambda connection: _consistency(connection, first, second))

    async def _prove(self, entry: entries.Entry) -> Proof:
        signed = await self._covering(entry.idx)
        return await self._lookup.ask(lambda connection: self._proof(connection, entry, signed))

    async def _covering(self, index: int) -> checkpoints.Signed:
        """A checkpoint over the entry at `index`, one that the log's key signed."""
        signed = await self._lookup.ask(checkpoints.last)
        if signed is None or signed.size <= index:
            # The newest entries are not under a checkpoint yet; nobody has to wait for the interval.
            signed = await self._sign()
        if signed is None or signed.size <= index:
            raise Unavailable("no checkpoint can be signed over this entry", hint="GET /readyz says why")
        if not self._signing.vouches(signed):
            words = f"the checkpoint over {signed.size} entries was altered: its signature is not the log's"
            log.error("a checkpoint was altered", size=signed.size)
            raise Problem(words, status=500, hint=ADVICE)
        return signed

    async def _sign(self) -> checkpoints.Signed | None:
        try:
            return await self._signing.sign()
        except StoreAway as error:
            raise Unavailable(f"no checkpoint can be signed now: {error}", hint="try again in a moment") from error

    def _proof(self, connection: Connection, entry: entries.Entry, signed: checkpoints.Signed) -> Proof:
        leaf = leaf_of(entry)
        path = proofs.inclusion(entry.idx, signed.size, reader(connection))
        if proofs.climb(entry.idx, signed.size, leaf_hash(leaf), path) != signed.root:
            raise altered(entry.idx, f"the tree does not lead from it to the root signed over {signed.size} entries")
        return Proof(
            index=entry.idx,
            size=signed.size,
            leaf=leaf.decode(),
            leaf_hash=leaf_hash(leaf).hex(),
            path=[step.hex() for step in path],
            root=signed.root.hex(),
            checkpoint=signed.note,
            verifier_key=self._signing.verifier_key,
            salt=None if entry.salt is None else entry.salt.hex(),
            payload=None if entry.body is None else base64.b64encode(entry.body).decode(),
        )


def _entry(connection: Connection, index: int, size: int) -> EntryProof:
    if not 0 <= index < size <= facts.number(connection, facts.SIZE):
        raise NotFound(f"a log of {size} entries has no entry {index}")
    for entry in entries.of(connection, [index]):
        sworn.check(connection, entry)
        return EntryProof(
            index=index,
            size=size,
            leaf=leaf_of(entry).decode(),
            salt=None if entry.salt is None else entry.salt.hex(),
            body=None if entry.body is None else base64.b64encode(entry.body).decode(),
            proof=[step.hex() for step in proofs.inclusion(index, size, reader(connection))],
        )
    raise altered(index, sworn.REMOVED)


def _whole(connection: Connection, indexes: Sequence[int]) -> list[entries.Entry]:
    found = entries.of(connection, indexes)
    if gone := set(indexes) - {entry.idx for entry in found}:
        raise altered(min(gone), sworn.REMOVED)
    return found


def _consistency(connection: Connection, first: int, second: int | None) -> ConsistencyProof:
    size = facts.number(connection, facts.SIZE)
    second = size if second is None else second
    if not 0 < first <= second <= size:
        raise Problem(f"no proof leads from {first} to {second} entries", hint=f"0 < first <= second <= {size}")
    node = reader(connection)
    path = proofs.consistency(first, second, node)
    roots = proofs.root(first, node).hex(), proofs.root(second, node).hex()
    return ConsistencyProof(first, second, *roots, [step.hex() for step in path])
