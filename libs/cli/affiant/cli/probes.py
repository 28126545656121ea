"""Asking processes how they are, over HTTP, without a token."""

from __future__ import annotations

import httpx

TIMEOUT_SECONDS = 1.5
"""Somebody waits, and asks five processes one after the other: together they must answer within 10 s."""


def unready(url: str) -> list[str]:
    """Why the service at `url` is not ready, in its own words; empty when it is."""
    try:
        answer = httpx.get(f"{url}/readyz", timeout=TIMEOUT_SECONDS)
        if answer.is_success:
            return []
        return [str(reason) for reason in answer.json()["reasons"]]
    except httpx.HTTPError as error:
        return [f"does not answer ({type(error).__name__})"]
    except (ValueError, KeyError, TypeError):
        return ["something else than Affiant answers"]


def nats_unready(monitor: str) -> list[str]:
    """Why nats-server is not ready; empty when it is, JetStream included. `monitor` is its monitoring address."""
    try:
        answer = httpx.get(f"{monitor}/healthz", timeout=TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        return [f"does not answer ({type(error).__name__})"]
    return [] if answer.is_success else [answer.text.strip()]
