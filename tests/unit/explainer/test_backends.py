"""What the explainer asks of the registry and the auditor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from affiant.common.errors import NotFound, Problem, Unavailable
from affiant.explainer.backends.artifacts import RegistryArtifacts
from affiant.explainer.backends.records import AuditorRecords
from tests.unit.explainer.examples import SPEC, record

MODEL, BACKGROUND = b"a model", b"a background"
STORED = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in (MODEL, BACKGROUND)}
DIGESTS = list(STORED)
KNOWN = msgspec.structs.replace(SPEC, digest=DIGESTS[0], background_digest=DIGESTS[1])


def client(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url="http://other", transport=httpx.MockTransport(answer))


def serve(request: httpx.Request) -> httpx.Response:
    digest = request.url.path.rsplit("/", 1)[1]
    return httpx.Response(200, content=STORED[digest]) if digest in STORED else httpx.Response(404)


def away(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


async def test_artifacts_are_fetched_once_and_found_again_without_the_registry(tmp_path: Path) -> None:
    found = await RegistryArtifacts(client(serve), tmp_path).files(KNOWN)
    assert (found.model.read_bytes(), found.background.read_bytes()) == (MODEL, BACKGROUND)
    assert await RegistryArtifacts(client(away), tmp_path).files(KNOWN) == found


async def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    artifacts = RegistryArtifacts(client(serve), tmp_path)
    found = await artifacts.files(KNOWN)
    found.model.write_bytes(b"something else")
    assert (await artifacts.files(KNOWN)).model.read_bytes() == MODEL


async def test_other_bytes_than_the_digest_says_are_refused(tmp_path: Path) -> None:
    artifacts = RegistryArtifacts(client(lambda _: httpx.Response(200, content=b"other")), tmp_path)
    with pytest.raises(Problem, match="has the digest"):
        await artifacts.files(KNOWN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [(away, Unavailable), (lambda _: httpx.Response(500), Unavailable), (lambda _: httpx.Response(404), NotFound)],
)
async def test_what_the_registry_cannot_give_now_is_told_from_what_it_does_not_have(
    answer: Callable[[httpx.Request], httpx.Response], error: type[Problem], tmp_path: Path
) -> None:
    with pytest.raises(error):
        await RegistryArtifacts(client(answer), tmp_path).files(KNOWN)


async def test_a_digest_cannot_be_used_as_a_path(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(KNOWN, digest="sha256:../../secret")
    with pytest.raises(Problem, match="is not a digest"):
        await RegistryArtifacts(client(serve), tmp_path).files(spec)


async def test_a_version_without_a_background_has_no_files(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(KNOWN, background_digest=None)
    with pytest.raises(Problem, match="registered without a background"):
        await RegistryArtifacts(client(serve), tmp_path).files(spec)


async def test_the_auditor_gives_the_record_and_what_else_it_says_is_ignored() -> None:
    known = record([True])
    body = msgspec.json.encode({"record": known, "leaf_hash": "00", "explanations": []})
    records = AuditorRecords(client(lambda _: httpx.Response(200, content=body)))
    assert await records.record(known.prediction_id) == known


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (away, Unavailable),
        (lambda _: httpx.Response(404), NotFound),
        (lambda _: httpx.Response(401), Unavailable),
        (lambda _: httpx.Response(200, content=b"{}"), Unavailable),
        (lambda _: httpx.Response(200, content=b'{"record": null}'), NotFound),
    ],
)
async def test_a_record_that_the_auditor_cannot_give_is_told_with_a_hint(
    answer: Callable[[httpx.Request], httpx.Response], error: type[Problem]
) -> None:
    with pytest.raises(error) as told:
        await AuditorRecords(client(answer)).record("../queue?x=1")
    assert told.value.message
