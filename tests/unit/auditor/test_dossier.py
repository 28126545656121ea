"""The dossier of one decision: gathered by the auditor, written by the command line, accepted by the verifier."""

from __future__ import annotations

import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from affiant.auditor.actions.dossier import Dossiers
from affiant.auditor.actions.rebuild import Rebuilder
from affiant.cli.dossier import bundle
from affiant.common.errors import Conflict, NotFound
from affiant.common.events import Anchor, Check, Shap, ShapValue
from affiant.verify import program
from tests.unit.auditor import examples
from tests.unit.auditor.exported import eraser
from tests.unit.auditor.test_answers import Auditor, opened
from tests.unit.auditor.test_story import MONDAY, TUESDAY, deployed, promoted, told
from tests.unit.auditor.test_testimony import outcome, override, telling

pytestmark = pytest.mark.anyio

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(1)> \u202eevil\x00"


@pytest.fixture
async def auditor(tmp_path: Path) -> AsyncIterator[Auditor]:
    auditor = await opened(tmp_path)
    yield auditor
    auditor.writer.close()


async def decided(auditor: Auditor, race: str = "black", **fields: Any) -> str:
    """A denied application with everything that there can be around it; its id."""
    registered = changed(examples.registered(1), registered_at=f"{MONDAY}T09:00:00.000000Z")
    registered = changed(registered, checks=[Check(name="operators", passed=True, detail="all allowed")])
    await told(auditor, registered, promoted(1, f"{MONDAY}T10:00:00.000000Z", reason="checked by hand"))
    await told(auditor, deployed(1, f"{MONDAY}T10:00:05.000000Z", "r1"))
    noon = f"{MONDAY}T12:00:00.000000Z"
    others = [examples.prediction(n, received_at=noon, adverse=n % 3 == 0) for n in range(1, 9)]
    event = examples.prediction(9, race=race, adverse=True, received_at=noon, subject_ref="applicant 4711", **fields)
    await auditor.keep(*others, event)
    anchor = Anchor(
        clauses=["age <= 30"],
        precision=0.97,
        coverage=0.21,
        threshold=0.95,
        success=True,
        sentence="Denied: age <= 30.",
    )
    values = [ShapValue(column="age", value=30.0, shap=-0.2), ShapValue(column=HOSTILE, value=race, shap=0.05)]
    shap = Shap(baseline=0.6, output=0.45, values=values, additivity_error=1e-9, estimator="exact")
    explained = changed(examples.explained(event.prediction_id), anchor=anchor, shap=shap, warnings=[HOSTILE])
    await auditor.keep(explained)
    await told(auditor, changed(examples.registered(2), registered_at=f"{TUESDAY}T09:00:00.000000Z"))
    await told(auditor, promoted(2, f"{TUESDAY}T10:00:00.000000Z", by="zacharias"))
    depositions, _ = telling(auditor)
    await depositions.tell([outcome(event.prediction_id, "no"), outcome(event.prediction_id, "yes")])
    await depositions.tell([override(event.prediction_id, reason="payslips " + HOSTILE)])
    return event.prediction_id


async def made(auditor: Auditor, prediction_id: str) -> dict[str, Any]:
    """The auditor's answer, as it comes over HTTP."""
    found = await Dossiers(auditor.lookup, auditor.prover, auditor.measure).make(prediction_id)
    return json.loads(json.dumps(asdict(found)))  # type: ignore[no-any-return]


async def test_a_dossier_tells_what_stood_at_that_moment_and_not_what_stands_today(auditor: Auditor) -> None:
    found = await made(auditor, await decided(auditor))
    (champion,) = found["standing"]["aliases"]
    assert (champion["version"], champion["approved_by"], champion["reason"]) == (1, "ben", "checked by hand")
    assert found["completeness"]["day"] == MONDAY and found["completeness"]["complete"]
    assert {one["column"] for one in found["fairness"]} == {"race", "age"}
    page = bundle.files(found, "here")["index.html"]
    assert "checked by hand" in page
    assert "zacharias" not in page


async def test_the_verifier_accepts_it_alone_as_a_folder_and_as_a_zip(auditor: Auditor, tmp_path: Path) -> None:
    files = bundle.files(await made(auditor, await decided(auditor)), "here")
    for place in (tmp_path / "dossier", tmp_path / "dossier.zip"):
        bundle.write(files, place)
        report = program.verify(program.Question(str(place)))
        assert report.ok, report
    assert (tmp_path / "dossier" / "index.html").read_text() == files["index.html"]
    with zipfile.ZipFile(tmp_path / "dossier.zip") as packed:
        assert set(packed.namelist()) == set(files)


async def test_a_changed_word_in_it_does_not_verify(auditor: Auditor, tmp_path: Path) -> None:
    files = bundle.files(await made(auditor, await decided(auditor)), "here")
    line = json.loads(files["log/entries.jsonl"].splitlines()[-1])
    line["body"] = line["body"][:-8] + "AAAAAA=="
    lines = [*files["log/entries.jsonl"].splitlines()[:-1], json.dumps(line)]
    bundle.write(files | {"log/entries.jsonl": "\n".join(lines) + "\n"}, tmp_path / "dossier")
    assert not program.verify(program.Question(str(tmp_path / "dossier"))).ok


async def test_every_statement_has_an_entry_with_a_proof(auditor: Auditor) -> None:
    found = await made(auditor, await decided(auditor))
    proven = {one["index"] for one in found["entries"]}
    p = found["prediction"]
    lines = [*p["explanations"], *p["lineage"], *p["outcomes"], *p["overrides"]]
    assert {p["index"], *(line["index"] for line in lines)} <= proven
    assert {one["checkpoint"] for one in found["entries"]} == {found["entries"][0]["checkpoint"]}


class Seen(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


async def test_nothing_that_was_sent_becomes_markup_and_nothing_is_loaded(auditor: Auditor) -> None:
    hostile = {"request_id": HOSTILE, "runtime": HOSTILE, "error": HOSTILE}
    page = bundle.files(await made(auditor, await decided(auditor, race=HOSTILE, **hostile)), HOSTILE)["index.html"]
    seen = Seen()
    seen.feed(page)
    assert not seen.tags & {"script", "img", "iframe", "link", "object", "embed", "a", "form"}
    loaded = [pair for pair in seen.attributes if pair[0] in ("src", "href", "srcset") or pair[0].startswith("on")]
    assert loaded == []
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page and "\x00" not in page
    assert "url(" not in page and "@import" not in page


async def test_a_decision_of_another_system_has_a_dossier_too(auditor: Auditor) -> None:
    event = examples.prediction(version=None, received_at=f"{MONDAY}T12:00:00Z", undecided=True)
    await auditor.keep(event)
    found = await made(auditor, event.prediction_id)
    assert (found["standing"]["aliases"], found["fairness"]) == ([], [])
    assert "was never registered here" in bundle.files(found, "here")["index.html"]


async def test_a_request_of_many_rows_is_told_row_by_row(auditor: Auditor) -> None:
    tensor = examples.prediction().inputs[0]
    many = 30
    event = changed(
        examples.prediction(1),
        inputs=[changed(tensor, shape=[many, 1], data=list(range(many)))],
        context=[],
        labels=["no"] * many,
        scores=[0.1] * many,
        adverse=[True] * many,
    )
    await auditor.keep(examples.registered(), event)
    page = bundle.files(await made(auditor, event.prediction_id), "here")["index.html"]
    assert "decided 30 cases at once" in page
    assert "10 more rows are in dossier.json" in page


async def test_an_unknown_id_has_no_dossier(auditor: Auditor) -> None:
    with pytest.raises(NotFound, match="no prediction p1"):
        await made(auditor, "p1")


async def test_what_is_there_already_is_not_written_over(auditor: Auditor, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(Conflict, match="exists already"):
        bundle.write({}, tmp_path / "full")


async def test_an_erased_decision_still_has_a_dossier_that_says_so_and_verifies(
    auditor: Auditor, tmp_path: Path
) -> None:
    prediction_id = await decided(auditor, race="secret-race")
    await eraser(auditor).erase(None, prediction_id, "she asked for it", "iris", dry_run=False)
    found = await made(auditor, prediction_id)
    files = bundle.files(found, "here")
    bundle.write(files, tmp_path / "dossier")
    report = program.verify(program.Question(str(tmp_path / "dossier")))
    assert report.ok, report.findings
    assert "What loans/1 decided here was erased." in files["index.html"]
    assert "she asked for it" in files["index.html"]
    assert "secret-race" not in "".join(files.values())
    assert found["standing"]["aliases"][0]["approved_by"] == "ben"


async def test_erased_entries_keep_their_rows_when_the_tables_are_rebuilt(auditor: Auditor) -> None:
    prediction_id = await decided(auditor)
    await eraser(auditor).erase(None, prediction_id, "she asked for it", "iris", dry_run=False)
    before = await auditor.lookup.summary("loans")
    done = await Rebuilder(auditor.writer).rebuild()
    assert (done.same, done.erased) == (True, 5)
    assert await auditor.lookup.summary("loans") == before


async def test_who_has_read_it_is_told_where_somebody_had(auditor: Auditor) -> None:
    found = await made(auditor, await decided(auditor))
    assert "Who has read it" not in bundle.files(found, "here")["index.html"]
    found["reads"] = [{"by": HOSTILE, "how": "record", "at": f"{TUESDAY}T10:00:00Z", "index": 17}]
    page = bundle.files(found, "here")["index.html"]
    assert "Who has read it" in page
    assert "<script>" not in page
