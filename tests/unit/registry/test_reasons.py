"""The words for reasons: what is accepted, and what is refused before anybody is told it."""

from __future__ import annotations

import hashlib

import pytest

from affiant.common.events import Column
from affiant.registry.domain.manifest import Unfit
from affiant.registry.domain.reasons import MAX_BYTES, read_reasons

COLUMNS = [
    Column(name="income", kind="numeric", datatype="FP32", input="income"),
    Column(name="purpose", kind="categorical", datatype="BYTES", input="purpose"),
    Column(name="race", kind="categorical", datatype="BYTES", input="race"),
]
TABLE = """
columns:
  income: {text: The income, below: The income is low}
  purpose: What the credit is for
"""


def test_a_table_becomes_part_of_the_version_with_its_digest() -> None:
    found = read_reasons(TABLE, COLUMNS, ["race"])
    assert found.digest == f"sha256:{hashlib.sha256(TABLE.encode()).hexdigest()}"
    assert [(each.column, each.text, each.below) for each in found.texts] == [
        ("income", "The income", "The income is low"),
        ("purpose", "What the credit is for", ""),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("columns: {race: Race}", "the reasons name 'race', a protected column"),
        ("columns: {incme: The income}", "'incme', which is no column of the model; it has income, purpose, race"),
        ("columns: {income: ''}", "the reason for 'income' is empty"),
        ("columns: {purpose: {text: Purpose, above: More of it}}", "the column is categorical"),
        ("columns: {income: {txt: The income}}", "the reasons are no table of column: text"),
        ("columns: {income: 5}", "the reasons are no table of column: text"),
        ("columns: {}", "the reasons name no column"),
        ("income: The income", "the reasons are no table of column: text"),
        ("columns: [", "the reasons are not YAML"),
        ("columns: !!python/object/apply:os.system [ls]", "the reasons are not YAML"),
        ("# " + "x" * MAX_BYTES, "more than 65536 bytes"),
    ],
)
def test_a_table_that_cannot_be_told_to_people_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(Unfit) as refused:
        read_reasons(text, COLUMNS, ["race"])
    assert complaint in str(refused.value)
