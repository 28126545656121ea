"""How an object differs from the manifest that was applied. Pure.

Only what the manifest says is compared: the API server fills in defaults, and other controllers have fields and list
items of their own (an autoscaler the number of replicas, a service mesh its annotations), which server-side apply
would leave to them anyway.
"""

from __future__ import annotations

from typing import Any

from affiant.deployer.backends.kubernetes.cluster import Object

_KEYS = ("name", "mountPath", "topologyKey", "type")
"""By which field the items of a list are known again (the merge keys of the kinds that are applied here)."""


def differences(wanted: Object, actual: Object) -> list[str]:
    """The paths in `actual` that are not as in `wanted`; empty where all of `wanted` is so."""
    found: list[str] = []
    for part in wanted:
        if part == "metadata":
            for each in ("labels", "annotations"):
                wants, has = wanted[part].get(each, {}), actual.get(part, {}).get(each, {})
                _compare(wants, has, f"metadata.{each}", found)
        else:
            _compare(wanted[part], actual.get(part), part, found)
    return found


def _compare(wanted: Any, actual: Any, path: str, found: list[str]) -> None:
    if isinstance(wanted, dict) and isinstance(actual, dict):
        for key, value in wanted.items():
            _compare(value, actual.get(key), f"{path}.{key}", found)
    elif isinstance(wanted, list) and isinstance(actual, list):
        _compare_lists(wanted, actual, path, found)
    elif wanted != actual and not (_is_empty(wanted) and _is_empty(actual)):
        found.append(path)


def _compare_lists(wanted: list[Any], actual: list[Any], path: str, found: list[str]) -> None:
    key = _key(wanted)
    if key and all(isinstance(item, dict) and isinstance(item.get(key), str | int) for item in actual):
        by_key = {item[key]: item for item in actual}
        for item in wanted:
            _compare(item, by_key.get(item[key]), f"{path}[{item[key]}]", found)
    elif len(wanted) != len(actual):
        found.append(path)
    else:
        for number, (wants, has) in enumerate(zip(wanted, actual, strict=True)):
            _compare(wants, has, f"{path}[{number}]", found)


def _key(items: list[Any]) -> str:
    if not items or not all(isinstance(item, dict) for item in items):
        return ""
    return next((key for key in _KEYS if _tells_apart(key, items)), "")


def _tells_apart(key: str, items: list[Any]) -> bool:
    return all(key in item for item in items) and len({item[key] for item in items}) == len(items)


def _is_empty(value: Any) -> bool:
    return value is None or value == {} or value == [] or value == ""
