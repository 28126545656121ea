"""What things are called, and by which labels they are known again."""

from __future__ import annotations

import hashlib

from affiant.deployer.domain.situation import Slot

LABEL = "affiant.dev"
MODEL, ALIAS, VERSION, POOL = (f"{LABEL}/{name}" for name in ("model", "alias", "version", "pool"))
DIGEST, MODEL_IMAGE, CONFIG, PERCENT, ASLEEP_SINCE = (
    f"{LABEL}/{name}" for name in ("digest", "model-image", "config", "percent", "asleep-since")
)
MANAGED_BY, PART_OF, NAME, INSTANCE = (
    f"app.kubernetes.io/{name}" for name in ("managed-by", "part-of", "name", "instance")
)
OWNER = "affiant-deployer"

_LONGEST_LABEL = 63
_LONGEST_END = len("-challenger-v") + 10


def of_slot(slot: Slot) -> str:
    """The name of a slot's Service and route: a DNS label. It stays for ever, because it is in the slot's address."""
    return f"{_base(slot.model)}-{slot.alias}"


def of_version(slot: Slot, version: int) -> str:
    """The name of everything that serves one version under an alias."""
    return f"{of_slot(slot)}-v{version}"


def owned(installation: str) -> dict[str, str]:
    """The labels of every object of this installation; nothing without them is ever changed or deleted."""
    return {MANAGED_BY: OWNER, INSTANCE: installation}


def selector(labels: dict[str, str]) -> str:
    """Labels as a query."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def labels(installation: str, slot: Slot, version: int | None = None) -> dict[str, str]:
    """The labels of an object of a slot, or of one version in it."""
    known = owned(installation) | {PART_OF: "affiant", NAME: "model-server", MODEL: slot.model, ALIAS: slot.alias}
    return known if version is None else known | {VERSION: str(version)}


def is_owned(labels: dict[str, str], installation: str) -> bool:
    """Whether an object with these labels is this installation's."""
    return all(labels.get(key) == value for key, value in owned(installation).items())


def slot_of(labels: dict[str, str]) -> Slot | None:
    """The slot that an object belongs to."""
    model, alias = labels.get(MODEL), labels.get(ALIAS)
    return Slot(model, alias) if model and alias else None


def version_of(labels: dict[str, str]) -> int | None:
    """The version that an object belongs to; none for what belongs to the slot as a whole."""
    text = labels.get(VERSION, "")
    return int(text) if text.isdigit() else None


def _base(model: str) -> str:
    """The model's name as the start of a Service's: a letter first, and short enough for what follows."""
    fits = model[0].isalpha() and len(model) + _LONGEST_END <= _LONGEST_LABEL
    if fits:
        return model
    digest = hashlib.sha256(model.encode()).hexdigest()[:10]
    return f"m-{model[: _LONGEST_LABEL - _LONGEST_END - 13].rstrip('-')}-{digest}"
