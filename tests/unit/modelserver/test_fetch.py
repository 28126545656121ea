"""The download of a model into a pod."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from affiant.common.errors import Problem
from affiant.modelserver import fetch
from tests.support.deployer import FakeRegistry

DATA = b"the bytes of a model"
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def registry():  # type: ignore[no-untyped-def]
    made = FakeRegistry("pod-token")
    yield made
    made.close()


def test_the_file_appears_when_its_digest_is_right(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.files[DIGEST] = DATA
    (tmp_path / "token").write_text("pod-token\n")
    target = tmp_path / "model.onnx"
    url = f"{registry.url}/v1/artifacts/{DIGEST}"
    assert fetch.main([url, DIGEST, str(len(DATA)), str(target), str(tmp_path / "token")]) == 0
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(("data", "size"), [(b"other bytes of length", 21), (DATA + b"!", len(DATA))])
def test_other_bytes_never_get_its_name(registry: FakeRegistry, tmp_path: Path, data: bytes, size: int) -> None:
    registry.files[DIGEST] = data
    with pytest.raises(Problem):
        fetch.fetch(f"{registry.url}/v1/artifacts/{DIGEST}", DIGEST, size, tmp_path / "model.onnx", "pod-token")
    assert not (tmp_path / "model.onnx").exists()


def test_a_registry_that_cannot_be_asked_is_asked_again(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)
    url = f"{registry.url}/v1/artifacts/{DIGEST}"
    assert fetch.main([url, DIGEST, str(len(DATA)), str(tmp_path / "model.onnx")]) == 1
    assert registry.fetched == [DIGEST] * fetch.ATTEMPTS
