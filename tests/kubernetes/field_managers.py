"""Who owns which field: server-side apply, as far as the tests need it.

A path is a tuple of keys; items of lists are known by their merge key where all have one, and a list without is one
value, as with most atomic lists of Kubernetes.
"""

from __future__ import annotations

import copy
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]
Owners = dict[str, set[Path]]

_KEYS = ("name", "containerPort", "mountPath", "type", "topologyKey")


def apply(owners: Owners, manager: str, live: Object, wanted: Object, *, force: bool) -> list[tuple[str, str]]:
    """Change `live` and `owners`; or say which fields others own, and nothing is changed."""
    leaves = _leaves(_without_identity(wanted))
    conflicts = [
        (path, other)
        for path, value in leaves.items()
        for other, owned in owners.items()
        if other != manager and path in owned and _get(live, path) != value
    ]
    if conflicts and not force:
        return [("." + ".".join(path), other) for path, other in conflicts]
    for path, other in conflicts:
        owners[other].discard(path)
    for path in owners.get(manager, set()) - set(leaves):
        if not any(path in owned for other, owned in owners.items() if other != manager):
            _drop(live, path)
    for path, value in leaves.items():
        _put(live, path, copy.deepcopy(value))
    owners[manager] = set(leaves)
    return []


def update(owners: Owners, manager: str, before: Object, after: Object) -> None:
    """Whoever changes a value owns it alone."""
    old, new = _leaves(_without_identity(before)), _leaves(_without_identity(after))
    for path, value in new.items():
        if old.get(path, ...) != value and path[0] != "status":
            for owned in owners.values():
                owned.discard(path)
            owners.setdefault(manager, set()).add(path)


def merged(known: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(known) if isinstance(known, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _without_identity(found: Object) -> Object:
    metadata = {part: found.get("metadata", {}).get(part, {}) for part in ("labels", "annotations")}
    return {key: value for key, value in found.items() if key not in ("apiVersion", "kind")} | {"metadata": metadata}


def _leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    if isinstance(value, dict) and value:
        return {leaf: one for key, each in value.items() for leaf, one in _leaves(each, (*path, key)).items()}
    key = _merge_key(value)
    if key:
        return {leaf: one for item in value for leaf, one in _leaves(item, (*path, f"[{key}={item[key]}]")).items()}
    return {path: value} if path and (value != {} or path[0] != "metadata") else {}


def _merge_key(value: Any) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return ""
    return next((key for key in _KEYS if all(key in item for item in value)), "")


def _step(value: Any, part: str, *, make: bool = False) -> Any:
    if not part.startswith("["):
        if make:
            return value.setdefault(part, None)
        return value.get(part) if isinstance(value, dict) else None
    key, wanted = part[1:-1].split("=", 1)
    return next((item for item in value or [] if str(item.get(key)) == wanted), None)


def _get(value: Any, path: Path) -> Any:
    for part in path:
        value = _step(value, part)
        if value is None:
            return None
    return value


def _put(value: Any, path: Path, leaf: Any) -> None:
    for here, following in zip(path, (*path[1:], ""), strict=True):
        if not following:
            if here.startswith("["):
                raise AssertionError(f"an item of a list has no fields: {path}")
            value[here] = leaf
            return
        inside = _step(value, here)
        if inside is None or (following.startswith("[") and not isinstance(inside, list)):
            inside = [] if following.startswith("[") else {}
            if here.startswith("["):
                key, wanted = here[1:-1].split("=", 1)
                inside[key] = wanted  # its leaf, with the right type, is put in its turn
                value.append(inside)
            else:
                value[here] = inside
        value = inside


def _drop(value: Any, path: Path) -> None:
    parents: list[tuple[Any, str]] = []
    for part in path:
        parents.append((value, part))
        value = _step(value, part)
        if value is None:
            return
    for parent, part in reversed(parents):
        if part.startswith("["):
            key, wanted = part[1:-1].split("=", 1)
            parent[:] = [item for item in parent if str(item.get(key)) != wanted]
        else:
            parent.pop(part, None)
        if parent:
            return
