"""The committed contracts are what the code says, and old messages parse for ever."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from affiant.common import contracts, wire
from affiant.common.events import BY_TYPE
from tests.support import node

DOCS = Path(__file__).parents[2] / "docs" / "contracts"
EXAMPLES = sorted((DOCS / "examples").glob("*.json"))


def test_the_committed_contracts_are_fresh() -> None:
    assert contracts.stale(DOCS) == [], "run `make contracts` and commit what it writes"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_old_example_message_still_parses(path: Path) -> None:
    document = json.loads(path.read_text())
    subject = document["type"] + (".loan" if BY_TYPE[document["type"]].per_model else "")
    envelope = wire.decode(subject, path.read_bytes(), {"content-type": wire.CONTENT_TYPE})
    assert type(envelope.event) is BY_TYPE[document["type"]]


def test_every_event_has_an_example_message() -> None:
    assert set(BY_TYPE) <= {json.loads(path.read_text())["type"] for path in EXAMPLES}


def test_a_leftover_schema_is_named(tmp_path: Path) -> None:
    contracts.write(tmp_path)
    (tmp_path / "schemas" / "affiant.registry.old.v1.json").write_text("{}")
    assert contracts.stale(tmp_path) == ["schemas/affiant.registry.old.v1.json is left over"]


def test_the_asyncapi_document_has_no_error_in_the_eyes_of_its_own_parser() -> None:
    folder = node.installed(Path(__file__).parent / "asyncapi")
    command = [shutil.which("node") or "node", "check.mjs", str(DOCS / contracts.ASYNCAPI)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"0 errors, {len(BY_TYPE)} channels" in result.stdout
