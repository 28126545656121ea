"""Reason codes: why a decision went against a person, in the reviewed words of the version's table.

The principal reasons are the columns whose SHAP values moved the output most toward the decision, at most four, as
practice under ECOA's Regulation B (12 CFR 1002.9) has it. They are tried on the model itself before they are told: with
their columns set to the baseline's values the output must move toward approval.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import numpy as np

from affiant.common.events import BELOW, Reason, Reasons, ReasonTable, ReasonText, Shap, Trust
from affiant.explainer.methods.predictor import Predictor
from affiant.explainer.methods.table import MISSING, Matrix

MOST_REASONS = 4
LEAST_SHARE = 0.05
"""A column that carries less of what counted against a person is no principal reason."""


def find_reasons(
    predictor: Predictor, table: ReasonTable, protected: Collection[str], row: Matrix, label: str | int, shap: Shap
) -> Reasons | None:
    """The reasons why the coded row (columns,) was decided `label`; none where that is the favourable decision."""
    if predictor.class_of(label) == predictor.class_of(predictor.decision.favourable):
        return None
    against = _against(predictor, label, shap)
    principal = _principal(against)
    texts = {each.column: each for each in table.texts if each.column not in protected}
    names = predictor.table.names
    told = [at for at in principal if names[at] in texts]
    reasons = [
        Reason(
            column=names[at],
            value=shap.values[at].value,
            text=_text(texts[names[at]], predictor, at, row),
            share=float(against[at] / against.sum()),
        )
        for at in told
    ]
    before, after, changes, moved = _neutralised(predictor, row, told)
    return Reasons(
        reasons=reasons,
        table_digest=table.digest,
        baseline=f"the mean of {len(predictor.baseline_rows)} rows of the background, evenly spaced by score",
        score_before=before,
        score_after=after,
        decision_changes=changes,
        faithful=moved,
        objection=_objection([names[at] for at in principal if at not in told], protected, bool(told), moved),
    )


def held_back(reasons: Reasons, trust: Trust) -> Reasons:
    """`reasons`, with an objection where the explanation that they come from is not stable."""
    if not trust.unstable or reasons.objection:
        return reasons
    return msgspec.structs.replace(
        reasons, objection="the explanation is unstable: with other seeds it names other columns"
    )


def _against(predictor: Predictor, label: str | int, shap: Shap) -> Matrix:
    """How much each column counted toward the decision (columns,), 0 where it counted against it.

    The explained output is that of the decision's own label; only a regression's value may have to fall for it.
    """
    values = np.array([each.shap for each in shap.values])
    return np.maximum(-values if predictor.decision.is_regression and label == BELOW else values, 0.0)


def _principal(against: Matrix) -> list[int]:
    if not against.any():
        return []
    ordered = np.argsort(-against, kind="stable")[:MOST_REASONS]
    return [int(at) for at in ordered if against[at] >= LEAST_SHARE * against.sum()]


def _text(words: ReasonText, predictor: Predictor, at: int, row: Matrix) -> str:
    known = predictor.baseline_rows[:, at]
    known = known[known > MISSING]
    if predictor.table.codings[at].categorical or row[at] <= MISSING or not len(known):
        return words.text
    middle = float(np.median(known))
    special = words.above if row[at] > middle else words.below if row[at] < middle else ""
    return special or words.text


def _neutralised(predictor: Predictor, row: Matrix, told: list[int]) -> tuple[float, float, float, bool]:
    """The output that approval depends on before and after, the share that is approved, and whether it moved there."""
    favourable = predictor.decision.favourable
    mixed = np.repeat(row.reshape(1, -1), len(predictor.baseline_rows), axis=0)
    mixed[:, told] = predictor.baseline_rows[:, told]
    rows = np.vstack([row, mixed])
    scores = predictor.outputs(rows)[:, predictor.output_of(favourable)]
    leaning = predictor.leaning(rows, favourable)
    changes = float(np.mean(predictor.labels(mixed) == predictor.class_of(favourable)))
    moved = bool(leaning[1:].mean() > leaning[0] + 1e-9)
    return float(scores[0]), float(scores[1:].mean()), changes, moved


def _objection(left_out: list[str], protected: Collection[str], told: bool, moved: bool) -> str:
    if guarded := [name for name in left_out if name in protected]:
        return f"the protected column {guarded[0]} is among what counted most: a person must look at this decision"
    if left_out:
        return f"{left_out[0]} is among what counted most, and the version's table has no words for it"
    if not told:
        return "nothing counted against the person that could be named"
    return "" if moved else "set to the baseline's values, the stated reasons do not move the score toward approval"
