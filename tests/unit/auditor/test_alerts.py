"""The alert rules: they name metrics that there are, and say what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from affiant.auditor.actions import metrics

FILE = Path(__file__).parents[3] / "deploy" / "monitoring" / "alerts.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]


def exported() -> set[str]:
    """Every sample name that /metrics may have; a labelled metric has none before its first value."""
    names = set()
    for metric in REGISTRY.collect():
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}.get(metric.type, [])
        names |= {metric.name + end for end in ends}
    return names


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_names_metrics_that_there_are(rule: dict[str, Any]) -> None:
    named = set(re.findall(r"\baffiant_[a-z_]+", rule["expr"]))
    assert named
    assert named <= exported()
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")


def test_whatever_tells_of_trouble_has_an_alert() -> None:
    expressions = " ".join(rule["expr"] for rule in RULES)
    trouble = (metrics.contradiction, metrics.unwitnessed, metrics.store_away, metrics.leader, metrics.checkpoint_age)
    assert all(next(iter(metric.collect())).name in expressions for metric in trouble)
