"""A made-up outcome, for tests of what is shown. No figure in it was measured."""

from __future__ import annotations

import random
from dataclasses import replace
from hashlib import sha256

from examples.loan.outcome import (
    AnchorRule,
    Answer,
    Case,
    Check,
    Comparison,
    Contribution,
    Fairness,
    Group,
    Moment,
    Outcome,
    Proof,
    Step,
    TableFacts,
    Totals,
    Version,
    Waterfall,
)  # fmt: skip

_CHECKS = (Check("digest", True, "as sent"), Check("run", True, "3 rows in 0.1 s"))


def _version(number: int, kind: str) -> Version:
    return Version(
        number, kind, f"sha256:{sha256(kind.encode()).hexdigest()}", 20_000 * number, "ana", "ben", 0.81, 0.88, 0.115,
        3.2, 1.5e-7, 1_428, _CHECKS, 300 // number, 30 // number,
    )  # fmt: skip


def _answers() -> tuple[Answer, ...]:
    rng = random.Random(7)
    fast = [Answer(14 + n / 90, n, f"p{n}", 1, "no", 0.9, n % 9 == 0, 20.0) for n in range(240)]
    slow = [
        Answer(17 + n / 30, n, f"q{n}", 1 if n < 70 or n > 170 else 2, "no", rng.random(), n % 8 == 0, 12.0)
        for n in range(260)
    ]
    return (*fast, *slow)


def case() -> Case:
    """A denial with everything that can be shown of one."""
    values = [
        ("insurance", "yes", 0.21),
        ("pirat", 0.52, 0.18),
        ("phist", "no", -0.04),
        ("chist", 5.0, 0.13),
        ("lvrat", 0.91, 0.05),
    ]
    contributions = tuple(Contribution(*v) for v in sorted(values, key=lambda v: -abs(v[2])))
    return Case(
        prediction_id="0198f2c1-7b1e-7c44-9c0e-3f2f64d1a9b2",
        version=1,
        digest=f"sha256:{sha256(b'model').hexdigest()}",
        received_at="2026-11-23T17:05:11.123456Z",
        label="yes",
        score=0.27,
        inputs={name: value for name, value, _ in values} | {"unemp": 3.2, "hschool": ""},
        context={"afam": "yes", "single": "no"},
        anchor=AnchorRule(("insurance = yes", "chist > 2"), "While …", 0.976, 0.041, True),
        waterfall=Waterfall(0.2, 0.73, contributions, "KernelShap, 512 coalitions, 40 background rows"),
        explained_at="2026-11-23T17:05:14.5Z",
        seed=77,
        proof=Proof(
            212, 1_043, "ab" * 32, "cd" * 32, 10, "affiant.local/3f9c1a7e", "Az3grlgtzPICa5OS8npVmf1Myq", "note", ""
        ),
        replica="boston-hmda-champion-1",
        sequence=213,
    )


def fairness(column: str, low: float, truth: float | None = None) -> Fairness:
    """Two groups, of which the smaller is approved at the rate `low`."""
    groups = (Group("no", 420, 390, 390 / 420, 0.91), Group("yes", 80, int(80 * low), low, low - 0.03))
    compared = Comparison(
        "yes", low - 390 / 420, low / (390 / 420), 0.05, truth, "the rule looks at the district" if truth else ""
    )
    return Fairness(column, "no", groups, (compared,), True)


def outcome() -> Outcome:
    """A run in which every promise was kept."""
    kinds = [
        "registered",
        "refused",
        "promoted",
        "deployed",
        "registered",
        "promoted",
        "deployed",
        "rolled back",
        "deployed",
    ]
    at = [8.1, 8.2, 8.3, 9.9, 17.4, 17.5, 19.3, 22.5, 22.9]
    people = ["ana", "ana", "ben", "deployer", "ana", "ben", "deployer", "ben", "deployer"]
    moments = tuple(
        Moment(t, "2026-11-23T17:05:00Z", kind, 1 if n < 4 or n > 6 else 2, who, "reason given")  # type: ignore[arg-type]
        for n, (t, kind, who) in enumerate(zip(at, kinds, people, strict=True))
    )
    return Outcome(
        model="boston-hmda",
        began_at="2026-11-23T17:04:55.0Z",
        seconds=41.3,
        table=TableFacts(
            "boston_hmda",
            "the file boston_hmda.csv",
            2380,
            714,
            11,
            "deny",
            "no",
            "yes",
            0.12,
            ("left out “rownames”",),
        ),
        versions=(_version(1, "logistic regression"), _version(2, "gradient boosting")),
        refusal="ana registered boston-hmda version 1 and so may not promote it",
        moments=moments,
        answers=_answers(),
        totals=Totals(500, 500, 0, 500, 0, 0, 0, 0, 58, 58, 0),
        fairness=(fairness("afam", 0.7), fairness("single", 0.88, -0.04)),
        case=case(),
        home="/home/you/.affiant-demo",
        clients=8,
        steps=(Step("Starting", 6.2), Step("Training", 2.1)),
    )


def broken() -> Outcome:
    """A run in which promises were not kept."""
    good = outcome()
    totals = replace(good.totals, audited=498, missing=2, explained=57)
    return replace(good, totals=totals, complaints=("500 sent, but 498 in the record", "58 denials, but 57 explained"))
