"""Verifies an audit log of Affiant from outside, with Python and the package `cryptography` and nothing else.

    python affiant_verify.py FOLDER --key log.vkey --witness checkpoint

FOLDER (or a zip of it) is what `affiant export log` wrote, or a dossier. What is checked, from the bytes up:

    payload → leaf → tiles → root → signature     SHA-256(salt || payload) is in the leaf; RFC 6962 for the tree;
                                                  C2SP tlog-tiles, tlog-checkpoint, signed-note and tlog-cosignature
    against checkpoints kept elsewhere            a history that was rewritten or rolled back
    every payload that is not there               an entry of the log must say that it was erased
    the numbers of every model server             which requests never arrived

The first bad entry is named and the rest is checked all the same. Exit code: 0 it holds, 1 it does not, 2 mistyped
or not readable.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import zipfile
from base64 import b64decode
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

HASH = 32
WIDTH = 256
SALT = 16
TILES_PER_TASK = 32
MOST_BYTES = 1 << 30
MOST_FINDINGS = 100
MOST_GAPS = 1_000
UNSTATED = "its payload is not there, and no entry of the log says that it was erased"
ERASURE = "affiant.auditor.payload_erased.v1"
LOGGED = ("affiant.modelserver.prediction_logged.v1", "affiant.outside.prediction_logged.v1")
ENDED = "affiant.modelserver.replica_ended.v1"
OUTSIDE = "outside:"
"""Before the name of an outside system's replica: how those number is no statement of ours."""

ERASED, PRESENT, WITHHELD = 0, 1, 2
"""The first byte of each record in a payload bundle; see `docs/verify.md`."""


class Unreadable(Exception):
    """What was given cannot be read as what it should be."""


# --- notes and keys: https://c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature ------------------------------

ED25519, COSIGNATURE = 1, 4


@dataclass(frozen=True)
class Note:
    """A signed checkpoint: the log `origin` held `size` entries with this root. `signatures`: (name, bytes) each."""

    origin: str
    size: int
    root: bytes
    text: str
    signatures: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Key:
    """A public key with its name; `kind` is `ED25519` for a log's, `COSIGNATURE` for a witness's."""

    name: str
    key_id: bytes
    kind: int
    public: bytes


def read_note(text: str) -> Note:
    """The checkpoint in `text`. Raises `Unreadable`; no signature is checked here."""
    body, separator, rest = text.rpartition("\n\n")
    lines = body.split("\n")
    if not separator or len(lines) < 3 or not lines[0] or not rest.endswith("\n"):
        raise Unreadable("not a signed checkpoint")
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]):
        raise Unreadable(f"a checkpoint's second line is the size of the log, not {lines[1][:40]!r}")
    root = _base64(lines[2])
    if len(root) != HASH:
        raise Unreadable(f"a root hash has {HASH} bytes, not {len(root)}")
    signatures = tuple(_signature(line) for line in rest[:-1].split("\n"))
    return Note(lines[0], int(lines[1]), root, body + "\n", signatures)


def _signature(line: str) -> tuple[str, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—" or not parts[1]:
        raise Unreadable(f"not a signature line: {line[:60]!r}")
    raw = _base64(parts[2])
    if len(raw) < 5:
        raise Unreadable("a signature is cut off")
    return parts[1], raw


def _base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise Unreadable(f"not base64: {text[:60]!r}") from error


def read_key(text: str) -> Key:
    """A verifier key: `<name>+<key id in hex>+<base64 of a type byte and the public key>`. Raises `Unreadable`."""
    parts = text.strip().split("+", 2)
    if len(parts) != 3:
        raise Unreadable(f"not a verifier key: {text.strip()[:60]!r}")
    name, key_id, material = parts[0], parts[1].lower(), _base64(parts[2])
    if len(material) != 33 or material[0] not in (ED25519, COSIGNATURE):
        raise Unreadable(f"the key of {name} is not an Ed25519 key")
    if sha256(name.encode() + b"\n" + material).digest()[:4].hex() != key_id:
        raise Unreadable(f"the key of {name} does not have the id {key_id}")
    return Key(name, bytes.fromhex(key_id), material[0], material[1:])


def signed_by(note: Note, key: Key) -> bool:
    """Whether `key` signed or cosigned the note. Raises `ImportError` where `cryptography` is not installed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for name, raw in note.signatures:
        if name != key.name or raw[:4] != key.key_id:
            continue
        signature, message = raw[4:], note.text
        if key.kind == COSIGNATURE:
            message = f"cosignature/v1\ntime {int.from_bytes(raw[4:12], 'big')}\n{note.text}"
            signature = raw[12:]
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message.encode())
        except InvalidSignature:
            continue
        return True
    return False


# --- the tree: RFC 6962 section 2.1, RFC 9162 section 2.1 ----------------------------------------------------------


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def tree_hash(hashes: bytes) -> bytes:
    """The root over concatenated leaf hashes; at least one."""
    while len(hashes) > HASH:
        whole = len(hashes) // (2 * HASH) * 2 * HASH
        pairs = [sha256(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, whole, 64)]
        hashes = b"".join(pairs) + hashes[whole:]
    return hashes


class Frontier:
    """The roots of the full subtrees of a growing tree, left to right; enough to say its root at every size."""

    def __init__(self) -> None:
        self._whole: list[tuple[int, bytes]] = []

    def push(self, root: bytes) -> None:
        """The root of the next subtree; all of them are of the same size."""
        height = 0
        while self._whole and self._whole[-1][0] == height:
            root = node_hash(self._whole.pop()[1], root)
            height += 1
        self._whole.append((height, root))

    def root(self, rest: bytes = b"") -> bytes:
        """The root, with `rest` as the root of a smaller subtree that follows."""
        hashes = [root for _, root in self._whole] + ([rest] if rest else [])
        if not hashes:
            return sha256(b"").digest()
        whole = hashes.pop()
        while hashes:
            whole = node_hash(hashes.pop(), whole)
        return whole


def includes(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` leads from the leaf hash at `index` to the root of a tree of `size` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, reached = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            reached = node_hash(sibling, reached)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            reached = node_hash(reached, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and reached == root


def consistent(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the tree of `first` entries is the beginning of that of `second` (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    steps = [first_root, *path] if first & (first - 1) == 0 else list(path)
    if not steps:
        return False
    node, last = first - 1, second - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, step)
        node, last = node >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


# --- what is verified: a folder or a zip of one --------------------------------------------------------------------


class Source:
    """The files of a folder, or of a zip, below the place where the checkpoint lies."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._last: tuple[str, bytes | None] = ("", None)
        if Path(path).is_dir():
            self._root = self._place()
        elif zipfile.is_zipfile(path):
            self._zip = zipfile.ZipFile(path)
            names = [name for name in self._zip.namelist() if name.split("/")[-1] == "checkpoint"]
            if not names:
                raise Unreadable(f"{path} holds no checkpoint: it is neither an exported log nor a dossier")
            self._root = min(names, key=len)[: -len("checkpoint")]
        else:
            raise Unreadable(f"{path} is neither a folder nor a zip file")

    def _place(self) -> str:
        for below in ("", "log/"):
            if (Path(self.path) / below / "checkpoint").is_file():
                return below
        raise Unreadable(f"{self.path} holds no checkpoint: it is neither an exported log nor a dossier")

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none."""
        try:
            if self._zip is not None:
                if self._zip.getinfo(self._root + name).file_size > MOST_BYTES:
                    raise Unreadable(f"{name} is larger than any file of an export")
                return self._zip.read(self._root + name)
            return (Path(self.path) / (self._root + name)).read_bytes()
        except (KeyError, FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise Unreadable(f"{name} cannot be read: {error}") from error

    def tile(self, name: str) -> bytes | None:
        """`read`, the last one kept: neighbours ask for the same."""
        if self._last[0] != name:
            self._last = (name, self.read(name))
        return self._last[1]


@lru_cache(maxsize=1)
def _opened(path: str, _process: int) -> Source:
    """One for each process: the place in a zip file would be shared with the process that this one came from."""
    return Source(path)


def tile_path(number: int, width: int = WIDTH) -> str:
    """`<N>[.p/<W>]` of tlog-tiles: 1234067 is x001/x234/067."""
    parts = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        parts.insert(0, f"x{number % 1000:03d}")
    return "/".join(parts) + ("" if width == WIDTH else f".p/{width}")


# --- entries -------------------------------------------------------------------------------------------------------

_STRING = rb'"([^"\\\x00-\x1f]*(?:\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f]))[^"\\\x00-\x1f]*)*)"'
"""A string as RFC 8785 writes it: nothing is escaped that need not be, and only in one way."""
_NAMES = (b"audited_at", b"event_id", b"payload", b"source", b"subject", b"time", b"type")
_LEAF = re.compile(b"{" + b",".join(b'"' + name + b'":' + _STRING for name in _NAMES) + rb',"v":1}')

_PLAIN = rb'"([^"\\]*)"'
_NUMBERED = re.compile(
    rb'{"specversion":"1.0","id":' + _PLAIN + rb',"source":"[^"\\]*","type":' + _PLAIN + rb',"time":"[^"\\]*",'
    rb'"subject":"[^"\\]*","datacontenttype":"application/json","data":{"prediction_id":"[^"\\]*","model":'
    + _PLAIN
    + rb',"version":(?:[0-9]+|null),"digest":"[^"\\]*","received_at":"[^"\\]*","status":"[a-z]+"'
    rb'(?:,"replica":' + _PLAIN + rb')?(?:,"epoch":([0-9]+))?(?:,"sequence":([0-9]+))?[,}]'
)
"""How our model servers write the beginning of a record: read without parsing the rest, which is long."""

Replica = tuple[str, str, int]
"""(model, name, epoch)"""
Run = tuple[int, int]
Stated = tuple[int, Replica, int]
"""(entry that was erased, the replica that numbered it, its number; 0 where it had none)"""


@dataclass
class Finding:
    """Something that is not as it should be; `index` is null where it concerns more than one entry."""

    index: int | None
    said: str


@dataclass
class Part:
    """What became of some tiles: their roots in order, and what was found."""

    low: int
    high: int
    roots: list[bytes] = field(default_factory=list)
    at_sizes: dict[int, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    damaged: int = 0
    present: int = 0
    withheld: int = 0
    erased: list[Run] = field(default_factory=list)
    stated: list[Stated] = field(default_factory=list)
    numbers: dict[Replica, list[Run]] = field(default_factory=dict)
    ends: dict[Replica, int] = field(default_factory=dict)
    bytes: int = 0

    def find(self, index: int | None, said: str) -> None:
        self.damaged += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(index, said))


def check_tiles(path: str, low: int, high: int, frame: Frame) -> Part:
    """Entries `low` to below `high`: whole tiles, the last of the log may be partial."""
    source, part = _opened(path, os.getpid()), Part(low, high)
    for first in range(low, high, WIDTH):
        width = min(WIDTH, high - first)
        try:
            _check_tile(source, part, first, width, frame)
        except Unreadable as reason:
            part.find(first, str(reason))
            part.roots.append(bytes(HASH))
    return part


def _check_tile(source: Source, part: Part, first: int, width: int, frame: Frame) -> None:
    name = tile_path(first // WIDTH, width)
    bundle, tile = source.read(f"tile/entries/{name}"), source.read(f"tile/0/{name}")
    if bundle is None:
        raise Unreadable(f"entries {first} to {first + width - 1} are missing: there is no tile/entries/{name}")
    part.bytes += len(bundle)
    leaves = _leaves(bundle, part, first, width)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    ours = b"".join(hashes)
    root = tree_hash(ours) if ours else bytes(HASH)
    _compare(part, first, width, hashes, tile, root, frame.above(source, first, width))
    part.roots.append(root)
    for size in frame.sizes[bisect_right(frame.sizes, first) :]:
        if size > first + len(hashes):
            break
        part.at_sizes[size] = tree_hash(ours[: (size - first) * HASH])
    _check_payloads(source, part, first, width, leaves, frame)


def _leaves(bundle: bytes, part: Part, first: int, width: int) -> list[bytes]:
    """The entries of a bundle: each after its length in two bytes, big-endian."""
    leaves: list[bytes] = []
    at = 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if end > len(bundle):
            part.find(first + len(leaves), "the bundle of entries is cut off within it, or a length in it is wrong")
            break
        leaves.append(bundle[at + 2 : end])
        at = end
    if len(leaves) != width:
        part.find(None, f"entries {first} to {first + width - 1}: the bundle holds {len(leaves)} of {width}")
    return leaves


def _compare(
    part: Part, first: int, width: int, hashes: list[bytes], tile: bytes | None, root: bytes, above: bytes | None
) -> None:
    """Holds entries, their tile and the tile above against each other: two of them tell which is the third."""
    name = f"tile/0/{tile_path(first // WIDTH, width)}"
    if tile is None:
        part.find(None, f"{name} is missing")
        return
    if len(tile) != width * HASH:
        part.find(None, f"{name} holds {len(tile)} bytes instead of {width * HASH}")
    wrong = [n for n, ours in enumerate(hashes) if tile[n * HASH : (n + 1) * HASH] != ours]
    if not wrong:
        if above is not None and root != above and len(hashes) == width:
            part.find(None, f"entries {first} to {first + width - 1}: the tile above holds another hash for them")
        return
    if above == root:
        part.find(None, f"{name} was altered: {len(wrong)} of its hashes; the entries themselves lead to the root")
        return
    for number in wrong[:MOST_FINDINGS]:
        if hashes[number] == _NOTHING:
            part.find(first + number, "it is missing from the log's store")
        else:
            part.find(first + number, f"its leaf does not have the hash that {name} holds for it")
    part.damaged += max(0, len(wrong) - MOST_FINDINGS)


_NOTHING = leaf_hash(b"")


def _check_payloads(source: Source, part: Part, first: int, width: int, leaves: list[bytes], frame: Frame) -> None:
    name = f"payload/{tile_path(first // WIDTH, width)}"
    data = source.read(name)
    if data is None:
        part.find(None, f"the payloads of entries {first} to {first + width - 1} are missing: there is no {name}")
        return
    part.bytes += len(data)
    view, at = memoryview(data), 0
    for number, leaf in enumerate(leaves):
        index = first + number
        state = data[at] if at < len(data) else -1
        if state == PRESENT:
            begin = at + 5
            end = begin + SALT + int.from_bytes(data[at + 1 : begin], "big")
            if end > len(data):
                part.find(index, f"{name} is cut off within its payload, or a length in it is wrong")
                return
            _check_entry(part, index, leaf, sha256(view[begin:end]).hexdigest(), data, begin + SALT, end)
            at = end
        elif state in (ERASED, WITHHELD):
            _without_payload(part, index, leaf, state, frame)
            at += 1
        else:
            said = "ends before it" if state == -1 else f"is not readable from it on (a record begins with {state})"
            part.find(index, f"{name} {said}")
            return
    if at != len(data):
        part.find(None, f"{name} holds {len(data) - at} bytes more than its {len(leaves)} entries")


def _check_entry(part: Part, index: int, leaf: bytes, digest: str, data: bytes, begin: int, end: int) -> None:
    part.present += 1
    sworn = _LEAF.fullmatch(leaf)
    if sworn is None:
        if leaf:
            part.find(index, "its leaf is not the canonical JSON of an entry (RFC 8785)")
        return
    if sworn[3].decode() != digest:
        part.find(index, "the payload is not the one that was sworn to")
        return
    kind = sworn[7].decode()
    if kind in LOGGED:
        said = _NUMBERED.match(data, begin, end)
        if said is None:
            _slowly(part, index, kind, sworn[2], data[begin:end])
        elif said[1] != sworn[2] or said[2] != sworn[7]:
            part.find(index, "the payload is of another event than the leaf")
        elif said[4] and said[6]:
            _note_number(part, _replica(kind, said[3].decode(), said[4].decode(), int(said[5] or 0)), int(said[6]))
    elif kind == ERASURE:
        _note_erasure(part, index, data[begin:end])
    elif kind == ENDED:
        _note_end(part, index, data[begin:end])


def _note_erasure(part: Part, index: int, body: bytes) -> None:
    try:
        for line in _data(body)["entries"]:
            replica = (str(line.get("model", "")), str(line.get("replica", "")), int(line.get("epoch", 0)))
            part.stated.append((int(line["index"]), replica, int(line.get("sequence", 0))))
    except (Unreadable, KeyError, TypeError, ValueError, AttributeError):
        part.find(index, "it is an erasure that does not say what was erased")


def _note_end(part: Part, index: int, body: bytes) -> None:
    try:
        data = _data(body)
        replica = (str(data["model"]), str(data["replica"]), int(data["epoch"]))
        part.ends[replica] = int(data["last_sequence"])
    except (Unreadable, KeyError, TypeError, ValueError):
        part.find(index, "a server's last words do not say how many requests it numbered")


def _slowly(part: Part, index: int, kind: str, event_id: bytes, body: bytes) -> None:
    """A record that another program wrote: structured in another order, or the bare data."""
    try:
        data, sworn = _data(body), json.loads(b'"' + event_id + b'"')
        model, name, epoch = str(data["model"]), str(data.get("replica", "")), int(data.get("epoch", 0))
        sequence = int(data.get("sequence", 0))
    except (Unreadable, KeyError, TypeError, ValueError):
        part.find(index, "the payload is not the record of a prediction, though the leaf says so")
        return
    if data.get("prediction_id") != sworn:
        part.find(index, "the payload is of another prediction than the leaf")
    elif name and sequence > 0:
        _note_number(part, _replica(kind, model, name, epoch), sequence)


def _data(body: bytes) -> dict[str, Any]:
    """The data of an event: of a structured CloudEvent, or the bare data (binary mode, plain JSON)."""
    try:
        found = json.loads(body)
        data = found["data"] if "specversion" in found and "data" in found else found
    except (ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise Unreadable("not a JSON object")
    return data


def _without_payload(part: Part, index: int, leaf: bytes, state: int, frame: Frame) -> None:
    if leaf and _LEAF.fullmatch(leaf) is None:
        part.find(index, "its leaf is not the canonical JSON of an entry (RFC 8785)")
    if state == WITHHELD:
        part.withheld += 1
        if frame.low <= index < frame.high:
            part.find(index, f"its payload is withheld, though the export says that it holds {frame.said}")
    elif leaf:
        _add(part.erased, index)


def _replica(kind: str, model: str, name: str, epoch: int) -> Replica:
    return model, (name if kind == LOGGED[0] else OUTSIDE + name), epoch


def _note_number(part: Part, replica: Replica, sequence: int) -> None:
    _add(part.numbers.setdefault(replica, []), sequence)


def _add(runs: list[Run], number: int) -> None:
    """Add a number that is most often the next one."""
    if runs and runs[-1][1] + 1 == number:
        runs[-1] = (runs[-1][0], number)
    else:
        runs.append((number, number))


# --- the whole -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """What the workers need to know of the whole: its size, the exported range, sizes whose roots are asked for."""

    size: int
    low: int
    high: int
    sizes: tuple[int, ...] = ()

    @property
    def said(self) -> str:
        return f"entries {self.low} to {self.high - 1}"

    def above(self, source: Source, first: int, width: int) -> bytes | None:
        """What the tile above says of a full tile of entries."""
        return _tile_hash(source, 1, first // WIDTH, self.size) if width == WIDTH else None


def _tile_hash(source: Source, level: int, number: int, size: int) -> bytes | None:
    """Hash `number` of a level of tiles, as the export has it."""
    position, place = divmod(number, WIDTH)
    width = min(WIDTH, (size >> (8 * level)) - position * WIDTH)
    tile = source.tile(f"tile/{level}/{tile_path(position, width)}") if width > 0 else None
    found = tile[place * HASH : (place + 1) * HASH] if tile else b""
    return found if len(found) == HASH else None


@dataclass
class Gap:
    """The numbers `first` to `last` of a replica are not in the log, though later ones are."""

    model: str
    replica: str
    epoch: int
    first: int
    last: int


@dataclass
class Report:
    """What was found. `checked` entries of `size`; `missing` and `doubled` count numbers of our own model servers."""

    ok: bool = True
    origin: str = ""
    size: int = 0
    first: int = 0
    last: int = 0
    checked: int = 0
    erased: int = 0
    withheld: int = 0
    damaged: int = 0
    findings: list[Finding] = field(default_factory=list)
    signature: str = ""
    cosigned_by: list[str] = field(default_factory=list)
    witnessed: int = 0
    replicas: int = 0
    missing: int = 0
    doubled: int = 0
    gaps: list[Gap] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    bytes: int = 0

    def find(self, index: int | None, said: str) -> None:
        self.damaged += 1
        self.findings.append(Finding(index, said))

    def as_json(self) -> dict[str, Any]:
        rate = round(self.checked / self.seconds) if self.seconds else 0
        return asdict(self) | {"entries_per_second": rate}

    def lines(self) -> Iterator[str]:
        """For people."""
        held = f"{self.checked:,} of {self.size:,} entries" if self.checked != self.size else f"{self.size:,} entries"
        yield f"log        {self.origin}"
        rate = self.checked / self.seconds if self.seconds else 0
        yield f"checked    {held} ({self.bytes / 1e6:,.1f} MB) in {self.seconds:.1f} s, {rate:,.0f} entries/s"
        yield f"signature  {self.signature}" + (f"; cosigned by {', '.join(self.cosigned_by)}" * bool(self.cosigned_by))
        if self.witnessed:
            yield f"witness    {self.witnessed:,} checkpoints kept elsewhere were held against it"
        if self.erased or self.withheld:
            yield f"erased     {self.erased:,}" + (
                f"; {self.withheld:,} outside of what was exported" * bool(self.withheld)
            )
        yield f"numbers    {self.missing:,} missing, {self.doubled:,} doubled, of {self.replicas:,} replicas"
        for gap in self.gaps[:20]:
            many = f"{gap.first} to {gap.last}" if gap.first != gap.last else str(gap.first)
            yield f"           {gap.model} {gap.replica} epoch {gap.epoch}: {many} never arrived"
        for warning in self.warnings:
            yield f"! {warning}"
        for finding in self.findings[:20]:
            yield "✗ " + (finding.said if finding.index is None else f"entry {finding.index}: {finding.said}")
        if self.damaged > len(self.findings[:20]):
            yield f"✗ and {self.damaged - len(self.findings[:20]):,} more"
        yield "✓ the log holds" if self.ok else "✗ THE LOG DOES NOT HOLD"


@dataclass(frozen=True)
class Question:
    """What to verify, and against what. Keys are verifier keys as text, notes signed checkpoints as text."""

    path: str
    key: str = ""
    witnesses: tuple[str, ...] = ()
    cosigners: tuple[str, ...] = ()
    consistency: tuple[dict[str, Any], ...] = ()
    complete: bool = False
    older: bool = False
    jobs: int = 0


Progress = Callable[[int, int], None]


def verify(question: Question, progress: Progress = lambda _done, _of: None) -> Report:
    """Everything there is to check. Raises `Unreadable` when there is nothing to begin with."""
    begun, report = time.monotonic(), Report()
    _opened.cache_clear()
    source = Source(question.path)
    raw = source.read("checkpoint") or b""
    try:
        note = read_note(raw.decode())
    except (Unreadable, UnicodeDecodeError) as error:
        raise Unreadable(f"the checkpoint of {question.path} is damaged: {error}") from error
    report.origin, report.size = note.origin, note.size
    key = _check_signatures(report, source, note, question)
    witnesses = _witnesses(report, note, key, question)
    manifest = _manifest(source)
    if manifest is not None:
        _verify_tiles(report, source, note, manifest, witnesses, question, progress)
    elif source.read("entries.jsonl") is not None:
        _verify_single(report, source, note)
        _hold_single(report, note, witnesses, question)
    else:
        raise Unreadable(f"{question.path} has neither an export.json (a log) nor an entries.jsonl (a dossier)")
    report.findings.sort(key=lambda one: (one.index is not None, one.index or 0))
    report.findings = report.findings[:MOST_FINDINGS]
    report.ok = not report.damaged and not (question.complete and (report.missing or report.doubled))
    report.seconds = round(time.monotonic() - begun, 3)
    return report


def _manifest(source: Source) -> dict[str, Any] | None:
    raw = source.read("export.json")
    if raw is None:
        return None
    try:
        found = json.loads(raw)
        if found["format"] != "affiant-log/1":
            raise Unreadable(f"this program reads the format affiant-log/1, not {found['format']!r}")
        return {"first": int(found["first"]), "last": int(found["last"])}
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"export.json is damaged: {error!r}") from error


def _check_signatures(report: Report, source: Source, note: Note, question: Question) -> Key | None:
    own, text = (source.read("log.vkey") or b"").decode(errors="replace").strip(), question.key
    if not text and not own:
        report.signature = "not checked: no key was given and none lies in the export"
        report.find(None, "the checkpoint's signature cannot be checked: give the log's public key with --key")
        return None
    if not text:
        report.warnings.append(
            "the key is the export's own: whoever made it all anew made the key too; give yours with --key"
        )
    try:
        key = read_key(text or own)
        if key.name != note.origin:
            report.find(None, f"the checkpoint is of the log {note.origin}, the key of {key.name}")
        report.signature = "verified" if signed_by(note, key) else "NOT by the log's key"
    except Unreadable as error:
        report.signature = f"not checked: {error}"
        report.find(None, f"the log's key cannot be read: {error}")
        return None
    except ImportError:
        report.signature = "not checked: the package cryptography is not installed"
        report.find(None, "no signature can be checked: pip install cryptography")
        return None
    if report.signature != "verified":
        report.find(None, "the checkpoint is not signed by the log's key")
    for one in question.cosigners:
        cosigner = read_key(one)
        if signed_by(note, cosigner):
            report.cosigned_by.append(cosigner.name)
        else:
            report.find(None, f"the checkpoint is not cosigned by {cosigner.name}")
    return key


def _witnesses(report: Report, note: Note, key: Key | None, question: Question) -> dict[int, bytes]:
    """Sizes and roots of the checkpoints kept elsewhere, those that this log's key signed."""
    roots: dict[int, bytes] = {}
    for text in question.witnesses:
        kept = read_note(text)
        if kept.origin != note.origin:
            report.find(None, f"a checkpoint that was kept elsewhere is of another log: {kept.origin}")
        elif key is not None and not signed_by(kept, key):
            report.find(
                None, f"the checkpoint over {kept.size} entries that was kept elsewhere is not by the log's key"
            )
        elif roots.setdefault(kept.size, kept.root) != kept.root:
            report.find(
                None, f"two checkpoints over {kept.size} entries have different roots: the log lied to somebody"
            )
    report.witnessed = len(roots)
    return roots


def _verify_tiles(
    report: Report,
    source: Source,
    note: Note,
    manifest: dict[str, Any],
    witnesses: dict[int, bytes],
    question: Question,
    progress: Progress,
) -> None:
    report.first, report.last = manifest["first"], manifest["last"]
    if not 0 <= report.first < report.last <= note.size:
        report.find(None, f"export.json speaks of entries {report.first} to {report.last} in a log of {note.size}")
        report.first, report.last = 0, note.size
    later = [size for size in witnesses if size > note.size]
    if later and not question.older:
        report.find(
            None,
            f"a checkpoint over {max(later)} entries was kept elsewhere, this log ends after {note.size}: "
            "it was rolled back (or exported before that: say so with --older)",
        )
    sizes = {size: root for size, root in witnesses.items() if 0 < size <= note.size}
    walk = _Walk(report, source, note, sizes, question)
    walk.all(progress)
    _check_completeness(report, walk.numbers)


class _Walk:
    """One way through the tiles of a log, from the first to the last."""

    def __init__(self, report: Report, source: Source, note: Note, sizes: dict[int, bytes], question: Question) -> None:
        self.numbers: dict[Replica, Numbers] = {}
        self._report = report
        self._source = source
        self._note = note
        self._sizes = sizes
        self._question = question
        self._frontier = Frontier()
        self._level: list[bytes] = []
        self._erased: list[Run] = []
        self._stated: list[Stated] = []
        # Whole tiles around the range; what lies outside is believed from the tiles above, and the root shows it.
        self._low = report.first // WIDTH * WIDTH
        self._high = min(-(-report.last // WIDTH) * WIDTH, note.size)
        self._frame = Frame(note.size, report.first, report.last, tuple(sorted(sizes)))

    def all(self, progress: Progress) -> None:
        self._outside(0, self._low)
        for part in self._parts():
            self._take(part)
            progress(part.high - self._low, self._high - self._low)
        self._outside(self._high, self._note.size)
        root = self._frontier.root(self._rest)
        if root != self._note.root:
            self._report.find(None, f"the entries do not lead to the root signed over {self._note.size} entries")
        self._check_upper_tiles()
        self._check_erasures()

    _rest = b""

    def _outside(self, low: int, high: int) -> None:
        """Hashes of whole tiles that were not exported, and of the log's last, partial one."""
        for first in range(low, high, WIDTH):
            if first + WIDTH <= high:
                found = _tile_hash(self._source, 1, first // WIDTH, self._note.size)
                self._push(found or bytes(HASH), first)
            else:
                name = tile_path(first // WIDTH, high - first)
                self._rest = tree_hash(self._source.read(f"tile/0/{name}") or bytes(HASH))

    def _push(self, root: bytes, first: int) -> None:
        if first in self._sizes:
            self._hold(first, self._frontier.root())
        self._frontier.push(root)
        self._level.append(root)

    def _parts(self) -> Iterator[Part]:
        step = TILES_PER_TASK * WIDTH
        tasks = [(low, min(low + step, self._high)) for low in range(self._low, self._high, step)]
        jobs = min(self._question.jobs or os.cpu_count() or 1, len(tasks))
        if jobs <= 1:
            for low, high in tasks:
                yield check_tiles(self._question.path, low, high, self._part(low, high))
            return
        with ProcessPoolExecutor(jobs) as pool:
            running: deque[Future[Part]] = deque()
            waiting = iter(tasks)
            try:
                for low, high in waiting:
                    running.append(pool.submit(check_tiles, self._question.path, low, high, self._part(low, high)))
                    # As many at once as keep everybody busy: the answers of ten million entries do not pile up.
                    if len(running) >= 3 * jobs:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for one in running:
                    one.cancel()

    def _part(self, low: int, high: int) -> Frame:
        """What the checking of a part needs to know: of years of checkpoints only its own."""
        sizes = self._frame.sizes
        return replace(self._frame, sizes=sizes[bisect_right(sizes, low) : bisect_right(sizes, high)])

    def _take(self, part: Part) -> None:
        report = self._report
        report.findings += part.findings[: max(0, MOST_FINDINGS - len(report.findings))]
        report.damaged += part.damaged
        report.checked += part.present + part.withheld + sum(last - first + 1 for first, last in part.erased)
        report.withheld += part.withheld
        report.bytes += part.bytes
        for number, root in enumerate(part.roots):
            first = part.low + number * WIDTH
            inside = {size: there for size, there in part.at_sizes.items() if first < size < first + WIDTH}
            for size, there in inside.items():
                self._hold(size, self._frontier.root(there))
            if first + WIDTH <= self._note.size:
                self._push(root, first)
            else:
                if first in self._sizes:
                    self._hold(first, self._frontier.root())
                self._rest = root
        for run in part.erased:
            _join(self._erased, run)
        self._stated += part.stated
        for replica, runs in part.numbers.items():
            self.numbers.setdefault(replica, Numbers()).add(runs)
        for replica, end in part.ends.items():
            self.numbers.setdefault(replica, Numbers()).end = end

    def _hold(self, size: int, root: bytes) -> None:
        if self._sizes.pop(size) != root:
            self._report.find(
                None, f"the root over the first {size} entries is not that of the checkpoint kept elsewhere: rewritten"
            )

    def _check_upper_tiles(self) -> None:
        """The size itself may be a checkpoint's too; then every tile above the entries' own."""
        for size in list(self._sizes):
            if size == self._note.size:
                self._hold(size, self._frontier.root(self._rest))
            else:
                self._sizes.pop(size)
                self._report.warnings.append(
                    f"the checkpoint over {size} entries ends outside of what was exported: not held against it"
                )
        level, hashes = 1, self._level
        while hashes:
            above = []
            for position in range(0, len(hashes), WIDTH):
                ours = b"".join(hashes[position : position + WIDTH])
                name = f"tile/{level}/{tile_path(position // WIDTH, len(ours) // HASH)}"
                found = self._source.read(name)
                if found != ours:
                    said = "is missing" if found is None else "was altered: it is not what the entries lead to"
                    self._report.find(None, f"{name} {said}")
                if len(ours) == WIDTH * HASH:
                    above.append(tree_hash(ours))
            level, hashes = level + 1, above

    def _check_erasures(self) -> None:
        """A payload that is not there must have been erased by an entry of the log, which says by whom and why."""
        if self._source.read("entries.jsonl") is not None:
            self._stated += _verify_single(self._report, self._source, self._note, counted=False)
        erased, known = Numbers(self._erased), Numbers()
        for index, replica, number in sorted(self._stated):
            if number > 0 and erased.covers(index, index) and not known.covers(index, index):
                self.numbers.setdefault(replica, Numbers()).add([(number, number)])
            known.add([(index, index)])
        for first, last in self._erased:
            self._report.erased += last - first + 1
            for index in range(first, last + 1) if not known.covers(first, last) else ():
                if not known.covers(index, index):
                    self._report.find(index, UNSTATED)


def _join(runs: list[Run], run: Run) -> None:
    if runs and runs[-1][1] + 1 == run[0]:
        runs[-1] = (runs[-1][0], run[1])
    else:
        runs.append(run)


class Numbers:
    """A set of numbers as runs without a gap; counts those that came twice."""

    def __init__(self, runs: Sequence[Run] = ()) -> None:
        self.runs: list[Run] = list(runs)
        self.doubled = 0
        self.end = 0

    def add(self, runs: Iterable[Run]) -> None:
        for run in runs:
            if not self.runs or run[0] > self.runs[-1][1]:
                _join(self.runs, run)
            else:
                self._merge(*run)

    def _merge(self, first: int, last: int) -> None:
        begin = bisect_right(self.runs, (first, sys.maxsize)) - 1
        begin = begin if begin >= 0 and self.runs[begin][1] + 1 >= first else begin + 1
        end = begin
        while end < len(self.runs) and self.runs[end][0] <= last + 1:
            low, high = self.runs[end]
            self.doubled += max(0, min(high, last) - max(low, first) + 1)
            end += 1
        touched = [(first, last), *self.runs[begin:end]]
        self.runs[begin:end] = [(min(one[0] for one in touched), max(one[1] for one in touched))]

    def covers(self, first: int, last: int) -> bool:
        """Whether every number from `first` to `last` is in the set."""
        place = bisect_right(self.runs, (first, sys.maxsize)) - 1
        return place >= 0 and self.runs[place][0] <= first and last <= self.runs[place][1]

    def gaps(self) -> Iterator[Run]:
        """What is missing before and between the runs, and up to `end` where it is known; numbers begin at 1."""
        expected = 1
        for first, last in self.runs:
            if first > expected:
                yield expected, first - 1
            expected = last + 1
        if self.end >= expected:
            yield expected, self.end


def _check_completeness(report: Report, numbers: dict[Replica, Numbers]) -> None:
    """Of a part of the log nothing can be said: what is missing from it may be in the rest."""
    if (report.first, report.last) != (0, report.size):
        report.warnings.append("of a part of the log nothing can be said about missing numbers")
        return
    for (model, replica, epoch), held in sorted(numbers.items()):
        if replica.startswith(OUTSIDE):
            continue
        report.replicas += 1
        report.doubled += held.doubled
        for first, last in held.gaps():
            report.missing += last - first + 1
            if len(report.gaps) < MOST_GAPS:
                report.gaps.append(Gap(model, replica, epoch, first, last))


# --- single entries, each with its proof: a dossier ----------------------------------------------------------------


def _verify_single(report: Report, source: Source, note: Note, *, counted: bool = True) -> list[Stated]:
    """Every line of entries.jsonl; returns what the erasures among them state."""
    part, places = Part(0, 0), []
    for number, line in enumerate((source.read("entries.jsonl") or b"").splitlines()):
        try:
            index, leaf, body = _single(part, json.loads(line), note)
            places.append(index)
            if body is None and leaf:
                part.erased.append((index, index))
        except (ValueError, KeyError, TypeError, Unreadable) as error:
            part.find(None, f"line {number + 1} of entries.jsonl cannot be read: {error!r}")
    if counted:
        report.checked += len(places)
        report.first, report.last = min(places, default=0), max(places, default=-1) + 1
        _state_erased(report, part)
        if not places:
            report.find(None, "entries.jsonl holds no entry")
    report.findings += part.findings
    report.damaged += part.damaged
    report.bytes += part.bytes
    return part.stated


def _single(part: Part, found: dict[str, Any], note: Note) -> tuple[int, bytes, bytes | None]:
    index, leaf = int(found["index"]), str(found["leaf"]).encode()
    path = [bytes.fromhex(step) for step in found["proof"]]
    if not includes(leaf_hash(leaf), index, note.size, path, note.root):
        part.find(index, f"its proof does not lead to the root signed over {note.size} entries")
    if found.get("body") is None or found.get("salt") is None:
        return index, leaf, None
    body, salt = b64decode(found["body"], validate=True), bytes.fromhex(found["salt"])
    part.bytes += len(leaf) + len(body)
    _check_entry(part, index, leaf, sha256(salt + body).hexdigest(), body, 0, len(body))
    return index, leaf, body


def _state_erased(report: Report, part: Part) -> None:
    stated = {index for index, _, _ in part.stated}
    for index, _ in part.erased:
        report.erased += 1
        if index not in stated:
            part.find(index, UNSTATED)


def _hold_single(report: Report, note: Note, witnesses: dict[int, bytes], question: Question) -> None:
    """A dossier's checkpoint against one kept elsewhere: the same size, or a consistency proof between the two."""
    for size, root in witnesses.items():
        first, second = sorted((size, note.size))
        roots = {size: root, note.size: note.root}
        proofs = [one for one in question.consistency if (one.get("first"), one.get("second")) == (first, second)]
        if size == note.size:
            holds = root == note.root
        elif proofs:
            path = [bytes.fromhex(step) for step in proofs[0]["proof"]]
            holds = consistent(first, second, roots[first], roots[second], path)
        else:
            report.warnings.append(
                f"the checkpoint over {size} entries needs a proof: affiant proof --from {first} --to {second}"
            )
            continue
        if not holds:
            report.find(None, f"the checkpoint is not of the same history as that over {size} entries, kept elsewhere")


# --- the command ---------------------------------------------------------------------------------------------------


def read_witness(place: str) -> list[str]:
    """The checkpoints at `place`: a file with one, or a witness folder (`checkpoint`, `<day>.jsonl`)."""
    path = Path(place)
    try:
        if not path.is_dir():
            return [path.read_text(encoding="utf-8")]
        notes = [
            json.loads(line)["note"] for day in sorted(path.glob("*.jsonl")) for line in day.open(encoding="utf-8")
        ]
        newest = path / "checkpoint"
        notes += [newest.read_text(encoding="utf-8")] if newest.exists() else []
    except (OSError, ValueError, KeyError) as error:
        raise Unreadable(f"cannot read the checkpoints in {place}: {error}") from error
    if not notes:
        raise Unreadable(f"there is no checkpoint in {place}")
    return list(dict.fromkeys(notes))


def read_text(place: str) -> str:
    """A key as it was given: in a file, or itself."""
    try:
        return Path(place).read_text(encoding="utf-8") if Path(place).is_file() else place
    except OSError as error:
        raise Unreadable(f"cannot read {place}: {error.strerror}") from error


def question(
    path: str, key: str, witnesses: Sequence[str], cosigners: Sequence[str], consistency: Sequence[str], **rest: Any
) -> Question:
    """The question with everything read that is named. Raises `Unreadable`."""
    notes = [note for place in witnesses for note in read_witness(place)]
    try:
        proofs = tuple(json.loads(Path(place).read_text(encoding="utf-8")) for place in consistency)
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot read a consistency proof: {error}") from error
    keys = tuple(read_text(one) for one in cosigners)
    return Question(path, read_text(key) if key else "", tuple(notes), keys, proofs, **rest)


def tell_progress(done: int, of: int) -> None:
    """One line on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done:,} of {of:,} entries", end="\n" if done >= of else "", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="affiant_verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", metavar="FOLDER", help="an exported log or a dossier; a zip of one")
    parser.add_argument("--key", default="", help="the log's public key (log.vkey), got on another way than FOLDER")
    parser.add_argument(
        "--witness", action="append", default=[], help="a checkpoint kept elsewhere, or a folder of them"
    )
    parser.add_argument(
        "--require-cosigner", action="append", default=[], help="the public key of who must have cosigned"
    )
    parser.add_argument(
        "--consistency", action="append", default=[], help="what affiant proof --from --to -o json gave"
    )
    parser.add_argument("--complete", action="store_true", help="fail also where numbers are missing or doubled")
    parser.add_argument("--older", action="store_true", help="FOLDER is known to be older than the witness's newest")
    parser.add_argument("--jobs", type=int, default=0, help="processes; as many as there are processors by default")
    parser.add_argument("--output", "-o", choices=["text", "json"], default="text")
    given = parser.parse_args(arguments)
    try:
        asked = question(
            given.path, given.key, given.witness, given.require_cosigner, given.consistency,
            complete=given.complete, older=given.older, jobs=given.jobs,
        )  # fmt: skip
        report = verify(asked, tell_progress)
    except Unreadable as error:
        print(json.dumps({"ok": False, "error": str(error)}) if given.output == "json" else f"✗ {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    print(
        json.dumps(report.as_json(), indent=1, ensure_ascii=False)
        if given.output == "json"
        else "\n".join(report.lines())
    )
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
